"""For each rule a variant of an overlay that breaks it: what a typing error or a wrong idea would leave behind."""

from collections.abc import Callable
from pathlib import Path

from tests.k8s.manifests import Object, find, overlay, with_components

Mutation = Callable[[list[Object]], None]


def _deployment(objects: list[Object]) -> Object:
    return find(objects, "Deployment", "serving")


def _server(objects: list[Object]) -> Object:
    [container] = _deployment(objects)["spec"]["template"]["spec"]["containers"]
    return container


def _job(objects: list[Object]) -> Object:
    return find(objects, "RayJob", "train")["spec"]


def _cluster(objects: list[Object]) -> Object:
    return _job(objects)["rayClusterSpec"]


def _worker(objects: list[Object]) -> Object:
    return _cluster(objects)["workerGroupSpecs"][0]


def _policy(objects: list[Object], name: str) -> Object:
    return find(objects, "NetworkPolicy", name)["spec"]


def _replace(container: Object, old: str, new: str) -> None:
    container["args"] = [argument.replace(old, new) for argument in container["args"]]


def root_file_system_is_writable(objects: list[Object]) -> None:
    _server(objects)["securityContext"]["readOnlyRootFilesystem"] = False


def pod_mounts_the_host(objects: list[Object]) -> None:
    spec = _deployment(objects)["spec"]["template"]["spec"]
    spec["volumes"][0] = {"name": "model-repository", "hostPath": {"path": "/models"}}


def server_has_no_tmp(objects: list[Object]) -> None:
    server = _server(objects)
    server["volumeMounts"] = [mount for mount in server["volumeMounts"] if mount["mountPath"] != "/tmp"]


def image_is_the_latest(objects: list[Object]) -> None:
    _server(objects)["image"] = "tensorflow/serving:latest"


def request_is_over_the_limit(objects: list[Object]) -> None:
    _server(objects)["resources"]["requests"]["memory"] = "3Gi"


def pods_lose_a_label(objects: list[Object]) -> None:
    del _worker(objects)["template"]["metadata"]["labels"]["app.kubernetes.io/part-of"]


def stop_takes_all_of_the_grace(objects: list[Object]) -> None:
    _server(objects)["lifecycle"]["preStop"]["sleep"]["seconds"] = 60


def rollout_takes_a_pod_away_first(objects: list[Object]) -> None:
    _deployment(objects)["spec"]["strategy"] = {"rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0}}


def selector_misses_the_pods(objects: list[Object]) -> None:
    find(objects, "Service", "serving")["spec"]["selector"]["app.kubernetes.io/component"] = "server"


def port_name_is_too_long(objects: list[Object]) -> None:
    _server(objects)["ports"][0]["name"] = "prediction-service"


def target_port_is_opened_by_nobody(objects: list[Object]) -> None:
    find(objects, "Service", "serving")["spec"]["ports"][0]["targetPort"] = 9000


def probe_asks_a_closed_port(objects: list[Object]) -> None:
    _server(objects)["readinessProbe"]["grpc"]["port"] = 8502


def mount_has_no_volume(objects: list[Object]) -> None:
    _server(objects)["volumeMounts"][0]["name"] = "models-repository"


def config_map_is_another_ones(objects: list[Object]) -> None:
    find(objects, "ConfigMap", "serving-models")["metadata"]["name"] = "serving-models-abc123"


def monitor_scrapes_a_port_by_another_name(objects: list[Object]) -> None:
    find(objects, "ServiceMonitor", "serving")["spec"]["endpoints"][0]["port"] = "rest"


def autoscaler_has_its_bounds_swapped(objects: list[Object]) -> None:
    find(objects, "HorizontalPodAutoscaler", "serving")["spec"].update(minReplicas=10, maxReplicas=2)


def budget_lets_no_pod_go(objects: list[Object]) -> None:
    find(objects, "PodDisruptionBudget", "serving")["spec"]["maxUnavailable"] = 0


def server_flag_is_misspelt(objects: list[Object]) -> None:
    _replace(_server(objects), "--enable_batching=", "--enable-batching=")


def flag_points_beside_the_mount(objects: list[Object]) -> None:
    _replace(_server(objects), "/etc/serving/settings/batching.config", "/etc/serving/batching.config")


def polled_file_is_mounted_by_sub_path(objects: list[Object]) -> None:
    _server(objects)["volumeMounts"][1].update(mountPath="/etc/serving/models/models.config", subPath="models.config")


def model_lies_outside_the_repository(objects: list[Object]) -> None:
    data = find(objects, "ConfigMap", "serving-models")["data"]
    data["models.config"] = data["models.config"].replace("/models/mnist", "/model/mnist")


def server_listens_elsewhere(objects: list[Object]) -> None:
    _replace(_server(objects), "--port=8500", "--port=8510")


def train_flag_is_misspelt(objects: list[Object]) -> None:
    _job(objects)["entrypoint"] = _job(objects)["entrypoint"].replace("--num-workers", "--workers")


def models_are_written_into_the_container(objects: list[Object]) -> None:
    _job(objects)["submitterPodTemplate"]["spec"]["containers"][0]["env"][1]["value"] = "/model"


def name_is_too_long(objects: list[Object]) -> None:
    find(objects, "RayJob", "train")["metadata"]["name"] = "train-" + 42 * "x"


def submission_mode_is_unknown(objects: list[Object]) -> None:
    _job(objects)["submissionMode"] = "K8sJob"


def ttl_is_set_but_nothing_shuts_down(objects: list[Object]) -> None:
    _job(objects)["shutdownAfterJobFinishes"] = False


def job_has_no_deadline(objects: list[Object]) -> None:
    del _job(objects)["activeDeadlineSeconds"]


def replicas_are_over_the_maximum(objects: list[Object]) -> None:
    _worker(objects)["replicas"] = 8


def workers_are_smaller_than_the_training_asks(objects: list[Object]) -> None:
    _worker(objects)["template"]["spec"]["containers"][0]["resources"]["limits"]["cpu"] = "3"


def gpu_pod_tolerates_no_taint(objects: list[Object]) -> None:
    del _worker(objects)["template"]["spec"]["tolerations"]


def ray_version_is_another(objects: list[Object]) -> None:
    _cluster(objects)["rayVersion"] = "2.59.0"


def head_trains_too(objects: list[Object]) -> None:
    del _cluster(objects)["headGroupSpec"]["rayStartParams"]["num-cpus"]


def workers_are_killed(objects: list[Object]) -> None:
    del _worker(objects)["template"]["spec"]["containers"][0]["lifecycle"]


def autoscaler_is_injected_bare(objects: list[Object]) -> None:
    del _cluster(objects)["autoscalerOptions"]["securityContext"]


def retry_begins_anew(objects: list[Object]) -> None:
    _job(objects)["entrypoint"] = _job(objects)["entrypoint"].replace("--name ${RAY_JOB_SUBMISSION_ID%-*} ", "")


def namespace_is_open(objects: list[Object]) -> None:
    _policy(objects, "default-deny")["policyTypes"] = ["Ingress"]


def web_page_is_no_client(objects: list[Object]) -> None:
    _policy(objects, "serving")["ingress"][0]["from"] = [{"podSelector": {"matchLabels": {"client": "true"}}}]


def dashboard_is_open(objects: list[Object]) -> None:
    del _policy(objects, "ray-head")["ingress"][0]["from"]


def policy_names_another_port(objects: list[Object]) -> None:
    _policy(objects, "serving")["ingress"][0]["ports"][0]["port"] = 9000


def web_flag_is_misspelt(objects: list[Object]) -> None:
    _replace(find(objects, "Deployment", "client-web")["spec"]["template"]["spec"]["containers"][0], "--server", "--to")


def variable_comes_from_a_secret(objects: list[Object]) -> None:
    _server(objects)["env"] = [{"name": "ENDPOINT", "value": "$(AWS_ENDPOINT_URL)"}]


# rule -> (what breaks it, the overlay that has the part, a component that brings it)
BROKEN: dict[str, tuple[Mutation, str, str]] = {
    "containers_run_restricted": (root_file_system_is_writable, "cpu", ""),
    "pods_share_no_host_namespace": (pod_mounts_the_host, "cpu", ""),
    "read_only_roots_have_a_tmp": (server_has_no_tmp, "cpu", ""),
    "images_are_pinned": (image_is_the_latest, "cpu", ""),
    "requests_are_within_limits": (request_is_over_the_limit, "cpu", ""),
    "pods_carry_the_labels": (pods_lose_a_label, "cpu", ""),
    "stopping_takes_less_than_the_grace": (stop_takes_all_of_the_grace, "cpu", ""),
    "rollouts_keep_every_pod_until_its_successor_is_ready": (rollout_takes_a_pod_away_first, "cpu", ""),
    "selectors_find_pods": (selector_misses_the_pods, "cpu", ""),
    "ports_have_short_unique_names": (port_name_is_too_long, "cpu", ""),
    "services_reach_open_ports": (target_port_is_opened_by_nobody, "cpu", ""),
    "probes_ask_open_ports": (probe_asks_a_closed_port, "cpu", ""),
    "mounts_have_volumes": (mount_has_no_volume, "cpu", ""),
    "named_objects_exist": (config_map_is_another_ones, "cpu", ""),
    "variables_are_set_before_their_use": (variable_comes_from_a_secret, "cpu", ""),
    "monitors_scrape_named_ports": (monitor_scrapes_a_port_by_another_name, "cpu", "monitoring"),
    "autoscalers_have_room": (autoscaler_has_its_bounds_swapped, "cpu", ""),
    "budgets_let_a_pod_go": (budget_lets_no_pod_go, "cpu", ""),
    "server_flags_exist": (server_flag_is_misspelt, "cpu", ""),
    "server_flags_point_at_mounted_files": (flag_points_beside_the_mount, "cpu", ""),
    "polled_files_are_mounted_as_folders": (polled_file_is_mounted_by_sub_path, "cpu", ""),
    "models_lie_in_the_repository": (model_lies_outside_the_repository, "cpu", ""),
    "ports_are_those_of_the_flags": (server_listens_elsewhere, "cpu", ""),
    "web_flags_exist": (web_flag_is_misspelt, "cpu", ""),
    "train_flags_exist": (train_flag_is_misspelt, "cpu", ""),
    "train_writes_into_mounts": (models_are_written_into_the_container, "cpu", ""),
    "names_leave_room_for_suffixes": (name_is_too_long, "cpu", ""),
    "submission_modes_exist": (submission_mode_is_unknown, "cpu", ""),
    "finished_clusters_go": (ttl_is_set_but_nothing_shuts_down, "cpu", ""),
    "jobs_end": (job_has_no_deadline, "cpu", ""),
    "worker_counts_are_in_bounds": (replicas_are_over_the_maximum, "cpu", ""),
    "workers_have_what_the_training_asks_for": (workers_are_smaller_than_the_training_asks, "cpu", ""),
    "gpu_pods_find_gpu_nodes": (gpu_pod_tolerates_no_taint, "gpu", ""),
    "one_ray_everywhere": (ray_version_is_another, "cpu", ""),
    "the_head_trains_nothing": (head_trains_too, "cpu", ""),
    "ray_pods_stop_gracefully_and_once": (workers_are_killed, "cpu", ""),
    "the_autoscaler_is_secured_and_alone_has_a_token": (autoscaler_is_injected_bare, "cpu", ""),
    "a_retry_goes_on": (retry_begins_anew, "cpu", ""),
    "every_pod_is_closed_by_default": (namespace_is_open, "cpu", ""),
    "needed_flows_are_open": (web_page_is_no_client, "cpu", ""),
    "other_flows_are_closed": (dashboard_is_open, "cpu", ""),
    "policies_name_ports_in_use": (policy_names_another_port, "cpu", ""),
}


def broken(rule: str, folder: Path) -> list[Object]:
    """The variant that breaks the rule. Args: folder: an empty one, for a kustomization."""
    mutate, name, component = BROKEN[rule]
    objects = with_components(folder, name, component) if component else overlay(name)
    before = repr(objects)
    mutate(objects)
    assert repr(objects) != before, f"{mutate.__name__} changes nothing"
    return objects

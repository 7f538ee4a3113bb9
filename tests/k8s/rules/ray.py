"""KubeRay's own rules, which it tells only in its log or in an event, and ours for a training that comes to an end."""

import re
from collections.abc import Iterator

from tests.k8s.manifests import ROOT, Object, containers, label, of_kind, pod_templates, ray_job_spec
from tests.k8s.rules.quantities import amount

# kuberay/ray-operator: apis/ray/v1/rayjob_types.go, controllers/ray/utils/validation.go and constant.go of v1.7
SUBMISSION_MODES = ("K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode")
LONGEST_NAME = {"RayCluster": 53, "RayJob": 47, "RayCronJob": 41}  # each name gets six characters more on its way down
# Before it KubeRay probes by wget, a command that the images lack, and from 2.52 on Ray knows tokens.
FIRST_PROBED_BY_HTTP = (2, 53)
TOKEN_VARIABLES = {"RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"}
DRAIN_VARIABLE = "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"  # what `ray start --block` waits for after SIGTERM
RESOURCE_PARAMETERS = ("num-cpus", "num-gpus", "memory", "resources")


def _jobs(objects: list[Object]) -> list[tuple[str, Object]]:
    return [(label(item), ray_job_spec(item)) for item in of_kind(objects, "RayJob", "RayCronJob")]


def _groups(spec: Object) -> list[tuple[str, Object]]:
    cluster = spec["rayClusterSpec"]
    return [("head", cluster["headGroupSpec"])] + [(group["groupName"], group) for group in cluster["workerGroupSpecs"]]


def names_leave_room_for_suffixes(objects: list[Object]) -> list[str]:
    """Room for what KubeRay appends for the objects it makes; a DNS label that starts with a letter."""
    return [
        f"{label(item)}: not a name of at most {LONGEST_NAME[item['kind']]} letters, digits and '-'"
        for item in of_kind(objects, *LONGEST_NAME)
        if len(item["metadata"]["name"]) > LONGEST_NAME[item["kind"]]
        or not re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", item["metadata"]["name"])
    ]


def submission_modes_exist(objects: list[Object]) -> list[str]:
    """An unknown mode is accepted and never submitted."""
    return [
        f"{name}: submissionMode {spec['submissionMode']!r} is none of {', '.join(SUBMISSION_MODES)}"
        for name, spec in _jobs(objects)
        if spec.get("submissionMode", "K8sJobMode") not in SUBMISSION_MODES
    ]


def finished_clusters_go(objects: list[Object]) -> list[str]:
    """shutdownAfterJobFinishes, without which a ttl does nothing and beside which a deletionStrategy is refused."""
    found = []
    for name, spec in _jobs(objects):
        if not spec.get("shutdownAfterJobFinishes"):
            found.append(f"{name}: its cluster stays when the job is done, whatever ttlSecondsAfterFinished says")
        if spec.get("shutdownAfterJobFinishes") and "deletionStrategy" in spec:
            found.append(f"{name}: deletionStrategy and shutdownAfterJobFinishes exclude each other")
    return found


def jobs_end(objects: list[Object]) -> list[str]:
    """Retries and both deadlines are set."""
    fields = ("backoffLimit", "activeDeadlineSeconds", "preRunningDeadlineSeconds")
    return [f"{name}: {field} is not set" for name, spec in _jobs(objects) for field in fields if not spec.get(field)]


def worker_counts_are_in_bounds(objects: list[Object]) -> list[str]:
    """minReplicas <= replicas <= maxReplicas, and as many workers as the training asks for."""
    found = []
    for name, spec in _jobs(objects):
        for group in spec["rayClusterSpec"]["workerGroupSpecs"]:
            low, wanted, high = group["minReplicas"], group.get("replicas", group["minReplicas"]), group["maxReplicas"]
            if not low <= wanted <= high:
                found.append(f"{name} {group['groupName']}: {wanted} replicas, bounds {low} and {high}")
        most = sum(group["maxReplicas"] for group in spec["rayClusterSpec"]["workerGroupSpecs"])
        asked = _worker_bounds(spec)
        if asked[1] > most:
            found.append(f"{name}: --num-workers {asked[1]}, but at most {most} pods")
    return found


def _worker_bounds(spec: Object) -> tuple[int, int]:
    """The least and the most workers that --num-workers asks for; (0, 0) without it."""
    parts = [int(part) for part in (_word(spec, "num-workers") or "0").split(":")]
    return parts[0], parts[-1]


def elastic_trainings_get_what_they_can_take(objects: list[Object]) -> list[str]:
    """From 1:8 workers follow the bounds of the pods, and somebody who adds pods up to the most."""
    found = []
    for name, spec in _jobs(objects):
        least, most = _worker_bounds(spec)
        groups = spec["rayClusterSpec"]["workerGroupSpecs"]
        bounds = sum(group["minReplicas"] for group in groups), sum(group["maxReplicas"] for group in groups)
        if least < most and bounds != (least, most):
            found.append(f"{name}: --num-workers {least}:{most}, but {bounds[0]} to {bounds[1]} pods")
        if least < most and not spec["rayClusterSpec"].get("enableInTreeAutoscaling"):
            found.append(f"{name}: --num-workers {least}:{most}, but no autoscaler adds a worker")
    return found


def workers_have_what_the_training_asks_for(objects: list[Object]) -> list[str]:
    """--cpus-per-worker and --gpus-per-worker fit into one pod's limits, which KubeRay tells Ray."""
    found = []
    for name, spec in _jobs(objects):
        for group in spec["rayClusterSpec"]["workerGroupSpecs"]:
            limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
            for flag, resource in (("cpus-per-worker", "cpu"), ("gpus-per-worker", "nvidia.com/gpu")):
                asked, given = _flag(spec, flag), amount(limits.get(resource, 0))
                if asked > given or (resource == "nvidia.com/gpu" and given > asked):
                    found.append(f"{name} {group['groupName']}: --{flag} {asked:g}, limit of {resource} {given:g}")
    return found


def _flag(spec: Object, name: str) -> float:
    return float(_word(spec, name) or 0)


def _word(spec: Object, name: str) -> str:
    """What an entrypoint's flag is given, its variable replaced as the submitter's shell does; empty without it."""
    found = re.search(rf"--{name} (\S+)", spec["entrypoint"])
    [submitter] = containers(spec["submitterPodTemplate"])
    variables = {entry["name"]: entry.get("value", "") for entry in submitter.get("env", [])}
    return re.sub(r"\$\{(\w+)\}", lambda match: variables.get(match[1], ""), found[1]) if found else ""


def gpu_pods_find_gpu_nodes(objects: list[Object]) -> list[str]:
    """Who asks for a GPU tolerates its nodes' taint and asks for the same number as limit."""
    found = []
    for name, template in (pair for item in objects for pair in pod_templates(item)):
        for container in containers(template):
            resources = container.get("resources", {})
            gpus = resources.get("limits", {}).get("nvidia.com/gpu")
            if gpus != resources.get("requests", {}).get("nvidia.com/gpu"):
                found.append(f"{name}: request and limit of GPUs differ")
            if gpus and "nvidia.com/gpu" not in {entry.get("key") for entry in template["spec"].get("tolerations", [])}:
                found.append(f"{name}: does not tolerate the taint nvidia.com/gpu")
            if gpus and not container["image"].endswith("-gpu") and "@" not in container["image"]:
                found.append(f"{name}: {container['image']} has no CUDA")
    return found


def one_ray_everywhere(objects: list[Object]) -> list[str]:
    """rayVersion is the lock file's, and head, workers and submitter run the same image."""
    lock = re.search(r"^ray==(\S+)", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert lock
    found = []
    for item in of_kind(objects, "RayJob", "RayCronJob"):
        version = ray_job_spec(item)["rayClusterSpec"]["rayVersion"]
        if version != lock[1]:
            found.append(f"{label(item)}: rayVersion {version}, in the lock file {lock[1]}")
        images = {container["image"] for _, template in pod_templates(item) for container in containers(template)}
        if len(images) != 1:
            found.append(f"{label(item)}: several images: {sorted(images)}")
    return found


def kuberay_probes_by_http(objects: list[Object]) -> list[str]:
    """rayVersion is there and new enough for it; else the probes are commands that the images would need."""
    found = []
    for name, spec in _jobs(objects):
        version = spec["rayClusterSpec"].get("rayVersion", "0.0")
        if tuple(int(part) for part in version.split(".")[:2]) < FIRST_PROBED_BY_HTTP:
            found.append(f"{name}: with rayVersion {version} KubeRay probes by wget, which the image lacks")
    return found


def ray_asks_for_a_token(objects: list[Object]) -> list[str]:
    """authOptions turn it on for head, workers, autoscaler and submitter, unless one has variables of its own."""
    found = []
    for item in of_kind(objects, "RayJob", "RayCronJob"):
        cluster = ray_job_spec(item)["rayClusterSpec"]
        if cluster.get("authOptions", {}).get("mode") != "token":
            found.append(f"{label(item)}: whoever reaches its head may run code there; set authOptions.mode to token")
        own = [(name, container) for name, template in pod_templates(item) for container in containers(template)]
        for name, container in [*own, (f"{label(item)} autoscaler", cluster.get("autoscalerOptions", {}))]:
            names = {variable["name"] for variable in container.get("env", [])} & TOKEN_VARIABLES
            found += [f"{name}: its {variable} keeps KubeRay from setting it" for variable in sorted(names)]
    return found


def the_head_trains_nothing(objects: list[Object]) -> list[str]:
    """num-cpus 0 on the head, and resources said in one place only."""
    found = []
    for name, spec in _jobs(objects):
        if spec["rayClusterSpec"]["headGroupSpec"].get("rayStartParams", {}).get("num-cpus") != "0":
            found.append(f"{name}: the head's num-cpus is not 0")
        for group_name, group in _groups(spec):
            given = [parameter for parameter in RESOURCE_PARAMETERS if parameter in group.get("rayStartParams", {})]
            if given and group.get("resources"):
                found.append(f"{name} {group_name}: {given} in rayStartParams and resources besides")
    return found


def ray_pods_stop_gracefully_and_once(objects: list[Object]) -> list[str]:
    """`ray stop` before the end; never restarted in place, which autoscaler v2 and SidecarMode refuse.

    An elastic training's workers leave instead as they are told to, for which Ray has nearly all of the pod's time.
    """
    found = []
    for name, spec in _jobs(objects):
        least, most = _worker_bounds(spec)
        for group_name, group in _groups(spec):
            pod = group["template"]["spec"]
            hook = pod["containers"][0].get("lifecycle", {}).get("preStop", {}).get("exec", {}).get("command")
            if least < most and group_name != "head":
                found += [f"{name} {group_name}: {problem}" for problem in _hurries(pod, hook)]
            elif hook != ["ray", "stop"]:
                found.append(f"{name} {group_name}: no `ray stop` before it ends")
            if pod.get("restartPolicy") != "Never":
                found.append(f"{name} {group_name}: restartPolicy is not Never")
    return found


def _hurries(pod: Object, hook: list[str] | None) -> Iterator[str]:
    """Why a worker would end before the training has left it."""
    if hook:
        yield f"{' '.join(hook)} ends it before it can leave"
    variables = {entry["name"]: entry.get("value", "") for entry in pod["containers"][0].get("env", [])}
    leaves_s, grace_s = float(variables.get(DRAIN_VARIABLE, 0)), pod.get("terminationGracePeriodSeconds", 30)
    if not grace_s - 20 <= leaves_s < grace_s:
        yield f"{DRAIN_VARIABLE} is {leaves_s:g}, the pod's time {grace_s} s"


def only_who_asks_kubernetes_has_a_token(objects: list[Object]) -> list[str]:
    """The head's is for its autoscaler, and there only where that is; else who has a role gets one, and nobody else."""
    found = []
    for name, spec in _jobs(objects):
        scales = spec["rayClusterSpec"].get("enableInTreeAutoscaling", False)
        mounted = spec["rayClusterSpec"]["headGroupSpec"]["template"]["spec"].get("automountServiceAccountToken")
        if mounted is not scales:
            found.append(f"{name}: the head's token is mounted: {mounted}, needed: {scales}")
    accounts = {subject["name"] for item in of_kind(objects, "RoleBinding") for subject in item["subjects"]}
    for name, template in (pair for item in objects for pair in pod_templates(item)):
        mounted = template["spec"].get("automountServiceAccountToken")
        needed = template["spec"].get("serviceAccountName") in accounts
        if not name.endswith(" head") and mounted is not needed:
            found.append(f"{name}: a token is mounted: {mounted}, needed: {needed}")
    return found


def a_retry_goes_on(objects: list[Object]) -> list[str]:
    """A run's name is the RayJob's, the same for each try and another for each RayJob; a batch job knows no tries."""
    found = []
    for name, spec in _jobs(objects):
        if spec.get("submissionMode") != "K8sJobMode":
            found.append(f"{name}: without the submitter's shell nobody fills its variables in")
        if "inkling.train" in spec["entrypoint"] and "--name ${RAY_JOB_SUBMISSION_ID%-*} " not in spec["entrypoint"]:
            found.append(f"{name}: the run's name must be ${{RAY_JOB_SUBMISSION_ID%-*}}, so that a retry resumes")
        if "inkling.client.batch" in spec["entrypoint"] and "RAY_JOB_SUBMISSION_ID" in spec["entrypoint"]:
            found.append(f"{name}: each try would begin in a place of its own")
    return found


RULES = (
    names_leave_room_for_suffixes,
    submission_modes_exist,
    finished_clusters_go,
    jobs_end,
    worker_counts_are_in_bounds,
    elastic_trainings_get_what_they_can_take,
    workers_have_what_the_training_asks_for,
    gpu_pods_find_gpu_nodes,
    one_ray_everywhere,
    kuberay_probes_by_http,
    ray_asks_for_a_token,
    the_head_trains_nothing,
    ray_pods_stop_gracefully_and_once,
    only_who_asks_kubernetes_has_a_token,
    a_retry_goes_on,
)

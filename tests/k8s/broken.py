"""For each rule, and for each check in it, a change to an overlay that breaks it: a typing error or a wrong idea."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.k8s.manifests import Object, find, overlay, with_components

GONE = object()

SERVING = "Deployment/serving spec"
SERVER_POD = f"{SERVING} template spec"
SERVER = f"{SERVER_POD} containers 0"
WEB = "Deployment/client-web spec template spec containers 0"
JOB = "RayJob/train spec"
CLUSTER = f"{JOB} rayClusterSpec"
AUTOSCALER = f"{CLUSTER} autoscalerOptions"
HEAD = f"{CLUSTER} headGroupSpec"
HEAD_POD = f"{HEAD} template spec"
WORKERS = f"{CLUSTER} workerGroupSpecs 0"
WORKER_POD = f"{WORKERS} template spec"
WORKER = f"{WORKER_POD} containers 0"
FOLDER_POD = "Job/make-folder spec template spec"
FOLDER = f"{FOLDER_POD} containers 0"


@dataclass(frozen=True)
class Variant:
    """An overlay, with a component or without, in which one thing is another one."""

    path: str  # Kind/name, then the way from there, with spaces between its steps
    value: Any  # GONE takes it away
    old: str  # part of a text, or of the texts in a list, that alone becomes the value
    overlay: str
    component: str

    def __str__(self) -> str:
        value = "gone" if self.value is GONE else str(self.value)
        return f"{self.path.split(' spec ')[-1]} {value}".replace(" ", "-")[-80:]

    def objects(self, folder: Path) -> list[Object]:
        """The objects with the change in them. Args: folder: an empty one, for a kustomization."""
        found = with_components(folder, self.overlay, self.component) if self.component else overlay(self.overlay)
        before = repr(found)
        self._change(found)
        assert repr(found) != before, f"{self.path} is {self.value!r} already"
        return found

    def _change(self, objects: list[Object]) -> None:
        name, *steps, last = self.path.split(" ")
        place: Any = find(objects, *name.split("/"))
        for step in steps:
            place = place[int(step)] if step.isdigit() else place[step]
        key: Any = int(last) if last.isdigit() else last
        if self.value is GONE:
            del place[key]
        elif not self.old:
            place[key] = self.value
        elif isinstance(place[key], list):
            place[key] = [text.replace(self.old, self.value) for text in place[key]]
        else:
            place[key] = place[key].replace(self.old, self.value)


def put(path: str, value: Any, *, old: str = "", overlay: str = "cpu", component: str = "") -> Variant:
    """A variant that has another value there, or with `old` another text in place of that part."""
    return Variant(path, value, old, overlay, component)


def drop(path: str, *, overlay: str = "cpu", component: str = "") -> Variant:
    """A variant without what is there."""
    return Variant(path, GONE, "", overlay, component)


BROKEN: dict[str, list[Variant]] = {
    "containers_run_restricted": [
        put(f"{SERVER_POD} securityContext runAsNonRoot", False),
        put(f"{SERVER_POD} securityContext runAsUser", 0),
        put(f"{SERVER_POD} securityContext seccompProfile", {"type": "Unconfined"}),
        put(f"{SERVER} securityContext allowPrivilegeEscalation", True),
        put(f"{SERVER} securityContext readOnlyRootFilesystem", False),
        put(f"{SERVER} securityContext capabilities", {"drop": ["ALL"], "add": ["NET_ADMIN"]}),
        put(f"{SERVER} securityContext privileged", True),
        put(f"{SERVER} securityContext runAsUser", 10001),
        put(f"{SERVER} securityContext runAsNonRoot", False),
        put(f"{SERVER} securityContext seccompProfile", {"type": "Unconfined"}),
        drop(f"{AUTOSCALER} securityContext"),  # as KubeRay injects it
        put(f"{AUTOSCALER} securityContext allowPrivilegeEscalation", True),
        put(f"{FOLDER} securityContext privileged", True, overlay="one-node"),
        put(f"{FOLDER} securityContext allowPrivilegeEscalation", True, overlay="one-node"),
        put(f"{FOLDER} securityContext capabilities add", ["SYS_ADMIN"], overlay="one-node"),
        drop(f"{FOLDER_POD} securityContext seccompProfile", overlay="one-node"),
    ],
    "pods_share_no_host_namespace": [
        put(f"{SERVER_POD} volumes 0", {"name": "model-repository", "hostPath": {"path": "/var/lib/inkling"}}),
        put(f"{SERVER_POD} hostNetwork", True),
        put(f"{SERVER_POD} hostPID", True),
        put(f"{SERVER_POD} hostIPC", True),
        put(f"{FOLDER_POD} hostPID", True, overlay="one-node"),
        put(f"{FOLDER_POD} volumes 0 hostPath path", "/var/lib", overlay="one-node"),
    ],
    "read_only_roots_have_a_tmp": [
        put(f"{SERVER} volumeMounts 3 mountPath", "/temporary"),
        put(f"{AUTOSCALER} volumeMounts 0 mountPath", "/temporary"),
    ],
    "images_are_pinned": [
        put(f"{SERVER} image", "tensorflow/serving:latest"),
        put(f"{SERVER} image", "tensorflow/serving"),
        put(f"{WEB} image", "registry.example.com/inkling/client:0.0.1"),
    ],
    "requests_are_within_limits": [
        put(f"{SERVER} resources requests memory", "3Gi"),
        drop(f"{SERVER} resources requests cpu"),
        drop(f"{SERVER} resources limits memory"),
        drop(f"{AUTOSCALER} resources"),
    ],
    "pods_carry_the_labels": [
        drop(f"{WORKERS} template metadata labels app.kubernetes.io/part-of"),
        put(f"{WORKERS} template metadata labels app.kubernetes.io/name", "worker"),
    ],
    "stopping_outlasts_every_connection": [
        put(f"{SERVER} lifecycle preStop sleep seconds", 75),
        put(f"{SERVER} args", "age_ms=300000", old="age_ms=60000"),
        put(f"{SERVER} args", "age_grace_ms=30000", old="age_grace_ms=10000"),
        put(f"{SERVER} args", "grpc.max_concurrent_streams=", old="grpc.max_connection_age_ms="),
        put(f"{SERVER_POD} terminationGracePeriodSeconds", 100),
        put(f"{WEB} lifecycle preStop sleep seconds", 25),
    ],
    "rollouts_keep_every_pod_until_its_successor_is_ready": [
        put(f"{SERVING} strategy rollingUpdate", {"maxUnavailable": 1, "maxSurge": 0}),
        drop(f"{SERVER} startupProbe"),
        drop(f"{SERVER} readinessProbe"),
        drop(f"{SERVER} livenessProbe"),
    ],
    "selectors_find_pods": [
        put("Service/serving spec selector app.kubernetes.io/component", "server"),
        put(f"{SERVING} selector matchLabels app.kubernetes.io/component", "server"),
        put("PodDisruptionBudget/serving spec selector matchLabels app.kubernetes.io/component", "server"),
        put("PodMonitor/train spec selector matchLabels app.kubernetes.io/component", "ray", component="monitoring"),
    ],
    "ports_have_short_unique_names": [
        put(f"{SERVER} ports 0 name", "prediction-service"),
        put(f"{SERVER} ports 0 name", "http"),
        put("Service/serving spec ports 0 name", "http"),
    ],
    "services_reach_open_ports": [put("Service/serving spec ports 0 targetPort", 9000)],
    "probes_ask_open_ports": [
        put(f"{SERVER} readinessProbe grpc port", 8502),
        put(f"{WEB} startupProbe httpGet port", "web"),
    ],
    "mounts_have_volumes": [
        put(f"{SERVER} volumeMounts 0 name", "models-repository"),
        drop(f"{SERVER} volumeMounts 3"),
        put(f"{SERVER} volumeMounts 3 mountPath", "/models"),
    ],
    "named_objects_exist": [
        put("ConfigMap/serving-models metadata name", "serving-models-abc123"),
        put(f"{SERVER_POD} volumes 0 persistentVolumeClaim claimName", "models"),
        put(f"{SERVER_POD} serviceAccountName", "server"),
        put("HorizontalPodAutoscaler/serving spec scaleTargetRef name", "server"),
        put("Ingress/client-web spec rules 0 http paths 0 backend service name", "web", component="ingress"),
        put("GRPCRoute/serving spec rules 0 backendRefs 0 name", "server", component="gateway"),
        put("Certificate/serving-tls spec secretName", "tls", component="tls"),
        put(f"{HEAD_POD} containers 0 envFrom 0 secretRef name", "bucket", component="object-store"),
        put(f"{SERVER_POD} initContainers 0 env 4 valueFrom secretKeyRef name", "bucket", component="object-store"),
    ],
    "variables_are_set_before_their_use": [
        put(f"{SERVER} env", [{"name": "ENDPOINT", "value": "$(AWS_ENDPOINT_URL)"}]),
        put(f"{SERVER} args", "--port=$(PORT)", old="--port=8500"),
    ],
    "monitors_scrape_named_ports": [
        put("ServiceMonitor/serving spec endpoints 0 port", "rest", component="monitoring"),
        put("PodMonitor/train spec podMetricsEndpoints 0 port", "http", component="monitoring"),
    ],
    "routes_reach_ports_of_services": [
        put("HTTPRoute/client-web spec rules 0 backendRefs 0 port", 8000, component="gateway"),
        put("GRPCRoute/serving spec hostnames", ["inkling.example.com"], component="gateway"),
    ],
    "monitors_are_looked_at": [
        drop("ServiceMonitor/serving metadata labels release", component="monitoring"),
        drop("PodMonitor/train metadata labels release", component="monitoring"),
        put("PrometheusRule/train metadata labels release", "prometheus", component="monitoring"),
    ],
    "autoscalers_have_room": [
        put("HorizontalPodAutoscaler/serving spec minReplicas", 20),
        put("HorizontalPodAutoscaler/serving spec minReplicas", 1),
        put(f"{SERVING} replicas", 2),
        drop(f"{SERVER} resources requests cpu"),
    ],
    "budgets_let_a_pod_go": [
        put("PodDisruptionBudget/serving spec maxUnavailable", 0),
        put("PodDisruptionBudget/serving spec minAvailable", 1),
    ],
    "server_flags_exist": [put(f"{SERVER} args", "--enable-batching=", old="--enable_batching=")],
    "words_point_at_mounted_files": [
        put(f"{SERVER} args", "/etc/serving/batching.config", old="/etc/serving/settings/batching.config"),
        put(f"{SERVER} args", "/settings/batch.config", old="/settings/batching.config"),
        put(f"{SERVER} args", "/etc/ssl/ssl.config", old="/etc/ssl-config/ssl.config", component="tls"),
        put(f"{SERVER_POD} initContainers 0 volumeMounts 1 readOnly", True, component="tls"),
        put(f"{WEB} args", "/etc/authority/tls.crt", old="/etc/authority/ca.crt", component="tls"),
        put(f"{SERVER_POD} initContainers 0 command 1", "/etc/mirror/copy.sh", component="object-store"),
        put(f"{FOLDER} args", "/var/lib/inkling", old="/node", overlay="one-node"),
    ],
    "polled_files_are_mounted_as_folders": [
        put(f"{SERVER} volumeMounts 1 subPath", "models.config"),
        put(f"{SERVER_POD} volumes 1 configMap name", "serving-models-abc123"),
    ],
    "models_lie_in_the_repository": [
        put("ConfigMap/serving-models data models.config", "/model/mnist", old="/models/mnist"),
        drop(f"{SERVER} volumeMounts 0 readOnly"),
    ],
    "ports_are_those_of_the_flags": [
        put(f"{SERVER} args", "--port=8510", old="--port=8500"),
        put(f"{WEB} ports 0 containerPort", 8080),
    ],
    "web_flags_exist": [put(f"{WEB} args", "--to", old="--server")],
    "train_flags_exist": [put(f"{JOB} entrypoint", "--workers", old="--num-workers")],
    "train_writes_into_mounts": [
        put(f"{JOB} submitterPodTemplate spec containers 0 env 1 value", "/model"),
        put(f"{JOB} entrypoint", "/models", old="${MODEL_DIR}"),
        put(f"{WORKER} volumeMounts 1 readOnly", True),
        drop(f"{WORKER} envFrom", component="object-store"),
    ],
    "names_leave_room_for_suffixes": [
        put("RayJob/train metadata name", "train-" + 42 * "x"),
        put("RayJob/train metadata name", "2nd-train"),
        put("RayCronJob/retrain metadata name", "retrain-" + 34 * "x", component="retrain"),
    ],
    "submission_modes_exist": [put(f"{JOB} submissionMode", "K8sJob")],
    "finished_clusters_go": [
        put(f"{JOB} shutdownAfterJobFinishes", False),
        put(f"{JOB} deletionStrategy", {"deletionRules": []}),
    ],
    "jobs_end": [
        drop(f"{JOB} backoffLimit"),
        drop(f"{JOB} activeDeadlineSeconds"),
        drop(f"{JOB} preRunningDeadlineSeconds"),
    ],
    "worker_counts_are_in_bounds": [
        put(f"{WORKERS} replicas", 8),
        put(f"{JOB} entrypoint", "--num-workers 5", old="--num-workers 2"),
    ],
    "workers_have_what_the_training_asks_for": [
        put(f"{WORKER} resources limits cpu", "3"),
        drop(f"{WORKER} resources limits nvidia.com/gpu", overlay="gpu"),
        put(f"{JOB} entrypoint", "", old="--gpus-per-worker 1", overlay="gpu"),
    ],
    "gpu_pods_find_gpu_nodes": [
        drop(f"{WORKER_POD} tolerations", overlay="gpu"),
        drop(f"{WORKER} resources requests nvidia.com/gpu", overlay="gpu"),
        put(f"{WORKER} image", "registry.example.com/inkling/train:0.2.0", overlay="gpu"),
    ],
    "one_ray_everywhere": [
        put(f"{CLUSTER} rayVersion", "2.59.0"),
        put(f"{WORKER} image", "rayproject/ray:2.60.0"),
    ],
    "the_head_trains_nothing": [
        drop(f"{HEAD} rayStartParams num-cpus"),
        put(f"{HEAD} resources", {"CPU": "2"}),
    ],
    "ray_pods_stop_gracefully_and_once": [
        drop(f"{WORKER} lifecycle"),
        put(f"{HEAD_POD} restartPolicy", "Always"),
    ],
    "only_an_autoscaler_has_a_token": [
        put(f"{HEAD_POD} automountServiceAccountToken", False),
        put(f"{HEAD_POD} automountServiceAccountToken", True, overlay="local"),
        put(f"{WORKER_POD} automountServiceAccountToken", True),
    ],
    "a_retry_goes_on": [
        put(f"{JOB} entrypoint", "", old="--name ${RAY_JOB_SUBMISSION_ID%-*} "),
        put(f"{JOB} submissionMode", "HTTPMode"),
    ],
    "every_pod_is_closed_by_default": [
        put("NetworkPolicy/default-deny spec policyTypes", ["Ingress"]),
        put("NetworkPolicy/default-deny spec podSelector", {"matchLabels": {"app.kubernetes.io/name": "train"}}),
        put("NetworkPolicy/default-deny spec egress", [{}]),
        put("Job/make-folder metadata namespace", "inkling-folders", overlay="one-node"),
    ],
    "needed_flows_are_open": [
        put("NetworkPolicy/serving spec ingress 0 from", [{"podSelector": {"matchLabels": {"client": "true"}}}]),
        drop("NetworkPolicy/ray-head spec egress"),
        drop("NetworkPolicy/object-store spec egress", component="object-store"),
        drop("NetworkPolicy/serving-metrics spec ingress", component="monitoring"),
        drop("NetworkPolicy/client-web-ingress spec ingress", component="ingress"),
        drop("NetworkPolicy/serving-gateway spec ingress", component="gateway"),
    ],
    "other_flows_are_closed": [
        drop("NetworkPolicy/ray-head spec ingress 0 from"),
        put("NetworkPolicy/ray-head spec egress", [{"ports": [{"protocol": "TCP", "port": 443}]}], overlay="local"),
        put("NetworkPolicy/client-web spec egress", [{}]),
    ],
    "policies_name_ports_in_use": [
        put("NetworkPolicy/serving spec ingress 0 ports 0 port", 9000),
        put(f"{SERVER} ports 1 containerPort", 8502),
    ],
}

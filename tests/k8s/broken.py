"""For each rule, and for each check in it, a change to an overlay that breaks it: a typing error or a wrong idea."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.k8s.manifests import ROOT, Object, find, overlay, with_component

GONE = object()
QUEUE_TIME = "HorizontalPodAutoscaler/serving spec metrics 1 pods"

SERVING = "Deployment/serving spec"
SERVER_POD = f"{SERVING} template spec"
SERVER = f"{SERVER_POD} containers 0"
MODEL_IMAGE = f"{SERVER_POD} volumes 0 image"
WEB = "Deployment/client-web spec template spec containers 0"
JOB = "RayJob/train spec"
CLUSTER = f"{JOB} rayClusterSpec"
AUTOSCALER = f"{CLUSTER} autoscalerOptions"
HEAD = f"{CLUSTER} headGroupSpec"
HEAD_POD = f"{HEAD} template spec"
WORKERS = f"{CLUSTER} workerGroupSpecs 0"
WORKER_POD = f"{WORKERS} template spec"
WORKER = f"{WORKER_POD} containers 0"
BATCH = "RayJob/batch-read spec"
BATCH_HEAD = f"{BATCH} rayClusterSpec headGroupSpec template spec containers 0"
READER_POD = f"{BATCH} rayClusterSpec workerGroupSpecs 0 template"
BATCH_ENV = f"{BATCH} submitterPodTemplate spec containers 0 env"
CANARY_SERVER = "Deployment/serving-canary spec template spec containers 0"
CANARY_POD = "CronJob/canary spec jobTemplate spec template spec"
MAKE_FOLDER = f"Job/make-folder-{(ROOT / 'VERSION').read_text().strip().replace('.', '-')}"
FOLDER_POD = f"{MAKE_FOLDER} spec template spec"
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
        found = with_component(folder, self.overlay, self.component) if self.component else overlay(self.overlay)
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
        put(f"{WEB} image", "registry.example.com/inkling/client@sha256:0123"),
    ],
    "mounted_images_are_named_by_digest": [
        put(f"{MODEL_IMAGE} reference", "registry.example.com/models/mnist:3", component="oci"),
        put(f"{MODEL_IMAGE} reference", "registry.example.com/models/mnist@sha256:0123", component="oci"),
        put(f"{MODEL_IMAGE} pullPolicy", "Always", component="oci"),
        drop(f"{MODEL_IMAGE} pullPolicy", component="oci"),
    ],
    "image_volumes_are_mounted_whole_and_read_only": [
        drop(f"{SERVER} volumeMounts 0 readOnly", component="oci"),
        put(f"{SERVER} volumeMounts 0 subPath", "models", component="oci"),
    ],
    "requests_are_within_limits": [
        put(f"{SERVER} resources requests memory", "3Gi"),
        drop(f"{SERVER} resources requests cpu"),
        drop(f"{SERVER} resources limits memory"),
        drop(f"{AUTOSCALER} resources"),
    ],
    "pods_carry_the_labels": [
        drop(f"{WORKERS} template metadata labels app.kubernetes.io/part-of"),
        put("Deployment/client-web spec template metadata labels app.kubernetes.io/name", "web"),
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
        put(f"{HEAD} template metadata labels app.kubernetes.io/name", "train"),  # the job's own Service finds no head
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
        put("RoleBinding/canary roleRef name", "canaries", component="canary"),
        put("BackendTLSPolicy/serving spec targetRefs 0 name", "server", component="gateway-tls"),
        put("BackendTLSPolicy/serving spec validation caCertificateRefs 0 name", "ca", component="gateway-tls"),
        put(f"{HEAD_POD} containers 0 envFrom 0 secretRef name", "bucket", component="object-store"),
        put(f"{HEAD_POD} volumes 2 secret secretName", "docker", component="oci"),
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
    "gateways_speak_as_their_backends_do": [
        put("BackendTLSPolicy/serving spec validation hostname", "server.inkling.svc", component="gateway-tls"),
        drop("BackendTLSPolicy/serving spec targetRefs 1", overlay="production"),
    ],
    "monitors_are_looked_at": [
        drop("ServiceMonitor/serving metadata labels release", component="monitoring"),
        drop("PodMonitor/train metadata labels release", component="monitoring"),
        put("PrometheusRule/train metadata labels release", "prometheus", component="monitoring"),
    ],
    "autoscalers_have_room": [
        put("HorizontalPodAutoscaler/serving spec minReplicas", 20),
        put("HorizontalPodAutoscaler/serving spec minReplicas", 1),
        put("HorizontalPodAutoscaler/serving spec minReplicas", 0),
        put(f"{SERVING} replicas", 2),
        drop(f"{SERVER} resources requests cpu"),
        put("ScaledObject/serving spec minReplicaCount", 1, component="keda"),
        put("ScaledObject/serving spec maxReplicaCount", 2, component="keda"),
        put(f"{SERVING} replicas", 2, component="keda"),
        drop(f"{SERVER} resources requests cpu", component="keda"),
    ],
    "zero_pods_come_back": [
        put("ScaledObject/serving spec minReplicaCount", 0, component="keda"),
        drop("ScaledObject/serving spec triggers 0", component="scale-to-zero"),
        put(
            "ScaledObject/serving spec triggers 0 metadata podSelector",
            "inkling/client=true",
            component="scale-to-zero",
        ),
    ],
    "what_is_scaled_by_is_recorded": [
        put("ScaledObject/serving spec triggers 0 metadata query", "waiting", old="calls_waiting", component="keda"),
        put(f"{QUEUE_TIME} metric name", "calls_waiting", component="queue-time"),
        drop("PrometheusRule/serving spec groups 0", component="queue-time"),
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
    "canary_flags_exist": [put(f"{CANARY_POD} containers 0 args 1", "--hold=120", component="canary")],
    "web_flags_exist": [put(f"{WEB} args", "--to", old="--server")],
    "train_flags_exist": [put(f"{JOB} entrypoint", "--workers", old="--num-workers")],
    "train_writes_into_mounts": [
        put(f"{JOB} submitterPodTemplate spec containers 0 env 1 value", "/model"),
        put(f"{JOB} entrypoint", "/models", old="${MODEL_DIR}"),
        put(f"{WORKER} volumeMounts 1 readOnly", True),
        drop(f"{WORKER} envFrom", component="object-store"),
        drop(f"{HEAD_POD} containers 0 env", component="oci"),
        drop(f"{HEAD_POD} containers 0 volumeMounts 3", component="oci"),
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
        put(f"{JOB} entrypoint", "--num-workers 5", old="--num-workers ${NUM_WORKERS}"),
        put(f"{JOB} submitterPodTemplate spec containers 0 env 2 value", "5"),
    ],
    "elastic_trainings_get_what_they_can_take": [
        put(f"{WORKERS} maxReplicas", 4, component="elastic"),
        put(f"{WORKERS} maxReplicas", 16, component="elastic"),
        put(f"{WORKERS} minReplicas", 0, component="elastic"),
        put(f"{JOB} submitterPodTemplate spec containers 0 env 2 value", "2:8", component="elastic"),
        put(f"{CLUSTER} enableInTreeAutoscaling", False, component="elastic"),
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
    "kuberay_probes_by_http": [
        put(f"{CLUSTER} rayVersion", "2.52.1"),
        drop(f"{CLUSTER} rayVersion"),
    ],
    "ray_asks_for_a_token": [
        drop(f"{CLUSTER} authOptions"),
        put(f"{CLUSTER} authOptions mode", "disabled"),
        put(f"{JOB} submitterPodTemplate spec containers 0 env 0 name", "RAY_AUTH_TOKEN"),
        put(f"{AUTOSCALER} env", [{"name": "RAY_AUTH_MODE", "value": "disabled"}]),
    ],
    "the_head_trains_nothing": [
        drop(f"{HEAD} rayStartParams num-cpus"),
        put(f"{HEAD} resources", {"CPU": "2"}),
    ],
    "ray_pods_stop_gracefully_and_once": [
        drop(f"{WORKER} lifecycle"),
        put(f"{HEAD_POD} restartPolicy", "Always"),
        drop(f"{WORKER} env", component="elastic"),
        put(f"{WORKER_POD} terminationGracePeriodSeconds", 30, component="elastic"),
        put(f"{WORKER} lifecycle", {"preStop": {"exec": {"command": ["ray", "stop"]}}}, component="elastic"),
    ],
    "only_who_asks_kubernetes_has_a_token": [
        put(f"{CANARY_POD} automountServiceAccountToken", False, component="canary"),
        put("RoleBinding/canary subjects 0 name", "serving", component="canary"),
        put(f"{HEAD_POD} automountServiceAccountToken", False),
        put(f"{HEAD_POD} automountServiceAccountToken", True, overlay="local"),
        put(f"{WORKER_POD} automountServiceAccountToken", True),
    ],
    "a_retry_goes_on": [
        put(f"{JOB} entrypoint", "", old="--name ${RAY_JOB_SUBMISSION_ID%-*} "),
        put(f"{JOB} submissionMode", "HTTPMode"),
        put(f"{BATCH} entrypoint", "${OUTPUT}/${RAY_JOB_SUBMISSION_ID}", old="${OUTPUT}", component="batch-read"),
    ],
    "every_pod_is_closed_by_default": [
        put("NetworkPolicy/default-deny spec policyTypes", ["Ingress"]),
        put("NetworkPolicy/default-deny spec podSelector", {"matchLabels": {"app.kubernetes.io/name": "train"}}),
        put("NetworkPolicy/default-deny spec egress", [{}]),
        put(f"{MAKE_FOLDER} metadata namespace", "inkling-folders", overlay="one-node"),
    ],
    "needed_flows_are_open": [
        put("NetworkPolicy/serving spec ingress 0 from", [{"podSelector": {"matchLabels": {"client": "true"}}}]),
        drop("NetworkPolicy/serving-clients spec egress"),
        put("NetworkPolicy/serving-clients spec egress 0 ports", [{"protocol": "TCP", "port": 8500}]),
        drop("NetworkPolicy/ray-head spec egress"),
        drop("NetworkPolicy/object-store spec egress", component="object-store"),
        drop("NetworkPolicy/object-store-serving spec egress", component="object-store"),
        put("NetworkPolicy/registry spec egress 0 ports 0 port", 80, overlay="local", component="oci"),
        drop("NetworkPolicy/serving-metrics spec ingress", component="monitoring"),
        drop("NetworkPolicy/client-web-ingress spec ingress", component="ingress"),
        drop("NetworkPolicy/serving-gateway spec ingress", component="gateway"),
        drop("NetworkPolicy/canary spec egress", component="canary"),
        drop("NetworkPolicy/batch-read spec egress", component="batch-read"),
        drop("NetworkPolicy/batch-read-head spec ingress", component="batch-read"),
        drop("NetworkPolicy/batch-read-submitter spec egress", component="batch-read"),
        drop("NetworkPolicy/traces-serving spec egress", component="tracing"),
        drop("NetworkPolicy/traces-clients spec egress", component="tracing"),
        put("NetworkPolicy/traces-train spec egress 0 ports 0 port", 4318, component="tracing"),
    ],
    "traces_reach_the_collector": [
        put(f"{SERVER} env 1 value", "http://otel-collector:4317", component="tracing"),
        put(f"{SERVER} env 1 value", "http://otel-collector.monitoring.svc:4317", component="tracing"),
        put(f"{WEB} env 0 value", "http://otel-collector.observability.svc:4318", component="tracing"),
        put(f"{JOB} runtimeEnvYAML", ":4318", old=":4317", component="tracing"),
    ],
    "other_flows_are_closed": [
        put("NetworkPolicy/batch-read spec ingress", [{}], component="batch-read"),
        drop("NetworkPolicy/ray-head spec ingress 0 from"),
        put("NetworkPolicy/ray-head spec egress", [{"ports": [{"protocol": "TCP", "port": 443}]}], overlay="local"),
        put("NetworkPolicy/serving-clients spec egress", [{}]),
    ],
    "policies_name_ports_in_use": [
        put("NetworkPolicy/serving spec ingress 0 ports 0 port", 9000),
        put(f"{SERVER} ports 1 containerPort", 8502),
    ],
    "a_canary_moves_routes_that_are_there": [
        put(f"{CANARY_POD} containers 0 args 0", "--route=grpcroutes/server", component="canary"),
        put("GRPCRoute/serving spec rules 0 backendRefs 1 name", "serving", component="canary"),
        put("GRPCRoute/serving spec rules 0 backendRefs 1 weight", 10, component="canary"),
        put("Role/canary rules 0 resourceNames", ["server"], component="canary"),
        put("Role/canary rules 0 verbs", ["get"], component="canary"),
    ],
    "a_canary_is_tried_once": [
        drop("CronJob/canary spec jobTemplate spec backoffLimit", component="canary"),
        put("CronJob/canary spec concurrencyPolicy", "Allow", component="canary"),
    ],
    "a_canary_serves_another_version": [
        put(
            "Deployment/serving-canary spec template spec volumes 0 configMap name",
            "serving-models",
            component="canary",
        ),
        put(
            "Deployment/serving-canary spec template spec volumes 0 image reference",
            f"registry.example.com/models/mnist@sha256:{64 * '0'}",
            overlay="production",
        ),
    ],
    "batch_flags_exist": [
        put(f"{BATCH} entrypoint", "--to", old="--server", component="batch-read"),
        put(f"{BATCH_ENV} 3 value", "--tls_ca=/etc/authority/ca.crt", component="batch-read"),
    ],
    "batch_jobs_reach_their_pictures": [
        put(f"{BATCH_ENV} 1 value", "s3://inkling/pictures", component="batch-read"),
        put(f"{BATCH_ENV} 0 name", "INPUT", component="batch-read"),
        drop(f"{BATCH_HEAD} envFrom", component="batch-read"),
        drop(f"{READER_POD} spec containers 0 envFrom", component="batch-read"),
    ],
    "readers_reach_the_servers": [
        put(f"{BATCH_ENV} 2 value", "dns:///serving:8501/", component="batch-read"),
        put(f"{BATCH_ENV} 3 value", "--tls-ca=/etc/authority/ca.crt", component="batch-read"),
        drop(f"{READER_POD} metadata labels inkling/serving-client", component="batch-read"),
    ],
    "closed_servers_are_ours": [
        put(f"{SERVER} command", ["tensorflow_model_server"], component="access"),
        put(f"{SERVER} command", ["tensorflow_model_server"], component="signed"),
    ],
    "administration_takes_another_key": [
        put(f"{SERVER} args", "--v2=", old="--admin_api_keys_file=", overlay="production"),
        put(f"{SERVER} args", "/predict.txt", old="/admin.txt", component="access"),
        put(f"{SERVER} args", "--v2=", old="--audit_log_file=", component="access"),
    ],
    "all_servers_are_closed_alike": [
        put(f"{CANARY_SERVER} args", "--v2=", old="--verify_models=", overlay="production"),
        put(f"{CANARY_SERVER} args", "--v2=", old="--api_keys_file=", overlay="production"),
    ],
    "probes_need_no_key": [
        put(f"{SERVER} readinessProbe httpGet path", "/v1/models/mnist/metadata", component="access"),
        put(f"{SERVER} livenessProbe", {"grpc": {"port": 8500}}, component="access"),
    ],
    "callers_have_keys": [
        drop(f"{WEB} env", component="access"),
        drop("CronJob/canary spec jobTemplate spec template spec containers 0 env", overlay="production"),
    ],
    "queues_exist": [
        put("RayJob/train metadata labels kueue.x-k8s.io/queue-name", "train", component="kueue"),
        put("RayJob/train metadata labels kueue.x-k8s.io/priority-class", "urgent", component="kueue"),
        put("LocalQueue/default spec clusterQueue", "train", component="kueue"),
    ],
    "queued_trainings_are_of_one_size": [
        put(f"{CLUSTER} enableInTreeAutoscaling", True, component="kueue"),
        put(f"{JOB} shutdownAfterJobFinishes", False, component="kueue"),
        put(f"{WORKERS} groupName", "head", component="kueue"),
    ],
    "queued_trainings_fit_the_quota": [
        put(f"{WORKERS} replicas", 4, component="kueue"),
        put(f"{WORKER} resources requests memory", "12Gi", component="kueue"),
        put(f"{WORKER} resources requests example.com/fpga", 1, component="kueue"),
    ],
    "strategies_have_a_type": [
        drop(f"{SERVING} strategy type"),
        drop("Deployment/client-web spec strategy type"),
    ],
    "lists_leave_no_default_out": [
        drop(f"{WORKERS} numOfHosts"),
        drop(f"{WORKER} ports 0 protocol"),
        drop("HTTPRoute/client-web spec rules 0 backendRefs 0 weight", component="gateway"),
    ],
    "ray_groups_have_what_the_operator_writes": [drop(f"{WORKERS} scaleStrategy")],
    "config_maps_are_text": [put("ConfigMap/serving-models binaryData", {"probe.npz": "AAAA\nAAAA\n"})],
    "volumes_name_no_empty_class": [
        put("PersistentVolume/inkling-model-repository spec storageClassName", "", overlay="one-node"),
    ],
    "objects_have_a_namespace": [drop("ScaledObject/serving metadata namespace", component="keda")],
    "jobs_stay": [put(f"{MAKE_FOLDER} spec ttlSecondsAfterFinished", 600, overlay="one-node")],
}

# Commands as somebody may write them into k8s/README.md, which do not do what a reader expects.
BROKEN_COMMANDS = [
    "kubectl -n inkling logs -f job/train",
    "kubectl -n inkling logs -l app.kubernetes.io/component=server",
    "kubectl delete -k k8s/overlays/local",
    "kubectl apply -k k8s/overlays/laptop",
    "kubectl apply -f k8s/base/platform/namespaces.yaml",
    "kubectl -n inklings get pods -l app.kubernetes.io/component=serving -o name",
    "kubectl -n inkling get pods -l app.kubernetes.io/component=submitter -o name",
    "kubectl -n inkling get rayjob train -o jsonpath='{.status.clusterName}'",
    "kubectl -n inkling wait rayjob/train --for=jsonpath='{.status.deploymentStatus}'=Complete",
    "kubectl -n inkling get secret train-abcde -o jsonpath='{.data.token}'",
    "kubectl -n inkling get secret train",
    "kubectl -n inkling port-forward service/train-head 8265",
    "kubectl -n inkling port-forward service/serving 8502",
    "kubectl -n inkling port-forward service/client-web 8000",
    "kubectl -n inkling port-forward $pod 18500:8502 > /dev/null &",
    "kubectl -n inkling rollout status deployment/server",
    "kubectl -n inkling create job canary-2 --from=cronjob/canary",  # where the component is not
    "kubectl -n inkling exec deployment/serving -- ls",
]

"""The objects that the tests of a cluster's own machinery apply: the components', made small enough for a laptop."""

import copy
import tempfile
from pathlib import Path

from tests.k8s import callers, manifests
from tests.k8s.cluster import STRANGERS
from tests.k8s.manifests import Object

GATEWAY_NAMESPACE, GATEWAY = "envoy-gateway-system", "inkling-test"
HOST = "serving.inkling.example.com"


def _component(*names: str) -> list[Object]:
    """The objects of the local overlay with components on top."""
    with tempfile.TemporaryDirectory() as folder:
        return manifests.on_top(Path(folder), "local", *names)


def scaled_by_cpu() -> list[Object]:
    """The cpu overlay's autoscaler, which here may begin with one server."""
    found = manifests.find(manifests.overlay("cpu"), "HorizontalPodAutoscaler", "serving")
    found["spec"] |= {"minReplicas": 1, "maxReplicas": 3}
    return [found]


def scaled_to_zero() -> list[Object]:
    """The scale-to-zero component's object, without the triggers that ask others than KEDA itself."""
    found = manifests.find(_component("monitoring", "keda", "scale-to-zero"), "ScaledObject", "serving")
    spec = found["spec"] | {"pollingInterval": 5, "cooldownPeriod": 10, "maxReplicaCount": 1}
    spec["triggers"] = [trigger for trigger in spec["triggers"] if trigger["type"] == "kubernetes-workload"]
    found["spec"] = {
        name: value for name, value in spec.items() if name != "fallback"
    }  # Prometheus', which is not asked
    return [found]


def certified() -> list[Object]:
    """What the tls component adds and changes."""
    kinds = ("Issuer", "Certificate", "Deployment", "NetworkPolicy")
    return manifests.of_kind(_component("tls"), *kinds)


def queues() -> list[Object]:
    """The cluster's queue, with room for one training of the local overlay, and the namespace's."""
    found = manifests.render(manifests.K8S / "base/queues")
    [queue] = manifests.of_kind(found, "ClusterQueue")
    for resource in queue["spec"]["resourceGroups"][0]["flavors"][0]["resources"]:
        resource["nominalQuota"] = {"cpu": "600m", "memory": "3Gi"}[resource["name"]]
    return [*found, manifests.find(_component("kueue"), "LocalQueue", "default")]


def queued(objects: list[Object], priority: str, *, epochs: int) -> Object:
    """A training that waits in the queue, named after its priority."""
    job = copy.deepcopy(manifests.of_kind(objects, "RayJob")[0])
    job["metadata"]["name"] += f"-{priority}"
    labels = {"kueue.x-k8s.io/queue-name": "default", "kueue.x-k8s.io/priority-class": priority}
    job["metadata"]["labels"] = job["metadata"].get("labels", {}) | labels
    job["spec"]["entrypoint"] = job["spec"]["entrypoint"].replace("--epochs 1", f"--epochs {epochs}")
    return job


def gateway(class_name: str) -> list[Object]:
    """A Gateway of the test's own, and the routes of the gateway component through it."""
    listener = {"name": "http", "port": 80, "protocol": "HTTP", "allowedRoutes": {"namespaces": {"from": "All"}}}
    made = {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "Gateway",
        "metadata": {"name": GATEWAY, "namespace": GATEWAY_NAMESPACE},
        "spec": {"gatewayClassName": class_name, "listeners": [listener]},
    }
    return [made, *_through_it(_component("gateway"))]


def canary() -> list[Object]:
    """The canary component on those routes: a second server, and a Job that is through in a minute."""
    found = _through_it(_component("gateway", "canary"))
    for item in manifests.of_kind(found, "CronJob"):
        [container] = item["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
        container["args"] = [word.replace("--hold_s=120", "--hold_s=10") for word in container["args"]]
    for item in manifests.of_kind(found, "HorizontalPodAutoscaler"):
        item["spec"] |= {"minReplicas": 1, "maxReplicas": 2}
    return found


def _through_it(objects: list[Object]) -> list[Object]:
    """What is not in the local overlay, its routes through the test's Gateway."""
    known = {(item["kind"], item["metadata"]["name"]) for item in manifests.overlay("local")}
    added = [item for item in objects if (item["kind"], item["metadata"]["name"]) not in known]
    for item in manifests.of_kind(added, "HTTPRoute", "GRPCRoute"):
        item["spec"]["parentRefs"][0]["name"] = GATEWAY
    return added


def pinned(objects: list[Object], *, version: int) -> Object:
    """The servers' models.config, which has them serve one version."""
    found = copy.deepcopy(manifests.find(objects, "ConfigMap", "serving-models"))
    latest = "model_version_policy { latest { num_versions: 1 } }"
    text = found["data"]["models.config"]
    assert latest in text
    found["data"]["models.config"] = text.replace(
        latest, f"model_version_policy {{ specific {{ versions: {version} }} }}"
    )
    return found


def calling_by_tls() -> Object:
    """A program that trusts the servers' authority."""
    job, container = callers.program(certified(), "by-tls")
    container["args"] = ["status", "--server=serving:8500", "--tls-ca=/etc/authority/ca.crt"]
    return job


def calling_by_gateway(objects: list[Object], address: str) -> Object:
    """A stranger's program that asks the servers by their host name, which is the Gateway's address."""
    job, container = callers.program(objects, "through-the-gateway", namespace=STRANGERS, labels={})
    container["args"] = ["status", f"--server={HOST}:80"]
    job["spec"]["template"]["spec"]["hostAliases"] = [{"ip": address, "hostnames": [HOST]}]
    return job


def load(objects: list[Object]) -> Object:
    """A program that calls the servers for minutes."""
    job, container = callers.program(objects, "load")
    container["args"] = ["bench", "--server=dns:///serving-headless:8500", "--duration=600", "--concurrency=8"]
    return job


def first_call(objects: list[Object]) -> Object:
    """A program whose first call waits for a server to come."""
    job, container = callers.program(objects, "first-call")
    container["args"] = ["wait", "--server=serving:8500", "--timeout=300"]
    return job


def without_pages(objects: list[Object]) -> list[Object]:
    """The web page at no pods: it is a client, for which KEDA would keep a server."""
    web = copy.deepcopy(manifests.find(objects, "Deployment", "client-web"))
    web["spec"]["replicas"] = 0
    return [web]


def spread_pages(objects: list[Object]) -> list[Object]:
    """Two of the web page's pods, with the budget that they have where there is more than one."""
    web = copy.deepcopy(manifests.find(objects, "Deployment", "client-web"))
    web["spec"]["replicas"] = 2
    return [web, manifests.find(manifests.overlay("cpu"), "PodDisruptionBudget", "client-web")]

"""Rules for the network: the flows that must be open are, and no other ones that matter."""

from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

import yaml

from tests.k8s.manifests import Object, autoscalers, containers, every_container, label, of_kind, pod_templates

NAMESPACE = "inkling"
DNS_PORT = 53
CLIENT_LABEL = "inkling/serving-client"
COMPONENT = "app.kubernetes.io/component"
ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"


@dataclass(frozen=True)
class Pod:
    """One end of a flow, under the name that k8s/README.md has for it."""

    name: str
    labels: tuple[tuple[str, str], ...] = ()
    namespace: str = NAMESPACE
    namespace_labels: tuple[tuple[str, str], ...] = ()
    outside: bool = False  # no pod, which a selector could match


def pod(name: str, namespace: str = NAMESPACE, client_namespace: bool = False, **labels: str) -> Pod:
    """A pod by its labels: component, node (of Ray), client, app (its name)."""
    keys = {"component": COMPONENT, "node": "ray.io/node-type", "client": CLIENT_LABEL}
    keys["app"] = "app.kubernetes.io/name"
    found = {keys[key]: value for key, value in labels.items()}
    if "node" in labels:
        found["ray.io/is-ray-node"] = "yes"
    own = {"kubernetes.io/metadata.name": namespace} | ({CLIENT_LABEL: "true"} if client_namespace else {})
    return Pod(name, tuple(found.items()), namespace, tuple(own.items()))


Flow = tuple[Pod, Pod, int]

HEAD = pod("Ray head", component="train", node="head")
WORKER = pod("Ray worker", component="train", node="worker")
SUBMITTER = pod("submitter", component="train-submitter")
BATCH_HEAD = pod("batch-read's head", component="batch-read", node="head")
READER = pod("batch-read's reader", component="batch-read", node="worker", client="true")
BATCH_SUBMITTER = pod("batch-read's submitter", component="batch-read-submitter")
SERVING = pod("serving", component="serving")
KSERVE = pod("the pods of the InferenceService", component="serving-kserve")
WEB = pod("client-web", component="client-web", client="true")
CLIENT = pod("a pod labelled as a client", client="true")
TEAM = pod("a pod of a namespace labelled so", namespace="team", client_namespace=True)
OPERATOR = pod("KubeRay's operator", namespace="kuberay", component="kuberay-operator")
PROMETHEUS = pod("Prometheus", namespace="monitoring", app="prometheus")
INGRESS = pod("ingress-nginx", namespace="ingress-nginx", component="controller")
GATEWAY = pod("the Gateway", namespace="envoy-gateway-system", component="proxy")
COLLECTOR = pod("the collector of traces", namespace="observability", component="opentelemetry-collector")
CANARY = pod("canary", component="canary", client="true")
STRANGER = pod("a stranger", namespace="elsewhere")
NEIGHBOUR = pod("a stranger in the namespace", component="other")
API = Pod("the Kubernetes API", outside=True)
STORE = Pod("the object store", outside=True)
REGISTRY = Pod("the registry", outside=True)
DNS = Pod("DNS", outside=True)
ANY_PORT = 34567  # raylets, workers and TensorFlow's collectives choose theirs

# By what opens them: "" is always, "scaled" an autoscaler beside the Ray head, "plaintext" the lack of the tls
# component, and the others are components.
FLOWS: dict[str, list[Flow]] = {
    "": [
        (HEAD, HEAD, ANY_PORT),
        (HEAD, WORKER, ANY_PORT),
        (WORKER, HEAD, ANY_PORT),
        (WORKER, WORKER, ANY_PORT),
        (SUBMITTER, HEAD, 8265),
        (OPERATOR, HEAD, 8265),
        (WEB, SERVING, 8500),
        (CLIENT, SERVING, 8500),
        (TEAM, SERVING, 8500),
        *((source, DNS, 53) for source in (HEAD, WORKER, SUBMITTER, SERVING, WEB, CLIENT)),
        *((source, DNS, 53) for source in (BATCH_HEAD, READER, BATCH_SUBMITTER)),
    ],
    "plaintext": [(source, SERVING, 8501) for source in (WEB, CLIENT, TEAM)],
    "scaled": [(HEAD, API, 443), (HEAD, API, 6443)],
    "monitoring": [(PROMETHEUS, SERVING, 8501), (PROMETHEUS, HEAD, 8080), (PROMETHEUS, WORKER, 8080)],
    "ingress": [(INGRESS, WEB, 8000)],
    "gateway": [(GATEWAY, WEB, 8000), (GATEWAY, SERVING, 8500)],
    "kserve": [(source, KSERVE, port) for source in (CLIENT, TEAM) for port in (8500, 8501)],
    "batch-read": [  # to the servers the readers' label opens the way
        *((source, target, ANY_PORT) for source in (BATCH_HEAD, READER) for target in (BATCH_HEAD, READER)),
        *((source, STORE, port) for source in (BATCH_HEAD, READER) for port in (443, 9000)),
        (BATCH_SUBMITTER, BATCH_HEAD, 8265),
        (OPERATOR, BATCH_HEAD, 8265),
    ],
    "canary": [(CANARY, API, 443), (CANARY, API, 6443)],  # to the servers its label opens the way
    "object-store/runs": [(source, STORE, port) for source in (HEAD, WORKER) for port in (443, 9000)],
    "object-store": [(SERVING, STORE, port) for port in (443, 9000)],
    "tracing": [(source, COLLECTOR, 4317) for source in (SERVING, WEB, CLIENT, HEAD)],
    "oci": [(HEAD, REGISTRY, 443)],  # the servers' images are the kubelet's to pull
}
ALWAYS_CLOSED: list[Flow] = [
    (STRANGER, HEAD, 8265),
    (STRANGER, HEAD, 6379),
    (NEIGHBOUR, HEAD, 8265),
    (WEB, HEAD, 8265),
    (CLIENT, HEAD, 8265),
    (SERVING, HEAD, 8265),
    (STRANGER, BATCH_HEAD, 8265),
    (CLIENT, BATCH_HEAD, 8265),
    (WORKER, BATCH_HEAD, 6379),
    (READER, HEAD, 6379),
    (BATCH_HEAD, SERVING, 8500),
    (WORKER, SERVING, 8500),
    (STRANGER, SERVING, 8500),
    (STRANGER, SERVING, 8501),
    (NEIGHBOUR, SERVING, 8500),
    (NEIGHBOUR, SERVING, 8501),
    (STRANGER, WEB, 8000),
    (CLIENT, WEB, 8000),
    (GATEWAY, SERVING, 8501),
    (GATEWAY, HEAD, 8265),
    (WEB, API, 443),
    (CLIENT, API, 443),
    (SUBMITTER, API, 443),
    (OPERATOR, WORKER, 10002),
    (PROMETHEUS, HEAD, 8265),
    (WORKER, COLLECTOR, 4317),
    (COLLECTOR, SERVING, 8500),
]


def _reasons(objects: list[Object]) -> set[str]:
    """The keys of FLOWS that hold for these objects."""
    policies = {policy["metadata"]["name"] for policy in of_kind(objects, "NetworkPolicy")}
    found = {
        "": True,
        "plaintext": not of_kind(objects, "Certificate"),
        "scaled": any(autoscalers(objects)),
        "monitoring": of_kind(objects, "ServiceMonitor"),
        "kserve": "serving-kserve" in policies,
        "ingress": of_kind(objects, "Ingress"),
        "gateway": of_kind(objects, "GRPCRoute"),
        "batch-read": "batch-read" in policies,
        "canary": of_kind(objects, "CronJob"),
        "object-store/runs": not of_kind(objects, "PersistentVolumeClaim"),
        "object-store": "object-store-serving" in policies,
        "tracing": "traces-serving" in policies,
        "oci": "registry" in policies,
    }
    return {reason for reason, holds in found.items() if holds}


def needed_flows_are_open(objects: list[Object]) -> list[str]:
    """What the parts need to reach, and what k8s/README.md promises to callers, by the policies in force."""
    return [
        f"{source.name} cannot reach {target.name}:{port}"
        for reason in sorted(_reasons(objects))
        for source, target, port in FLOWS[reason]
        if not is_allowed(objects, source, target, port)
    ]


def other_flows_are_closed(objects: list[Object]) -> list[str]:
    """What would be of use to an intruder, among the flows that nothing needs."""
    reasons = _reasons(objects)
    needed = {_way(flow) for reason in reasons for flow in FLOWS[reason]}
    unused = [flow for reason in FLOWS.keys() - reasons for flow in FLOWS[reason]]
    return [
        f"{source.name} can reach {target.name}:{port}"
        for source, target, port in [*ALWAYS_CLOSED, *unused]
        if _way((source, target, port)) not in needed and is_allowed(objects, source, target, port)
    ]


def _way(flow: Flow) -> tuple[Pod, Pod | None, int]:
    """What a policy can tell apart: outside there are only ports."""
    source, target, port = flow
    return source, None if target.outside else target, port


def is_allowed(objects: list[Object], source: Pod, target: Pod, port: int) -> bool:
    """Whether a connection gets through: a rule at either end, where policies choose that end at all."""
    out = _policies(objects, source, "Egress")
    into = _policies(objects, target, "Ingress")
    out_open = not out or any(_lets(policy, rule, "to", target, port) for policy, rule in _rules(out, "egress"))
    in_open = not into or any(_lets(policy, rule, "from", source, port) for policy, rule in _rules(into, "ingress"))
    return out_open and in_open


def _policies(objects: list[Object], end: Pod, direction: str) -> list[Object]:
    return [
        policy
        for policy in of_kind(objects, "NetworkPolicy")
        if not end.outside
        and policy["metadata"].get("namespace", NAMESPACE) == end.namespace
        and direction in policy["spec"]["policyTypes"]
        and _matches(policy["spec"]["podSelector"], dict(end.labels))
    ]


def _rules(policies: list[Object], direction: str) -> Iterator[tuple[Object, Object]]:
    for policy in policies:
        for rule in policy["spec"].get(direction, []):
            yield policy, rule


def _lets(policy: Object, rule: Object, side: str, other: Pod, port: int) -> bool:
    ports = rule.get("ports", [])
    # What this little model of a network does not know, lest it be passed over.
    assert all(entry.keys() <= {"protocol", "port"} for entry in ports), ports
    assert all(entry["protocol"] == "TCP" or entry["port"] == DNS_PORT for entry in ports), ports
    if ports and port not in [entry["port"] for entry in ports]:
        return False
    peers = rule.get(side)
    return not peers or (not other.outside and any(_is_peer(policy, peer, other) for peer in peers))


def _is_peer(policy: Object, peer: Object, other: Pod) -> bool:
    assert peer.keys() <= {"namespaceSelector", "podSelector"}, peer
    if "namespaceSelector" in peer:
        if not _matches(peer["namespaceSelector"], dict(other.namespace_labels)):
            return False
    elif policy["metadata"].get("namespace", NAMESPACE) != other.namespace:
        return False
    return _matches(peer.get("podSelector", {}), dict(other.labels))


def _matches(selector: Object, labels: dict[str, str]) -> bool:
    if not selector.get("matchLabels", {}).items() <= labels.items():
        return False
    for expression in selector.get("matchExpressions", []):
        assert expression["operator"] == "In", expression
        if labels.get(expression["key"]) not in expression["values"]:
            return False
    return True


def traces_reach_the_collector(objects: list[Object]) -> list[str]:
    """Where a program is told to send its traces, policies let it, and it finds the collector."""
    return [
        f"{source.name} cannot send its traces to {endpoint}"
        for source, endpoint in _traced(objects)
        if not _is_collector(endpoint) or not is_allowed(objects, source, COLLECTOR, urlsplit(endpoint).port or 0)
    ]


def _traced(objects: list[Object]) -> Iterator[tuple[Pod, str]]:
    """Who sends traces, and where to."""
    for name, template in (pair for item in objects for pair in pod_templates(item)):
        labels = template.get("metadata", {}).get("labels", {})
        for variable in (each for container in containers(template) for each in container.get("env", [])):
            if variable["name"] == ENDPOINT:
                yield Pod(name, tuple(labels.items())), variable["value"]
    for job in of_kind(objects, "RayJob"):
        variables = yaml.safe_load(job["spec"].get("runtimeEnvYAML", "{}")).get("env_vars", {})
        if ENDPOINT in variables:
            yield HEAD, variables[ENDPOINT]


def _is_collector(endpoint: str) -> bool:
    """Whether a URL is that of the Service that OpenTelemetry's operator makes, for OTLP over gRPC."""
    service, _, rest = (urlsplit(endpoint).hostname or "").partition(".")
    return service.endswith("-collector") and rest == f"{COLLECTOR.namespace}.svc"


def every_pod_is_closed_by_default(objects: list[Object]) -> list[str]:
    """In each namespace with pods one policy chooses all of them, in both directions, and lets nothing through."""
    closed = {
        policy["metadata"].get("namespace", NAMESPACE)
        for policy in of_kind(objects, "NetworkPolicy")
        if policy["spec"]["podSelector"] == {}
        and policy["spec"]["policyTypes"] == ["Ingress", "Egress"]
        and not policy["spec"].get("ingress")
        and not policy["spec"].get("egress")
    }
    inhabited = {item["metadata"].get("namespace", NAMESPACE) for item in objects if any(pod_templates(item))}
    return [f"namespace {name}: no policy closes every pod" for name in sorted(inhabited - closed)]


def policies_name_ports_in_use(objects: list[Object]) -> list[str]:
    """A port that a policy lets in is one that the pods behind it open; and each open port is one for somebody.

    The kubelet's probes count: policies do not stop them.
    """
    found = []
    reached: set[tuple[str, int]] = set()
    for policy in of_kind(objects, "NetworkPolicy"):
        for rule in policy["spec"].get("ingress", []):
            for name, template in (pair for item in objects for pair in pod_templates(item)):
                labels = dict(template.get("metadata", {}).get("labels", {}))
                if not _matches(policy["spec"]["podSelector"], labels):
                    continue
                opened = {port["containerPort"] for c in containers(template) for port in c.get("ports", [])}
                asked = {entry["port"] for entry in rule.get("ports", [])} or opened
                found += [f"{label(policy)}: {name} does not open {port}" for port in asked - opened]
                reached |= {(name, port) for port in asked}
    for name, _, container in every_container(objects):
        owner = name.rpartition(" ")[0]
        for port in container.get("ports", []):
            unused = (owner, port["containerPort"]) not in reached
            probed = any(
                container.get(probe, {}).get("httpGet", {}).get("port") in (port["name"], port["containerPort"])
                for probe in ("readinessProbe", "livenessProbe")
            )
            if unused and not probed:
                found.append(f"{name}: no policy lets anybody in to {port['containerPort']}")
    return found


RULES = (
    every_pod_is_closed_by_default,
    needed_flows_are_open,
    other_flows_are_closed,
    policies_name_ports_in_use,
    traces_reach_the_collector,
)

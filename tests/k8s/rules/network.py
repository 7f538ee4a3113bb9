"""Rules for the network: the flows that must be open are, and no other ones that matter."""

from collections.abc import Iterator
from dataclasses import dataclass

from tests.k8s.manifests import Object, autoscalers, containers, every_container, label, of_kind, pod_templates

NAMESPACE = "inkling"
DNS = 53
COMPONENT = "app.kubernetes.io/component"


@dataclass(frozen=True)
class Pod:
    """One end of a flow."""

    name: str
    labels: tuple[tuple[str, str], ...] = ()
    namespace: str = NAMESPACE
    namespace_labels: tuple[tuple[str, str], ...] = ()


def pod(name: str, namespace: str = NAMESPACE, client_namespace: bool = False, **labels: str) -> Pod:
    """A pod by its labels: component, node (of Ray), client, app (its name)."""
    keys = {"component": COMPONENT, "node": "ray.io/node-type", "client": "inkling/serving-client"}
    keys["app"] = "app.kubernetes.io/name"
    found = {keys[key]: value for key, value in labels.items()}
    if "node" in labels:
        found["ray.io/is-ray-node"] = "yes"
    own = {"kubernetes.io/metadata.name": namespace} | ({"inkling/serving-client": "true"} if client_namespace else {})
    return Pod(name, tuple(found.items()), namespace, tuple(own.items()))


HEAD = pod("the Ray head", component="train", node="head")
WORKER = pod("a Ray worker", component="train", node="worker")
SUBMITTER = pod("the submitter", component="train-submitter")
SERVING = pod("a model server", component="serving")
WEB = pod("the web page", component="client-web", client="true")
OPERATOR = pod("KubeRay's operator", namespace="kuberay", component="kuberay-operator")
PROMETHEUS = pod("Prometheus", namespace="monitoring", app="prometheus")
INGRESS = pod("the ingress controller", namespace="ingress-nginx", component="controller")
GATEWAY = pod("the Gateway", namespace="envoy-gateway-system", component="proxy")
TEAM = pod("another team's client", namespace="team", client_namespace=True)
STRANGER = pod("a stranger", namespace="elsewhere")
NEIGHBOUR = pod("a stranger in the namespace", component="other")
OUTSIDE = None  # no pod: the Kubernetes API, an object store, the internet

ALWAYS_OPEN = [
    (SUBMITTER, HEAD, 8265),
    (OPERATOR, HEAD, 8265),
    (WORKER, HEAD, 6379),
    (HEAD, WORKER, 34567),  # raylets and workers choose their ports
    (WORKER, WORKER, 34567),  # TensorFlow's collectives
    (WEB, SERVING, 8500),
    (TEAM, SERVING, 8500),
    (SUBMITTER, OUTSIDE, 53),
    (WORKER, OUTSIDE, 53),
    (WEB, OUTSIDE, 53),
]
ALWAYS_CLOSED = [
    (STRANGER, HEAD, 8265),
    (STRANGER, HEAD, 6379),
    (NEIGHBOUR, HEAD, 8265),
    (WEB, HEAD, 8265),
    (SERVING, HEAD, 8265),
    (WORKER, SERVING, 8500),
    (STRANGER, SERVING, 8500),
    (STRANGER, SERVING, 8501),
    (NEIGHBOUR, SERVING, 8500),
    (STRANGER, WEB, 8000),
    (GATEWAY, SERVING, 8501),
    (GATEWAY, HEAD, 8265),
    (WEB, OUTSIDE, 443),
    (SUBMITTER, OUTSIDE, 443),
    (OPERATOR, WORKER, 10002),
    (PROMETHEUS, HEAD, 8265),
]
SCALED = [(HEAD, OUTSIDE, 443), (HEAD, OUTSIDE, 6443)]  # the autoscaler's Kubernetes API
MONITORED = [(PROMETHEUS, SERVING, 8501), (PROMETHEUS, HEAD, 8080), (PROMETHEUS, WORKER, 8080)]
PUBLISHED = [(INGRESS, WEB, 8000)]
ROUTED = [(GATEWAY, WEB, 8000), (GATEWAY, SERVING, 8500)]
STORED = [(HEAD, OUTSIDE, 443), (WORKER, OUTSIDE, 443), (SERVING, OUTSIDE, 443)]


def _has(objects: list[Object], kind: str) -> bool:
    return bool(of_kind(objects, kind))


def needed_flows_are_open(objects: list[Object]) -> list[str]:
    """What the parts need to reach, by the policies in force."""
    flows = [*ALWAYS_OPEN]
    flows += SCALED if any(autoscalers(objects)) else []
    flows += MONITORED if _has(objects, "ServiceMonitor") else []
    flows += PUBLISHED if _has(objects, "Ingress") else []
    flows += ROUTED if _has(objects, "GRPCRoute") else []
    flows += [] if _has(objects, "PersistentVolumeClaim") else STORED
    return [
        f"{_name(source)} cannot reach {_name(target)}:{port}"
        for source, target, port in flows
        if not _allowed(objects, source, target, port)
    ]


def other_flows_are_closed(objects: list[Object]) -> list[str]:
    """What would be of use to an intruder, among the flows that nothing needs."""
    flows = [*ALWAYS_CLOSED]
    flows += [] if _has(objects, "ServiceMonitor") else MONITORED
    flows += [] if _has(objects, "Ingress") else PUBLISHED
    flows += [] if _has(objects, "GRPCRoute") else ROUTED
    flows += [(SERVING, OUTSIDE, 443), (WORKER, OUTSIDE, 443)] if _has(objects, "PersistentVolumeClaim") else []
    if not any(autoscalers(objects)):
        flows += [flow for flow in SCALED if _has(objects, "PersistentVolumeClaim") or flow not in STORED]
    return [
        f"{_name(source)} can reach {_name(target)}:{port}"
        for source, target, port in flows
        if _allowed(objects, source, target, port)
    ]


def _name(end: Pod | None) -> str:
    return end.name if end else "outside"


def _allowed(objects: list[Object], source: Pod, target: Pod | None, port: int) -> bool:
    """Whether a connection gets through: a rule at either end, where policies choose that end at all."""
    out = _policies(objects, source, "Egress")
    into = _policies(objects, target, "Ingress") if target else []
    out_open = not out or any(_lets(policy, rule, "to", target, port) for policy, rule in _rules(out, "egress"))
    in_open = not into or any(_lets(policy, rule, "from", source, port) for policy, rule in _rules(into, "ingress"))
    return out_open and in_open


def _policies(objects: list[Object], end: Pod, direction: str) -> list[Object]:
    return [
        policy
        for policy in of_kind(objects, "NetworkPolicy")
        if policy["metadata"].get("namespace", NAMESPACE) == end.namespace
        and direction in policy["spec"]["policyTypes"]
        and _matches(policy["spec"]["podSelector"], dict(end.labels))
    ]


def _rules(policies: list[Object], direction: str) -> Iterator[tuple[Object, Object]]:
    for policy in policies:
        for rule in policy["spec"].get(direction, []):
            yield policy, rule


def _lets(policy: Object, rule: Object, side: str, other: Pod | None, port: int) -> bool:
    ports = rule.get("ports", [])
    # What this little model of a network does not know, lest it be passed over.
    assert all(entry.keys() <= {"protocol", "port"} for entry in ports), ports
    assert all(entry["protocol"] == "TCP" or entry["port"] == DNS for entry in ports), ports
    if ports and port not in [entry["port"] for entry in ports]:
        return False
    peers = rule.get(side)
    return not peers or (other is not None and any(_is_peer(policy, peer, other) for peer in peers))


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
                if not _matches(policy["spec"]["podSelector"], labels | _added_by_kuberay(name)):
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


def _added_by_kuberay(name: str) -> dict[str, str]:
    if not name.startswith("Ray") or name.endswith("submitter"):
        return {}
    return {"ray.io/is-ray-node": "yes", "ray.io/node-type": "head" if name.endswith(" head") else "worker"}


RULES = (
    every_pod_is_closed_by_default,
    needed_flows_are_open,
    other_flows_are_closed,
    policies_name_ports_in_use,
)

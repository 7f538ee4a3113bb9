"""Rules for counts of pods, and for what they are scaled by."""

import re
from collections.abc import Iterator

from tests.k8s.manifests import Object, find, label, of_kind, pod_templates

# KEDA's triggers that see a caller before there is a server to measure.
WAKING = ("kubernetes-workload",)


def _scalers(objects: list[Object]) -> Iterator[tuple[Object, int, int]]:
    """(autoscaler, its least and most pods)"""
    for item in of_kind(objects, "HorizontalPodAutoscaler"):
        yield item, item["spec"]["minReplicas"], item["spec"]["maxReplicas"]
    for item in of_kind(objects, "ScaledObject"):
        yield item, item["spec"]["minReplicaCount"], item["spec"]["maxReplicaCount"]


def autoscalers_have_room(objects: list[Object]) -> list[str]:
    """At least two pods, or with KEDA none, more above, and a CPU request that the utilisation is a share of."""
    found = []
    for item, least, most in _scalers(objects):
        is_off = least == 0 and item["kind"] == "ScaledObject"
        if not (is_off or 2 <= least < most):
            found.append(f"{label(item)}: {least} to {most} replicas")
        target = _target(item, objects)
        if "replicas" in target["spec"]:
            found.append(f"{label(target)}: replicas are set, which each apply puts back against the autoscaler")
        for container in target["spec"]["template"]["spec"]["containers"]:
            if "cpu" not in container["resources"].get("requests", {}):
                found.append(f"{label(target)} {container['name']}: no CPU request to measure against")
    return found


def _target(item: Object, objects: list[Object]) -> Object:
    return find(objects, item["spec"]["scaleTargetRef"]["kind"], item["spec"]["scaleTargetRef"]["name"])


def zero_pods_come_back(objects: list[Object]) -> list[str]:
    """What may go to no pods has a trigger that does not ask those pods, and that something can pull."""
    found = []
    for item in of_kind(objects, "ScaledObject"):
        triggers = [trigger for trigger in item["spec"]["triggers"] if trigger["type"] in WAKING]
        if item["spec"]["minReplicaCount"] == 0 and not triggers:
            found.append(f"{label(item)}: nothing brings a pod back from zero; add one of {', '.join(WAKING)}")
        for trigger in triggers:
            wanted = dict(part.split("=", 1) for part in trigger["metadata"]["podSelector"].split(","))
            if not any(wanted.items() <= labels.items() for labels in _pod_labels(objects)):
                found.append(f"{label(item)}: no pod has the labels {wanted}")
    return found


def _pod_labels(objects: list[Object]) -> Iterator[Object]:
    for item in objects:
        for _, template in pod_templates(item):
            yield template["metadata"]["labels"]


def what_is_scaled_by_is_recorded(objects: list[Object]) -> list[str]:
    """A metric of Prometheus is one that a rule among the objects records; else it is never there, unnoticed."""
    rules = [group["rules"] for item in of_kind(objects, "PrometheusRule") for group in item["spec"]["groups"]]
    recorded = {rule.get("record") for group in rules for rule in group}
    asked: list[tuple[str, str]] = []
    for item in of_kind(objects, "HorizontalPodAutoscaler"):
        asked += [(label(item), m["pods"]["metric"]["name"]) for m in item["spec"]["metrics"] if m["type"] == "Pods"]
    for item in of_kind(objects, "ScaledObject"):
        queries = [t["metadata"]["query"] for t in item["spec"]["triggers"] if t["type"] == "prometheus"]
        asked += [(label(item), metric) for query in queries for metric in re.findall(r"(\w+)\{", query)]
    return [f"{name}: nothing records {metric}" for name, metric in asked if metric not in recorded]


def budgets_let_a_pod_go(objects: list[Object]) -> list[str]:
    """A budget that allows no disruption holds every node's drain up."""
    found = []
    for item in of_kind(objects, "PodDisruptionBudget"):
        if item["spec"].get("maxUnavailable") in (0, "0%") or "minAvailable" in item["spec"]:
            found.append(f"{label(item)}: use maxUnavailable of at least 1, which holds at any count of pods")
    return found


RULES = (
    autoscalers_have_room,
    zero_pods_come_back,
    what_is_scaled_by_is_recorded,
    budgets_let_a_pod_go,
)

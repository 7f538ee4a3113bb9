"""Rules for counts of pods."""

from tests.k8s.manifests import Object, find, label, of_kind


def autoscalers_have_room(objects: list[Object]) -> list[str]:
    """At least two pods, more above, and a CPU request that the utilisation is a share of."""
    found = []
    for item in of_kind(objects, "HorizontalPodAutoscaler"):
        spec = item["spec"]
        if not 2 <= spec["minReplicas"] < spec["maxReplicas"]:
            found.append(f"{label(item)}: {spec['minReplicas']} to {spec['maxReplicas']} replicas")
        target = find(objects, spec["scaleTargetRef"]["kind"], spec["scaleTargetRef"]["name"])
        if "replicas" in target["spec"]:
            found.append(f"{label(target)}: replicas are set, which each apply puts back against the autoscaler")
        for container in target["spec"]["template"]["spec"]["containers"]:
            if "cpu" not in container["resources"].get("requests", {}):
                found.append(f"{label(target)} {container['name']}: no CPU request to measure against")
    return found


def budgets_let_a_pod_go(objects: list[Object]) -> list[str]:
    """A budget that allows no disruption holds every node's drain up."""
    found = []
    for item in of_kind(objects, "PodDisruptionBudget"):
        if item["spec"].get("maxUnavailable") in (0, "0%") or "minAvailable" in item["spec"]:
            found.append(f"{label(item)}: use maxUnavailable of at least 1, which holds at any count of pods")
    return found


RULES = (autoscalers_have_room, budgets_let_a_pod_go)

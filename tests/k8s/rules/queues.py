"""Rules for trainings that Kueue admits: what its webhook refuses, and what it would leave waiting forever."""

from collections import Counter
from functools import cache

from tests.k8s.manifests import K8S, Object, containers, label, of_kind, pod_templates, ray_job_spec, render
from tests.k8s.rules.quantities import amount

QUEUE, PRIORITY = "kueue.x-k8s.io/queue-name", "kueue.x-k8s.io/priority-class"
MOST_GROUPS = 7  # of a Workload's eight sets of pods the head is one


@cache
def _clusters_own() -> tuple[Object, ...]:
    return tuple(render(K8S / "base/queues"))


def _queued(objects: list[Object]) -> list[Object]:
    """The trainings that wait in a queue: by their label, or because there is a LocalQueue `default`."""
    is_default = any(item["metadata"]["name"] == "default" for item in of_kind(objects, "LocalQueue"))
    return [
        item
        for item in of_kind(objects, "RayJob", "RayCronJob")
        if is_default or QUEUE in item["metadata"].get("labels", {})
    ]


def queues_exist(objects: list[Object]) -> list[str]:
    """The LocalQueue and the priority that a training names, the ClusterQueue behind it, its flavors."""
    known = {label(item) for item in [*objects, *_clusters_own()]}
    wanted: list[tuple[str, str]] = []
    for item in _queued(objects):
        labels = item["metadata"].get("labels", {})
        wanted.append((label(item), f"LocalQueue/{labels.get(QUEUE, 'default')}"))
        wanted += [(label(item), f"WorkloadPriorityClass/{labels[PRIORITY]}")] if PRIORITY in labels else []
    for item in of_kind(objects, "LocalQueue"):
        wanted.append((label(item), f"ClusterQueue/{item['spec']['clusterQueue']}"))
    return [f"{name}: there is no {reference}" for name, reference in wanted if reference not in known]


def queued_trainings_are_of_one_size(objects: list[Object]) -> list[str]:
    """Kueue's webhook refuses an autoscaler, a cluster that stays, and too many groups."""
    found = []
    for item in _queued(objects):
        spec = ray_job_spec(item)
        cluster = spec["rayClusterSpec"]
        if cluster.get("enableInTreeAutoscaling"):
            found.append(f"{label(item)}: an autoscaler would add to what was admitted")
        if not spec.get("shutdownAfterJobFinishes"):
            found.append(f"{label(item)}: its cluster would stay, and keep its quota")
        names = [group["groupName"] for group in cluster["workerGroupSpecs"]]
        if len(names) > MOST_GROUPS or "head" in names:
            found.append(f"{label(item)}: at most {MOST_GROUPS} groups, none of which is called head")
    return found


def queued_trainings_fit_the_quota(objects: list[Object]) -> list[str]:
    """What a whole training requests, each resource of it, is within the quota; else it would wait forever."""
    quotas = {
        resource["name"]: amount(resource["nominalQuota"])
        for item in [*_clusters_own(), *objects]
        if item["kind"] == "ClusterQueue"
        for group in item["spec"]["resourceGroups"]
        for flavor in group["flavors"]
        for resource in flavor["resources"]
    }
    return [
        f"{label(item)}: requests {value:g} of {resource}, the quota is {quotas.get(resource, 0):g}"
        for item in _queued(objects)
        for resource, value in requests(item).items()
        if value > quotas.get(resource, 0)
    ]


def requests(item: Object) -> Counter[str]:
    """What all pods of a training request together."""
    groups = ray_job_spec(item)["rayClusterSpec"]["workerGroupSpecs"]
    counts = {f"{label(item)} {group['groupName']}": group["replicas"] for group in groups}
    total: Counter[str] = Counter()
    for name, template in pod_templates(item):
        for container in containers(template):
            for resource, value in container["resources"]["requests"].items():
                total[resource] += amount(value) * counts.get(name, 1)
    return total


RULES = (queues_exist, queued_trainings_are_of_one_size, queued_trainings_fit_the_quota)

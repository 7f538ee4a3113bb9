"""Rules for `kubectl apply` and `kubectl diff`: what is on the cluster already is unchanged, and differs in nothing."""

from tests.k8s import schemas
from tests.k8s.manifests import Object, label, of_kind, ray_job_spec

OF_KUEUE = ("ClusterQueue", "ResourceFlavor", "WorkloadPriorityClass")
CLUSTERS_OWN = ("Namespace", "PersistentVolume", "GatewayClass", *OF_KUEUE)


def strategies_have_a_type(objects: list[Object]) -> list[str]:
    """RollingUpdate, though it is the default: a strategy's patch takes away the fields that it does not name."""
    return [
        f"{label(item)}: its strategy has no type, which each apply takes away and the server puts back"
        for item in of_kind(objects, "Deployment")
        if item["spec"].get("strategy") and "type" not in item["spec"]["strategy"]
    ]


def lists_leave_no_default_out(objects: list[Object]) -> list[str]:
    """A custom kind's list is replaced as a whole by a patch, so one without the server's defaults always differs."""
    return [
        f"{label(item)}: {path} is left to the server, which each apply takes away again"
        for item in objects
        if schemas.is_custom(item)
        for path in schemas.defaults_left_out(item)
    ]


def ray_groups_have_what_the_operator_writes(objects: list[Object]) -> list[str]:
    """KubeRay writes a RayJob again for its finalizer, with the empty scaleStrategy that its Go type has: in a list,
    which a patch replaces as a whole, that would be a difference forever."""
    return [
        f"{label(item)}: worker group {group['groupName']} lacks the scaleStrategy that the operator writes; give {{}}"
        for item in of_kind(objects, "RayJob", "RayCronJob")
        for group in ray_job_spec(item)["rayClusterSpec"]["workerGroupSpecs"]
        if "scaleStrategy" not in group
    ]


def config_maps_are_text(objects: list[Object]) -> list[str]:
    """kustomize breaks the lines of what is binary, and the server joins them."""
    return [
        f"{label(item)}: binaryData, which each apply breaks into lines again; put base64 under data"
        for item in of_kind(objects, "ConfigMap")
        if "binaryData" in item
    ]


def volumes_name_no_empty_class(objects: list[Object]) -> list[str]:
    """A claim keeps "", which says that it wants no class; a volume is without one when it names none."""
    return [
        f"{label(item)}: storageClassName is empty, which each apply sets and the server drops"
        for item in of_kind(objects, "PersistentVolume")
        if item["spec"].get("storageClassName") == ""
    ]


def jobs_stay(objects: list[Object]) -> list[str]:
    """A Job that deletes itself is missed by each diff after that."""
    return [
        f"{label(item)}: ttlSecondsAfterFinished deletes it, and the next diff asks for it again"
        for item in of_kind(objects, "Job")
        if "ttlSecondsAfterFinished" in item["spec"]
    ]


def objects_have_a_namespace(objects: list[Object]) -> list[str]:
    """What a component adds says where it belongs: on top of a finished overlay nobody else does."""
    return [
        f"{label(item)}: no namespace, so it goes to that of whoever applies it"
        for item in objects
        if item["kind"] not in CLUSTERS_OWN and "namespace" not in item["metadata"]
    ]


RULES = (
    strategies_have_a_type,
    lists_leave_no_default_out,
    ray_groups_have_what_the_operator_writes,
    config_maps_are_text,
    volumes_name_no_empty_class,
    jobs_stay,
    objects_have_a_namespace,
)

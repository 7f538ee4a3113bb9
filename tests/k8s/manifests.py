"""What `kubectl kustomize` makes of the folders in k8s/, as plain objects, and small ways to look into them."""

import copy
import functools
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.k8s import kuberay

ROOT = Path(__file__).parents[2]
K8S = ROOT / "k8s"
OVERLAYS = sorted(path.name for path in (K8S / "overlays").iterdir())
BARE = [name for name in OVERLAYS if name not in ("production", "local-canary")]  # which components are put on top of
COMPONENTS = sorted(path.name for path in (K8S / "components").iterdir())
BASES = sorted(path.name for path in (K8S / "base").iterdir())
# In their order, after all others: what copies that which is there, and what changes the copies.
LAST = ("canary", "oci", "retrain")
# What a component is put on top of, in their order.
NEEDS = {
    "access": ("embedded-server", "tls"),
    "canary": ("gateway",),
    "gateway-tls": ("tls", "gateway"),
    "keda": ("monitoring",),
    "queue-time": ("monitoring",),
    "scale-to-zero": ("monitoring", "keda"),
    "signed": ("embedded-server",),
}

Object = dict[str, Any]


def kubectl() -> str:
    """The path of kubectl; skips the test where there is none."""
    path = shutil.which("kubectl")
    if path is None:
        pytest.skip("kubectl is not installed: the manifests cannot be rendered; see kubernetes.io/docs/tasks/tools")
    return path


def render(folder: Path) -> list[Object]:
    """The objects of a kustomization; the test fails with kustomize's message where it does not render."""
    result = subprocess.run([kubectl(), "kustomize", str(folder)], capture_output=True, text=True)
    assert result.returncode == 0, f"{folder}: {result.stderr}"
    return [document for document in yaml.load_all(result.stdout, yaml.CSafeLoader) if document]


@functools.cache
def _overlay(name: str) -> list[Object]:
    return render(K8S / "overlays" / name)


def overlay(name: str) -> list[Object]:
    """The objects of an overlay, the caller's own to change."""
    return copy.deepcopy(_overlay(name))


def in_order(components: Iterable[str]) -> list[str]:
    """The components, each after what it needs, and those of LAST at the end."""
    place = {name: index for index, name in enumerate(LAST, start=1)}
    return sorted(components, key=lambda name: (place.get(name, 0), len(NEEDS.get(name, ())), name))


def with_component(folder: Path, overlay_name: str, component: str) -> list[Object]:
    """As `with_components`, with what the component needs below it."""
    return with_components(folder, overlay_name, *NEEDS.get(component, ()), component)


def with_components(folder: Path, overlay_name: str, *components: str) -> list[Object]:
    """The objects of a copy of an overlay that lists further components, as a user makes an overlay of their own.

    Args:
        folder: an empty folder for the copy; the paths in it are relative, as kustomize asks.
    """
    up = "../" * len(folder.resolve().parts[1:]) + str(K8S.resolve()).lstrip("/")
    shutil.copytree(K8S / "overlays" / overlay_name, folder, dirs_exist_ok=True)
    file = folder / "kustomization.yaml"
    kustomization = yaml.safe_load(file.read_text())
    kustomization["components"] = kustomization.get("components", []) + [f"../../components/{c}" for c in components]
    for key in ("resources", "components"):
        kustomization[key] = [path.replace("../..", up) for path in kustomization[key]]
    file.write_text(yaml.safe_dump(kustomization))
    return render(folder)


def on_top(folder: Path, overlay_name: str, *components: str) -> list[Object]:
    """The objects of an overlay with components that copy or change what the overlay has made."""
    up = "../" * len(folder.resolve().parts[1:]) + str(K8S.resolve()).lstrip("/")
    kustomization = {
        "resources": [f"{up}/overlays/{overlay_name}"],
        "components": [f"{up}/components/{component}" for component in components],
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    return render(folder)


def find(objects: list[Object], kind: str, name: str) -> Object:
    """The one object of that kind and name."""
    [found] = [item for item in objects if (item["kind"], item["metadata"]["name"]) == (kind, name)]
    return found


def of_kind(objects: list[Object], *kinds: str) -> list[Object]:
    """The objects of these kinds."""
    return [item for item in objects if item["kind"] in kinds]


def services(objects: list[Object]) -> list[Object]:
    """The Services, and those that KubeRay makes."""
    made = [made for job in of_kind(objects, "RayJob") for made in kuberay.made_of(job)]
    return of_kind([*objects, *made], "Service")


def label(item: Object) -> str:
    """How messages name an object: Kind/name."""
    return f"{item['kind']}/{item['metadata']['name']}"


def ray_job_spec(item: Object) -> Object:
    """The RayJob's spec in a RayJob or a RayCronJob."""
    return item["spec"] if item["kind"] == "RayJob" else item["spec"]["jobTemplate"]


def pod_templates(item: Object) -> Iterator[tuple[str, Object]]:
    """Each pod template in an object, with its name in messages: what runs, whoever starts it.

    Ray's have the labels that KubeRay adds.
    """
    if item["kind"] in ("Deployment", "Job", "StatefulSet", "DaemonSet"):
        yield label(item), item["spec"]["template"]
    if item["kind"] == "CronJob":
        yield label(item), item["spec"]["jobTemplate"]["spec"]["template"]
    if item["kind"] in ("RayJob", "RayCronJob"):
        spec, name = ray_job_spec(item), item["metadata"]["name"]
        cluster = spec["rayClusterSpec"]
        yield f"{label(item)} head", kuberay.labelled(name, "head", cluster["headGroupSpec"]["template"])
        for group in cluster["workerGroupSpecs"]:
            yield f"{label(item)} {group['groupName']}", kuberay.labelled(name, "worker", group["template"])
        if "submitterPodTemplate" in spec:
            yield f"{label(item)} submitter", spec["submitterPodTemplate"]


def autoscalers(objects: list[Object]) -> Iterator[tuple[str, Object, Object]]:
    """As `every_container`, for the container that KubeRay puts beside a Ray head to scale its cluster."""
    for item in of_kind(objects, "RayJob", "RayCronJob"):
        cluster = ray_job_spec(item)["rayClusterSpec"]
        if cluster.get("enableInTreeAutoscaling"):
            yield (
                f"{label(item)} autoscaler",
                cluster["headGroupSpec"]["template"],
                cluster.get("autoscalerOptions", {}),
            )


def containers(template: Object) -> list[Object]:
    """All containers of a pod template, those for its start included."""
    return [*template["spec"].get("initContainers", []), *template["spec"]["containers"]]


def every_container(objects: list[Object]) -> Iterator[tuple[str, Object, Object]]:
    """(name in messages, pod template, container) for all that the objects run."""
    for item in objects:
        for name, template in pod_templates(item):
            for container in containers(template):
                yield f"{name} {container['name']}", template, container

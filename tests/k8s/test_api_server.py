"""A real API server takes every overlay and component: without a warning, twice to no effect, and gives all of it up.

Kubernetes' own programs answer here, with the kinds of the operators that the components are for. There is no node, and
none of these operators: pods are made and admitted, and wait.
"""

from pathlib import Path

import pytest
import yaml

from tests.k8s import control_plane, manifests, schemas
from tests.k8s.cluster import NAMESPACE, Cluster
from tests.k8s.manifests import COMPONENTS, K8S, Object
from tests.k8s.test_render import ON_TOP, TOGETHER
from tests.patience import wait_until

pytestmark = [pytest.mark.process, pytest.mark.release, pytest.mark.timeout(7200)]

NAMESPACES = ("inkling", "inkling-one-node")
GATEWAYS = "envoy-gateway-system"  # Envoy Gateway's installation makes it
# The kinds of ours that are in no namespace.
CLUSTERS_OWN = "namespaces,persistentvolumes,gatewayclasses,clusterqueues,resourceflavors,workloadpriorityclasses"
NOT_OURS = {f"namespace/{name}" for name in ("default", "kube-system", "kube-public", "kube-node-lease", GATEWAYS)}
# kubectl says `configured` of these whatever it finds: it replaces their selector, and does not look whether it must.
ALWAYS_CONFIGURED = "poddisruptionbudget.policy/"
STRICT = ("--warnings-as-errors", "--validate=strict")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """A control plane that knows the kinds of crds/."""
    folder = tmp_path_factory.mktemp("control-plane")
    with control_plane.running(folder) as kubeconfig, pytest.MonkeyPatch.context() as environment:
        environment.setenv("KUBECONFIG", str(kubeconfig))
        found = Cluster()
        definitions = [schemas.definition(path) for path in sorted(schemas.CRDS.glob("*.yaml.gz"))]
        found.run("create", "-f", "-", stdin="\n---\n".join(definitions))
        found.run("create", "namespace", GATEWAYS)
        wait_until(lambda: _knows_its_kinds(found), lambda: found.run("get", "crds"))
        yield found


def _knows_its_kinds(cluster: Cluster) -> bool:
    def is_established(item: Object) -> bool:
        conditions = item["status"].get("conditions") or []  # null at first
        return any(condition["type"] == "Established" and condition["status"] == "True" for condition in conditions)

    return all(map(is_established, cluster.get("crds")["items"]))


@pytest.fixture
def empty(cluster):
    """The cluster, on which nothing of ours is left, before and after."""
    assert _ours(cluster) == set()
    yield cluster
    cluster.run("delete", "namespaces", *NAMESPACES, "--ignore-not-found", timeout=600)
    cluster.run("delete", CLUSTERS_OWN.partition(",")[2], "--all", timeout=600)


def _ours(cluster: Cluster) -> set[str]:
    return set(cluster.run("get", CLUSTERS_OWN, "-o", "name").split()) - NOT_OURS


def _apply(cluster: Cluster, *source: str) -> list[str]:
    """Apply, without a warning; returns what is said of each object."""
    return cluster.run("apply", *STRICT, *source, timeout=300).splitlines()


def _stays(cluster: Cluster, *source: str) -> None:
    """A second apply changes nothing, and a diff finds nothing that it would change."""
    said = _apply(cluster, *source)
    changed = [line for line in said if not line.endswith(" unchanged")]
    assert [line for line in changed if not line.startswith(ALWAYS_CONFIGURED)] == []
    cluster.run("diff", *source, timeout=300)  # which fails where there are differences


def _admits_pods(cluster: Cluster, objects: list[Object]) -> None:
    """Each pod that somebody makes of these objects is one that its namespace takes."""
    pods = []
    for item in objects:
        for _, template in manifests.pod_templates(item):
            metadata = template["metadata"] | {"name": f"try-{len(pods)}", "namespace": item["metadata"]["namespace"]}
            pods.append({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]})
    cluster.run("create", *STRICT, "--dry-run=server", "-f", "-", stdin=yaml.safe_dump_all(pods))


def _makes_pods(cluster: Cluster, objects: list[Object]) -> None:
    """The controllers make the Deployments' pods, as many as are asked for."""
    for item in manifests.of_kind(objects, "Deployment"):
        name, wanted = item["metadata"]["name"], item["spec"].get("replicas", 1)
        wait_until(
            lambda name=name, wanted=wanted: cluster.get("deployment", name)["status"].get("replicas", 0) >= wanted,
            lambda: cluster.run("-n", NAMESPACE, "get", "events"),
        )


def _on_top(folder: Path, overlay: str, component: str) -> list[Object]:
    return manifests.on_top(folder, overlay, *manifests.NEEDS.get(component, ()), component)


@pytest.mark.parametrize("name", manifests.BASES)
def test_a_base_is_taken_as_it_is(cluster, name):
    _apply(cluster, "--dry-run=server", "-k", str(K8S / "base" / name))


@pytest.mark.parametrize("name", manifests.OVERLAYS)
def test_an_overlay_is_taken_stays_as_it_is_and_leaves_nothing(empty, name):
    folder, objects = str(K8S / "overlays" / name), manifests.overlay(name)
    said = _apply(empty, "-k", folder)
    assert [line for line in said if not line.endswith(" created")] == [] and len(said) == len(objects)
    _stays(empty, "-k", folder)
    _admits_pods(empty, objects)
    _makes_pods(empty, objects)
    empty.run("-n", NAMESPACE, "delete", manifests.of_kind(objects, "RayJob")[0]["kind"], "--all")
    empty.run("delete", "-k", folder, "--ignore-not-found", timeout=600)
    assert _ours(empty) == set()


CASES = {
    **{component: (manifests.with_component, "cpu", component) for component in COMPONENTS if component != "retrain"},
    **{f"{component} on local": (_on_top, "local", component) for component in ON_TOP},
    "all": (manifests.with_components, "gpu", *manifests.in_order(TOGETHER)),
}


@pytest.mark.parametrize("case", CASES)
def test_components_are_taken_and_stay_as_they_are(empty, case, tmp_path):
    make, overlay, *components = CASES[case]
    objects = make(tmp_path, overlay, *components)
    _apply(empty, "-k", str(tmp_path))
    _stays(empty, "-k", str(tmp_path))
    _admits_pods(empty, objects)

"""`make test-cluster` touches no cluster unasked, nothing that was there before, and leaves nothing behind."""

import pytest

from tests.k8s import callers, manifests, parts, schemas, test_cluster_parts
from tests.k8s.callers import CALLERS
from tests.k8s.cluster import NAMESPACE, Cluster, find_cluster
from tests.k8s.rules import network, queues
from tests.k8s.rules.quantities import amount

pytestmark = pytest.mark.process

KUBECTL = """#!/bin/sh
echo "$@" >> {log}
case "$1" in
  get) [ "$3" = "{existing}" ] && echo "$2/$3" ;;
  api-resources) [ "$2" = "--api-group={existing}" ] && echo things ;;
  apply) [ -z "{breaks}" ] || exit 1 ;;
  delete) [ -z "{breaks}" ] || exit 1 ;;
esac
exit 0
"""


@pytest.fixture
def kubectl(tmp_path, monkeypatch):
    """Put a kubectl in the way that writes down what it is asked; returns a function that makes it and its log."""

    def make(existing: str = "", breaks: str = ""):
        log = tmp_path / "log"
        script = tmp_path / "kubectl"
        script.write_text(KUBECTL.format(log=log, existing=existing, breaks=breaks))
        script.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
        return log

    return make


def test_a_kubeconfig_alone_is_no_wish_to_test_on_it(kubectl, monkeypatch, tmp_path):
    log = kubectl()
    monkeypatch.setenv("KUBECONFIG", str(tmp_path))
    monkeypatch.delenv("INKLING_TEST_CLUSTER", raising=False)
    with pytest.raises(pytest.skip.Exception, match="make test-cluster"):
        find_cluster()
    assert not log.exists()


@pytest.mark.parametrize("name", ["inkling", "inkling-one-node", "inkling-model-repository"])
def test_what_is_there_already_is_left_alone(name, kubectl):
    objects = manifests.overlay("one-node")
    log = kubectl(existing=name)
    with pytest.raises(AssertionError, match=f"/{name} already"), Cluster().applied(objects, later=[]):
        pass
    assert {line.split()[0] for line in log.read_text().splitlines()} == {"get"}


def test_it_calls_as_every_documented_caller():
    flows = network.FLOWS[""] + network.FLOWS["plaintext"]
    sources = {source for source, target, _ in flows if target is network.SERVING} - {network.WEB}
    documented = {(source.namespace == NAMESPACE, network.CLIENT_LABEL in dict(source.labels)) for source in sources}
    assert {(name == NAMESPACE, network.CLIENT_LABEL in labels) for name, labels in CALLERS.values()} == documented


def test_it_asks_a_pod_whether_policies_are_enforced():
    name, port = callers.CLOSED
    objects = manifests.overlay("one-node")
    service = manifests.find(objects, "Service", name)["spec"]
    [target] = [entry["targetPort"] for entry in service["ports"] if entry["port"] == port]
    template = manifests.find(objects, "Deployment", name)["spec"]["template"]
    assert service["selector"].items() <= template["metadata"]["labels"].items()
    number = {p["name"]: p["containerPort"] for c in manifests.containers(template) for p in c["ports"]}[target]
    assert not network.is_allowed(objects, network.NEIGHBOUR, network.WEB, number)


def test_each_part_is_taken_down_though_another_fails(kubectl):
    objects = manifests.overlay("one-node")
    log = kubectl(breaks="yes")
    with pytest.raises(AssertionError, match="kubectl delete"), Cluster().applied(objects, later=objects[:1]):
        pass
    assert [line.split()[0] for line in log.read_text().splitlines()][-4:] == ["apply", "delete", "delete", "delete"]


def _local() -> list[manifests.Object]:
    objects = manifests.overlay("local")
    manifests.find(objects, "RayJob", "train")["spec"]["entrypoint"] += callers.SHORT
    return objects


PARTS = {
    "scaled by CPU": lambda: [*parts.scaled_by_cpu(), parts.load(_local())],
    "scaled to zero": lambda: [*parts.scaled_to_zero(), *parts.without_pages(_local()), parts.first_call(_local())],
    "certified": lambda: [*parts.certified(), parts.calling_by_tls()],
    "queued": lambda: [*parts.queues(), parts.queued(_local(), "inkling-urgent", epochs=200)],
    "gateway": lambda: [*parts.gateway("envoy"), parts.calling_by_gateway(_local(), "10.96.0.1")],
    "canary": lambda: [*parts.canary(), parts.pinned(_local(), version=1)],
    "spread": lambda: parts.spread_pages(_local()),
}


@pytest.mark.parametrize("make", PARTS.values(), ids=PARTS)
def test_the_objects_of_each_part_are_ones_that_the_api_server_takes(make):
    for item in make():
        assert schemas.problems(item) == [], manifests.label(item)


def test_two_trainings_of_the_parts_do_not_fit_into_the_queue_together():
    [queue] = manifests.of_kind(parts.queues(), "ClusterQueue")
    quota = {r["name"]: r["nominalQuota"] for r in queue["spec"]["resourceGroups"][0]["flavors"][0]["resources"]}
    asked = queues.requests(parts.queued(_local(), "inkling-urgent", epochs=1))
    for resource, value in quota.items():
        assert asked[resource] <= amount(value), resource
    assert any(2 * asked[resource] > amount(value) for resource, value in quota.items())
    assert "--epochs 200 " in parts.queued(_local(), "inkling-nightly", epochs=200)["spec"]["entrypoint"]


def test_a_part_skips_where_the_cluster_lacks_it(kubectl):
    kubectl(existing="keda.sh")
    test_cluster_parts.need(Cluster(), "keda.sh", "KEDA")
    with pytest.raises(pytest.skip.Exception, match=r"the cluster has no Kueue \(kueue.x-k8s.io\)"):
        test_cluster_parts.need(Cluster(), "kueue.x-k8s.io", "Kueue")


def test_a_part_puts_back_what_it_has_changed(kubectl):
    objects, added = manifests.overlay("local"), parts.scaled_to_zero()
    log = kubectl()
    with Cluster().for_a_while(added, objects):
        pass
    assert [line.split()[0] for line in log.read_text().splitlines()] == ["apply", "delete", "apply"]

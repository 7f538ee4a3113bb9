"""`make test-cluster` touches no cluster unasked, nothing that was there before, and leaves nothing behind."""

import pytest

from tests.k8s import manifests
from tests.k8s.cluster import NAMESPACE, Cluster, find_cluster
from tests.k8s.rules import network
from tests.k8s.test_cluster import CALLERS

pytestmark = pytest.mark.process

KUBECTL = """#!/bin/sh
echo "$@" >> {log}
case "$1" in
  get) [ "$3" = "{existing}" ] && echo "$2/$3" ;;
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


def test_each_part_is_taken_down_though_another_fails(kubectl):
    objects = manifests.overlay("one-node")
    log = kubectl(breaks="yes")
    with pytest.raises(AssertionError, match="kubectl delete"), Cluster().applied(objects, later=objects[:1]):
        pass
    assert [line.split()[0] for line in log.read_text().splitlines()][-4:] == ["apply", "delete", "delete", "delete"]

"""The local overlay on a real cluster: train, serve, predict as every caller that k8s/README.md names, publish a second
version, see it live, apply again to no effect, tear down.

`make test-cluster` runs it on the cluster of KUBECONFIG: one node with KubeRay and the three images on it (`make
images`, then `kind load docker-image` or `ctr images import`), and without Inkling, which it would take down.
"""

import pytest

from tests.k8s import callers
from tests.k8s.cluster import NAMESPACE

pytestmark = [pytest.mark.process, pytest.mark.slow, pytest.mark.timeout(5400)]


def test_a_trained_model_is_served_through_the_service(cluster, applied, served, pictures):
    assert callers.predict(cluster, applied, "predict-service", "serving:8500")[1] == callers.DIGITS
    assert callers.predict(cluster, applied, "predict-headless", "dns:///serving-headless:8500")[1] == callers.DIGITS


@pytest.mark.parametrize("caller", callers.CALLERS)
def test_a_documented_caller_gets_through_on_both_ports(cluster, applied, served, caller):
    assert "AVAILABLE" in callers.run(cluster, applied, caller, "status", *callers.STATUS)
    assert "AVAILABLE" in callers.run(cluster, applied, caller, "rest", *callers.READ_STATUS)


@pytest.fixture(scope="module")
def page(cluster, served) -> None:
    """The web page is ready."""

    def is_available() -> bool:
        return cluster.get("deployment", "client-web")["status"].get("availableReplicas", 0) >= 1

    cluster.wait_for(is_available, "the web page is ready", timeout_s=180)


def test_the_web_pages_pods_get_through_on_both_ports(cluster, page):
    for command in (callers.STATUS, callers.READ_STATUS):
        assert "AVAILABLE" in cluster.run("-n", NAMESPACE, "exec", "deployment/client-web", "--", *command)


@pytest.fixture(scope="module")
def enforced(cluster, applied, page) -> None:
    """Skips where the network plugin lets in what default-deny closes: it does nothing about the others either.

    Asked is the web page, which is closed to a pod without a label and has to be ready for that.
    """
    name, port = callers.CLOSED
    command = ("python", "-c", callers.TRIES, f"{name}.{NAMESPACE}.svc", str(port))
    if callers.run(cluster, applied, "unlabelled", "enforced", *command) == "connected\n":
        pytest.skip("the cluster's network plugin does not enforce NetworkPolicies")


@pytest.mark.parametrize("caller", callers.STRANGE)
@pytest.mark.parametrize("port", ["8500", "8501"])
def test_an_undocumented_caller_is_kept_out(cluster, applied, served, enforced, caller, port):
    output = callers.run(cluster, applied, caller, f"try-{port}", "python", "-c", callers.TRIES, callers.SERVER, port)
    assert "timed out" in output or "refused" in output or "unreachable" in output, output


def test_a_second_apply_changes_nothing(cluster, applied, served):
    said = cluster.apply(applied).splitlines()
    assert [line for line in said if not line.endswith(" unchanged")] == []
    assert cluster.diff(applied) == ""


def test_a_second_version_becomes_live_by_itself(cluster, applied, served, pictures):
    def servers() -> list[str]:
        pods = cluster.get("pods", "-l", "app.kubernetes.io/component=serving")["items"]
        return sorted(pod["metadata"]["uid"] for pod in pods)

    pods = servers()
    first, _ = callers.predict(cluster, applied, "predict-first", "serving:8500")
    second = callers.second(applied)
    cluster.apply([second])
    callers.train(cluster, second["metadata"]["name"])
    tries = iter(range(100))

    def is_live() -> bool:
        return callers.predict(cluster, applied, f"predict-{next(tries)}", "serving:8500") == (
            first + 1,
            callers.DIGITS,
        )

    cluster.wait_for(is_live, f"version {first + 1} is live", timeout_s=300)
    assert servers() == pods  # none was restarted for it

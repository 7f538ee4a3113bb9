"""What a cluster may have besides: metrics-server, KEDA, cert-manager, Kueue, a Gateway, a second node.

Each part skips with its reason where the cluster lacks it. They come after `test_cluster.py`, on the same deployment,
and leave it as it was.
"""

import subprocess

import pytest

from tests.k8s import callers, manifests, parts
from tests.k8s.cluster import NAMESPACE

pytestmark = [pytest.mark.process, pytest.mark.slow, pytest.mark.timeout(5400)]


@pytest.fixture(scope="module", autouse=True)
def there(served) -> None:
    """The servers answer."""


def need(cluster, group: str, what: str) -> None:
    if not cluster.has_api(group):
        pytest.skip(f"the cluster has no {what} ({group})")


def servers(cluster, name: str = "serving") -> int:
    return cluster.get("deployment", name)["status"].get("readyReplicas", 0)


def test_load_brings_servers_and_its_end_takes_them_away(cluster, applied):
    need(cluster, "metrics.k8s.io", "metrics-server")
    load = parts.load(applied)
    with cluster.for_a_while([*parts.scaled_by_cpu(), load], applied):
        cluster.wait_for(lambda: servers(cluster) >= 2, "load has brought a second server", timeout_s=480)
    cluster.wait_for(lambda: servers(cluster) == 1, "the deployment is as it was", timeout_s=300)


def test_no_server_stays_without_a_caller_and_the_first_call_brings_one(cluster, applied):
    need(cluster, "keda.sh", "KEDA")
    with cluster.for_a_while([*parts.without_pages(applied), *parts.scaled_to_zero()], applied):
        cluster.wait_for(lambda: servers(cluster) == 0, "no server is left", timeout_s=300)
        cluster.run_job(parts.first_call(applied), timeout_s=360)
    cluster.wait_for(lambda: servers(cluster) == 1, "the deployment is as it was", timeout_s=300)


def test_servers_with_certificates_answer_by_tls(cluster, applied):
    need(cluster, "cert-manager.io", "cert-manager")
    with cluster.for_a_while(parts.certified(), applied):
        cluster.run("-n", NAMESPACE, "wait", "certificate/serving-tls", "--for=condition=Ready", "--timeout=120s")
        cluster.run("-n", NAMESPACE, "rollout", "status", "deployment/serving", "--timeout=300s", timeout=320)
        assert "AVAILABLE" in cluster.run_job(parts.calling_by_tls(), timeout_s=180)
    cluster.run("-n", NAMESPACE, "rollout", "status", "deployment/serving", "--timeout=300s", timeout=320)


def test_an_urgent_training_takes_the_room_of_a_nightly_one(cluster, applied):
    need(cluster, "kueue.x-k8s.io", "Kueue")
    nightly = parts.queued(applied, "inkling-nightly", epochs=200)
    urgent = parts.queued(applied, "inkling-urgent", epochs=1)

    def gives_way() -> bool:
        return cluster.get("rayjob", nightly["metadata"]["name"])["spec"].get("suspend", False)

    def runs() -> bool:
        return cluster.get("rayjob", nightly["metadata"]["name"]).get("status", {}).get("jobStatus") == "RUNNING"

    with cluster.for_a_while(parts.queues(), []), cluster.for_a_while([nightly], []):
        cluster.wait_for(runs, "the nightly training runs", timeout_s=600)
        with cluster.for_a_while([urgent], []):
            cluster.wait_for(gives_way, "the nightly training gives way", timeout_s=300)
            callers.train(cluster, urgent["metadata"]["name"])
            cluster.wait_for(runs, "the nightly training goes on", timeout_s=600)


@pytest.fixture(scope="module")
def gateway(cluster, applied):
    """(the address of a Gateway, the objects by which it lets calls through to the servers)"""
    need(cluster, "gateway.networking.k8s.io", "Gateway API")
    classes = cluster.get("gatewayclasses")["items"]
    ours = [c["metadata"]["name"] for c in classes if "envoyproxy" in c["spec"]["controllerName"]]
    if not ours:
        pytest.skip("the cluster has no GatewayClass of Envoy Gateway, whose pods the component lets in")
    objects = parts.gateway(ours[0])
    wanted = ("-l", f"gateway.envoyproxy.io/owning-gateway-name={parts.GATEWAY}")
    namespace = parts.GATEWAY_NAMESPACE
    with cluster.for_a_while(objects, []):

        def services():
            return cluster.get("services", *wanted, namespace=namespace)["items"]

        cluster.wait_for(services, "the Gateway has a Service", timeout_s=120)
        wait = ("wait", "pods", *wanted, "--for=condition=Ready", "--timeout=180s")
        cluster.run("-n", namespace, *wait, timeout=200)
        yield services()[0]["spec"]["clusterIP"], objects


def test_a_caller_from_elsewhere_gets_through_the_gateway(cluster, applied, gateway):
    assert "AVAILABLE" in cluster.run_job(parts.calling_by_gateway(applied, gateway[0]), timeout_s=180)


def test_a_canary_ends_with_all_calls(cluster, applied, pictures, gateway):
    newest, _ = callers.predict(cluster, applied, "predict-newest", "serving:8500")
    if newest < 2:
        pytest.skip("there is one version only; test_cluster.py publishes a second one")
    pinned = parts.pinned(applied, version=newest - 1)
    tries = iter(range(100))

    def is_pinned() -> bool:
        return callers.predict(cluster, applied, f"predict-pinned-{next(tries)}", "serving:8500")[0] == newest - 1

    with cluster.for_a_while([pinned, *parts.canary()], [*applied, *gateway[1]]):
        cluster.run("-n", NAMESPACE, "rollout", "status", "deployment/serving-canary", "--timeout=300s", timeout=320)
        cluster.wait_for(is_pinned, "the servers are back at the version before", timeout_s=300)
        cluster.run("-n", NAMESPACE, "create", "job", "canary-2", "--from=cronjob/canary")
        cluster.wait_for_job({"metadata": {"name": "canary-2", "namespace": NAMESPACE}}, timeout_s=600)
        route = cluster.get("grpcroute", "serving")
        weights = {end["name"]: end["weight"] for end in route["spec"]["rules"][0]["backendRefs"]}
        assert weights == {"serving": 0, "serving-canary": 100}


def test_a_drained_node_leaves_the_page_up(cluster, applied):
    nodes = [item["metadata"]["name"] for item in cluster.get("nodes")["items"]]
    if len(nodes) < 2:
        pytest.skip("the cluster has one node: nothing could move to another")
    pages = ("pods", "-l", "app.kubernetes.io/component=client-web")

    def places() -> set[str]:
        return {pod["spec"].get("nodeName", "") for pod in cluster.get(*pages)["items"]}

    with cluster.for_a_while(parts.spread_pages(applied), applied):
        cluster.wait_for(lambda: servers(cluster, "client-web") == 2, "two pages are ready", timeout_s=180)
        assert len(places()) == 2  # spread by the topology constraint
        node = sorted(places())[0]
        drain = [manifests.kubectl(), "drain", node, "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=300s"]
        drain += ["--pod-selector=app.kubernetes.io/component=client-web"]
        process = subprocess.Popen(drain, stdout=subprocess.DEVNULL)
        try:
            fewest = 2
            while process.poll() is None:
                fewest = min(fewest, servers(cluster, "client-web"))
            assert (process.returncode, fewest >= 1) == (0, True)
        finally:
            process.kill()
            cluster.run("uncordon", node)

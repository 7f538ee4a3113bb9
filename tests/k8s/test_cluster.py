"""The local overlay on a real cluster: train, serve, predict as every caller that k8s/README.md names, publish a second
version, see it live, apply again to no effect, tear down.

`make test-cluster` runs it on the cluster of KUBECONFIG: one node with KubeRay and the three images on it (`make
images`, then `kind load docker-image` or `ctr images import`), and without Inkling, which it would take down.
"""

import base64
import copy
import io
import json
import uuid

import numpy as np
import pytest

import inkling.train.mnist
from tests.k8s import manifests
from tests.k8s.cluster import NAMESPACE, STRANGERS, TEAM, Cluster, find_cluster
from tests.k8s.rules.network import CLIENT_LABEL

pytestmark = [pytest.mark.process, pytest.mark.slow, pytest.mark.timeout(5400)]

TRAINING_S = 1800
# One epoch, and its cluster gone at once: what is tried here is the way, not the accuracy.
SHORT = " --epochs 1 --min-accuracy 0.95"
DIGITS = [7, 2, 1]  # the first of MNIST's test images
LABELLED = {CLIENT_LABEL: "true"}
# Who k8s/README.md says may call: (namespace, labels of the pod). The page itself is asked in its own pods.
CALLERS = {"labelled": (NAMESPACE, LABELLED), "of-a-team": (TEAM, {})}
STRANGE = {"unlabelled": (NAMESPACE, {}), "elsewhere": (STRANGERS, {}), "labelled-elsewhere": (STRANGERS, LABELLED)}
# Exits well whatever comes of it, so that the Job is not tried again.
TRIES = """import socket, sys
try:
    socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=10)
    print("connected")
except OSError as error:
    print(error)
"""
REST = "import sys, urllib.request as r; print(r.urlopen(sys.argv[1], timeout=30).read().decode())"


@pytest.fixture(scope="module")
def cluster() -> Cluster:
    return find_cluster()


@pytest.fixture(scope="module")
def objects(cluster) -> list[manifests.Object]:
    """The overlay that fits the cluster's storage, with a short training."""
    name = "local" if cluster.has_default_storage_class() else "one-node"
    # A folder of the test's own: the models of an Inkling that was here may still lie in the other.
    found = json.loads(json.dumps(manifests.overlay(name)).replace('"/var/lib/inkling', '"/var/lib/inkling-test'))
    job = manifests.find(found, "RayJob", "train")
    job["metadata"]["name"] = f"train-{uuid.uuid4().hex[:8]}"  # a run of its own, whatever is on the node's disk
    job["spec"]["entrypoint"] += SHORT
    job["spec"]["ttlSecondsAfterFinished"] = 5
    return [*found, _namespace(TEAM, LABELLED), _namespace(STRANGERS, {})]


def _namespace(name: str, labels: dict[str, str]) -> manifests.Object:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


@pytest.fixture(scope="module")
def applied(cluster, objects):
    with cluster.applied(objects, later=[_second(objects)]):
        for job in manifests.of_kind(objects, "Job"):
            cluster.wait_for_job(job, timeout_s=300)
        yield objects


def _second(objects: list[manifests.Object]) -> manifests.Object:
    """A RayJob of another name: another run, another version."""
    job = copy.deepcopy(manifests.of_kind(objects, "RayJob")[0])
    job["metadata"]["name"] += "-2"
    return job


def _train(cluster: Cluster, name: str) -> None:
    """Wait until the RayJob is complete."""

    def is_complete() -> bool:
        status = cluster.get("rayjob", name).get("status", {})
        if status.get("jobDeploymentStatus") in ("Failed", "ValidationFailed"):
            pytest.fail(f"rayjob {name}: {status.get('reason')} {status.get('message')}\n{cluster.state()}")
        return status.get("jobDeploymentStatus") == "Complete"

    cluster.wait_for(is_complete, f"rayjob {name} completes", TRAINING_S)


def _job(
    objects: list[manifests.Object], name: str, *, namespace: str = NAMESPACE, labels: dict[str, str] = LABELLED
) -> tuple[manifests.Object, manifests.Object]:
    """(a Job with the client's image, its container): a program of somebody's, with what its caller gives it to do."""
    pod = copy.deepcopy(manifests.find(objects, "Deployment", "client-web")["spec"]["template"])
    pod["metadata"]["labels"] = {"app.kubernetes.io/component": "test", **labels}
    [container] = pod["spec"]["containers"]
    for field in ("startupProbe", "readinessProbe", "livenessProbe", "lifecycle", "ports"):
        container.pop(field, None)
    for field in ("topologySpreadConstraints", "serviceAccountName"):
        pod["spec"].pop(field, None)
    pod["spec"]["restartPolicy"] = "Never"
    metadata = {"name": name, "namespace": namespace}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": metadata,
        "spec": {"backoffLimit": 2, "template": pod},
    }, container


def _ask(cluster: Cluster, objects: list[manifests.Object], name: str, *words: str) -> str:
    """What the client prints about the pictures, run as a labelled pod."""
    job, container = _job(objects, name)
    container["args"] = list(words)
    container["volumeMounts"].append({"name": "pictures", "mountPath": "/pictures", "readOnly": True})
    job["spec"]["template"]["spec"]["volumes"].append({"name": "pictures", "configMap": {"name": "pictures"}})
    return cluster.run_job(job, timeout_s=180)


def _run(cluster: Cluster, objects: list[manifests.Object], caller: str, name: str, *command: str) -> str:
    """What a command prints that one of the callers runs."""
    namespace, labels = (CALLERS | STRANGE)[caller]
    job, container = _job(objects, f"{name}-{caller}", namespace=namespace, labels=labels)
    container.pop("args", None)
    container["command"] = list(command)
    return cluster.run_job(job, timeout_s=180)


@pytest.fixture(scope="module")
def pictures(cluster, applied) -> None:
    """Three of MNIST's test images, where the client's pods find them."""
    with np.load(inkling.train.mnist.__path__[0] + "/mnist.npz") as data:
        [images] = [data[name] for name in data.files if "test" in name and data[name].ndim == 3]
    file = io.BytesIO()
    np.save(file, images[: len(DIGITS)])
    content = base64.b64encode(file.getvalue()).decode()
    metadata = {"name": "pictures", "namespace": NAMESPACE}
    cluster.apply(
        [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "binaryData": {"images.npy": content}}]
    )


def _predict(cluster: Cluster, objects: list[manifests.Object], name: str, server: str) -> tuple[int, list[int]]:
    """(the version that answered, the digits)"""
    answer = json.loads(_ask(cluster, objects, name, "predict", "--json", f"--server={server}", "/pictures/images.npy"))
    return answer["model_version"], answer["classes"]


@pytest.fixture(scope="module")
def served(cluster, applied) -> None:
    """The first version is trained, and the servers have it."""
    _train(cluster, manifests.of_kind(applied, "RayJob")[0]["metadata"]["name"])

    def is_available() -> bool:
        return cluster.get("deployment", "serving")["status"].get("availableReplicas", 0) >= 1

    cluster.wait_for(is_available, "the model servers are ready", timeout_s=300)


def test_a_trained_model_is_served_through_the_service(cluster, applied, served, pictures):
    assert _predict(cluster, applied, "predict-service", "serving:8500")[1] == DIGITS
    assert _predict(cluster, applied, "predict-headless", "dns:///serving-headless:8500")[1] == DIGITS


SERVER = f"serving.{NAMESPACE}.svc"
STATUS = ("python", "-m", "inkling.client", "status", f"--server={SERVER}:8500")
READ_STATUS = ("python", "-c", REST, f"http://{SERVER}:8501/v1/models/mnist")


@pytest.mark.parametrize("caller", CALLERS)
def test_a_documented_caller_gets_through_on_both_ports(cluster, applied, served, caller):
    assert "AVAILABLE" in _run(cluster, applied, caller, "status", *STATUS)
    assert "AVAILABLE" in _run(cluster, applied, caller, "rest", *READ_STATUS)


@pytest.fixture(scope="module")
def page(cluster, served) -> None:
    """The web page is ready."""

    def is_available() -> bool:
        return cluster.get("deployment", "client-web")["status"].get("availableReplicas", 0) >= 1

    cluster.wait_for(is_available, "the web page is ready", timeout_s=180)


def test_the_web_pages_pods_get_through_on_both_ports(cluster, page):
    for command in (STATUS, READ_STATUS):
        assert "AVAILABLE" in cluster.run("-n", NAMESPACE, "exec", "deployment/client-web", "--", *command)


@pytest.fixture(scope="module")
def enforced(cluster, applied) -> None:
    """Skips where the network plugin lets out what default-deny closes: it does nothing about the others either."""
    if (
        _run(cluster, applied, "unlabelled", "enforced", "python", "-c", TRIES, "kubernetes.default.svc", "443")
        == "connected\n"
    ):
        pytest.skip("the cluster's network plugin does not enforce NetworkPolicies")


@pytest.mark.parametrize("caller", STRANGE)
@pytest.mark.parametrize("port", ["8500", "8501"])
def test_an_undocumented_caller_is_kept_out(cluster, applied, served, enforced, caller, port):
    output = _run(cluster, applied, caller, f"try-{port}", "python", "-c", TRIES, SERVER, port)
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
    first, _ = _predict(cluster, applied, "predict-first", "serving:8500")
    second = _second(applied)
    cluster.apply([second])
    _train(cluster, second["metadata"]["name"])
    tries = iter(range(100))

    def is_live() -> bool:
        return _predict(cluster, applied, f"predict-{next(tries)}", "serving:8500") == (first + 1, DIGITS)

    cluster.wait_for(is_live, f"version {first + 1} is live", timeout_s=300)
    assert servers() == pods  # none was restarted for it

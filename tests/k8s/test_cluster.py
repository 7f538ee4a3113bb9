"""The local overlay on a real cluster: train, serve, predict, publish a second version, see it live, tear down.

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
from tests.k8s.cluster import NAMESPACE, Cluster, find_cluster

pytestmark = [pytest.mark.process, pytest.mark.slow, pytest.mark.timeout(5400)]

TRAINING_S = 1800
# One epoch, and its cluster gone at once: what is tried here is the way, not the accuracy.
SHORT = " --epochs 1 --min-accuracy 0.95"
DIGITS = [7, 2, 1]  # the first of MNIST's test images


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
    return found


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


def _ask(cluster: Cluster, objects: list[manifests.Object], name: str, *words: str) -> str:
    """What the client prints, run as a pod that may call the servers."""
    web = manifests.find(objects, "Deployment", "client-web")["spec"]["template"]
    pod = copy.deepcopy(web)
    pod["metadata"]["labels"] = {"app.kubernetes.io/component": "client-web", "inkling/serving-client": "true"}
    container = pod["spec"]["containers"][0]
    for field in ("startupProbe", "readinessProbe", "livenessProbe", "lifecycle", "ports"):
        container.pop(field, None)
    container["args"] = list(words)
    container["volumeMounts"].append({"name": "pictures", "mountPath": "/pictures", "readOnly": True})
    pod["spec"]["volumes"].append({"name": "pictures", "configMap": {"name": "pictures"}})
    pod["spec"]["restartPolicy"] = "Never"
    pod["spec"].pop("topologySpreadConstraints", None)
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"backoffLimit": 2, "template": pod},
    }
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


def test_the_web_page_is_ready(cluster, served):
    def is_available() -> bool:
        return cluster.get("deployment", "client-web")["status"].get("availableReplicas", 0) >= 1

    cluster.wait_for(is_available, "the web page is ready", timeout_s=180)


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

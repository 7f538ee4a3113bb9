"""One deployment of the local overlay on the cluster of KUBECONFIG, which all tests on a cluster share."""

import base64
import io
import json
import uuid

import numpy as np
import pytest

import inkling.train.mnist
from tests.k8s import callers, manifests
from tests.k8s.cluster import NAMESPACE, STRANGERS, TEAM, Cluster, find_cluster


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    return find_cluster()


@pytest.fixture(scope="session")
def objects(cluster) -> list[manifests.Object]:
    """The overlay that fits the cluster's storage, with a short training."""
    name = "local" if cluster.has_default_storage_class() else "one-node"
    # A folder of the test's own: the models of an Inkling that was here may still lie in the other.
    found = json.loads(json.dumps(manifests.overlay(name)).replace('"/var/lib/inkling', '"/var/lib/inkling-test'))
    job = manifests.find(found, "RayJob", "train")
    job["metadata"]["name"] = f"train-{uuid.uuid4().hex[:8]}"  # a run of its own, whatever is on the node's disk
    job["spec"]["entrypoint"] += callers.SHORT
    job["spec"]["ttlSecondsAfterFinished"] = 5
    return [*found, callers.namespace(TEAM, callers.LABELLED), callers.namespace(STRANGERS, {})]


@pytest.fixture(scope="session")
def applied(cluster, objects):
    with cluster.applied(objects, later=[callers.second(objects)]):
        for job in manifests.of_kind(objects, "Job"):
            cluster.wait_for_job(job, timeout_s=300)
        yield objects


@pytest.fixture(scope="session")
def pictures(cluster, applied) -> None:
    """Three of MNIST's test images, where the client's pods find them."""
    with np.load(inkling.train.mnist.__path__[0] + "/mnist.npz") as data:
        [images] = [data[name] for name in data.files if "test" in name and data[name].ndim == 3]
    file = io.BytesIO()
    np.save(file, images[: len(callers.DIGITS)])
    content = base64.b64encode(file.getvalue()).decode()
    metadata = {"name": "pictures", "namespace": NAMESPACE}
    cluster.apply(
        [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "binaryData": {"images.npy": content}}]
    )


@pytest.fixture(scope="session")
def served(cluster, applied) -> None:
    """The first version is trained, and the servers have it."""
    callers.train(cluster, manifests.of_kind(applied, "RayJob")[0]["metadata"]["name"])

    def is_available() -> bool:
        return cluster.get("deployment", "serving")["status"].get("availableReplicas", 0) >= 1

    cluster.wait_for(is_available, "the model servers are ready", timeout_s=300)

"""What the tests on a cluster run there: trainings, and programs of those who may call the servers and who may not."""

import copy
import json

import pytest

from tests.k8s import manifests
from tests.k8s.cluster import NAMESPACE, STRANGERS, TEAM, Cluster
from tests.k8s.rules.network import CLIENT_LABEL

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
# A Service that only the ingress and the Gateway reach, where they are. Not the API server's: on many clusters that is
# the node itself, which network plugins leave open.
CLOSED = ("client-web", 80)
REST = "import sys, urllib.request as r; print(r.urlopen(sys.argv[1], timeout=30).read().decode())"
SERVER = f"serving.{NAMESPACE}.svc"
STATUS = ("python", "-m", "inkling.client", "status", f"--server={SERVER}:8500")
READ_STATUS = ("python", "-c", REST, f"http://{SERVER}:8501/v1/models/mnist")


def namespace(name: str, labels: dict[str, str]) -> manifests.Object:
    """A namespace of the test's own."""
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def second(objects: list[manifests.Object]) -> manifests.Object:
    """A RayJob of another name: another run, another version."""
    job = copy.deepcopy(manifests.of_kind(objects, "RayJob")[0])
    job["metadata"]["name"] += "-2"
    return job


def train(cluster: Cluster, name: str) -> None:
    """Wait until the RayJob is complete."""

    def is_complete() -> bool:
        status = cluster.get("rayjob", name).get("status", {})
        if status.get("jobDeploymentStatus") in ("Failed", "ValidationFailed"):
            pytest.fail(f"rayjob {name}: {status.get('reason')} {status.get('message')}\n{cluster.state()}")
        return status.get("jobDeploymentStatus") == "Complete"

    cluster.wait_for(is_complete, f"rayjob {name} completes", TRAINING_S)


def program(
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


def ask(cluster: Cluster, objects: list[manifests.Object], name: str, *words: str) -> str:
    """What the client prints about the pictures, run as a labelled pod."""
    job, container = program(objects, name)
    container["args"] = list(words)
    container["volumeMounts"].append({"name": "pictures", "mountPath": "/pictures", "readOnly": True})
    job["spec"]["template"]["spec"]["volumes"].append({"name": "pictures", "configMap": {"name": "pictures"}})
    return cluster.run_job(job, timeout_s=180)


def run(cluster: Cluster, objects: list[manifests.Object], caller: str, name: str, *command: str) -> str:
    """What a command prints that one of the callers runs."""
    namespace, labels = (CALLERS | STRANGE)[caller]
    job, container = program(objects, f"{name}-{caller}", namespace=namespace, labels=labels)
    container.pop("args", None)
    container["command"] = list(command)
    return cluster.run_job(job, timeout_s=180)


def predict(cluster: Cluster, objects: list[manifests.Object], name: str, server: str) -> tuple[int, list[int]]:
    """(the version that answered, the digits)"""
    answer = json.loads(ask(cluster, objects, name, "predict", "--json", f"--server={server}", "/pictures/images.npy"))
    return answer["model_version"], answer["classes"]

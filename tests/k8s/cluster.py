"""A real cluster, reached by kubectl as KUBECONFIG says: apply, wait, look, and say what went wrong."""

import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.k8s.manifests import Object, kubectl

NAMESPACE = "inkling"
POLL_S = 2.0
UNSTARTABLE = (
    "ErrImagePull",
    "ImagePullBackOff",
    "ErrImageNeverPull",
    "InvalidImageName",
    "CreateContainerConfigError",
)


class Cluster:
    """One cluster; its methods fail the test with kubectl's words."""

    def __init__(self) -> None:
        self._kubectl = kubectl()

    def run(self, *arguments: str, stdin: str | None = None, timeout: float = 120) -> str:
        """A kubectl command's output."""
        command = [self._kubectl, *arguments]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=timeout)
        assert done.returncode == 0, f"kubectl {' '.join(arguments)}:\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def get(self, *arguments: str) -> Any:
        """What `kubectl get` finds, as objects."""
        return json.loads(self.run("-n", NAMESPACE, "get", *arguments, "-o", "json"))

    def apply(self, objects: list[Object]) -> None:
        """Apply objects, as `kubectl apply -k` would with its output."""
        self.run("apply", "--server-side", "-f", "-", stdin=yaml.safe_dump_all(objects))

    def delete(self, objects: list[Object]) -> None:
        """Delete objects and wait until they are gone; what is gone already is no error."""
        arguments = ("delete", "--ignore-not-found", "--wait", "--timeout=300s", "-f", "-")
        self.run(*arguments, stdin=yaml.safe_dump_all(objects), timeout=360)

    def wait_for(self, condition: Callable[[], bool], what: str, timeout_s: float) -> None:
        """Return when the condition holds; fails, with the state of the namespace, at the deadline or when a pod cannot
        start."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            if stuck := self._unstartable():
                pytest.fail(f"{what}: {stuck}; are the images on the node? See k8s/README.md\n{self.state()}")
            if time.monotonic() > deadline:
                pytest.fail(f"{what}: not within {timeout_s:g} s\n{self.state()}")
            time.sleep(POLL_S)

    def _unstartable(self) -> str:
        for pod in self.get("pods")["items"]:
            status = pod["status"]
            for container in [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]:
                waiting = container["state"].get("waiting", {})
                if waiting.get("reason") in UNSTARTABLE:
                    return f"pod {pod['metadata']['name']}: {waiting['reason']} {waiting.get('message', '')}"
        return ""

    def state(self) -> str:
        """What a person would look at first."""
        looks = [
            ["get", "rayjobs,rayclusters,deployments,jobs,pods,pvc", "-o", "wide"],
            ["get", "events", "--sort-by=.lastTimestamp"],
            ["describe", "rayjobs"],
            ["logs", "-l", "app.kubernetes.io/component=train-submitter", "--tail=60"],
            ["logs", "-l", "app.kubernetes.io/component=serving", "--tail=60"],
        ]
        texts = []
        for arguments in looks:
            done = subprocess.run([self._kubectl, "-n", NAMESPACE, *arguments], capture_output=True, text=True)
            texts.append(f"$ kubectl -n {NAMESPACE} {' '.join(arguments)}\n{done.stdout[-5000:]}{done.stderr[-1000:]}")
        return "\n".join(texts)

    def has_default_storage_class(self) -> bool:
        """Whether a claim without a class finds one."""
        classes = json.loads(self.run("get", "storageclasses", "-o", "json"))["items"]
        mark = "storageclass.kubernetes.io/is-default-class"
        return any(item["metadata"].get("annotations", {}).get(mark) == "true" for item in classes)

    def run_job(self, job: Object, timeout_s: float) -> str:
        """Create a Job, wait for its end, delete it; returns its log, fails with it where the Job failed."""
        name = job["metadata"]["name"]
        self.apply([job])
        try:
            self.wait_for(lambda: self._job_ended(name), f"job {name}", timeout_s)
            log = self.run("-n", NAMESPACE, "logs", f"job/{name}")
            assert self.get("job", name)["status"].get("succeeded") == 1, f"job {name} failed:\n{log}\n{self.state()}"
        finally:
            self.delete([job])
        return log

    def _job_ended(self, name: str) -> bool:
        conditions = self.get("job", name)["status"].get("conditions", [])
        return any(c["type"] in ("Complete", "Failed") and c["status"] == "True" for c in conditions)


def find_cluster() -> Cluster:
    """The cluster of KUBECONFIG; skips without one, fails where it is not what the manifests need."""
    path = os.environ.get("KUBECONFIG")
    if not path:
        pytest.skip("KUBECONFIG is not set: no cluster to apply the manifests to")
    assert Path(path).is_file(), f"KUBECONFIG is {path}, where there is no file"
    cluster = Cluster()
    cluster.run("version", timeout=30)
    kinds = cluster.run("api-resources", "--api-group=ray.io", "-o", "name")
    assert "rayjobs.ray.io" in kinds, "the cluster has no KubeRay: install its operator, v1.7 or newer, first"
    return cluster

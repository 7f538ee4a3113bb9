"""A real cluster, reached by kubectl as KUBECONFIG says: apply, wait, look, and say what went wrong."""

import contextlib
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.k8s.manifests import Object, kubectl

NAMESPACE = "inkling"
TEAM, STRANGERS = "inkling-test-team", "inkling-test-strangers"  # a caller's namespace, and one with no leave to call
NAMESPACES = (NAMESPACE, "inkling-one-node", TEAM, STRANGERS)
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

    def get(self, *arguments: str, namespace: str = NAMESPACE) -> Any:
        """What `kubectl get` finds, as objects."""
        return json.loads(self.run("-n", namespace, "get", *arguments, "-o", "json"))

    def apply(self, objects: list[Object]) -> str:
        """Apply objects, as `kubectl apply -k` would; returns what it says of each."""
        return self.run("apply", "-f", "-", stdin=yaml.safe_dump_all(objects))

    def diff(self, objects: list[Object]) -> str:
        """What an apply would change, as `kubectl diff -k` shows it."""
        command = [self._kubectl, "diff", "-f", "-"]
        done = subprocess.run(command, input=yaml.safe_dump_all(objects), capture_output=True, text=True, timeout=120)
        assert done.returncode in (0, 1), done.stderr  # 1 says that there are differences
        return done.stdout

    def delete(self, objects: list[Object]) -> None:
        """Delete objects and wait until they are gone; what is gone already is no error."""
        arguments = ("delete", "--ignore-not-found", "--wait", "--timeout=300s", "-f", "-")
        self.run(*arguments, stdin=yaml.safe_dump_all(objects), timeout=360)

    @contextlib.contextmanager
    def for_a_while(self, added: list[Object], changed: list[Object]) -> Iterator[None]:
        """Apply objects, and at the end delete those that were added and put `changed` back as they were.

        Args:
            added: may name objects that are among `changed`, in another form.
            changed: as they are on the cluster now.
        """
        known = {(item["kind"], item["metadata"]["name"]) for item in changed}
        news = [item for item in added if (item["kind"], item["metadata"]["name"]) not in known]
        self._check_is_free_of(news)
        with contextlib.ExitStack() as back:
            back.callback(self.apply, changed)
            back.callback(self.delete, news)
            self.apply(added)
            yield

    def has_api(self, group: str) -> bool:
        """Whether the cluster knows kinds of an API group."""
        return bool(self.run("api-resources", f"--api-group={group}", "-o", "name").strip())

    @contextlib.contextmanager
    def applied(self, objects: list[Object], later: list[Object]) -> Iterator[None]:
        """Apply objects, and take them down at the end, with what the caller applies later.

        Fails at once where a namespace or another of them that is in none is there already: it is somebody's, and would
        be deleted with all that it holds.
        """
        self._check_is_free_of(objects)
        namespaces = [item for item in objects if item["kind"] == "Namespace"]
        others = [item for item in objects if item not in namespaces]
        with contextlib.ExitStack() as teardown:  # the last first, and each of them, whatever happened to the others
            for items in (namespaces, others, later):
                teardown.callback(self.delete, items)
            self.apply(namespaces)
            self.apply(others)
            yield

    def _check_is_free_of(self, objects: list[Object]) -> None:
        for item in objects:
            if "namespace" not in item["metadata"]:
                kind, name = item["kind"].lower(), item["metadata"]["name"]
                found = self.run("get", kind, name, "--ignore-not-found", "-o", "name").strip()
                assert not found, f"the cluster has {found} already, which would be deleted; use another cluster"

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
        for pod in (pod for namespace in NAMESPACES for pod in self.get("pods", namespace=namespace)["items"]):
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
            ["logs", "-l", "app.kubernetes.io/component=storage", "--tail=60"],
            ["logs", "-l", "app.kubernetes.io/component=train-submitter", "--tail=60", "--prefix"],
            ["logs", "-l", "app.kubernetes.io/component=serving", "--tail=60"],
        ]
        texts = []
        for namespace in NAMESPACES:
            for arguments in looks:
                done = subprocess.run([self._kubectl, "-n", namespace, *arguments], capture_output=True, text=True)
                if done.stdout or done.returncode:
                    shown = f"{done.stdout[-5000:]}{done.stderr[-1000:]}"
                    texts.append(f"$ kubectl -n {namespace} {' '.join(arguments)}\n{shown}")
        return "\n".join(texts)

    def has_default_storage_class(self) -> bool:
        """Whether a claim without a class finds one."""
        classes = json.loads(self.run("get", "storageclasses", "-o", "json"))["items"]
        mark = "storageclass.kubernetes.io/is-default-class"
        return any(item["metadata"].get("annotations", {}).get(mark) == "true" for item in classes)

    def run_job(self, job: Object, timeout_s: float) -> str:
        """Create a Job, wait for its end, delete it; returns its log, fails with it where the Job failed."""
        self.apply([job])
        try:
            self.wait_for_job(job, timeout_s)
            return self.log(job)
        finally:
            self.delete([job])

    def log(self, job: Object) -> str:
        """What the newest of a Job's pods has written: the others have failed."""
        name, namespace = job["metadata"]["name"], job["metadata"]["namespace"]
        pods = self.get("pods", "-l", f"batch.kubernetes.io/job-name={name}", namespace=namespace)["items"]
        newest = max(pods, key=lambda pod: str(pod["metadata"]["creationTimestamp"]))
        return self.run("-n", namespace, "logs", newest["metadata"]["name"])

    def wait_for_job(self, job: Object, timeout_s: float) -> None:
        """Wait for the end of a Job; fails where that was not its success."""
        name, namespace = job["metadata"]["name"], job["metadata"]["namespace"]

        def conditions() -> set[str]:
            status = self.get("job", name, namespace=namespace)["status"]
            return {c["type"] for c in status.get("conditions", []) if c["status"] == "True"}

        self.wait_for(lambda: bool(conditions() & {"Complete", "Failed"}), f"job {name}", timeout_s)
        if "Failed" in conditions():
            pytest.fail(f"job {name} failed:\n{self.log(job)}\n{self.state()}")


def find_cluster() -> Cluster:
    """The cluster of KUBECONFIG; skips where nobody has asked for it, fails where it is not what the manifests need.

    KUBECONFIG alone is no such wish: many a shell has it set, to a cluster that people work on.
    """
    if os.environ.get("INKLING_TEST_CLUSTER") != "1":
        pytest.skip("INKLING_TEST_CLUSTER is not 1, as `make test-cluster` sets it: no cluster is touched")
    path = os.environ.get("KUBECONFIG")
    if not path:
        pytest.skip("KUBECONFIG is not set: no cluster to apply the manifests to")
    assert Path(path).is_file(), f"KUBECONFIG is {path}, where there is no file"
    cluster = Cluster()
    cluster.run("version", timeout=30)
    kinds = cluster.run("api-resources", "--api-group=ray.io", "-o", "name")
    assert "rayjobs.ray.io" in kinds, "the cluster has no KubeRay: install its operator, v1.7 or newer, first"
    return cluster

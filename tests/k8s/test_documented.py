"""What k8s/README.md tells people to write into an overlay of their own works as written."""

import re
import shutil
from pathlib import Path

import pytest

from inkling.serving import rollout
from tests.k8s import manifests
from tests.k8s.rules import RULES

pytestmark = pytest.mark.process

README = manifests.K8S / "README.md"


def _snippets() -> list[str]:
    """The YAML blocks of the README, in which a kustomization names its own kind."""
    return [text for text in re.findall(r"```yaml\n(.*?)```", README.read_text(), re.DOTALL) if "Kustomization" in text]


def _mine(text: str, folder: Path) -> Path:
    """An overlay of one's own with this kustomization, beside the others, where the README says."""
    shutil.copytree(manifests.K8S, folder / "k8s")
    mine = folder / "k8s" / "overlays" / "mine"
    mine.mkdir()
    (mine / "kustomization.yaml").write_text(text)
    return mine


@pytest.mark.parametrize("text", _snippets(), ids=range(len(_snippets())))
def test_a_kustomization_of_the_readme_renders(text, tmp_path):
    mine = _mine(text.replace("[../mine]", "[../cpu]\ncomponents: [../../components/kueue]"), tmp_path)
    shutil.copy(manifests.K8S / "base/serving/models.config", mine)
    assert manifests.render(mine)


def test_an_overlay_of_ones_own_names_every_image_by_its_digest(tmp_path):
    [text] = [snippet for snippet in _snippets() if "digest:" in snippet]
    objects = manifests.render(_mine(text, tmp_path))
    images = {container["image"] for _, _, container in manifests.every_container(objects)}
    assert images and all("@sha256:" in image for image in images)
    assert {name: found for name, rule in RULES.items() if (found := rule(objects))} == {}


ON_TOP = [text for text in _snippets() if "../cpu" in text]


@pytest.mark.parametrize("overlay", [*manifests.BARE, "production"])
@pytest.mark.parametrize("text", ON_TOP, ids=range(len(ON_TOP)))
def test_an_example_renders_on_top_of_every_overlay(text, overlay, tmp_path):
    text = text.replace("../cpu", f"../{overlay}")
    if overlay == "production":  # which has it already
        text = text.replace("components: [../../components/oci]\n", "")
    mine = _mine(text, tmp_path)
    shutil.copy(manifests.K8S / "base/serving/models.config", mine)
    namespaces = {item["metadata"].get("namespace") for item in manifests.render(mine)}
    assert {"inkling", None} <= namespaces <= {"inkling", "inkling-one-node", None}


def test_an_overlay_of_ones_own_sets_the_models_without_a_new_name(tmp_path):
    [text] = [snippet for snippet in _snippets() if "models.config" in snippet]
    mine = _mine(text, tmp_path)
    (mine / "models.config").write_text("model_config_list {}\n")
    config = manifests.find(manifests.render(mine), "ConfigMap", "serving-models")
    assert config["data"] == {"models.config": "model_config_list {}\n"}


@pytest.mark.parametrize("name", ["local", "gpu"])
def test_the_servers_wait_for_a_first_model_as_long_as_the_readme_does(name):
    parts = [text for text in README.read_text().split("\n## ") if f"apply -k k8s/overlays/{name}\n" in text]
    [(count, unit)] = {
        found for part in parts for found in re.findall(r"rollout status .*--timeout=(\d+)(m|h)\n", part)
    }
    spec = manifests.find(manifests.overlay(name), "Deployment", "serving")["spec"]
    probe = spec["template"]["spec"]["containers"][0]["startupProbe"]
    patience = probe["periodSeconds"] * probe["failureThreshold"]
    assert int(count) * {"m": 60, "h": 3600}[unit] <= patience < spec["progressDeadlineSeconds"]


def test_a_prediction_takes_fewer_than_ten_commands_each_with_what_it_shows():
    parts = [text for text in README.read_text().split("\n## ") if text.startswith("From an empty cluster")]
    assert len(parts) == 2
    for part in parts:
        [commands] = re.findall(r"```sh\n(.*?)```", part, re.DOTALL)
        assert len(re.findall(r"^\S", commands, re.MULTILINE)) < 10
        assert part.count("\n| ") >= 6


def test_a_canary_takes_twelve_commands_each_with_what_it_shows():
    [part] = [text for text in README.read_text().split("\n## ") if text.startswith("From nothing to a canary")]
    [commands] = re.findall(r"```sh\n(.*?)```", part, re.DOTALL)
    assert len(re.findall(r"^\S", commands, re.MULTILINE)) == 12
    assert part.count("\n| ") >= 8
    assert set(re.findall(r"canary-\d+", commands)) == {"canary-2"}


def test_every_file_and_folder_that_the_readme_names_exists():
    for path in re.findall(r"`((?:k8s|tests|serving|train|client)/[\w./-]+)`", README.read_text()):
        assert (manifests.ROOT / path).exists() or path == "k8s/overlays/mine", path


def test_every_component_and_overlay_is_in_the_readme():
    text = README.read_text()
    for name in [*manifests.COMPONENTS, *manifests.OVERLAYS]:
        assert f"`{name}`" in text, name


@pytest.mark.parametrize("command", ["make images", "make test-cluster"])
def test_the_make_targets_of_the_readme_exist(command):
    target = command.split()[1]
    assert re.search(rf"^{target}:", (manifests.ROOT / "Makefile").read_text(), re.MULTILINE), target


def test_the_rollout_commands_of_the_readme_are_understood():
    lines = re.findall(r"^python -m inkling.serving ((?:promote|rollback).*)$", README.read_text(), re.MULTILINE)
    assert len(lines) >= 2
    for line in lines:
        assert rollout.parse(line.split()).command in ("promote", "rollback")

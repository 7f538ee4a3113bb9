"""What k8s/README.md tells people to write into an overlay of their own works as written."""

import re
import shutil

import pytest

from serving import rollout
from tests.k8s import manifests

README = manifests.K8S / "README.md"


def _snippets() -> list[str]:
    """The YAML blocks of the README, in which a kustomization names its own kind."""
    return [text for text in re.findall(r"```yaml\n(.*?)```", README.read_text(), re.DOTALL) if "Kustomization" in text]


@pytest.mark.parametrize("text", _snippets(), ids=range(len(_snippets())))
def test_a_kustomization_of_the_readme_renders(text, tmp_path):
    """Put beside the overlays, where the README says."""
    k8s = tmp_path / "k8s"
    shutil.copytree(manifests.K8S, k8s)
    folder = k8s / "overlays" / "mine"
    folder.mkdir()
    (folder / "kustomization.yaml").write_text(text)
    shutil.copy(k8s / "base/serving/models.config", folder)
    assert manifests.render(folder)


def test_an_overlay_of_ones_own_sets_the_models_without_a_new_name(tmp_path):
    k8s = tmp_path / "k8s"
    shutil.copytree(manifests.K8S, k8s)
    folder = k8s / "overlays" / "mine"
    folder.mkdir()
    [text] = [snippet for snippet in _snippets() if "models.config" in snippet]
    (folder / "kustomization.yaml").write_text(text)
    (folder / "models.config").write_text("model_config_list {}\n")
    config = manifests.find(manifests.render(folder), "ConfigMap", "serving-models")
    assert config["data"] == {"models.config": "model_config_list {}\n"}


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
    lines = re.findall(r"^python -m serving ((?:promote|rollback).*)$", README.read_text(), re.MULTILINE)
    assert len(lines) >= 2
    for line in lines:
        assert rollout.parse(line.split()).command in ("promote", "rollback")

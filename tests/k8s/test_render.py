"""Every folder of k8s/ renders, and every object in it is one that the API server takes."""

import pytest

from tests.k8s import manifests, schemas

pytestmark = pytest.mark.process


@pytest.mark.parametrize("name", manifests.OVERLAYS)
def test_an_overlay_renders_to_objects_that_the_api_server_takes(name):
    for item in manifests.overlay(name):
        assert schemas.problems(item) == [], manifests.label(item)


@pytest.mark.parametrize("name", manifests.BASES)
def test_a_base_applies_as_it_is(name):
    objects = manifests.render(manifests.K8S / "base" / name)
    assert objects
    for item in objects:
        assert schemas.problems(item) == [], manifests.label(item)


# The gpu component asks for more workers than the local overlay has, and retrain goes on top of a finished overlay.
COMBINATIONS = [
    (overlay, component)
    for component in manifests.COMPONENTS
    for overlay in ("cpu", "local")
    if (overlay, component) not in (("local", "gpu"), ("local", "retrain"))
]


@pytest.mark.parametrize(("overlay", "component"), COMBINATIONS)
def test_an_overlay_takes_a_component(overlay, component, tmp_path):
    for item in manifests.with_components(tmp_path, overlay, component):
        assert schemas.problems(item) == [], manifests.label(item)


def test_all_components_go_together(tmp_path):
    for item in manifests.with_components(tmp_path, "gpu", *(set(manifests.COMPONENTS) - {"gpu"})):
        assert schemas.problems(item) == [], manifests.label(item)


def test_retraining_copies_the_run_as_the_overlay_has_it(tmp_path):
    objects = manifests.on_top(tmp_path, "gpu", "retrain")
    train = manifests.find(objects, "RayJob", "train")
    assert manifests.find(objects, "RayCronJob", "retrain")["spec"]["jobTemplate"] == train["spec"]

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


# The gpu component asks for more workers than the local overlay has, retrain goes on top of a finished overlay, and the
# local overlay sets its one server and its training without an autoscaler itself.
NOT_IN_LOCAL = ("gpu", "retrain", "elastic", "keda", "scale-to-zero", "queue-time", "kueue", "canary")
# All that go together: kueue's trainings are of one size, and oci is in place of what object-store copies to servers.
TOGETHER = sorted({*manifests.COMPONENTS} - {"gpu", "elastic", "object-store"} | {"object-store/runs"})
COMBINATIONS = [
    (overlay, component)
    for component in manifests.COMPONENTS
    for overlay in ("cpu", "local")
    if overlay != "local" or component not in NOT_IN_LOCAL
]
ON_TOP = ("retrain", "keda", "scale-to-zero", "kueue", "canary", "oci")


@pytest.mark.parametrize(("overlay", "component"), COMBINATIONS)
def test_an_overlay_takes_a_component(overlay, component, tmp_path):
    for item in manifests.with_component(tmp_path, overlay, component):
        assert schemas.problems(item) == [], manifests.label(item)


def test_all_components_go_together(tmp_path):
    for item in manifests.with_components(tmp_path, "gpu", *manifests.in_order(TOGETHER)):
        assert schemas.problems(item) == [], manifests.label(item)


def test_retraining_copies_the_run_as_the_overlay_has_it(tmp_path):
    objects = manifests.on_top(tmp_path, "gpu", "retrain")
    train = manifests.find(objects, "RayJob", "train")
    assert manifests.find(objects, "RayCronJob", "retrain")["spec"]["jobTemplate"] == train["spec"]


@pytest.mark.parametrize("overlay", manifests.BARE)
def test_keda_on_top_is_the_only_one_that_scales_the_servers(overlay, tmp_path):
    objects = manifests.on_top(tmp_path, overlay, *manifests.NEEDS["keda"], "keda")
    assert [manifests.label(item) for item in manifests.of_kind(objects, "HorizontalPodAutoscaler")] == []
    scaled = manifests.find(objects, "ScaledObject", "serving")
    assert scaled["spec"]["advanced"]["horizontalPodAutoscalerConfig"]["name"] == "serving"  # what it takes over
    assert "replicas" not in manifests.find(objects, "Deployment", "serving")["spec"]

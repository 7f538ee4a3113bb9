"""The rules that no schema has hold for every overlay and component, and each of them finds what breaks it."""

import pytest

from tests.k8s import manifests
from tests.k8s.broken import BROKEN
from tests.k8s.rules import RULES
from tests.k8s.test_render import COMBINATIONS

pytestmark = pytest.mark.process


def _found(objects: list[manifests.Object]) -> dict[str, list[str]]:
    return {name: found for name, rule in RULES.items() if (found := rule(objects))}


@pytest.mark.parametrize("name", manifests.OVERLAYS)
def test_an_overlay_keeps_all_rules(name):
    assert _found(manifests.overlay(name)) == {}


@pytest.mark.parametrize(("overlay", "component"), COMBINATIONS)
def test_an_overlay_with_a_component_keeps_all_rules(overlay, component, tmp_path):
    assert _found(manifests.with_components(tmp_path, overlay, component)) == {}


@pytest.mark.parametrize("name", manifests.OVERLAYS)
def test_an_overlay_with_retraining_on_top_keeps_all_rules(name, tmp_path):
    assert _found(manifests.on_top(tmp_path, name, "retrain")) == {}


def test_all_components_together_keep_all_rules(tmp_path):
    components = sorted(set(manifests.COMPONENTS) - {"gpu"})
    assert _found(manifests.with_components(tmp_path, "gpu", *components)) == {}


VARIANTS = [pytest.param(rule, variant, id=f"{rule}-{variant}") for rule, all in BROKEN.items() for variant in all]


@pytest.mark.parametrize(("rule", "variant"), VARIANTS)
def test_a_rule_finds_what_breaks_it(rule, variant, tmp_path):
    assert RULES[rule](variant.objects(tmp_path)) != []


def test_every_rule_has_a_broken_variant():
    assert BROKEN.keys() == RULES.keys()

"""The rules that no schema has hold for every overlay and component, and each of them finds what breaks it."""

import pytest

from tests.k8s import manifests, schemas
from tests.k8s.broken import BROKEN
from tests.k8s.rules import RULES
from tests.k8s.test_render import COMBINATIONS, ON_TOP, TOGETHER

pytestmark = pytest.mark.process


def _found(objects: list[manifests.Object]) -> dict[str, list[str]]:
    return {name: found for name, rule in RULES.items() if (found := rule(objects))}


@pytest.mark.parametrize("name", manifests.OVERLAYS)
def test_an_overlay_keeps_all_rules(name):
    assert _found(manifests.overlay(name)) == {}


@pytest.mark.parametrize(("overlay", "component"), COMBINATIONS)
def test_an_overlay_with_a_component_keeps_all_rules(overlay, component, tmp_path):
    assert _found(manifests.with_component(tmp_path, overlay, component)) == {}


@pytest.mark.parametrize("component", ON_TOP)
@pytest.mark.parametrize("name", manifests.BARE)
def test_an_overlay_with_a_component_on_top_keeps_all_rules(name, component, tmp_path):
    objects = manifests.on_top(tmp_path, name, *manifests.NEEDS.get(component, ()), component)
    assert _found(objects) == {}
    assert [problem for item in objects for problem in schemas.problems(item)] == []


def test_retraining_on_top_of_production_keeps_all_rules(tmp_path):
    assert _found(manifests.on_top(tmp_path, "production", "retrain")) == {}


def test_all_components_together_keep_all_rules(tmp_path):
    assert _found(manifests.with_components(tmp_path, "gpu", *manifests.in_order(TOGETHER))) == {}


def test_the_other_choices_of_components_together_keep_all_rules(tmp_path):
    components = manifests.in_order({*manifests.COMPONENTS} - {"gpu", "oci", "kueue"})
    assert _found(manifests.with_components(tmp_path, "gpu", *components)) == {}


VARIANTS = [pytest.param(rule, variant, id=f"{rule}-{variant}") for rule, all in BROKEN.items() for variant in all]


@pytest.mark.parametrize(("rule", "variant"), VARIANTS)
def test_a_rule_finds_what_breaks_it(rule, variant, tmp_path):
    assert RULES[rule](variant.objects(tmp_path)) != []


def test_every_rule_has_a_broken_variant():
    assert BROKEN.keys() == RULES.keys()

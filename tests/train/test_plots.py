"""Pictures of runs with many classes, or with names that a font or a formula stumbles over."""

import dataclasses
import io

import numpy as np
import pytest
from PIL import Image

from inkling.train import plots
from inkling.train.evaluate import Evaluation

NAMES = ("zero 0", "один", "two words", "三", "vier & fünf", '5,"', "six's", "#7", "$x^2$ and _", r"$\frac$")


def of_noise(num_classes):
    random = np.random.default_rng(0)
    labels = random.integers(0, num_classes, 600)
    probabilities = random.random((600, num_classes)).astype(np.float32)
    return labels, probabilities / probabilities.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("num_classes", [2, 10, 41, 200, 1200])
def test_a_confusion_matrix_is_never_larger_than_a_screen_or_two(num_classes):
    labels, probabilities = of_noise(num_classes)
    evaluation = Evaluation.of(probabilities, labels)
    content = plots.confusion_matrix(evaluation, tuple(f"a class named {i}" for i in range(num_classes)))
    with Image.open(io.BytesIO(content)) as picture:
        assert max(picture.size) <= plots.LARGEST_SIDE * plots.DPI


def test_names_that_cannot_be_drawn_are_replaced_by_numbers():
    shown = plots.drawable(NAMES)
    assert shown == [
        "zero 0", "один", "two words", "class 3", "vier & fünf", '5,"', "six's", "#7", r"\$x^2\$ and _", r"\$\frac\$",
    ]  # fmt: skip
    assert plots.drawable(["a name that is far too long", " ", "a\nb"]) == ["a name that i…", "class 1", "class 2"]


@pytest.mark.filterwarnings("error")
def test_any_name_can_be_drawn(digits):
    labels, probabilities = of_noise(10)
    plots.confusion_matrix(Evaluation.of(probabilities, labels), NAMES)
    named = dataclasses.replace(digits, class_names=NAMES, test_labels=labels[:203])
    assert plots.mistakes(named, probabilities[:203]).startswith(b"\x89PNG")

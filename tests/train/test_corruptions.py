"""The robustness suite: what it does to images, and that everybody measures on the same ones."""

import dataclasses
import io

import numpy as np
import pytest
from PIL import Image

from inkling.train import plots
from inkling.train.corruptions import CORRUPTIONS, Robustness, corrupt, suite


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_corruption_changes_every_image_and_depends_on_its_place_alone(digits, name):
    images = digits.test_images
    changed = corrupt(images, name)
    assert changed.shape == images.shape and changed.dtype == np.uint8
    assert (changed != images).any(axis=(1, 2)).all()
    np.testing.assert_array_equal(corrupt(images[:7], name), changed[:7])


def test_there_are_fifteen_beside_the_images_as_they_are(digits):
    shown = dict(suite(digits.test_images[:2]))
    assert len(CORRUPTIONS) == 15 and list(shown) == ["identity", *CORRUPTIONS]
    np.testing.assert_array_equal(shown["identity"], digits.test_images[:2])


def test_dark_ink_is_corrupted_like_light_ink(digits):
    images = digits.test_images[:20]
    for name in CORRUPTIONS:
        light, dark = corrupt(images, name), corrupt(255 - images, name, dark_on_light=True)
        np.testing.assert_allclose(255 - dark, light.astype(int), atol=1)


@pytest.mark.parametrize("size", [(8, 8), (20, 31)])
def test_images_of_any_size_are_corrupted(size):
    images = np.random.default_rng(0).integers(0, 256, (3, *size), np.uint8)
    assert all(corrupt(images, name).shape == (3, *size) for name in CORRUPTIONS)


def test_the_channels_of_a_colour_are_corrupted_alike():
    colour = np.random.default_rng(0).integers(0, 256, (3, 20, 20, 3), np.uint8)
    for name in CORRUPTIONS:
        changed = corrupt(colour, name)
        assert changed.shape == colour.shape
        np.testing.assert_array_equal(changed[..., 1], corrupt(colour[..., 1], name))


def test_a_rotation_turns_and_a_translation_moves():
    bar = np.zeros((40, 28, 28), np.uint8)
    bar[:, 4:24, 13:15] = 255
    turned = corrupt(bar, "rotate")
    assert (turned[:, 5, 12:16].max(axis=1) < 255).all() and (turned[:, 13, 13] > 100).all()
    moved = np.stack([image.sum(axis=0).argmax() for image in corrupt(bar, "translate")])
    assert set(np.abs(moved - 13.5).round()) <= {2, 3, 4, 5, 6} and len(set(moved)) > 3


def test_the_figures_are_those_of_the_predictions(digits):
    few = dataclasses.replace(digits, test_images=digits.test_images[:50], test_labels=digits.test_labels[:50])

    def by_brightness(images):
        """Right where no more than half of the paper is lit."""
        right = images.mean(axis=(1, 2)) < 100
        return np.eye(10)[np.where(right, few.test_labels[: len(images)], (few.test_labels[: len(images)] + 1) % 10)]

    measured = Robustness.of(by_brightness, few)
    assert measured.accuracy["identity"] == measured.accuracy["scale"] == 1
    assert measured.accuracy[measured.worst] == min(measured.accuracy.values()) == 0 and measured.num_examples == 50
    assert measured.mean == pytest.approx(sum(measured.accuracy[name] for name in CORRUPTIONS) / 15)
    assert "zigzag  100.00%" in measured.table() and len(measured.table().splitlines()) == 18
    with Image.open(io.BytesIO(plots.robustness(measured, few))) as picture:
        assert picture.width > 800

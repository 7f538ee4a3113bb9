"""What a policy does to how images look, one part at a time."""

import dataclasses

import numpy as np
import pytest

from inkling.train.config import POLICIES, Augmentation
from inkling.train.data.augment import apply_changes, sample_changes

pytestmark = pytest.mark.training


def looks(images, **parts):
    augmentation = Augmentation(look_share=1.0, **parts)
    index = np.arange(len(images))
    changes = sample_changes(augmentation, seed=0, epoch=index * 0, index=index, image_size=images.shape[1:])
    return apply_changes(augmentation, images, changes).numpy()[..., 0], changes.looks


@pytest.fixture(scope="module")
def squares():
    images = np.zeros((400, 28, 28), np.uint8)
    images[:, 10:18, 10:18] = 255
    return images


def test_strokes_grow_and_shrink_by_what_was_drawn(squares):
    changed, numbers = looks(squares, thickness_px=1.0)
    by = 2 * numbers[:, 1] - 1  # pixels on each side
    expected = np.where(by > 0, 64 + by * (100 - 64), 64 + by * (64 - 36))
    np.testing.assert_allclose(changed.sum(axis=(1, 2)), expected, rtol=1e-4)


def test_blur_keeps_the_ink_and_widens_it(squares):
    changed, numbers = looks(squares, blur_px=1.5)
    np.testing.assert_allclose(changed.sum(axis=(1, 2)), 64, rtol=1e-3)
    spread = (changed.sum(axis=1) * (np.arange(28) - 13.5) ** 2).sum(axis=1) / 64
    strong = numbers[:, 2] < 0.6  # what the kernel's reach holds
    expected = (8**2 - 1) / 12 + (1.5 * numbers[:, 2]) ** 2
    np.testing.assert_allclose(spread[strong], expected[strong], rtol=0.02, atol=0.05)


def test_noise_has_the_strength_that_was_drawn():
    grey = np.full((400, 28, 28), 128, np.uint8)
    changed, numbers = looks(grey, noise=0.2)
    np.testing.assert_allclose((changed - 128 / 255).std(axis=(1, 2)), 0.2 * numbers[:, -2], atol=0.02)
    assert abs(np.corrcoef(changed[0].ravel(), changed[1].ravel())[0, 1]) < 0.15


def test_paper_darkens_and_ink_lightens_within_the_contrast(squares):
    changed, _ = looks(squares, contrast=0.5)
    paper, ink = changed[:, 0, 0], changed[:, 14, 14]
    assert 0 <= paper.min() < 0.05 and 0.35 < paper.max() <= 0.5
    assert 0.75 <= ink.min() < 0.8 and ink.max() <= 1


def test_a_share_of_the_images_is_crossed_or_covered(squares):
    crossed = np.abs(looks(squares, lines=0.3)[0] - squares / 255).max(axis=(1, 2)) > 0.1
    covered = np.abs(looks(squares, occlusion=0.5)[0] - squares / 255).max(axis=(1, 2)) > 0.1
    assert 0.2 < crossed.mean() < 0.4 and 0.25 < covered.mean() < 0.5


def test_a_look_changes_the_channels_of_a_colour_alike_but_for_noise(squares):
    colour = np.stack([squares] * 3, axis=-1)
    index = np.arange(len(colour))
    for noise in (0.0, 0.2):
        augmentation = dataclasses.replace(POLICIES["robust"], elastic_px=0.0, noise=noise)
        changes = sample_changes(augmentation, seed=0, epoch=index * 0, index=index, image_size=(28, 28))
        changed = apply_changes(augmentation, colour, changes, background=(0, 0, 0)).numpy()
        assert changed.shape == colour.shape and changed.min() >= 0 and changed.max() <= 1
        assert np.allclose(changed, changed[..., :1]) != bool(noise)


@pytest.mark.parametrize("settings", [{"noise": 0.1}, {"look_share": 0.5}], ids=["no share", "nothing to change"])
def test_a_look_and_its_share_go_together(settings):
    with pytest.raises(ValueError, match="give --look-share.* together with what changes"):
        Augmentation(**settings)


def test_images_outside_the_share_stay_as_they_are(squares):
    augmentation = Augmentation(look_share=0.25, contrast=1.0)
    index = np.arange(400)
    changes = sample_changes(augmentation, seed=0, epoch=index * 0, index=index, image_size=(28, 28))
    changed = apply_changes(augmentation, squares, changes).numpy()[..., 0]
    kept = (np.abs(changed - squares / 255) < 1e-6).all(axis=(1, 2))
    np.testing.assert_array_equal(kept, changes.looks[:, 0] >= 0.25)

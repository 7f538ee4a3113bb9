import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from inkling.train.cli import main
from inkling.train.config import POLICIES, Augmentation
from inkling.train.data import augment
from inkling.train.data.example_order import ExampleOrder
from inkling.train.data.pipeline import replica_batches

INDEX, EPOCH = np.arange(40), np.full(40, 2)
SIZE = (28, 28)


def moved(images, augmentation, *, epoch=EPOCH, index=INDEX, seed=0):
    size = images.shape[1:]
    changes = augment.sample_changes(augmentation, seed=seed, epoch=epoch, index=index, image_size=size)
    return augment.apply_changes(augmentation, images[index], changes).numpy()[..., 0]


@pytest.mark.parametrize("augmentation", [Augmentation(), Augmentation(elastic_px=1e-9)], ids=["affine", "elastic"])
def test_without_strength_images_stay_as_they_are(digits, augmentation):
    np.testing.assert_allclose(moved(digits.train_images, augmentation), digits.train_images[INDEX] / 255, atol=1e-5)


def test_a_shift_moves_by_what_was_drawn(digits):
    augmentation = Augmentation(shift_px=3)
    transforms, *_ = augment.sample_changes(augmentation, seed=0, epoch=EPOCH, index=INDEX, image_size=SIZE)
    whole = np.rint(transforms)
    assert np.abs(transforms[:, [2, 5]]).max() <= 3 and len(np.unique(whole[:, 2])) > 4
    nothing = np.zeros((40, 0), np.float32)
    changes = augment.Changes(whole.astype(np.float32), nothing, nothing)
    result = augment.apply_changes(augmentation, digits.train_images[INDEX], changes).numpy()
    for image, map_, out in zip(digits.train_images[INDEX], whole.astype(int), result[..., 0], strict=True):
        padded = np.pad(image, 3)
        expected = padded[3 + map_[5] : 31 + map_[5], 3 + map_[2] : 31 + map_[2]]
        np.testing.assert_allclose(out, expected / 255, atol=1e-6)


def test_flips_mirror_half_of_the_images(digits):
    result = moved(digits.train_images, Augmentation(horizontal_flip=True))
    originals = digits.train_images[INDEX] / 255
    mirrored = [np.allclose(r, o[:, ::-1], atol=1e-5) for r, o in zip(result, originals, strict=True)]
    same = [np.allclose(r, o, atol=1e-5) for r, o in zip(result, originals, strict=True)]
    assert all(m != s for m, s in zip(mirrored, same, strict=True)) and 10 < sum(mirrored) < 30


def test_rotation_and_scale_map_corners_as_drawn():
    augmentation = Augmentation(rotation_degrees=30, scale=0.2, shear=0.1)
    transforms, *_ = augment.sample_changes(augmentation, seed=1, epoch=EPOCH, index=INDEX, image_size=SIZE)
    matrices = transforms[:, [0, 1, 3, 4]].reshape(-1, 2, 2)
    centre = np.full(2, 13.5)
    np.testing.assert_allclose(matrices @ centre + transforms[:, [2, 5]], np.tile(centre, (40, 1)), atol=1e-4)
    areas = 1 / np.linalg.det(matrices)
    assert 0.64 <= areas.min() < 0.85 and 1.15 < areas.max() <= 1.44
    angles = np.rad2deg(np.arctan2(matrices[:, 1, 0], matrices[:, 0, 0]))
    assert -30 <= angles.min() < -15 and 15 < angles.max() <= 30


@pytest.mark.parametrize("elastic_px", [0.0, 1.0], ids=["affine", "elastic"])
def test_augmentation_does_not_depend_on_the_batch_or_the_worker(digits, elastic_px):
    augmentation = dataclasses.replace(POLICIES["digits"], elastic_px=elastic_px)
    together = moved(digits.train_images, augmentation)
    apart = [moved(digits.train_images, augmentation, epoch=EPOCH[[i]], index=INDEX[[i]])[0] for i in (0, 7, 39)]
    # The affine kernel takes pixel for pixel. The elastic field is a matrix product: with other numbers of rows it is
    # cut into other blocks, and its sums are rounded in another order.
    np.testing.assert_allclose(together[[0, 7, 39]], apart, rtol=0, atol=1e-5 if elastic_px else 0)
    assert not np.allclose(together, moved(digits.train_images, augmentation, epoch=EPOCH + 1))
    assert not np.allclose(together, moved(digits.train_images, augmentation, seed=1))


def test_elastic_displacements_are_smooth_and_of_the_strength_asked_for():
    index = np.arange(2000)
    _, nodes, _ = augment.sample_changes(
        Augmentation(elastic_px=2), seed=0, epoch=index * 0, index=index, image_size=SIZE
    )
    field = augment._smooth_field(nodes, *SIZE).numpy()
    np.testing.assert_allclose(field.std(axis=(0, 1)), 2, rtol=0.12)
    neighbours = np.corrcoef(field[:, 0, 14, 14], field[:, 0, 14, 15])[0, 1]
    far = np.corrcoef(field[:, 0, 14, 2], field[:, 0, 14, 26])[0, 1]
    assert neighbours > 0.95 and abs(far) < 0.1
    assert abs(np.corrcoef(field[:, 0, 14, 14], field[:, 1, 14, 14])[0, 1]) < 0.1


def test_the_warp_samples_like_the_affine_kernel(digits):
    augmentation = POLICIES["digits"]
    affine = moved(digits.train_images, augmentation)
    warped = moved(digits.train_images, dataclasses.replace(augmentation, elastic_px=1e-9))
    np.testing.assert_allclose(warped, affine, atol=2e-3)


@pytest.mark.training
@pytest.mark.parametrize("policy", POLICIES)
def test_preview_draws_a_contact_sheet(tmp_path, capsys, policy):
    sheet = tmp_path / "sheet.png"
    assert main(["preview", "--policy", policy, "-o", str(sheet)]) == 0
    assert capsys.readouterr().out.strip() == str(sheet)
    with Image.open(sheet) as image:
        assert image.width > 600 and image.height > 800
        assert len(np.unique(np.asarray(image.convert("L")))) > 100


def test_the_last_epochs_take_the_images_as_they_are(digits, small_config):
    elastic = Augmentation(rotation_degrees=11, elastic_px=1.0)
    config = dataclasses.replace(small_config, epochs=3, plain_epochs=1, augmentation=elastic)
    order = ExampleOrder(len(digits.train_labels), config.global_batch_size, config.seed)
    last = order.first_step_after(2)  # its first examples may still be of the epoch before
    for step in (0, last - 1, last, order.first_step_after(3) - 1):
        steps = tf.data.Dataset.from_tensors(tf.constant(step, tf.int64))
        images, _, _ = next(iter(replica_batches(config, digits, steps, replicas=range(1), num_replicas=1)))
        epoch, index = order.batch(step, 0, 1)
        distance = np.abs(images[..., 0] - digits.train_images[index] / 255.0).max(axis=(1, 2))
        np.testing.assert_array_equal(distance < 1e-5, epoch >= 2)


@pytest.mark.parametrize("elastic_px", [0.0, 1.0], ids=["affine", "elastic"])
def test_the_channels_of_a_colour_move_together_over_their_paper(digits, elastic_px):
    augmentation = dataclasses.replace(POLICIES["digits"], elastic_px=elastic_px)
    channels = [digits.train_images[INDEX], digits.train_images[INDEX + 40], 255 - digits.train_images[INDEX]]
    changes = augment.sample_changes(augmentation, seed=0, epoch=EPOCH, index=INDEX, image_size=SIZE)
    colour = augment.apply_changes(augmentation, np.stack(channels, axis=-1), changes, background=(0, 30, 255))
    for number, paper in enumerate((0, 30, 255)):
        alone = augment.apply_changes(augmentation, channels[number], changes, background=paper)[..., 0]
        np.testing.assert_allclose(colour[..., number], alone, atol=1e-6)


def test_what_comes_in_from_outside_is_the_sets_paper(digits):
    images = 255 - digits.train_images[:8]
    index = np.arange(8)
    parts = Augmentation(shift_px=6), Augmentation(shift_px=6, elastic_px=1), POLICIES["robust"]
    for policy in parts:
        changes = augment.sample_changes(policy, seed=0, epoch=index * 0, index=index, image_size=(28, 28))
        moved = augment.apply_changes(policy, images, changes, background=255).numpy()
        turned = 1 - augment.apply_changes(policy, 255 - images, changes).numpy()
        np.testing.assert_allclose(moved, turned, atol=1e-6)

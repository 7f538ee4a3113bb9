"""Augment training images, a batch at a time: rotation, scale, shear, shift, flips, elastic distortion, and their look.

The numbers are drawn per example from (seed, epoch, example index) on the host (`example_order.py`); the pixels are
moved by TensorFlow ops inside each worker's input pipeline, on its own shard.
"""

import math
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from ..config import Augmentation
from .colour import Background, is_light
from .example_order import AUGMENTATION, uniform_numbers
from .looks import look_numbers, looked
from .pixels import to_model_input

ELASTIC_GRID = 7  # nodes along each side of the coarse displacement field
IDENTITY = (1, 0, 0, 0, 1, 0, 0, 0)  # the transform that moves nothing
AFFINE_NUMBERS = 8  # random numbers that an example's affine map takes


class Changes(NamedTuple):
    """How each of n examples is changed, drawn from their random numbers."""

    # float32 [n, 8]: projective transforms from output to input pixels, as ImageProjectiveTransformV3 takes them.
    transforms: Any
    # float32 [n, 2, ELASTIC_GRID, ELASTIC_GRID]: displacements of the coarse grid's nodes, in pixels; first along x,
    # then along y. Empty [n, 0] without elastic distortion.
    displacements: Any
    # float32 [n, LOOK_NUMBERS]: what `looks.looked` takes. Empty [n, 0] if it changes nothing.
    looks: Any


def sample_changes(
    augmentation: Augmentation,
    *,
    seed: int,
    epoch: NDArray[np.int64],
    index: NDArray[np.int64],
    image_size: tuple[int, int],
    purpose: int = AUGMENTATION,
) -> Changes:
    """Draw how each example is changed, from the seed, its epoch and its index.

    Args:
        epoch: int64 [n], in which epoch each example is taken.
        index: int64 [n], its place in the training set.
        image_size: (height, width) in pixels.
        purpose: what the random numbers are for, as `example_order` names it.
    """
    count = sum(sizes := number_counts(augmentation))
    numbers = uniform_numbers(purpose, seed, epoch, index, count)
    affine, first, second, looks = np.split(numbers, np.cumsum(sizes)[:-1], axis=1)
    transforms = affine_maps(augmentation, affine.astype(np.float64), image_size, np).astype(np.float32)
    if not first.size:
        return Changes(transforms, np.zeros((len(index), 0), np.float32), looks)
    displacements = elastic_displacements(augmentation, first, second, np)
    return Changes(transforms, displacements.reshape(-1, 2, ELASTIC_GRID, ELASTIC_GRID), looks)


def number_counts(augmentation: Augmentation) -> tuple[int, int, int, int]:
    """How many random numbers an example takes: for its affine map, twice for its elastic distortion, for its look."""
    elastic = 2 * ELASTIC_GRID**2 if augmentation.elastic_px else 0
    return AFFINE_NUMBERS, elastic, elastic, look_numbers(augmentation)


def elastic_displacements(augmentation: Augmentation, first: Any, second: Any, ops: Any) -> Any:
    """Displacements of the coarse grid's nodes, normally distributed: by the formula of Box and Muller, 1958.

    Args:
        first: float32 [n, count], uniform in [0, 1).
        second: likewise, others.
        ops: the module that computes, `numpy` on the host and `tensorflow.math` on a device.

    Returns: float32 [n, count], in pixels.
    """
    return augmentation.elastic_px * (ops.sqrt(-2 * ops.log1p(-first)) * ops.cos(2 * math.pi * second))


def affine_maps(augmentation: Augmentation, numbers: Any, image_size: tuple[int, int], ops: Any) -> Any:
    """The affine part of each example's transform.

    Args:
        numbers: float64 or float32 [n, AFFINE_NUMBERS], uniform in [0, 1).
        image_size: (height, width) in pixels.
        ops: the module that computes, `numpy` on the host and `tensorflow` on a device.

    Returns: like numbers, [n, 8], as `Changes` has them.
    """
    height, width = image_size
    spread = 2 * numbers - 1  # uniform in [-1, 1)
    angle = math.radians(augmentation.rotation_degrees) * spread[:, 0]
    shear = augmentation.shear * spread[:, 1]
    mirrored_x = augmentation.horizontal_flip & (numbers[:, 6] < 0.5)
    mirrored_y = augmentation.vertical_flip & (numbers[:, 7] < 0.5)
    one = ops.ones_like(angle)
    scale_x = (1 + augmentation.scale * spread[:, 2]) * ops.where(mirrored_x, -one, one)
    scale_y = (1 + augmentation.scale * spread[:, 3]) * ops.where(mirrored_y, -one, one)
    # Output pixel -> input pixel, about the image's centre: rotation x shear x 1/scale, then the shift.
    cos, sin = ops.cos(angle), ops.sin(angle)
    a0, a1 = cos / scale_x, (cos * shear - sin) / scale_y
    b0, b1 = sin / scale_x, (sin * shear + cos) / scale_y
    centre_x, centre_y = (width - 1) / 2, (height - 1) / 2
    a2 = centre_x - a0 * centre_x - a1 * centre_y + augmentation.shift_px * spread[:, 4]
    b2 = centre_y - b0 * centre_x - b1 * centre_y + augmentation.shift_px * spread[:, 5]
    zero = ops.zeros_like(a0)
    return ops.stack([a0, a1, a2, b0, b1, b2, zero, zero], axis=1)


def apply_changes(
    augmentation: Augmentation,
    images: tf.Tensor,
    changes: Changes,
    *,
    background: Background = 0,
    compiled: bool = False,
) -> tf.Tensor:
    """Change images by what was sampled for them.

    Args:
        images: uint8 [n, height, width], or [n, height, width, 3] in colour.
        background: the pixel value that comes in from outside an image, 0 to 255; of each channel in colour.
        compiled: only by operations that XLA compiles; ImageProjectiveTransformV3 is not one.

    Returns: float32 [n, height, width, 1] or [n, height, width, 3], 0 to 1.
    """
    pixels = to_model_input(images)
    if isinstance(background, tuple):  # what comes in from outside has one value for all channels: nothing
        paper = tf.constant(background, tf.float32) / 255
        moved = _moved(pixels - paper, changes, fill=0.0, compiled=compiled) + paper
    else:
        moved = _moved(pixels, changes, fill=background / 255, compiled=compiled)
    if not look_numbers(augmentation):
        return moved
    return looked(augmentation, moved, changes.looks, dark_on_light=is_light(background))


def _moved(pixels: tf.Tensor, changes: Changes, *, fill: float, compiled: bool) -> tf.Tensor:
    """Images after their transforms and displacements: float32 [n, height, width, channels], as pixels."""
    transforms, displacements, _ = changes
    height, width, channels = pixels.shape[1:]
    if len(displacements.shape) == 2 and not compiled:
        return tf.raw_ops.ImageProjectiveTransformV3(
            images=pixels,
            transforms=transforms,
            output_shape=[height, width],
            fill_value=fill,
            interpolation="BILINEAR",
            fill_mode="CONSTANT",
        )
    field = None if len(displacements.shape) == 2 else _smooth_field(displacements, height, width)
    x, y = _sources(transforms, field, height, width)
    if channels == 1:
        return _warp(pixels, x, y, fill=fill)
    return tf.concat([_warp(channel, x, y, fill=fill) for channel in tf.split(pixels, channels, axis=-1)], axis=-1)


def _smooth_field(displacements: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """Elastic displacements for every pixel, float32 [n, 2, height, width].

    Simard, Steinkraus and Platt, "Best practices for convolutional neural networks applied to visual document
    analysis", ICDAR 2003, smooth a random field with a Gaussian. Its width here is one grid spacing, so the coarse grid
    carries all that the smoothing would leave of a finer one.
    """
    rows, columns = _smoothing(height), _smoothing(width)
    return tf.einsum("hi,ncij,wj->nchw", rows, displacements, columns)


def _smoothing(side: int) -> NDArray[np.float32]:
    pixels = np.arange(side) / (side - 1) * (ELASTIC_GRID - 1)
    weights = np.exp(-0.5 * (pixels[:, None] - np.arange(ELASTIC_GRID)) ** 2)
    return (weights / np.linalg.norm(weights, axis=1, keepdims=True)).astype(np.float32)  # keeps the variance


def _sources(transforms: tf.Tensor, field: tf.Tensor | None, height: int, width: int) -> tuple[tf.Tensor, tf.Tensor]:
    x, y = tf.meshgrid(tf.range(width, dtype=tf.float32), tf.range(height, dtype=tf.float32))
    a0, a1, a2, b0, b1, b2 = (transforms[:, i, tf.newaxis, tf.newaxis] for i in range(6))
    source_x, source_y = a0 * x + a1 * y + a2, b0 * x + b1 * y + b2
    return (source_x, source_y) if field is None else (source_x + field[:, 0], source_y + field[:, 1])


def _warp(pixels: tf.Tensor, x: tf.Tensor, y: tf.Tensor, *, fill: float) -> tf.Tensor:
    """Bilinear samples of pixels [n, height, width, 1] at (x, y), each [n, height, width]; `fill` outside."""
    height, width = pixels.shape[1:3]
    stride = width + 3
    padded = tf.pad(pixels, [[0, 0], [1, 2], [1, 2], [0, 0]], constant_values=fill)
    padded = tf.reshape(padded, [-1, (height + 3) * stride])
    x = tf.clip_by_value(x + 1, 0.0, width + 1.0)
    y = tf.clip_by_value(y + 1, 0.0, height + 1.0)
    left, top = tf.floor(x), tf.floor(y)
    right_share, bottom_share = x - left, y - top
    corner = tf.cast(top * stride + left, tf.int32)
    top_left = tf.gather(padded, corner, batch_dims=1)
    top_right = tf.gather(padded, corner + 1, batch_dims=1)
    bottom_left = tf.gather(padded, corner + stride, batch_dims=1)
    bottom_right = tf.gather(padded, corner + stride + 1, batch_dims=1)
    upper = top_left + right_share * (top_right - top_left)
    lower = bottom_left + right_share * (bottom_right - bottom_left)
    return (upper + bottom_share * (lower - upper))[..., tf.newaxis]

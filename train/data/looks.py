"""Change how training images look: thickness of strokes, blur, light on the paper, a line, a covered patch, noise.

Cameras, pens and paper do this to digits, and MNIST has none of it. The numbers are drawn per example on the host or
on the device (`augment.py`, `on_device.py`); these operations run on both, and XLA compiles them.
"""

import math

import numpy as np
import tensorflow as tf

from ..config import Augmentation
from .device_numbers import counted_bits

LOOK_NUMBERS = 21  # of an example
BLUR_REACH = 3  # pixels to either side that a blurred one is made of
WHOLE = 2**24  # values that a random number has


def look_numbers(augmentation: Augmentation) -> int:
    """How many numbers an example's look takes: 0 if the policy changes none."""
    return LOOK_NUMBERS if augmentation.look_share else 0


def looked(
    augmentation: Augmentation, pixels: tf.Tensor, numbers: tf.Tensor, *, dark_on_light: bool = False
) -> tf.Tensor:
    """Images as other pens, light and cameras would have left them.

    Args:
        pixels: float32 [n, height, width, 1 or 3], 0 to 1.
        numbers: float32 [n, LOOK_NUMBERS], uniform in [0, 1); 1 throughout leaves the example as it is.
        dark_on_light: ink is darker than paper.

    Returns: float32, like pixels.
    """
    whether, thickness, blur, *rest = (column[:, None, None, None] for column in tf.unstack(numbers, axis=1))
    light, line, patch, noise = rest[:4], rest[4:10], rest[10:16], rest[16:18]
    ink = 1 - pixels if dark_on_light else pixels
    if augmentation.thickness_px:
        ink = _thickened(ink, augmentation.thickness_px * (2 * thickness - 1))
    if augmentation.blur_px:
        ink = _blurred(_blurred(ink, augmentation.blur_px * blur, axis=1), augmentation.blur_px * blur, axis=2)
    if augmentation.lines:
        ink = tf.maximum(ink, tf.where(line[0] < augmentation.lines, _line(ink, *line[1:]), 0.0))
    if augmentation.contrast:
        ink = _lit(ink, augmentation.contrast, *light)
    if augmentation.occlusion:
        ink = _covered(ink, augmentation.occlusion, *patch)
    if augmentation.noise:
        ink += augmentation.noise * noise[0] * _normals(ink, noise[1])
    ink = tf.clip_by_value(ink, 0.0, 1.0)
    return tf.where(whether < augmentation.look_share, 1 - ink if dark_on_light else ink, pixels)


def _thickened(ink: tf.Tensor, by: tf.Tensor) -> tf.Tensor:
    """Grey-scale dilation or, where `by` is negative, erosion; by up to one pixel on each side of a stroke."""
    thicker = tf.nn.max_pool2d(ink, 3, 1, "SAME")
    thinner = -tf.nn.max_pool2d(-ink, 3, 1, "SAME")
    return ink + tf.maximum(by, 0.0) * (thicker - ink) + tf.maximum(-by, 0.0) * (thinner - ink)


def _blurred(ink: tf.Tensor, sigma: tf.Tensor, *, axis: int) -> tf.Tensor:
    size, reach = ink.shape[axis], BLUR_REACH
    weights = [tf.exp(-0.5 * k * k / (tf.square(sigma) + 1e-3)) for k in range(-reach, reach + 1)]
    padding = np.zeros((4, 2), np.int32)
    padding[axis] = reach
    padded = tf.pad(ink, padding)
    shifted = (padded[:, i : i + size] if axis == 1 else padded[:, :, i : i + size] for i in range(2 * reach + 1))
    return tf.add_n([w * part for w, part in zip(weights, shifted, strict=True)]) / tf.add_n(weights)


def _places(ink: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """x and y of every pixel, from -1 to 1 over the image, each float32 [1, height, width, 1]."""
    height, width = ink.shape[1:3]
    y, x = tf.linspace(-1.0, 1.0, height), tf.linspace(-1.0, 1.0, width)
    return x[None, None, :, None], y[None, :, None, None]


def _lit(
    ink: tf.Tensor, contrast: float, paper: tf.Tensor, pen: tf.Tensor, uneven: tf.Tensor, turn: tf.Tensor
) -> tf.Tensor:
    """Paper that is not quite empty, more so to one side; a pen that is not quite full."""
    x, y = _places(ink)
    side = 0.5 + 0.35 * (x * tf.cos(2 * math.pi * turn) + y * tf.sin(2 * math.pi * turn))
    ground = contrast * paper * (1 - uneven * side)
    full = 1 - 0.5 * contrast * pen
    return ground + tf.maximum(full - ground, 0.2) * ink


def _line(
    ink: tf.Tensor, turn: tf.Tensor, x0: tf.Tensor, y0: tf.Tensor, width: tf.Tensor, full: tf.Tensor
) -> tf.Tensor:
    """A straight stroke of 1 to 3 pixels that crosses the image."""
    x, y = _places(ink)
    distance = tf.abs((x - 1.4 * x0 + 0.7) * tf.sin(math.pi * turn) - (y - 1.4 * y0 + 0.7) * tf.cos(math.pi * turn)) * (
        max(ink.shape[1:3]) / 2
    )
    return (0.5 + 0.5 * full) * tf.clip_by_value(1 + width - distance, 0.0, 1.0)


def _covered(
    ink: tf.Tensor,
    share: float,
    chance: tf.Tensor,
    width: tf.Tensor,
    height: tf.Tensor,
    x0: tf.Tensor,
    y0: tf.Tensor,
    full: tf.Tensor,
) -> tf.Tensor:
    """Half of the images with a rectangle of one grey (Zhong et al., "Random erasing data augmentation", AAAI 2020)."""
    x, y = _places(ink)
    inside = (tf.abs(x - 2 * x0 + 1) < share * width) & (tf.abs(y - 2 * y0 + 1) < share * height)
    return tf.where(inside & (chance < 0.5), full, ink)


def _normals(ink: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """About normally distributed numbers for each pixel: sums of the four 16-bit parts of a counter-based number."""
    count = ink.shape[1] * ink.shape[2] * ink.shape[3]
    bits = counted_bits(tf.cast(seed[:, 0, 0] * WHOLE, tf.uint64), count)
    parts = [tf.bitwise.right_shift(bits, tf.constant(shift, tf.uint64)) for shift in (0, 16, 32, 48)]
    low = [
        tf.cast(tf.cast(tf.bitwise.bitwise_and(part, tf.constant(0xFFFF, tf.uint64)), tf.int32), tf.float32)
        for part in parts
    ]
    uniform = tf.add_n(low) / 65536  # of variance 4 / 12
    return tf.reshape((uniform - 2) * math.sqrt(3), tf.shape(ink))

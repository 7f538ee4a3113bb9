"""Brings one digit's ink into MNIST's form: 28 x 28, the ink in a 20 x 20 box, its centre of mass in the middle.

As the data set was made: "normalized to fit in a 20x20 pixel box while preserving their aspect ratio ... grey levels as
a result of the anti-aliasing ... centered in a 28x28 image by computing the center of mass of the pixels" (LeCun,
Bottou, Bengio, Haffner: Gradient-based learning applied to document recognition, 1998). Pillow and NumPy only.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE, BOX = 28, 20
MIDDLE = 14.0  # where all of MNIST's centres of mass are, to half a pixel; counted from 0 at the first pixel's centre
Floats = NDArray[np.float32]

STEEPEST_SLANT = 0.7  # a 1 may lean as far as it likes, but is not made a 7's bar
_AFFINE, _BILINEAR = Image.Transform.AFFINE, Image.Resampling.BILINEAR


def mnist_form(ink: Floats) -> NDArray[np.uint8]:
    """The digit as the classifier knows digits.

    Args:
        ink: float32 [height, width], 0 for paper to 1 for ink, of any size, with at least one pixel of ink.

    Returns: uint8 [28, 28], ink white on black.
    """
    cut = _cut(ink, 0.1)
    boxed = _fit(cut)
    boxed = boxed * (1 / max(float(boxed.max()), 1e-6))
    return _centred(np.rint(boxed * 255).astype(np.uint8))


def plain_digit(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A 28 x 28 picture as it is if it is in MNIST's form, else brought there: turned light on dark, boxed, centred."""
    rim = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
    light_on_dark = grey if np.median(rim) < 128 else 255 - grey
    ink: Floats = light_on_dark.astype(np.float32) / np.float32(255)
    floor = float(np.median(np.concatenate([ink[0], ink[-1], ink[:, 0], ink[:, -1]])))
    ink = np.clip((ink - floor) / max(1 - floor, 1e-6), 0, 1).astype(np.float32)
    if float(ink.max()) < 0.15:
        return np.zeros((SIDE, SIDE), np.uint8)
    cut = _cut(ink, 0.2)
    offset = _centre_of_mass(ink) - MIDDLE
    in_form = abs(max(cut.shape) - BOX) <= 1 and float(np.abs(offset).max()) <= 1.5 and floor < 0.02
    return light_on_dark if in_form else mnist_form(ink)


def upright(form: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A digit in MNIST's form with its slant taken out: sheared until height and breadth no longer vary together."""
    weights = form.astype(np.float64)
    total = weights.sum()
    if not total:
        return form
    middle_y, middle_x = _centre_of_mass(form)
    y, x = np.arange(SIDE) - middle_y, np.arange(SIDE) - middle_x
    slant = (y @ weights @ x) / max(float(np.square(y) @ weights.sum(axis=1)), 1e-6)
    slant = float(np.clip(slant, -STEEPEST_SLANT, STEEPEST_SLANT))
    shear = (1.0, slant, -slant * (middle_y + 0.5), 0.0, 1.0, 0.0)  # from the result's pixels to the form's
    return np.asarray(Image.fromarray(form).transform((SIDE, SIDE), _AFFINE, shear, _BILINEAR))


def _cut(ink: Floats, level: float) -> Floats:
    threshold = level * float(ink.max())
    rows, columns = (np.flatnonzero((ink > threshold).any(axis=axis)) for axis in (1, 0))
    return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _fit(ink: Floats) -> Floats:
    """Scaled so that the longer side is BOX; Pillow's filter widens with the scale, which is the antialiasing."""
    height, width = ink.shape
    scale = BOX / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    resized = Image.fromarray(ink).resize(size, Image.Resampling.BILINEAR if scale < 1 else Image.Resampling.BICUBIC)
    return np.clip(np.asarray(resized), 0, 1)


def _centre_of_mass(ink: NDArray[np.generic]) -> NDArray[np.float64]:
    weights = ink.astype(np.float64)
    y, x = np.arange(ink.shape[0]), np.arange(ink.shape[1])
    return np.array([weights.sum(axis=1) @ y, weights.sum(axis=0) @ x]) / weights.sum()


def _centred(boxed: NDArray[np.uint8]) -> NDArray[np.uint8]:
    form = np.zeros((SIDE, SIDE), np.uint8)
    top, left = np.rint(MIDDLE - _centre_of_mass(boxed)).astype(int)
    top = min(max(top, 0), SIDE - boxed.shape[0])
    left = min(max(left, 0), SIDE - boxed.shape[1])
    form[top : top + boxed.shape[0], left : left + boxed.shape[1]] = boxed
    return form

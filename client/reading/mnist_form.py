"""Brings one digit's ink into MNIST's form: 28 x 28, the ink in a 20 x 20 box, its centre of mass in the middle.

As the data set was made: "normalized to fit in a 20x20 pixel box while preserving their aspect ratio ... grey levels as
a result of the anti-aliasing ... centered in a 28x28 image by computing the center of mass of the pixels" (LeCun,
Bottou, Bengio and Haffner, Gradient-based learning applied to document recognition, 1998,
https://doi.org/10.1109/5.726791). Pillow and NumPy only.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE, BOX = 28, 20
MIDDLE = 14.0  # where all of MNIST's centres of mass are, to half a pixel; counted from 0 at the first pixel's centre
Floats = NDArray[np.float32]

STEEPEST_SLANT = 0.7  # columns a row; a 1 may lean as far as it likes, but is not made a 7's bar
EDGE = 0.1  # of the most ink: less is not in the box
# Of a 28 x 28 picture, found by looking at MNIST's images, each of which has to pass as it is:
LEAST_INK = 0.15  # of white: with less there is nothing on it
SINGLE_EDGE = 0.2  # of the most ink, as EDGE
OFF_CENTRE, OFF_SIZE, OFF_BLACK = 1.5, 1, 0.02  # px, px and of white by which a picture in MNIST's form may differ
_AFFINE, _BILINEAR = Image.Transform.AFFINE, Image.Resampling.BILINEAR


def mnist_form(ink: Floats) -> NDArray[np.uint8]:
    """Bring a digit into the form that the classifier knows.

    Args:
        ink: float32 [height, width], 0 for paper to 1 for ink, of any size, with at least one pixel of ink.

    Returns: uint8 [28, 28], ink white on black.
    """
    boxed = _fit(_cropped(ink, EDGE))
    boxed = boxed * (1 / max(float(boxed.max()), 1e-6))
    return _centred(np.rint(boxed * 255).astype(np.uint8))


def single_digit_form(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Bring a small picture of one digit into MNIST's form, unless it is in that form already.

    Args:
        grey: uint8 [28, 28], light on dark or dark on light.

    Returns: uint8 [28, 28], ink white on black: `grey` itself, turned light on dark, if it is in MNIST's form; else
    boxed and centred; black if there is no ink.
    """
    rim = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
    light_on_dark = grey if np.median(rim) < 128 else 255 - grey
    ink: Floats = light_on_dark.astype(np.float32) / np.float32(255)
    paper = float(np.median(np.concatenate([ink[0], ink[-1], ink[:, 0], ink[:, -1]])))
    ink = np.clip((ink - paper) / max(1 - paper, 1e-6), 0, 1).astype(np.float32)
    if float(ink.max()) < LEAST_INK:
        return np.zeros((SIDE, SIDE), np.uint8)
    size_off = abs(max(_cropped(ink, SINGLE_EDGE).shape) - BOX)
    centre_off = float(np.abs(_centre_of_mass(ink) - MIDDLE).max())
    in_form = size_off <= OFF_SIZE and centre_off <= OFF_CENTRE and paper < OFF_BLACK
    return light_on_dark if in_form else mnist_form(ink)


def upright(form: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Take a digit's slant out: shear it until height and breadth no longer vary together.

    The shear is the ratio of central moments mu11 / mu02, as in OpenCV's tutorial
    (https://docs.opencv.org/4.x/dd/d3b/tutorial_py_svm_opencv.html).

    Args:
        form: uint8 [28, 28], in MNIST's form.

    Returns: uint8 [28, 28].
    """
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


def _cropped(ink: Floats, edge: float) -> Floats:
    """[h, w]: the box of what is over `edge` of the most ink."""
    inked = ink > edge * float(ink.max())
    rows, columns = (np.flatnonzero(inked.any(axis=axis)) for axis in (1, 0))
    return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _fit(ink: Floats) -> Floats:
    """Scaled so that the longer side is BOX; Pillow's filter widens with the scale, which is the antialiasing."""
    height, width = ink.shape
    scale = BOX / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    resized = Image.fromarray(ink).resize(size, Image.Resampling.BILINEAR if scale < 1 else Image.Resampling.BICUBIC)
    return np.clip(np.asarray(resized), 0, 1)


def _centre_of_mass(ink: NDArray[np.generic]) -> NDArray[np.float64]:
    """[2]: row and column."""
    weights = ink.astype(np.float64)
    y, x = np.arange(ink.shape[0]), np.arange(ink.shape[1])
    return np.array([weights.sum(axis=1) @ y, weights.sum(axis=0) @ x]) / weights.sum()


def _centred(boxed: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """[28, 28]: the box, its centre of mass in the middle as far as there is room."""
    form = np.zeros((SIDE, SIDE), np.uint8)
    top, left = np.rint(MIDDLE - _centre_of_mass(boxed)).astype(int)
    top = min(max(top, 0), SIDE - boxed.shape[0])
    left = min(max(left, 0), SIDE - boxed.shape[1])
    form[top : top + boxed.shape[0], left : left + boxed.shape[1]] = boxed
    return form

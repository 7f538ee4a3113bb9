"""How unlike any known way of writing a digit a shape is: the sign that a classifier of ten classes cannot give.

Each class is described by the mean of MNIST's training images of it and the eight directions in which they vary most,
upright, slightly blurred and of unit length. How far a shape lies from that plane, in units of the distance that 99 of
100 training images keep within, is its strangeness: 1 is unusual, 1.3 is hardly a digit of that class.

`digit_subspaces.npz` is made by `python -m tools.digit_subspaces`.
"""

from functools import cache
from importlib import resources
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

BLUR = np.array([0.054, 0.244, 0.404, 0.244, 0.054], np.float32)  # a Gaussian of one pixel


class Shapes(NamedTuple):
    """The ten classes."""

    means: Floats  # [10, 784]
    directions: Floats  # [10, k, 784], orthonormal within a class
    usual: Floats  # [10], the distance that 99 of 100 keep within


def strangeness(forms: NDArray[np.uint8], shapes: Shapes | None = None) -> Floats:
    """How strange each form would be as each digit.

    Args:
        forms: uint8 [n, 28, 28], upright digits in MNIST's form.

    Returns: float32 [n, 10].
    """
    shapes = shapes or _shapes()
    points = features(forms)
    result = np.empty((len(points), len(shapes.means)), np.float32)
    for label, (mean, directions, usual) in enumerate(zip(*shapes, strict=True)):
        away = points - mean
        within = away @ directions.T
        # By Pythagoras, as the directions are orthonormal.
        beyond = np.square(away).sum(axis=1) - np.square(within).sum(axis=1)
        result[:, label] = np.sqrt(np.maximum(beyond, 0)) / usual
    return result


def features(forms: NDArray[np.uint8]) -> Floats:
    """float32 [n, 784]: blurred, so that a stroke's exact place does not count, and of unit length."""
    padded = np.pad(forms.astype(np.float32), ((0, 0), (2, 2), (2, 2)))
    down = np.sum([weight * padded[:, i : i + 28] for i, weight in enumerate(BLUR)], axis=0)
    both = np.sum([weight * down[:, :, i : i + 28] for i, weight in enumerate(BLUR)], axis=0)
    flat = both.astype(np.float32).reshape(len(forms), 28 * 28)
    return flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)


@cache
def _shapes() -> Shapes:
    with (
        resources.files(__package__).joinpath("digit_subspaces.npz").open("rb") as file,
        np.load(file, allow_pickle=False) as stored,
    ):
        means = stored["means"].astype(np.float32) * stored["mean_scale"]
        directions = stored["directions"].astype(np.float32)
        return Shapes(means, directions / np.linalg.norm(directions, axis=2, keepdims=True), stored["usual"])

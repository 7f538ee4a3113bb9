"""How unlike any known way of writing a digit a shape is: the sign that a classifier of ten classes cannot give.

Each class is described by the mean of MNIST's training images of it and the eight directions in which they vary most,
upright, slightly blurred and of unit length. A shape's outlier score for a class is its distance from that plane
(the "distance from feature space" of B. Moghaddam and A. Pentland, Probabilistic visual learning for object
representation, 1997, https://doi.org/10.1109/34.598227), in units of the distance that 99 of 100 training images keep
within: 1 is unusual, 1.3 is hardly a digit of that class.

`digit_subspaces.npz` is made by `python -m tools.digit_subspaces`.
"""

from functools import cache
from importlib import resources
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .mnist_form import SIDE

Floats = NDArray[np.float32]

BLUR = np.array([0.054, 0.244, 0.404, 0.244, 0.054], np.float32)  # a Gaussian of one pixel


class Subspaces(NamedTuple):
    """The ten classes' means and principal directions."""

    means: Floats  # float32 [10, 784]
    directions: Floats  # float32 [10, k, 784], orthonormal within a class
    usual: Floats  # float32 [10], the distance that 99 of 100 training images keep within


def outlier_scores(forms: NDArray[np.uint8], subspaces: Subspaces | None = None) -> Floats:
    """How unusual each form would be as each digit.

    Args:
        forms: uint8 [n, 28, 28], upright digits in MNIST's form.
        subspaces: those of MNIST's training images if left out.

    Returns: float32 [n, 10], 0 for a form within the class's plane, over 1 for one in 100 of the class's own.
    """
    subspaces = subspaces or _mnist_subspaces()
    points = features(forms)
    scores = np.empty((len(points), len(subspaces.means)), np.float32)
    for label, (mean, directions, usual) in enumerate(zip(*subspaces, strict=True)):
        away = points - mean
        within = away @ directions.T
        # By Pythagoras, as the directions are orthonormal.
        beyond = np.square(away).sum(axis=1) - np.square(within).sum(axis=1)
        scores[:, label] = np.sqrt(np.maximum(beyond, 0)) / usual
    return scores


def features(forms: NDArray[np.uint8]) -> Floats:
    """What forms are compared by: blurred, so that a stroke's exact place does not count, and of unit length.

    Args:
        forms: uint8 [n, 28, 28].

    Returns: float32 [n, 784].
    """
    padded = np.pad(forms.astype(np.float32), ((0, 0), (2, 2), (2, 2)))
    down = np.sum([weight * padded[:, i : i + SIDE] for i, weight in enumerate(BLUR)], axis=0)
    both = np.sum([weight * down[:, :, i : i + SIDE] for i, weight in enumerate(BLUR)], axis=0)
    flat = both.astype(np.float32).reshape(len(forms), SIDE * SIDE)
    return flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)


@cache
def _mnist_subspaces() -> Subspaces:
    with (
        resources.files(__package__).joinpath("digit_subspaces.npz").open("rb") as file,
        np.load(file, allow_pickle=False) as stored,
    ):
        means = stored["means"].astype(np.float32) * stored["mean_scale"]
        directions = stored["directions"].astype(np.float32)
        return Subspaces(means, directions / np.linalg.norm(directions, axis=2, keepdims=True), stored["usual"])

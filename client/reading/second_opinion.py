"""A second opinion on each candidate: which digit it is, or none at all.

A classifier of ten classes has to call a letter some digit, and is often sure of it; and one that has learned from
MNIST alone takes for another digit what its writers do not write, such as an open 4. This small network ships with the
client and has seen more: digits of handwriting fonts and of strokes as other hands draw them, and what is no digit:
letters, signs, scribbles, filled shapes, two digits taken for one. What it says of the digit is one vote beside the
classifier's; what it says of strangers has limits in `result`, by how many of MNIST's digits exceed them.

Three convolutions and two dense layers, in NumPy. `second_opinion.npz` is made by
`python -m tools.second_opinion`.
"""

from functools import cache
from importlib import resources
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

SIGNS = "+%$()"  # that it knows by their shape
KERNELS, STRIDES = (5, 3, 3), (2, 1, 2)  # of the convolutions: sides, and steps
TINY = 1e-30  # less counts as this
AT_ONCE = 64  # forms: the patches of so many take 6 MB


class Opinions(NamedTuple):
    """What it says of each form."""

    digits: Floats  # float32 [n, 10], probabilities of the digits, given that it is one
    strangers: Floats  # float32 [n], logits of being none
    signs: Floats  # float32 [n, len(SIGNS)], probabilities of the signs


def second_opinions(forms: NDArray[np.uint8]) -> Opinions:
    """Look at forms.

    Args:
        forms: uint8 [n, 28, 28], upright, in MNIST's form.
    """
    parts = [_logits(forms[start : start + AT_ONCE]) for start in range(0, len(forms), AT_ONCE)]
    logits = np.concatenate(parts) if parts else np.empty((0, 11 + len(SIGNS)), np.float32)
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    digits, others = weights[:, :10].sum(axis=1), weights[:, 10:].sum(axis=1)
    return Opinions(
        weights[:, :10] / np.maximum(digits, TINY)[:, None],
        np.log(np.maximum(others, TINY)) - np.log(np.maximum(digits, TINY)),
        weights[:, 11:] / weights.sum(axis=1, keepdims=True),
    )


def _logits(forms: NDArray[np.uint8]) -> Floats:
    """[n, 11 + len(SIGNS)]: of the ten digits, of none of them, and of the signs."""
    layers = _network()
    values: Floats = (forms.astype(np.float32) / np.float32(255))[..., None]
    for side, stride, (weights, biases) in zip(KERNELS, STRIDES, layers, strict=False):
        values = np.maximum(_patches(values, side, stride) @ weights + biases, 0)
    values = values.reshape(len(forms), -1)
    for number, (weights, biases) in enumerate(layers[len(KERNELS) :], len(KERNELS)):
        values = values @ weights + biases
        if number < len(layers) - 1:
            values = np.maximum(values, 0)
    return values


def _patches(maps: Floats, side: int, stride: int) -> Floats:
    """[n, h', w', side * side * c]: what each place of a convolution sees of maps [n, h, w, c]."""
    windows = np.lib.stride_tricks.sliding_window_view(maps, (side, side), axis=(1, 2))[:, ::stride, ::stride]
    return np.moveaxis(windows, 3, -1).reshape(*windows.shape[:3], -1)


@cache
def _network() -> tuple[tuple[Floats, Floats], ...]:
    """Weights [inputs, outputs] and biases [outputs] of each layer."""
    with (
        resources.files(__package__).joinpath("second_opinion.npz").open("rb") as file,
        np.load(file, allow_pickle=False) as stored,
    ):
        count = sum(name.startswith("biases") for name in stored.files)
        return tuple(
            (stored[f"weights{i}"].astype(np.float32) * stored[f"scale{i}"], stored[f"biases{i}"].astype(np.float32))
            for i in range(count)
        )

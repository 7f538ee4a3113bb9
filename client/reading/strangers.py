"""Tells what is no digit at all: letters, signs, scribbles, filled shapes, two digits taken for one.

A classifier of ten classes has to call a letter some digit, and is often sure of it. This one has a single question, is
it a digit, and has seen what else people write: a small network of two hidden layers on the features of `novelty`. Its
answer is a logit. Digits that are badly written exceed 0 as well, so what counts is how many of MNIST's test digits
exceed a limit; `result` has the limits.

`strangers.npz` is made by `python -m tools.strangers`.
"""

from functools import cache
from importlib import resources
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .novelty import features

Floats = NDArray[np.float32]

GAIN = 10.0  # features have unit length over 784 pixels: this brings them near 1


class Network(NamedTuple):
    """Weights and biases, and the features' mean, which is taken off."""

    mean: Floats  # float32 [784]
    layers: tuple[tuple[Floats, Floats], ...]  # weights [inputs, outputs] and biases [outputs] of each layer


def stranger_logits(forms: NDArray[np.uint8]) -> Floats:
    """How likely each form is no digit.

    Args:
        forms: uint8 [n, 28, 28], upright, in MNIST's form.

    Returns: float32 [n], logits.
    """
    network = _network()
    values: Floats = (features(forms) - network.mean) * np.float32(GAIN)
    for number, (weights, biases) in enumerate(network.layers):
        values = values @ weights + biases
        if number < len(network.layers) - 1:
            values = np.maximum(values, 0)
    return values[:, 0]


@cache
def _network() -> Network:
    with (
        resources.files(__package__).joinpath("strangers.npz").open("rb") as file,
        np.load(file, allow_pickle=False) as stored,
    ):
        count = sum(name.startswith("biases") for name in stored.files)
        layers = [
            (stored[f"weights{i}"].astype(np.float32) * stored[f"scale{i}"], stored[f"biases{i}"].astype(np.float32))
            for i in range(count)
        ]
        return Network(stored["mean"].astype(np.float32), tuple(layers))

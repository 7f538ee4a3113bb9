"""What runs through the server between the wire and the runtime: NumPy arrays. Imports NumPy only."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]  # strings as an object array of bytes
Function = Callable[[Sequence[Array]], list[Array]]  # what runs a model: inputs to outputs, each in a fixed order

STRING_BYTES = 24  # of a string in TensorFlow, beside its characters


def num_bytes(array: Array) -> int:
    """What `array` takes in the runtime."""
    if array.dtype == np.object_:
        return sum(map(len, array.flat)) + STRING_BYTES * array.size
    return array.size * array.itemsize

"""Tensors as raw bytes, which gRPC and the binary data of REST have in common.

Elements lie in row-major order, little-endian, without padding; each element of BYTES has its length before it, in four
bytes. All that a caller says of a tensor, its shape too, is held against what came before anything is made of it.
"""

import math
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..arrays import Array
from ..errors import invalid_argument

MAX_RANK = 32
MAX_SIZE = 2**63 - 1
MAX_BYTES = 1 << 40  # of a shape, with 1 in place of 0, as NumPy counts: it takes none that is far larger
LENGTH = struct.Struct("<I")
COPIED_BYTES = 256  # that take as long as a string


def num_elements(alias: str, shape: Sequence[int], dtype: np.dtype[Any]) -> int:
    """How many elements a tensor of this shape has.

    Raises: ServingError INVALID_ARGUMENT if there cannot be such a tensor.
    """
    if len(shape) > MAX_RANK:
        raise invalid_argument(f"input '{alias}' has {len(shape)} dimensions; expected at most {MAX_RANK}")
    if not all(0 <= size <= MAX_SIZE for size in shape):
        raise invalid_argument(f"input '{alias}' has shape {list(shape)!s:.400}; expected sizes from 0 to 2^63 - 1")
    if math.prod(size or 1 for size in shape) * dtype.itemsize > MAX_BYTES:
        raise invalid_argument(f"input '{alias}' has shape {list(shape)}, which is too large")
    return math.prod(shape)


def from_raw(alias: str, shape: Sequence[int], dtype: np.dtype[Any], content: bytes | memoryview) -> Array:
    """The tensor whose elements are `content`.

    Args:
        alias: the input's name, for the error text.
        shape: as the caller says.
        dtype: one of the protocol's datatypes.
        content: the bytes.

    Returns: an array of this shape and dtype, maybe a read-only view of the bytes; BYTES as an object array of bytes.

    Raises: ServingError INVALID_ARGUMENT if shape and content do not make a tensor.
    """
    size = num_elements(alias, shape, dtype)
    if dtype.kind == "O":
        return _strings(alias, size, bytes(content)).reshape(shape)
    if len(content) != size * dtype.itemsize:
        raise invalid_argument(
            f"unexpected total byte size {len(content)} for input '{alias}', expecting {size * dtype.itemsize}: "
            f"{size} elements of {dtype} for shape {list(shape)}"
        )
    values = np.frombuffer(content, dtype)
    if not values.flags.aligned:  # behind a JSON text of any length
        values = values.copy()
    if dtype == np.bool_:
        values = values.view(np.uint8) != 0  # any other bit pattern would be undefined behaviour downstream
    return values.reshape(shape)


def _strings(alias: str, size: int, content: bytes) -> Array:
    if size * LENGTH.size > len(content):
        raise invalid_argument(
            f"input '{alias}' has {len(content)} bytes; {size} elements take at least {size * LENGTH.size}, "
            "four for the length of each"
        )
    strings = np.empty(size, object)
    end = 0
    for index in range(size):
        start = end + LENGTH.size
        if start > len(content):
            raise invalid_argument(f"input '{alias}' ends within the length of element {index} of {size}")
        end = start + LENGTH.unpack_from(content, end)[0]
        if end > len(content):
            raise invalid_argument(
                f"element {index} of input '{alias}' claims {end - start} bytes, but {len(content) - start} are left"
            )
        strings[index] = content[start:end]
    if end != len(content):
        raise invalid_argument(f"unexpected {len(content) - end} bytes behind the {size} elements of input '{alias}'")
    return strings


def to_raw(array: Array) -> bytes:
    """The elements of `array`; an object array holds bytes."""
    if array.dtype != object:
        return array.tobytes()
    return b"".join(piece for string in array.flat for piece in (LENGTH.pack(len(string)), string))


def size_of(array: Array) -> int:
    """How long `to_raw` takes, in the sense of offload.py."""
    return array.size if array.dtype == object else array.nbytes // COPIED_BYTES

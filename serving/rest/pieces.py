"""Long JSON lists to arrays, a piece at a time.

What whole lists are converted with (`convert_at_once`) lets no other thread of Python's run meanwhile, and what finds
the first bad value (`collect`) takes a hundred times as long. So a long list is converted in pieces, all of them at
once but the one in which something is wrong: that one is gone through value by value, and nothing behind it is looked
at.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np

from .values import TensorType, collect, convert_at_once, to_array

PIECE_VALUES = 1 << 14
PIECE_ROWS = 256  # a bad one among them is found in milliseconds, whatever a row costs


def convert(value: Any, shape: tuple[int, ...], kind: TensorType, *, may_hold_booleans: bool) -> np.ndarray:
    """The array of this `shape` that `value` is.

    Args:
        value: from the JSON.
        shape: what `shape_of` found: every list has to be as long as the first one of its level.
        kind: the tensor's type.
        may_hold_booleans: whether the document has any.

    Raises: ServingError INVALID_ARGUMENT with TensorFlow Serving's text.
    """
    if num_values(shape) <= PIECE_VALUES:
        found = at_once(value, shape, kind, may_hold_booleans=may_hold_booleans)
        return _carefully([value], 0, shape, kind).reshape(shape) if found is None else found
    return join(_pieces(value, 0, shape, kind, may_hold_booleans)).reshape(shape)


def at_once(value: Any, shape: tuple[int, ...], kind: TensorType, *, may_hold_booleans: bool) -> np.ndarray | None:
    """The array, if `value` is of this `shape` and can be converted without looking at each part; None otherwise."""
    # No deeper than expected: what is deeper may be of any size.
    found = convert_at_once(value, replace(kind, max_depth=len(shape)), may_hold_booleans)
    return found if found is not None and found.shape == shape else None


def num_values(shape: Sequence[int]) -> int:
    """How many values there are in lists of this shape; an empty list counts as one."""
    return prod(max(1, size) for size in shape)


def join(arrays: Iterator[np.ndarray]) -> np.ndarray:
    """All of `arrays`, at least one, one behind the other."""
    first, *others = arrays
    return np.concatenate([first, *others]) if others else first


def release(value: Any, levels: int = 64) -> None:
    """Empty the lists in `value` bit by bit, however long they are: freed at once they would stop all other threads."""
    if levels == 0:
        return
    if isinstance(value, dict):
        for element in value.values():
            release(element, levels - 1)
    elif isinstance(value, list):
        if value and isinstance(value[0], list | dict):
            for element in value:
                release(element, levels - 1)
        while value:
            del value[-PIECE_VALUES:]


def _pieces(
    value: Any, level: int, shape: tuple[int, ...], kind: TensorType, may_hold_booleans: bool
) -> Iterator[np.ndarray]:
    """One-dimensional arrays of what lies below `value`, itself in `level` lists."""
    if not isinstance(value, list) or level >= len(shape) or len(value) != shape[level]:
        yield _carefully([value], level, shape, kind)  # it raises
        return
    inner = shape[level + 1 :]
    per_piece = min(PIECE_ROWS, PIECE_VALUES // num_values(inner))
    if not per_piece:
        for element in value:
            yield from _pieces(element, level + 1, shape, kind, may_hold_booleans)
        return
    for start in range(0, len(value), per_piece):
        piece = value[start : start + per_piece]
        found = at_once(piece, (len(piece), *inner), kind, may_hold_booleans=may_hold_booleans)
        yield _carefully(piece, level + 1, shape, kind) if found is None else found.ravel()


def _carefully(elements: Sequence[Any], level: int, shape: tuple[int, ...], kind: TensorType) -> np.ndarray:
    values: list[Any] = []
    for element in elements:
        collect(element, level, shape, kind, values)
    return to_array(values, kind)

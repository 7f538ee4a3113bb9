"""Rows of several requests in one run of the runtime, and back."""

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import failed_precondition
from ..model.saved_model import Function
from ..tensors import Array, num_bytes

# Inputs that are run together take this many bytes at most, padding included. A request may be larger than what it
# came in (see tensors.py), so that the number of rows alone would not bound what a run takes.
MAX_JOINT_BYTES = 256 << 20


@dataclass(slots=True)
class Task:
    """One request, or a part of a split one."""

    inputs: Sequence[Array]
    size: int  # rows
    answer: "asyncio.Future[list[Array]]"
    came_at: float


def groups(tasks: list[Task], *, pad: bool) -> list[list[Task]]:
    """Those of `tasks` that can be concatenated: inputs of the same shape but for the rows.

    Args:
        pad: make the shapes equal, where the ranks are and the padding is not too much.
    """
    if len(tasks) == 1:
        return [tasks]
    if not pad:
        return _of_equal_shapes(tasks)
    by_ranks: dict[tuple[int, ...], list[Task]] = {}
    for task in tasks:
        by_ranks.setdefault(tuple([array.ndim for array in task.inputs]), []).append(task)
    found: list[list[Task]] = []
    for group in by_ranks.values():
        found.extend([group] if _pad_to_equal_shapes(group) else _of_equal_shapes(group))
    return found


def run_together(function: Function, group: Sequence[Task], *, surplus: int) -> list[list[Array]]:
    """The outputs of each task of `group`, from one run.

    Args:
        surplus: rows to add, and to drop from the outputs again.

    Raises: ServingError if the outputs have not the rows of the inputs.
    """
    columns = [[task.inputs[index] for task in group] for index in range(len(group[0].inputs))]
    outputs = function([np.concatenate([*column, *[column[0][:1]] * surplus]) for column in columns])
    check_rows(outputs, sum(task.size for task in group) + surplus)
    answers: list[list[Array]] = []
    start = 0
    for task in group:
        answers.append([output[start : start + task.size] for output in outputs])
        start += task.size
    return answers


def check_rows(outputs: Sequence[Array], size: int) -> None:
    """Outputs must have the rows of the inputs, or they cannot be told apart."""
    for output in outputs:
        if not output.ndim:
            raise failed_precondition("Batched output tensor has 0 dimensions")
        if len(output) != size:
            raise failed_precondition(
                "Batched output tensor's 0th dimension does not equal the sum of the 0th dimension sizes of the "
                f"input tensors; {len(output)} is not {size}"
            )


def _of_equal_shapes(tasks: Sequence[Task]) -> list[list[Task]]:
    found: list[list[Task]] = []
    open_groups: dict[tuple[tuple[int, ...], ...], tuple[list[Task], int]] = {}
    for task in tasks:
        shapes = tuple([array.shape[1:] for array in task.inputs])
        size = sum(map(num_bytes, task.inputs))
        group, taken = open_groups.get(shapes, ([], 0))
        if not group or taken + size > MAX_JOINT_BYTES:
            group, taken = [], 0
            found.append(group)
        group.append(task)
        open_groups[shapes] = group, taken + size
    return found


def _pad_to_equal_shapes(tasks: Sequence[Task]) -> bool:
    """Bring the inputs of `tasks`, of the same ranks, to the largest shape among them, unless that is too much.

    The value that fills is the tensor's first element, as in TensorFlow Serving.
    """
    columns = zip(*[task.inputs for task in tasks], strict=True)
    shapes = [tuple(map(max, zip(*[array.shape[1:] for array in column], strict=True))) for column in columns]
    if sum(_padded_bytes(*pair) for task in tasks for pair in zip(task.inputs, shapes, strict=True)) > MAX_JOINT_BYTES:
        return False
    for task in tasks:
        task.inputs = [_pad(array, shape) for array, shape in zip(task.inputs, shapes, strict=True)]
    return True


def _padded_bytes(array: Array, shape: tuple[int, ...]) -> int:
    added = len(array) * math.prod(shape) - array.size
    return num_bytes(array) + added * num_bytes(array.flat[:1])


def _pad(array: Array, shape: tuple[int, ...]) -> Array:
    if array.shape[1:] == shape:
        return array
    fill = array.flat[0] if array.size else b"" if array.dtype == object else 0
    padded = np.full((len(array), *shape), fill, array.dtype)
    padded[(slice(None), *[slice(size) for size in array.shape[1:]])] = array
    return padded

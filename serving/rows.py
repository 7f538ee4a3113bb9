"""Rows of several requests in one run of the runtime, and back."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from serving.errors import failed_precondition
from serving.runtime import Function
from serving.tensors import Array


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
        pad: make the shapes equal, where the ranks are.
    """
    if len(tasks) == 1:
        return [tasks]
    if pad:
        return pad_to_equal_shapes(tasks)
    by_shape: dict[tuple[tuple[int, ...], ...], list[Task]] = {}
    for task in tasks:
        by_shape.setdefault(tuple([array.shape[1:] for array in task.inputs]), []).append(task)
    return list(by_shape.values())


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


def pad_to_equal_shapes(tasks: list[Task]) -> list[list[Task]]:
    """Bring the inputs of all tasks to the largest shape among them, where their ranks allow that.

    The value that fills is the tensor's first element, as in TensorFlow Serving.
    """
    by_rank: dict[tuple[int, ...], list[Task]] = {}
    for task in tasks:
        by_rank.setdefault(tuple([array.ndim for array in task.inputs]), []).append(task)
    for group in by_rank.values():
        for index in range(len(group[0].inputs)):
            shapes = [task.inputs[index].shape[1:] for task in group]
            largest = tuple(max(sizes) for sizes in zip(*shapes, strict=True))
            for task in group:
                task.inputs = [*task.inputs[:index], _pad(task.inputs[index], largest), *task.inputs[index + 1 :]]
    return list(by_rank.values())


def _pad(array: Array, shape: tuple[int, ...]) -> Array:
    if array.shape[1:] == shape:
        return array
    padded = np.full((len(array), *shape), array.flat[0] if array.size else 0, array.dtype)
    padded[(slice(None), *[slice(size) for size in array.shape[1:]])] = array
    return padded

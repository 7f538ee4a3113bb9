"""Put rows of several requests into one run of the runtime, and take them apart again."""

import asyncio
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ..arrays import Array, Function, num_bytes
from ..errors import failed_precondition
from ..monitoring.tracing import UNTRACED_QUEUED, Queued

# Inputs that are run together take at most this many bytes, padding included. A request may be larger than the message
# that brought it (see tensors.py), so the number of rows alone would not bound what a run takes.
MAX_JOINT_BYTES = 256 << 20


@dataclass(slots=True)
class Task:
    """One request, or a part of a split one."""

    inputs: Sequence[Array]
    num_rows: int  # 0: not known; then it is run alone
    result: "asyncio.Future[list[Array]]"
    came_at: float  # by time.perf_counter
    ends_at: float | None = None  # when nobody waits for it any more; None: never
    traced: Queued = UNTRACED_QUEUED


def groups(tasks: list[Task], *, pad: bool) -> list[list[Task]]:
    """`tasks` in groups that can be concatenated: inputs of the same shape but for the rows.

    Args:
        tasks: requests that wait together.
        pad: make shapes of equal rank equal, unless that takes too much padding.
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
    """Run the tasks of `group` at once.

    Args:
        function: runs the model.
        group: tasks whose inputs have equal shapes but for the first dimension, the rows.
        surplus: rows to add, copies of the first one, and to drop from the outputs again.

    Returns: for each task its outputs, [num_rows, ...] each.

    Raises: ServingError if the outputs do not have the inputs' number of rows.
    """
    columns = [[task.inputs[index] for task in group] for index in range(len(group[0].inputs))]
    outputs = function([np.concatenate([*column, *[column[0][:1]] * surplus]) for column in columns])
    check_rows(outputs, sum(task.num_rows for task in group) + surplus)
    results: list[list[Array]] = []
    start = 0
    for task in group:
        results.append([output[start : start + task.num_rows] for output in outputs])
        start += task.num_rows
    return results


def seconds_left(tasks: Sequence[Task]) -> float | None:
    """How long somebody waits still for one of `tasks`; None: for ever."""
    ends = [task.ends_at for task in tasks if not task.result.done()]
    if any(end is None for end in ends):
        return None
    return max((end for end in ends if end is not None), default=0.0) - time.perf_counter()


def check_rows(outputs: Sequence[Array], num_rows: int) -> None:
    """Refuse outputs whose first dimension is not `num_rows`: they cannot be told apart by request.

    Raises: ServingError FAILED_PRECONDITION with TensorFlow Serving's text.
    """
    for output in outputs:
        if not output.ndim:
            raise failed_precondition("Batched output tensor has 0 dimensions")
        if len(output) != num_rows:
            raise failed_precondition(
                "Batched output tensor's 0th dimension does not equal the sum of the 0th dimension sizes of the "
                f"input tensors; {len(output)} is not {num_rows}"
            )


def split(inputs: Sequence[Array], num_rows: int, limit: int) -> Iterator[Sequence[Array]]:
    """`inputs` of `num_rows` rows in parts of up to `limit` rows."""
    for start in range(0, num_rows, limit):
        yield [array[start : start + limit] for array in inputs]


def join(parts: Sequence[Sequence[Array]]) -> list[Array]:
    """The outputs of all `parts` as one: the way back from `split`."""
    return [np.concatenate(columns) for columns in zip(*parts, strict=True)]


def _of_equal_shapes(tasks: Sequence[Task]) -> list[list[Task]]:
    found: list[list[Task]] = []
    open_groups: dict[tuple[tuple[int, ...], ...], tuple[list[Task], int]] = {}
    for task in tasks:
        shapes = tuple([array.shape[1:] for array in task.inputs])
        task_bytes = sum(map(num_bytes, task.inputs))
        group, taken = open_groups.get(shapes, ([], 0))
        if not group or taken + task_bytes > MAX_JOINT_BYTES:
            group, taken = [], 0
            found.append(group)
        group.append(task)
        open_groups[shapes] = group, taken + task_bytes
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

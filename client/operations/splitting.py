"""Large batches are sent in parts, and the parts' outputs are joined in order."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import InvalidInput, InvalidResponse
from ..protocol import wire_pb2 as wire
from ..protocol.dtypes import name_of
from ..protocol.tensors import check_copied, to_array, to_tensor
from ..results import Outputs

Inputs = Mapping[str, ArrayLike | wire.TensorProto]


def as_arrays(inputs: Inputs) -> dict[str, NDArray[Any]]:
    """The inputs as arrays, each of its own dtype and shape, that can be cut along the first axis.

    Raises: InvalidInput if one is not an array.
    """
    arrays = {}
    for name, value in inputs.items():
        try:
            if isinstance(value, np.ndarray):
                arrays[name] = value
            else:
                arrays[name] = to_array(value if isinstance(value, wire.TensorProto) else to_tensor(value))
        except (InvalidResponse, InvalidInput) as error:
            raise InvalidInput(f"input {name!r}: {error.details}") from error
    return arrays


def num_rows(inputs: Inputs) -> int:
    """The length of the first axis of all inputs.

    Raises: InvalidInput if they do not share one.
    """
    if len(inputs) == 1:
        (only,) = inputs.values()
        if isinstance(only, np.ndarray) and only.ndim:
            return len(only)
    shapes = {name: _shape(value) for name, value in inputs.items()}
    rows = {shape[0] if shape else -1 for shape in shapes.values()}
    if len(rows) != 1 or rows == {-1}:
        described = ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items()) or "none"
        raise InvalidInput(f"inputs {described} are not a batch; expected the same first dimension for all")
    return rows.pop()


def _shape(value: ArrayLike | wire.TensorProto) -> tuple[int, ...]:
    if isinstance(value, wire.TensorProto):
        return tuple(dim.size for dim in value.tensor_shape.dim)
    return value.shape if isinstance(value, np.ndarray) else np.shape(value)


def plan_parts(inputs: Inputs, *, max_bytes: int, max_rows: int) -> list[slice]:
    """The parts of a batch: as few as the limits allow, and as equal as whole rows can be.

    Args:
        inputs: by name; all share the first axis, which is cut.
        max_bytes, max_rows: of one part.

    Raises: InvalidInput if the inputs are not a batch.
    """
    rows = num_rows(inputs)
    if rows <= 1:
        return [slice(0, rows)]
    row_bytes = sum(_num_bytes(value) for value in inputs.values()) / rows
    rows_per_part = max(1, min(max_rows, int(max_bytes // max(row_bytes, 1))))
    return _even(0, rows, rows_per_part)


def replan_parts(parts: Sequence[slice], *, max_rows: int) -> list[slice]:
    """The same rows in smaller parts."""
    return [small for part in parts for small in _even(part.start, part.stop, max_rows)]


def _even(start: int, stop: int, most: int) -> list[slice]:
    count = math.ceil((stop - start) / most)
    edges = [start + (stop - start) * index // count for index in range(count + 1)]
    return [slice(low, high) for low, high in zip(edges, edges[1:], strict=False)]


def _num_bytes(value: ArrayLike | wire.TensorProto) -> int:
    """Close to the size on the wire; exact for numbers in arrays."""
    if isinstance(value, wire.TensorProto):
        return value.ByteSize()
    array: Any = value
    if isinstance(array, np.ndarray) and array.dtype.kind not in "OSUT":
        return array.nbytes
    return to_tensor(value).ByteSize()


def take_rows(inputs: Inputs, arrays: Mapping[str, NDArray[Any]], part: slice) -> Inputs:
    """The rows `part` of every input, as views, not copies; a TensorProto stays one, of its own element type.

    Args:
        inputs: as the caller gave them.
        arrays: the same as `as_arrays` gives them.
    """
    return {
        name: to_tensor(arrays[name][part], name_of(value.dtype))
        if isinstance(value, wire.TensorProto)
        else arrays[name][part]
        for name, value in inputs.items()
    }


def join_parts(results: Sequence[Outputs], rows: Sequence[int]) -> Outputs:
    """The parts' outputs as those of the whole batch.

    Args:
        results: of the parts, in order.
        rows: the number of rows of each part.

    Raises: InvalidResponse if an output does not have its part's number of rows, or would be large by repetition.
    """
    first = results[0]
    joined = {}
    for name in first:
        pieces = [result[name] for result in results if name in result]
        lengths = [piece.shape[0] if piece.ndim else None for piece in pieces]
        if lengths != list(rows):
            raise InvalidResponse(
                f"output {name!r} is not a batch: its parts for {list(rows)[:3]}... rows have the shapes "
                f"{[list(piece.shape) for piece in pieces[:3]]}...; call run() with batched=False"
            )
        check_copied(name, pieces)
        joined[name] = np.concatenate(pieces)
    outputs = Outputs(model_name=first.model_name, version=first.version, signature=first.signature)
    outputs.update(joined)
    return outputs

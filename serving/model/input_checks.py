"""Check a request's inputs against a signature before anything runs.

TensorFlow Serving has no such check, and TensorFlow does not forgive its absence: a convolution that gets an input of
the wrong rank ends the process, by a failed CHECK in oneDNN's layout code
(https://github.com/tensorflow/tensorflow/issues/111453).

Names and dtypes are held to here, and ranks where a signature leaves them open. A shape that the signature does not
announce is no error by itself: unannounced_shapes.py decides about those.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

import numpy as np
from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef, TensorInfo

from ..arrays import Array
from ..errors import ServingError, invalid_argument
from ..tensors import MAX_RANK, dtype_name, number_of, numpy_dtype, to_array

MAX_SHOWN = 100  # names of inputs that an error repeats


@dataclass(frozen=True, slots=True)
class InputSpec:
    """What a signature says of one input."""

    alias: str
    tensor_name: str
    dtype_number: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...] | None  # -1: any size; None: any rank
    default: Array | None  # taken where a request leaves the input out
    ranks: frozenset[int] | None = None  # where any rank is announced: those that the graph can take

    @classmethod
    def of(
        cls, alias: str, info: TensorInfo, signature: SignatureDef, *, graph_dtype: int | None = None
    ) -> "InputSpec":
        """The spec of the input `alias`.

        Args:
            alias: the input's name in requests.
            info: what `signature` says of it.
            signature: the signature.
            graph_dtype: the tensor's dtype in the graph, TensorFlow's number. It is what the runtime goes by; old
                exports write none into the signature, or another one.

        Raises: ServingError if requests cannot carry such a tensor.
        """
        number = graph_dtype or info.dtype
        default = to_array(alias, signature.defaults[alias]) if alias in signature.defaults else None
        return cls(alias, info.name, number, numpy_dtype(number), announced_shape(info), default)


def announced_shape(info: TensorInfo) -> tuple[int, ...] | None:
    """The shape in `info`, -1 for any size; None for any rank, which is also what no shape at all means."""
    if not info.HasField("tensor_shape") or info.tensor_shape.unknown_rank:
        return None
    return tuple(dim.size for dim in info.tensor_shape.dim)


def check(specs: Sequence[InputSpec], inputs: Mapping[str, Array]) -> list[Array]:
    """Hold a request's inputs against their specs, but for the shapes that these announce.

    Args:
        specs: the signature's inputs.
        inputs: arrays by alias; strings as object arrays of bytes.

    Returns: the arrays in the order of `specs`, defaults in place of those that are left out.

    Raises: ServingError INVALID_ARGUMENT with TensorFlow Serving's text where it has one.
    """
    check_names(specs, inputs)
    arrays = []
    for index, spec in enumerate(specs):
        array = inputs.get(spec.alias, spec.default)
        assert array is not None, spec.alias
        if array.dtype != spec.dtype:
            raise _wrong_dtype(index, spec, array)
        if array.ndim > MAX_RANK:
            raise invalid_argument(f"Input {spec.alias} has rank {array.ndim}, which is too high; at most {MAX_RANK}")
        if spec.ranks is not None and array.ndim not in spec.ranks:
            raise wrong_shape(spec, array.shape)
        arrays.append(array)
    return arrays


def wrong_shape(spec: InputSpec, shape: tuple[int, ...]) -> ServingError:
    """The refusal of an array for its shape."""
    if spec.shape is not None:
        expected = str(list(spec.shape))
    else:
        expected = f"rank {' or '.join(map(str, sorted(spec.ranks or ())))}"
    return invalid_argument(f"Input {spec.alias} has the wrong shape: expected {expected}, got {list(shape)}")


def fits(shape: tuple[int, ...], expected: tuple[int, ...]) -> bool:
    """Whether `shape` is one that `expected`, with -1 for any size, allows."""
    if len(shape) != len(expected):
        return False
    return all(allowed in (-1, size) for size, allowed in zip(shape, expected, strict=True))


def check_names(specs: Sequence[InputSpec], inputs: Mapping[str, Any]) -> None:
    """Hold the names of a request's inputs against the signature's.

    Raises: ServingError INVALID_ARGUMENT with TensorFlow Serving's text.
    """
    if len(inputs) != len(specs) or any(spec.alias not in inputs for spec in specs):
        _check_names(specs, inputs)


def common_rows(arrays: Sequence[Array]) -> int | None:
    """The size of the first dimension, if all arrays have the same; None otherwise."""
    if not arrays or not arrays[0].ndim:
        return None
    num_rows = len(arrays[0])
    return num_rows if all(array.ndim and len(array) == num_rows for array in arrays) else None


def _check_names(specs: Sequence[InputSpec], inputs: Mapping[str, Any]) -> None:
    num_inputs = len(inputs)
    # A caller may send hundreds of thousands.
    inputs = {alias: None for alias in chain(islice(inputs, MAX_SHOWN), (s.alias for s in specs)) if alias in inputs}
    expected = {spec.alias: spec for spec in specs}
    optional = {spec.alias for spec in specs if spec.default is not None}
    extra = sorted(set(inputs) - set(expected))
    missing = sorted(set(expected) - set(inputs) - optional)
    if not len(expected) - len(optional) <= num_inputs <= len(expected):
        raise invalid_argument(
            f"input size does not match signature: {num_inputs}!={len(expected)} len({{{','.join(sorted(inputs))}}}) "
            f"!= len({{{','.join(sorted(expected))}}}). Sent extra: {{{','.join(extra)}}}. "
            f"Missing but required: {{{','.join(missing)}}}."
        )
    if missing:
        spec = expected[missing[0]]
        raise invalid_argument(
            f"Signature input alias: {spec.alias}(feed name: {spec.tensor_name}) not found in request and no default "
            f"value provided. Inputs expected to be in the request {{{','.join(sorted(inputs))}}}, "
            f"or default input alias set: {','.join(sorted(optional))}"
        )
    if extra:
        raise invalid_argument(
            f"Inputs contains invalid name. Used request inputs: {','.join(sorted(set(inputs) & set(expected)))}, "
            f"request input: {','.join(sorted(inputs))}"
        )


def _wrong_dtype(index: int, spec: InputSpec, array: Array) -> ServingError:
    return invalid_argument(
        f"Expects arg[{index}] to be {dtype_name(spec.dtype_number)} but {dtype_name(number_of(array.dtype))} "
        f"is provided (input {spec.alias})"
    )

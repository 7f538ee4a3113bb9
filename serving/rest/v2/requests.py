"""The body of an inference request: a JSON object and, behind it, the binary data of inputs that have none in it.

A member that is null is one that is not there: clients made of types, MLServer's say, write them all.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...arrays import Array
from ...errors import invalid_argument
from ...tensors import number_of
from ...v2 import contents
from ...v2.datatypes import numpy_dtype
from ...v2.service import check_parameters, is_text
from ..long_json import parse_long_object
from ..rapidjson import Document, value_text
from ..tensors import to_tensor
from ..values import TensorType

LENGTH_HEADER = "Inference-Header-Content-Length"
MAX_DIGITS = 19  # of a length


@dataclass(frozen=True, slots=True)
class RequestedOutput:
    """An output that is asked for."""

    name: str
    is_binary: bool


@dataclass(frozen=True, slots=True)
class InferRequest:
    """A request whose tensors are not converted yet."""

    document: Document
    binary: memoryview  # what lies behind the JSON
    request_id: str
    parameters: Mapping[str, Any]
    inputs: list[Any]
    outputs: list[RequestedOutput]
    outputs_are_binary: bool = field(default=False)  # those that are not asked for by name

    def is_binary(self, name: str) -> bool:
        """Whether the output `name` goes as binary data."""
        return next((output.is_binary for output in self.outputs if output.name == name), self.outputs_are_binary)


def json_length(text: str | None) -> int | None:
    """How many bytes of a body are JSON; None: all.

    Args:
        text: of the header Inference-Header-Content-Length, if there is one.

    Raises: ServingError INVALID_ARGUMENT.
    """
    if text is None:
        return None
    if not text.isascii() or not text.isdecimal() or len(text) > MAX_DIGITS:
        raise invalid_argument(f"{LENGTH_HEADER} is '{text[:40]}'; expected the length of the JSON, in bytes")
    return int(text)


def parse(body: bytes, length: int | None) -> InferRequest:
    """The request that `body` is, of which the first `length` bytes are JSON; None: all.

    Raises: ServingError INVALID_ARGUMENT.
    """
    length = len(body) if length is None else length
    if length > len(body):
        raise invalid_argument(f"{LENGTH_HEADER} is {length}, but the body has {len(body)} bytes")
    document = parse_long_object(body if length == len(body) else body[:length])
    members = document.members
    parameters = _parameters(members)
    are_binary = _flag(parameters, "binary_data_output", default=False)
    if members.get("inputs") is None:
        raise invalid_argument("Unable to parse 'inputs': expected a list with an object for each input")
    return InferRequest(
        document,
        memoryview(body)[length:],
        _text(members, "id") if members.get("id") is not None else "",
        parameters,
        _list(members, "inputs"),
        [_requested(output, default=are_binary) for output in _list(members, "outputs")],
        are_binary,
    )


def _requested(value: Any, *, default: bool) -> RequestedOutput:
    output = _object(value, "outputs")
    name, parameters = _text(output, "name"), _parameters(output)
    check_parameters("output", name, parameters)
    return RequestedOutput(name, _flag(parameters, "binary_data", default=default))


def tensors(request: InferRequest, *, model_name: str, max_depth: int) -> dict[str, Array]:
    """The inputs of `request` by name.

    Args:
        request: as it was parsed.
        model_name: for error texts.
        max_depth: the deepest nesting of lists that is followed.

    Raises: ServingError INVALID_ARGUMENT if one of them is no tensor.
    """
    arrays: dict[str, Array] = {}
    start = 0
    for value in request.inputs:
        tensor = _object(value, "inputs")
        name, parameters = _text(tensor, "name"), _parameters(tensor)
        if name in arrays:
            raise invalid_argument(f"input '{name}' is given more than once")
        check_parameters("input", name, parameters)
        dtype, shape = numpy_dtype(name, _text(tensor, "datatype")), _shape(name, tensor)
        if parameters.get("binary_data_size") is not None:
            end = start + _binary_size(name, tensor, parameters["binary_data_size"], len(request.binary) - start)
            arrays[name] = contents.from_raw(name, shape, dtype, request.binary[start:end])
            start = end
        else:
            arrays[name] = _from_json(request.document, name, shape, dtype, tensor, max_depth)
    if start != len(request.binary):
        raise invalid_argument(
            f"unexpected additional input data for model '{model_name}': {len(request.binary) - start} bytes"
        )
    return arrays


def _binary_size(name: str, tensor: Mapping[str, Any], size: Any, left: int) -> int:
    if tensor.get("data") is not None:
        raise invalid_argument(f"input '{name}' has both 'data' and 'binary_data_size'; send one of them")
    if not _is_integer(size) or size < 0:
        raise invalid_argument(f"Unable to parse 'binary_data_size' of input '{name}': expected a number of bytes")
    if size > left:
        raise invalid_argument(
            f"input '{name}' claims {size} bytes of binary data, but {left} are left; the header {LENGTH_HEADER} "
            "must be the length of the JSON before it"
        )
    return int(size)


def _from_json(
    document: Document, name: str, shape: tuple[int, ...], dtype: np.dtype[Any], tensor: Mapping[str, Any], depth: int
) -> Array:
    size = contents.num_elements(name, shape, dtype)
    data = tensor.get("data")
    if not isinstance(data, list):
        raise invalid_argument(f"Unable to parse 'data' of input '{name}': expected a list, or binary data")
    array = to_tensor(document, data, TensorType(number_of(dtype), depth))
    if array.size != size or (array.shape != shape and array.ndim != 1):
        raise invalid_argument(
            f"input '{name}' has data of shape {list(array.shape)}; expected {list(shape)}, or a flat list of {size}"
        )
    return array.reshape(shape)


def _shape(name: str, tensor: Mapping[str, Any]) -> tuple[int, ...]:
    shape = tensor.get("shape")
    if not isinstance(shape, list) or not all(_is_integer(size) for size in shape):
        raise invalid_argument(f"Unable to parse 'shape' of input '{name}': expected a list of integers")
    return tuple(shape)


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _object(value: Any, of: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise invalid_argument(f"Unable to parse '{of}': expected objects, got {value_text(value)}")
    return value


def _list(members: Mapping[str, Any], name: str) -> list[Any]:
    value = [] if members.get(name) is None else members[name]
    if not isinstance(value, list):
        raise invalid_argument(f"Unable to parse '{name}': expected a list of objects")
    return value


def _text(members: Mapping[str, Any], name: str) -> str:
    value = members.get(name)
    if not isinstance(value, str) or not is_text(value):
        raise invalid_argument(f"Unable to parse '{name}': expected a string")
    return value


def _parameters(members: Mapping[str, Any]) -> dict[str, Any]:
    value = {} if members.get("parameters") is None else members["parameters"]
    if not isinstance(value, dict):
        raise invalid_argument("Unable to parse 'parameters': expected an object")
    return value


def _flag(parameters: Mapping[str, Any], name: str, *, default: bool) -> bool:
    value = default if parameters.get(name) is None else parameters[name]
    if not isinstance(value, bool):
        raise invalid_argument(f"Unable to parse '{name}': expected true or false")
    return value

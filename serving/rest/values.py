"""JSON values as array elements: what nested lists hold becomes one array of a tensor's type.

`convert_at_once` flattens lists level by level and converts the numbers together, and gives up on anything it cannot
vouch for. `shape_of` and `collect` go element by element, and raise TensorFlow Serving's error for the first bad one.
"""

import binascii
from array import array
from dataclasses import dataclass
from itertools import chain
from typing import Any

import ml_dtypes
import numpy as np
from tensorflow.core.framework import types_pb2

from ..errors import ServingError, invalid_argument, unimplemented
from .rapidjson import format_error, type_name, value_text

WHITESPACE = b" \t\n\v\f\r"
INTEGERS: dict[int, np.dtype[Any]] = {
    types_pb2.DT_INT8: np.dtype(np.int8),
    types_pb2.DT_INT16: np.dtype(np.int16),
    types_pb2.DT_INT32: np.dtype(np.int32),
    types_pb2.DT_INT64: np.dtype(np.int64),
    types_pb2.DT_UINT8: np.dtype(np.uint8),
    types_pb2.DT_UINT16: np.dtype(np.uint16),
    types_pb2.DT_UINT32: np.dtype(np.uint32),
    types_pb2.DT_UINT64: np.dtype(np.uint64),
}
FLOATS: dict[int, np.dtype[Any]] = {
    types_pb2.DT_HALF: np.dtype(np.float16),
    types_pb2.DT_BFLOAT16: np.dtype(ml_dtypes.bfloat16),
    types_pb2.DT_FLOAT: np.dtype(np.float32),
    types_pb2.DT_DOUBLE: np.dtype(np.float64),
}


@dataclass(frozen=True, slots=True)
class TensorType:
    """How one input's JSON values become array elements."""

    dtype: int  # of tensorflow.DataType
    max_depth: int  # lists in lists that are followed

    @property
    def name(self) -> str:
        """TensorFlow's word for the type: float, int64, string."""
        return str(types_pb2.DataType.Name(self.dtype)).removeprefix("DT_").lower()


def shape_of(value: Any, kind: TensorType) -> tuple[int, ...]:
    """The shape that the first element of each list gives, () for a plain value.

    Raises: ServingError if lists are nested deeper than the type allows.
    """
    shape: list[int] = []
    while isinstance(value, list):
        if len(shape) == kind.max_depth:
            raise invalid_argument("JSON lists are nested deeper than --rest_api_max_json_depth allows")
        shape.append(len(value))
        if not value:
            break
        value = value[0]
    return tuple(shape)


def collect(value: Any, level: int, shape: tuple[int, ...], kind: TensorType, values: list[Any]) -> None:
    """Append the elements below `value` to `values`.

    Args:
        value: from the JSON.
        level: how many lists it lies in.
        shape: what `shape_of` found: every list has to be as long as the first one of its level.
        kind: the tensor's type.
        values: the elements so far, in row-major order.

    Raises: ServingError INVALID_ARGUMENT with TensorFlow Serving's text.
    """
    if not isinstance(value, list):
        if level != len(shape):
            raise invalid_argument(
                f"JSON Value: {value_text(value)} found at incorrect level: {level + 1} in the JSON DOM. "
                f"Expected at level: {len(shape)}"
            )
        values.append(_element(value, kind))
        return
    if level >= len(shape):
        raise invalid_argument(f"Encountered list at unexpected level: {level} expected < {len(shape)}")
    if len(value) != shape[level]:
        raise invalid_argument(
            f"Encountered list at unexpected size: {len(value)} at level: {level} expected size: {shape[level]}"
        )
    for element in value:
        collect(element, level + 1, shape, kind, values)


def _element(value: Any, kind: TensorType) -> Any:
    """`value` if it is one of `kind`, strings as bytes.

    Raises: ServingError.
    """
    if isinstance(value, dict):
        if kind.dtype != types_pb2.DT_STRING:
            raise _type_error(value, kind)
        return decode_base64(value)
    if kind.dtype == types_pb2.DT_STRING:
        if not isinstance(value, str):
            raise _type_error(value, kind)
        return encode_text(value)
    if kind.dtype == types_pb2.DT_BOOL:
        if not isinstance(value, bool):
            raise _type_error(value, kind)
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        _check_known(value, kind)
        raise _type_error(value, kind)
    if kind.dtype in INTEGERS:
        limits = np.iinfo(INTEGERS[kind.dtype])
        if not isinstance(value, int) or not limits.min <= value <= limits.max:
            raise _type_error(value, kind)
        return value
    _check_known(value, kind)
    return value


def _check_known(value: Any, kind: TensorType) -> None:
    if kind.dtype not in INTEGERS and kind.dtype not in FLOATS:
        raise unimplemented(f"Conversion of JSON Value: {value_text(value)} to type: {kind.name}")


def _type_error(value: Any, kind: TensorType) -> ServingError:
    return invalid_argument(
        f"JSON Value: {value_text(value)} Type: {type_name(value)} is not of expected type: {kind.name}"
    )


def convert_at_once(value: Any, kind: TensorType, may_hold_booleans: bool) -> np.ndarray | None:
    """Convert nested lists to an array, whole lists at a time.

    Args:
        value: from the JSON.
        kind: the tensor's type.
        may_hold_booleans: whether the document has any; `array` would take `true` for a 1.

    Returns: an array of the lists' shape; None if it has to be converted with care, or cannot be.
    """
    flat = _flatten(value, kind.max_depth)
    if flat is None:
        return None
    shape, values = flat
    if kind.dtype == types_pb2.DT_STRING:
        converted = _strings(values)
    elif kind.dtype == types_pb2.DT_BOOL:
        converted = np.array(values, np.bool_) if set(map(type, values)) <= {bool} else None
    elif may_hold_booleans and bool in set(map(type, values)):
        converted = None
    elif kind.dtype in INTEGERS:
        converted = _integers(values, INTEGERS[kind.dtype])
    elif kind.dtype in FLOATS:
        converted = _floats(values, FLOATS[kind.dtype])
    else:
        converted = None
    return None if converted is None else converted.reshape(shape)


def _flatten(value: Any, max_depth: int) -> tuple[tuple[int, ...], list[Any]] | None:
    """The shape and the elements of regularly nested lists."""
    if type(value) is not list:
        return (), [value]
    shape = [len(value)]
    while value and type(value[0]) is list:
        size = len(value[0])
        if len(shape) == max_depth or set(map(type, value)) != {list} or set(map(len, value)) != {size}:
            return None
        shape.append(size)
        value = list(chain.from_iterable(value))
    return tuple(shape), value


def _integers(values: list[Any], dtype: np.dtype) -> np.ndarray | None:
    try:
        if dtype == np.uint8:
            return np.frombuffer(bytes(values), np.uint8)
        wide = np.frombuffer(
            array("Q" if dtype == np.uint64 else "q", values), np.uint64 if dtype == np.uint64 else np.int64
        )
    except (TypeError, ValueError, OverflowError):
        return None
    limits = np.iinfo(dtype)
    if wide.size and (wide.min() < limits.min or wide.max() > limits.max):
        return None
    return wide.astype(dtype, copy=False)


def _floats(values: list[Any], dtype: np.dtype) -> np.ndarray | None:
    try:
        wide = np.frombuffer(array("d", values), np.float64)
    except (TypeError, OverflowError):
        return None
    return _narrowed(wide, dtype)


def _narrowed(wide: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Doubles as `dtype`, as C converts them: rounded, and infinite where they are too large."""
    with np.errstate(over="ignore"):
        return wide.astype(dtype, copy=False)


def _strings(values: list[Any]) -> np.ndarray | None:
    if not set(map(type, values)) <= {str, dict}:
        return None
    try:
        return _object_array([decode_base64(value) if type(value) is dict else encode_text(value) for value in values])
    except ServingError:
        return None


def _object_array(values: list[Any]) -> np.ndarray:
    objects = np.empty(len(values), np.object_)
    objects[:] = values
    return objects


def to_array(values: list[Any], kind: TensorType) -> np.ndarray:
    """A one-dimensional array of elements that `collect` has let pass."""
    if kind.dtype == types_pb2.DT_STRING:
        return _object_array(values)
    if kind.dtype == types_pb2.DT_BOOL:
        return np.array(values, np.bool_)
    if kind.dtype in INTEGERS:
        return np.array(values, INTEGERS[kind.dtype])
    if kind.dtype in FLOATS:
        return _narrowed(np.array(values, np.float64), FLOATS[kind.dtype])
    raise unimplemented(f"Conversion of JSON values to type: {kind.name}")


def encode_text(text: str) -> bytes:
    """The bytes of a JSON string; those that were not UTF-8 come out as they came in.

    Raises: ServingError.
    """
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise invalid_argument("JSON Parse error: The surrogate pair in string is invalid.") from None


def is_base64(value: Any) -> bool:
    """Whether `value` is `{"b64": "<text>"}`, the way bytes are written in JSON."""
    return isinstance(value, dict) and len(value) == 1 and isinstance(value.get("b64"), str)


def decode_base64(value: dict[str, Any]) -> bytes:
    """The bytes that `{"b64": "<text>"}` stands for; blanks in the text and missing padding are fine.

    Raises: ServingError.
    """
    if not is_base64(value):
        raise format_error(value, "not formatted correctly for base64 data")
    text = value["b64"].encode("utf-8", "surrogatepass").translate(None, WHITESPACE)
    data = text.rstrip(b"=")
    padding = len(text) - len(data)
    if padding not in (0, -len(data) % 4) or len(data) % 4 == 1:
        raise invalid_argument("Unable to base64 decode")
    try:
        return binascii.a2b_base64(data + b"=" * (-len(data) % 4), strict_mode=True)
    except binascii.Error:
        raise invalid_argument("Unable to base64 decode") from None

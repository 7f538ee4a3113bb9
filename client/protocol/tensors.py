"""numpy arrays to TensorProto and back.

Out, elements go as `tensor_content`, raw bytes in row-major, little-endian order, whatever the array's own layout is;
strings go as `string_val`, the only form that all servers read. In, every form is read: raw bytes, the typed lists, and
lists that are shorter than the tensor, whose last value stands for the rest.

A message owns its bytes, so filling one copies once. An array that was read is a view of the bytes that protobuf gave
out, read-only, wherever their form allows it: `.copy()` makes one to write to.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import InvalidInput, InvalidResponse
from . import wire_pb2 as wire
from .dtypes import FLOAT8, STRING, is_floating, ml_dtypes, name_of, number_of, of_array, to_numpy

Array = NDArray[Any]
TensorProto = wire.TensorProto

# A list may stand for a tensor far larger than the message that carries it. Nothing larger than a message can be is
# believed (protobuf's own limit).
MAX_TENSOR_BYTES = (1 << 31) - 1

# Of a tensor that its message does not hold whole: the last of its values stands for the rest. A message that claims
# more would cost the reader what it did not cost the sender. As many as the largest message holds by default.
MAX_REPEATED_BYTES = 1 << 26

MAX_RANK = 64 if int(np.__version__.partition(".")[0]) >= 2 else 32  # NumPy's own limit

POINTER_BYTES = 8  # what an element of an object array takes
FEW = 32  # up to here, making a Python object of each number is quicker than not making it

_BITS = np.dtype("<u2")  # of a half or bfloat16


def to_tensor(value: ArrayLike | TensorProto, dtype: str | None = None) -> TensorProto:
    """The tensor that holds `value`.

    Args:
        value: an array of any dtype, rank and memory layout, a number, a string, bytes, or nested lists of one of them.
            Python's floats become float32 and its integers int32 (int64 where they need it), as in TensorFlow; arrays
            keep their dtype.
        dtype: the element type to convert to, such as "float32", "bfloat16", "qint8", "string".

    Returns: a tensor of the value's shape.

    Raises: InvalidInput if the value is not an array, or the element type cannot hold it.
    """
    tensor = TensorProto()
    fill(tensor, value, dtype)
    return tensor


def fill(tensor: TensorProto, value: ArrayLike | TensorProto, dtype: str | None = None) -> None:
    """As `to_tensor`, into an existing message, such as an entry of a request's map: saves a copy."""
    if isinstance(value, TensorProto):
        tensor.CopyFrom(value)
        return
    array: Array = value if isinstance(value, np.ndarray) else _as_array(value)
    number = of_array(array.dtype) if dtype is None else number_of(dtype)
    tensor.dtype = number
    tensor.tensor_shape.CopyFrom(_shape(array.shape))  # also where it has no dimensions: a scalar's shape is known
    if number == STRING:
        tensor.string_val.extend([_encode(item) for item in array.ravel().tolist()])
    else:
        tensor.tensor_content = content_of(array, number)


def _as_array(value: Any) -> Array:
    """Python's values as TensorFlow takes them, and anything else that numpy knows as the array that it is."""
    try:
        array = np.asarray(value)
    except ValueError as error:  # "inhomogeneous shape"
        raise InvalidInput(f"the value is not an array: {error}") from error
    if not _is_plain(value):
        return array
    if array.dtype.kind in "SU":
        return np.array(value, dtype=object)  # numpy's own strings lose trailing NUL bytes
    if array.dtype == np.float64:
        return array.astype(np.float32)
    if array.dtype == np.int64 and array.min() >= -(2**31) and array.max() < 2**31:
        return array.astype(np.int32)
    return array


def _is_plain(value: Any) -> bool:
    """Whether it is a number, a text, or a list of those, none of which has a dtype of its own."""
    if isinstance(value, np.generic):
        return False
    while isinstance(value, list | tuple) and value:
        value = value[0]
    return isinstance(value, int | float | complex | str | bytes | list | tuple | np.generic)


@functools.lru_cache(maxsize=256)
def _shape(shape: tuple[int, ...]) -> wire.TensorShapeProto:
    return wire.TensorShapeProto(dim=[wire.TensorShapeProto.Dim(size=size) for size in shape])


def _encode(item: Any) -> bytes:
    if isinstance(item, bytes):
        return item
    if isinstance(item, str):
        try:
            return item.encode()
        except UnicodeEncodeError as error:
            raise InvalidInput(f"{item!r} cannot be sent: not valid Unicode ({error.reason})") from error
    raise InvalidInput(f"an array of objects holds {item!r} ({type(item).__name__}); expected only str and bytes in it")


def content_of(array: Array, number: wire.DataType) -> bytes:
    """The bytes that a tensor of type `number` carries for `array`: row-major, little-endian.

    Raises: InvalidInput if that type cannot hold the values.
    """
    return _elements(array, number).tobytes()


def _elements(array: Array, number: wire.DataType) -> Array:
    """The array in the wire's dtype. Raises: InvalidInput if that would change values, as 1.5 or 300 in uint8."""
    if number == wire.DT_BFLOAT16 and array.dtype.kind in "fiu":
        return _bfloat16_bits(array)
    dtype = to_numpy(number)
    if array.dtype == dtype:
        return array
    if array.dtype.kind in "iu" and not is_floating(number):
        converted = array.astype(dtype)
        same_sign = (converted < dtype.type(0)) == (array < 0)
        possible = bool((same_sign & (converted.astype(array.dtype) == array)).all())
    else:
        possible = np.can_cast(array.dtype, dtype, "same_kind") or (array.dtype.kind in "fiu" and is_floating(number))
        converted = array.astype(dtype) if possible else array
    if not possible:
        raise InvalidInput(
            f"values of dtype {array.dtype} cannot be sent as {name_of(number)} without changing them; "
            "convert them with .astype(...) if that is meant"
        )
    return converted


def _bfloat16_bits(array: Array) -> Array:
    """Upper half of float32, rounded to nearest, ties to even; NaN stays NaN."""
    bits = array.astype("<f4").view("<u4")
    rounded = ((bits + (0x7FFF + ((bits >> 16) & 1))) >> 16).astype("<u2")
    return np.where(np.isnan(array), np.uint16(0x7FC0), rounded).astype("<u2")


def to_array(tensor: TensorProto) -> Array:
    """The array that `tensor` holds.

    Returns: an array of the tensor's shape and element type, a read-only view wherever the tensor's form allows;
        strings become an object array of bytes.

    Raises: InvalidResponse if the tensor is incomplete, or of a type that no installed dtype holds.
    """
    number = tensor.dtype
    shape, size, dtype, read_list = _form(number, tensor.tensor_shape.SerializeToString())
    if read_list is None:
        return _strings(tensor, shape, size)
    content = tensor.tensor_content
    if content:
        array = _from_content(content, number, dtype, shape, size)
        return _bfloat16(array) if number == wire.DT_BFLOAT16 else array
    array = read_list(tensor, dtype)
    if number == wire.DT_BFLOAT16:  # before it is expanded, as this may copy
        array = _bfloat16(array)
    return array.reshape(shape) if len(array) == size else _expand(array, shape, size)


@functools.lru_cache(maxsize=1024)
def _form(
    number: wire.DataType, shape_proto: bytes
) -> "tuple[tuple[int, ...], int, np.dtype[Any], _ListReader | None]":
    """How to read a tensor of this type and serialized TensorShapeProto; cached, as the same ones come again and again.

    Returns: its shape, its number of elements, their dtype (bits for bfloat16), and what reads the typed list that
        holds them; None for strings.
    """
    shape, size = _read_shape(shape_proto)
    if number == STRING:
        return shape, size, np.dtype(object), None
    try:
        dtype = _BITS if number == wire.DT_BFLOAT16 else to_numpy(number)
    except InvalidInput as error:
        raise InvalidResponse(error.details) from error
    if _extent(shape) * dtype.itemsize > MAX_TENSOR_BYTES:
        raise InvalidResponse(f"a tensor claims to be {name_of(number)} {list(shape)}: more than a message can hold")
    return shape, size, dtype, _LISTS.get(number, _int_list)


def _read_shape(data: bytes) -> tuple[tuple[int, ...], int]:
    proto = wire.TensorShapeProto.FromString(data)
    shape = tuple(dim.size for dim in proto.dim)
    if proto.unknown_rank or any(size < 0 for size in shape):
        known = "unknown" if proto.unknown_rank else list(shape)
        raise InvalidResponse(f"a tensor has the shape {known}; expected a fully known one")
    if len(shape) > MAX_RANK:
        raise InvalidResponse(f"a tensor has {len(shape):,} dimensions; expected {MAX_RANK} at most, as NumPy holds")
    return shape, math.prod(shape)


def _extent(shape: tuple[int, ...]) -> int:
    """Its number of elements, were no dimension 0: NumPy refuses one that is too large even if there are none."""
    return math.prod(size for size in shape if size)


def _from_content(
    content: bytes, number: wire.DataType, dtype: np.dtype[Any], shape: tuple[int, ...], size: int
) -> Array:
    if len(content) != size * dtype.itemsize:
        raise InvalidResponse(
            f"a tensor of {name_of(number)} {list(shape)} has {len(content)} bytes of content; "
            f"expected {size * dtype.itemsize}"
        )
    if number == wire.DT_BOOL:  # a byte of 2 would be neither True nor False to numpy
        return (np.frombuffer(content, np.uint8) != 0).reshape(shape)
    return np.frombuffer(content, dtype).reshape(shape)


def _float_list(tensor: TensorProto, dtype: np.dtype[Any]) -> Array:
    values = tensor.float_val
    if len(values) <= FEW:
        return np.fromiter(values, dtype, len(values))
    return _packed(TensorProto(float_val=values), len(values), dtype)


def _half_list(tensor: TensorProto, dtype: np.dtype[Any]) -> Array:
    return np.fromiter(tensor.half_val, np.int64, len(tensor.half_val)).astype(_BITS).view(dtype)


def _int_list(tensor: TensorProto, dtype: np.dtype[Any]) -> Array:
    """Of all integers that have no list of their own."""
    return np.fromiter(tensor.int_val, np.int64, len(tensor.int_val)).astype(dtype)


def _float8_list(tensor: TensorProto, dtype: np.dtype[Any]) -> Array:
    return np.frombuffer(tensor.float8_val, dtype)


def _packed(alone: TensorProto, count: int, dtype: np.dtype[Any]) -> Array:
    """The values of a message with nothing in it but one list of fixed-size numbers, without a Python object for each.

    Such a message is a tag, a length and then the array's very bytes.
    """
    data = alone.SerializeToString()
    return np.frombuffer(data, dtype, count, len(data) - count * dtype.itemsize)


_ListReader = Callable[[TensorProto, np.dtype[Any]], Array]
_LISTS: dict[wire.DataType, _ListReader] = {
    wire.DT_FLOAT: _float_list,
    wire.DT_DOUBLE: lambda t, dtype: _packed(TensorProto(double_val=t.double_val), len(t.double_val), dtype),
    wire.DT_COMPLEX64: lambda t, dtype: _packed(
        TensorProto(scomplex_val=t.scomplex_val), len(t.scomplex_val) // 2, dtype
    ),
    wire.DT_COMPLEX128: lambda t, dtype: _packed(
        TensorProto(dcomplex_val=t.dcomplex_val), len(t.dcomplex_val) // 2, dtype
    ),
    wire.DT_INT64: lambda t, dtype: np.fromiter(t.int64_val, dtype, len(t.int64_val)),
    wire.DT_UINT32: lambda t, dtype: np.fromiter(t.uint32_val, dtype, len(t.uint32_val)),
    wire.DT_UINT64: lambda t, dtype: np.fromiter(t.uint64_val, dtype, len(t.uint64_val)),
    wire.DT_BOOL: lambda t, dtype: np.fromiter(t.bool_val, dtype, len(t.bool_val)),
    wire.DT_HALF: _half_list,
    wire.DT_BFLOAT16: _half_list,
    **dict.fromkeys(FLOAT8, _float8_list),
}


def _expand(values: Array, shape: tuple[int, ...], size: int) -> Array:
    """A list of values in the tensor's shape: the last one stands for all that are missing, zero for none."""
    count = len(values)
    if count == size:
        return values.reshape(shape)
    if count > size:
        raise InvalidResponse(f"a tensor of shape {list(shape)} has {count} values; expected {size} at most")
    if count <= 1:  # a view that repeats one element
        one = values.reshape(()) if count else np.zeros((), values.dtype)
        return np.broadcast_to(one, shape)
    if size * values.itemsize > MAX_REPEATED_BYTES:
        raise InvalidResponse(
            f"a tensor of shape {list(shape)} has {count} values, the last of which stands for the rest; "
            f"expected {MAX_REPEATED_BYTES // values.itemsize:,} elements at most in this form"
        )
    return np.concatenate([values, np.repeat(values[-1:], size - count)]).reshape(shape)


def check_copied(name: str, arrays: Sequence[Array]) -> None:
    """Refuse to copy what is large only because one value stands for many.

    Args:
        name: of the output, for the error.
        arrays: what `to_array` gave for it, in one response or in several.

    Raises: InvalidResponse.
    """
    repeated = sum(array.nbytes for array in arrays if 0 in array.strides)
    if repeated > MAX_REPEATED_BYTES:
        raise InvalidResponse(
            f"output {name!r} has the shape {list(arrays[0].shape)}, and one value that stands for all; "
            f"expected {MAX_REPEATED_BYTES:,} bytes at most in this form"
        )


def _bfloat16(bits: Array) -> Array:
    """As ml_dtypes' bfloat16, or without it as float32."""
    extra = ml_dtypes()
    if extra is not None:
        return bits.view(extra.bfloat16)
    return (bits.astype("<u4") << 16).view("<f4")


def _strings(tensor: TensorProto, shape: tuple[int, ...], size: int) -> Array:
    if _extent(shape) * POINTER_BYTES > MAX_TENSOR_BYTES:
        raise InvalidResponse(f"a tensor claims to be string {list(shape)}: more than a message can hold")
    values = _unpack_strings(tensor.tensor_content, size) if tensor.tensor_content else list(tensor.string_val)
    array = np.empty(len(values), dtype=object)
    array[:] = values
    if not values and size:
        return np.broadcast_to(np.array(b"", dtype=object), shape)
    return _expand(array, shape, size)


def _unpack_strings(content: bytes, count: int) -> list[bytes]:
    """TensorFlow's raw form of strings: all lengths as varints, then all bytes (EncodeStringList)."""
    lengths, position = [], 0
    try:
        for _ in range(count):
            length = shift = 0
            while (byte := content[position]) >= 0x80 and shift < 63:
                length |= (byte & 0x7F) << shift
                position, shift = position + 1, shift + 7
            lengths.append(length | byte << shift)
            position += 1
    except IndexError:
        raise InvalidResponse(
            f"a tensor's content of {len(content)} bytes ends within {count} strings' lengths"
        ) from None
    if position + sum(lengths) != len(content):
        raise InvalidResponse(
            f"a tensor's content has {len(content)} bytes; its {count} strings' lengths need {position + sum(lengths)}"
        )
    strings = []
    for length in lengths:
        strings.append(content[position : position + length])
        position += length
    return strings

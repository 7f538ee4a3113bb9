"""TensorProto to NumPy and back, without walking the values in Python where that can be avoided.

Repeated fields give NumPy their values as one block; the other way, a packed list of fixed-width numbers lies on the
wire as NumPy keeps it, so long `float_val` lists are written as their serialized bytes: 50,176 floats (64 images) take
25 us instead of 2 ms.
"""

import math
from typing import Any

import ml_dtypes
import numpy as np
import tensorflow as tf
from tensorflow.core.framework import types_pb2
from tensorflow.core.framework.tensor_pb2 import TensorProto
from tensorflow.core.framework.tensor_shape_pb2 import TensorShapeProto
from tensorflow_serving.apis.input_pb2 import Input

from .arrays import Array, num_bytes
from .errors import ServingError, invalid_argument

# A tensor that is sent as one value for all takes at most this many bytes: 42 bytes of a message may stand for 1,337
# images, and not for 85,000, which are half a minute's work.
MAX_FILLED_BYTES = 1 << 20
# All of a request's examples with their context, which each gets a copy of, or as long as they would be without it.
MAX_EXAMPLE_BYTES = 64 << 20
MAX_STRINGS = 1 << 20  # in a tensor_content, where an empty one takes a byte, and 24 in TensorFlow
MAX_RANK = 32
PIECE = 1 << 14  # strings that are taken at once: Python lets no other thread run meanwhile
LONG = 64  # values; a list this long is worth the detour over its bytes

# dtype: the list that carries its values.
LISTS: dict[int, str] = {
    types_pb2.DT_FLOAT: "float_val",
    types_pb2.DT_DOUBLE: "double_val",
    types_pb2.DT_INT32: "int_val",
    types_pb2.DT_UINT8: "int_val",
    types_pb2.DT_INT16: "int_val",
    types_pb2.DT_INT8: "int_val",
    types_pb2.DT_UINT16: "int_val",
    types_pb2.DT_QINT8: "int_val",
    types_pb2.DT_QUINT8: "int_val",
    types_pb2.DT_QINT16: "int_val",
    types_pb2.DT_QUINT16: "int_val",
    types_pb2.DT_QINT32: "int_val",
    types_pb2.DT_INT4: "int_val",
    types_pb2.DT_UINT4: "int_val",
    types_pb2.DT_STRING: "string_val",
    types_pb2.DT_COMPLEX64: "scomplex_val",
    types_pb2.DT_COMPLEX128: "dcomplex_val",
    types_pb2.DT_INT64: "int64_val",
    types_pb2.DT_BOOL: "bool_val",
    types_pb2.DT_HALF: "half_val",
    types_pb2.DT_BFLOAT16: "half_val",
    types_pb2.DT_UINT32: "uint32_val",
    types_pb2.DT_UINT64: "uint64_val",
    types_pb2.DT_FLOAT8_E5M2: "float8_val",
    types_pb2.DT_FLOAT8_E4M3FN: "float8_val",
}
FIXED_WIDTH = {
    "float_val": np.float32,
    "double_val": np.float64,
    "scomplex_val": np.float32,
    "dcomplex_val": np.float64,
}
LIST_DTYPES: dict[str, Any] = FIXED_WIDTH | {
    "int_val": np.int32,
    "int64_val": np.int64,
    "bool_val": np.bool_,
    "half_val": np.int32,
    "uint32_val": np.uint32,
    "uint64_val": np.uint64,
}
_NUMPY: dict[int, np.dtype[Any]] = {number: np.dtype(tf.dtypes.as_dtype(number).as_numpy_dtype) for number in LISTS}
# TensorFlow's NumPy types of quantized numbers are structs; on the wire and in the runtime they are plain integers.
_NUMPY |= {
    types_pb2.DT_QINT8: np.dtype(np.int8),
    types_pb2.DT_QUINT8: np.dtype(np.uint8),
    types_pb2.DT_QINT16: np.dtype(np.int16),
    types_pb2.DT_QUINT16: np.dtype(np.uint16),
    types_pb2.DT_QINT32: np.dtype(np.int32),
}
_NUMBER_OF = {
    **{dtype: number for number, dtype in reversed(_NUMPY.items())},
    np.dtype(ml_dtypes.bfloat16): types_pb2.DT_BFLOAT16,
    np.dtype(object): types_pb2.DT_STRING,
}


def numpy_dtype(number: int) -> np.dtype[Any]:
    """The NumPy dtype of a TensorFlow dtype.

    Raises: ServingError for those that are not plain values.
    """
    try:
        return _NUMPY[number]
    except KeyError:
        raise invalid_argument(f"tensors of {dtype_name(number)} cannot be sent in a request") from None


def number_of(dtype: np.dtype[Any]) -> int:
    """TensorFlow's number of a NumPy dtype."""
    return _NUMBER_OF.get(dtype, types_pb2.DT_INVALID)


def dtype_name(number: int) -> str:
    """TensorFlow's name of a dtype, as in its error texts: float, double, int64, string."""
    if number not in types_pb2.DataType.values():
        return f"unknown dtype {number}"
    return types_pb2.DataType.Name(number).removeprefix("DT_").lower()


def to_array(alias: str, proto: TensorProto) -> Array:
    """The value of `proto`.

    Args:
        alias: the input's name, for the error text.
        proto: any tensor that a caller sent.

    Returns: an array of the proto's shape and dtype, maybe a read-only view of its bytes or of its one value; strings
        as an object array of bytes.

    Raises: ServingError INVALID_ARGUMENT if dtype, shape and content do not make a tensor.
    """
    kind = LISTS.get(proto.dtype)
    if kind is None:
        raise _parsing_error(alias, f"dtype {dtype_name(proto.dtype)} cannot be sent")
    if len(proto.tensor_shape.dim) > MAX_RANK:
        raise _parsing_error(alias, f"rank {len(proto.tensor_shape.dim)} is too high; at most {MAX_RANK}")
    shape = tuple([dim.size for dim in proto.tensor_shape.dim])
    if proto.tensor_shape.unknown_rank or (shape and min(shape) < 0):
        raise _parsing_error(alias, f"shape {_shape_text(proto)} is not that of a tensor")
    num_values = math.prod(shape)
    dtype = _NUMPY[proto.dtype]
    if math.prod([size or 1 for size in shape]) * dtype.itemsize > 1 << 40:  # NumPy counts so, zeros or not
        raise _parsing_error(alias, f"shape {list(shape)} is too large")
    if proto.tensor_content:
        return _from_content(alias, proto, dtype, num_values).reshape(shape)
    values = _from_list(proto, kind, dtype)
    if len(values) == num_values:
        return values.reshape(shape)
    if len(values) == 1 and num_values * num_bytes(values) <= MAX_FILLED_BYTES:
        return np.broadcast_to(values, shape)  # one value stands for all, as in TensorFlow, and takes no memory yet
    raise _parsing_error(
        alias,
        f"shape {list(shape)} has {num_values} values, but {len(values)} came in {kind}; send all of them (one stands "
        f"for all in up to {MAX_FILLED_BYTES} bytes)",
    )


def _parsing_error(alias: str, why: str) -> ServingError:
    return invalid_argument(f"tensor parsing error: {alias}: {why}")


def _shape_text(proto: TensorProto) -> str:
    shape = proto.tensor_shape
    return "<unknown>" if shape.unknown_rank else str([dim.size for dim in shape.dim])


def _from_content(alias: str, proto: TensorProto, dtype: np.dtype[Any], num_values: int) -> Array:
    content = proto.tensor_content
    if dtype.kind == "O":
        if num_values > MAX_STRINGS:
            raise _parsing_error(alias, f"{num_values} strings are too many; at most {MAX_STRINGS}")
        try:
            parsed: Array = tf.io.parse_tensor(proto.SerializeToString(), tf.string).numpy()
        except tf.errors.OpError as error:
            raise _parsing_error(alias, error.message) from error
        return np.asarray(parsed, object)
    if len(content) != num_values * dtype.itemsize:
        raise _parsing_error(
            alias,
            f"shape {[dim.size for dim in proto.tensor_shape.dim]} of {dtype_name(proto.dtype)} takes "
            f"{num_values * dtype.itemsize} bytes, but tensor_content has {len(content)}",
        )
    values = np.frombuffer(content, dtype)
    if dtype == np.bool_:
        return values.view(np.uint8) != 0  # any other bit pattern would be undefined behaviour downstream
    return values


def _from_list(proto: TensorProto, kind: str, dtype: np.dtype[Any]) -> Array:
    """The values of the list `kind`, one-dimensional."""
    listed = getattr(proto, kind)
    if kind == "float8_val":
        return np.frombuffer(listed, dtype)
    if dtype.kind == "O":
        strings = np.empty(len(listed), object)
        for start in range(0, len(listed), PIECE):
            strings[start : start + PIECE] = listed[start : start + PIECE]
        return strings
    numbers: Array = np.array(listed, None if len(listed) else LIST_DTYPES[kind])
    if dtype.kind == "c":
        return numbers[: len(numbers) // 2 * 2].view(dtype)
    if kind == "half_val":
        return numbers.astype(np.uint16).view(dtype)
    return numbers.astype(dtype, copy=False)  # wraps as a cast in C does


def to_proto(array: Array, *, as_content: bool) -> TensorProto:
    """`array` as a message.

    Args:
        array: of any shape, as the runtime gave it; strings as an object array of bytes.
        as_content: put numbers into `tensor_content` rather than into a typed list.
    """
    number = _NUMBER_OF[array.dtype]
    kind = LISTS[number]
    proto = TensorProto(dtype=number, tensor_shape=shape_proto(array.shape))  # type: ignore[arg-type]
    if array.dtype == object:
        proto.string_val.extend(array.ravel().tolist())
    elif as_content:
        proto.tensor_content = array.tobytes()
    elif kind in FIXED_WIDTH:
        plain = np.ascontiguousarray(array).view(FIXED_WIDTH[kind]) if array.dtype.kind == "c" and array.ndim else array
        if array.dtype.kind == "c" and not array.ndim:
            plain = np.array([array.real, array.imag])
        if plain.size < LONG:
            getattr(proto, kind).extend(plain.ravel().tolist())
        else:
            _merge_fixed(proto, kind, plain)
    elif kind == "half_val":
        proto.half_val.extend(array.view(np.uint16).ravel().tolist())
    elif kind == "float8_val":
        proto.float8_val = array.tobytes()
    else:
        getattr(proto, kind).extend(array.ravel().tolist())
    return proto


def _merge_fixed(proto: TensorProto, kind: str, plain: Array) -> None:
    content = plain.astype(plain.dtype.newbyteorder("<"), copy=False).tobytes()
    tag = TensorProto.DESCRIPTOR.fields_by_name[kind].number << 3 | 2  # 2: length-delimited
    header = bytearray([tag])
    length = len(content)
    while length >= 0x80:
        header.append(length & 0x7F | 0x80)
        length >>= 7
    header.append(length)
    proto.MergeFromString(bytes(header) + content)


def shape_proto(shape: tuple[int, ...]) -> TensorShapeProto:
    """A fully known shape as a message."""
    return TensorShapeProto(dim=[TensorShapeProto.Dim(size=size) for size in shape])


def serialized_examples(given: Input) -> Array:
    """The tf.Examples of a request, as they are fed to the model: object [n] of bytes.

    An example's own features go before those of the context, which all examples share.

    Raises: ServingError if there are none, or if the context makes far more of them than came.
    """
    context = b""
    listed = given.example_list.examples
    if given.WhichOneof("kind") == "example_list_with_context":
        context = given.example_list_with_context.context.SerializeToString()
        listed = given.example_list_with_context.examples
    if not listed:
        raise invalid_argument("Input is empty.")
    if len(context) * len(listed) > MAX_EXAMPLE_BYTES:
        raise invalid_argument(
            f"The context of {len(context)} bytes is copied into each of {len(listed)} examples; that may be "
            f"{MAX_EXAMPLE_BYTES} bytes; send fewer examples"
        )
    array = np.empty(len(listed), object)
    for index, example in enumerate(listed):
        array[index] = context + example.SerializeToString()
    return array

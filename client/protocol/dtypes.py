"""The wire's element types and the numpy dtypes that hold them.

numpy itself lacks bfloat16, the float8 types and the integers below eight bits; `ml_dtypes` brings them, where it is
installed. Without it, bfloat16 is read as float32 (which holds every bfloat16 exactly) and can be sent from float32;
the others are refused with a message that says so.
"""

import functools
import importlib
from types import ModuleType
from typing import Any, cast

import numpy as np

from ..errors import InvalidInput
from . import wire_pb2 as wire

DType = np.dtype[Any]

STRING = wire.DT_STRING

_NUMPY: dict[wire.DataType, DType] = {
    number: np.dtype(name)
    for number, name in (
        (wire.DT_FLOAT, "<f4"),
        (wire.DT_DOUBLE, "<f8"),
        (wire.DT_HALF, "<f2"),
        (wire.DT_INT8, "i1"),
        (wire.DT_INT16, "<i2"),
        (wire.DT_INT32, "<i4"),
        (wire.DT_INT64, "<i8"),
        (wire.DT_UINT8, "u1"),
        (wire.DT_UINT16, "<u2"),
        (wire.DT_UINT32, "<u4"),
        (wire.DT_UINT64, "<u8"),
        (wire.DT_BOOL, "?"),
        (wire.DT_COMPLEX64, "<c8"),
        (wire.DT_COMPLEX128, "<c16"),
        (wire.DT_STRING, "O"),
    )
}
_WIRE = {dtype: number for number, dtype in _NUMPY.items()}
# Quantised values travel as the integers they are stored in; their scale is the model's own business.
_QUANTISED: dict[wire.DataType, DType] = {
    wire.DT_QINT8: np.dtype("i1"),
    wire.DT_QUINT8: np.dtype("u1"),
    wire.DT_QINT16: np.dtype("<i2"),
    wire.DT_QUINT16: np.dtype("<u2"),
    wire.DT_QINT32: np.dtype("<i4"),
}
_HELD = _NUMPY | _QUANTISED
_EXTRA: dict[wire.DataType, str] = {
    wire.DT_BFLOAT16: "bfloat16",
    wire.DT_FLOAT8_E5M2: "float8_e5m2",
    wire.DT_FLOAT8_E4M3FN: "float8_e4m3fn",
    wire.DT_FLOAT8_E4M3FNUZ: "float8_e4m3fnuz",
    wire.DT_FLOAT8_E4M3B11FNUZ: "float8_e4m3b11fnuz",
    wire.DT_FLOAT8_E5M2FNUZ: "float8_e5m2fnuz",
    wire.DT_INT4: "int4",
    wire.DT_UINT4: "uint4",
    wire.DT_INT2: "int2",
    wire.DT_UINT2: "uint2",
    wire.DT_FLOAT4_E2M1FN: "float4_e2m1fn",
}
# Floating-point numbers of eight bits or fewer.
FLOAT8 = frozenset(number for number, name in _EXTRA.items() if name.startswith("float"))
_EXTRA_BY_NAME = {name: number for number, name in _EXTRA.items()}
_NAMES = {
    "float": wire.DT_FLOAT,
    "float32": wire.DT_FLOAT,
    "double": wire.DT_DOUBLE,
    "float64": wire.DT_DOUBLE,
    "float16": wire.DT_HALF,
    "str": wire.DT_STRING,
    "bytes": wire.DT_STRING,
}


def name_of(number: wire.DataType) -> str:
    """The element type's name as TensorFlow's users know it: "float32", "uint8", "string", "bfloat16".

    Numbers newer than this file are named by their number.
    """
    if number in _NUMPY and number != STRING:
        return _NUMPY[number].name
    known: str = wire.DataType.Name(number) if number in wire.DataType.values() else f"dtype {number}"
    return known.removeprefix("DT_").lower()


def is_floating(number: wire.DataType) -> bool:
    """Whether elements of this type are floating-point numbers, real or complex."""
    if number in _EXTRA:
        return "float" in _EXTRA[number]
    return number in _NUMPY and _NUMPY[number].kind in "fc"


def number_of(name: str | DType | type) -> wire.DataType:
    """The wire's number of an element type, given as a name ("float32", "bfloat16", "string", "qint8") or a dtype.

    Raises: InvalidInput.
    """
    if not isinstance(name, str):
        return of_array(np.dtype(name))
    spelled = f"DT_{name.upper()}"
    if name in _NAMES:
        return _NAMES[name]
    if spelled in wire.DataType.keys():  # noqa: SIM118 - protobuf's enum wrapper is not a mapping
        return cast("wire.DataType", wire.DataType.Value(spelled))  # an int, as far as protobuf's types know
    raise InvalidInput(f"element type {name!r} is unknown; expected one such as float32, int64, string or bfloat16")


def of_array(dtype: DType) -> wire.DataType:
    """The wire's number for the elements of an array of this dtype.

    Raises: InvalidInput if no element type of the wire holds them.
    """
    number = _WIRE.get(dtype)
    if number is not None:
        return number
    if dtype.kind in "SUT":
        return STRING
    number = _WIRE.get(dtype.newbyteorder("<")) if dtype.kind in "iufc" else None
    if number is None:
        number = _EXTRA_BY_NAME.get(dtype.name)
    if number is None:
        raise InvalidInput(
            f"an array of dtype {dtype} cannot be sent; expected bool, (u)int8..64, float16/32/64, complex64/128, "
            "bfloat16 or strings: convert it with .astype(...)"
        )
    return number


def to_numpy(number: wire.DataType) -> DType:
    """The numpy dtype, little-endian, that holds elements of this type as they are on the wire.

    Raises: InvalidInput if no dtype that is installed holds them.
    """
    dtype = _HELD.get(number)
    if dtype is not None:
        return dtype
    name = _EXTRA.get(number)
    extra = ml_dtypes() if name else None
    if name is None:
        raise InvalidInput(f"elements of type {name_of(number)} cannot be held in an array")
    if extra is None or not hasattr(extra, name):
        raise InvalidInput(f"elements of type {name} need a newer ml_dtypes: pip install --upgrade ml_dtypes")
    return np.dtype(getattr(extra, name))


@functools.cache
def ml_dtypes() -> ModuleType | None:
    """The module `ml_dtypes`, if it is installed."""
    try:
        return importlib.import_module("ml_dtypes")
    except ImportError:
        return None

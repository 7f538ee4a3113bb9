"""Tensors in the JSON of a predict request: row form under `instances`, column form under `inputs`.

A signature says how each input is named and typed. Most requests take the fast way, whole columns at once. Whatever
that cannot vouch for goes the careful way, row by row, which finds TensorFlow Serving's error for it, or accepts it.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from tensorflow.core.protobuf.meta_graph_pb2 import TensorInfo

from ..errors import ServingError, invalid_argument
from .rapidjson import Document, format_error, value_text
from .values import TensorType, collect, convert_at_once, is_base64, shape_of, to_array


def signature_name(document: Document) -> str:
    """The signature a request asks for; empty for the default one.

    Raises: ServingError.
    """
    name = document.members.get("signature_name", "")
    if not isinstance(name, str):
        raise format_error(document.members, "not formatted correctly. 'signature_name' key must be a string value.")
    try:
        name.encode()
    except UnicodeEncodeError:
        raise invalid_argument(f"Serving signature name: {value_text(name)} is not valid UTF-8") from None
    return name


def tensors(
    document: Document, inputs: Mapping[str, TensorInfo], *, max_depth: int
) -> tuple[dict[str, np.ndarray], bool]:
    """The request's arrays by input name, and whether it is in row form, as its response has to be.

    Args:
        inputs: the signature's.
        max_depth: the deepest nesting of lists that is followed.

    Raises: ServingError.
    """
    if not inputs:
        raise invalid_argument(f"Failed to get input map for signature: {signature_name(document) or 'DEFAULT'}")
    types = {name: TensorType(info.dtype, max_depth) for name, info in inputs.items()}
    members = document.members
    if "instances" in members and "inputs" in members:
        raise format_error(
            members, "Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist "
        )
    if "instances" in members:
        return _from_rows(document, types), True
    if "inputs" in members:
        return _from_columns(document, types), False
    raise invalid_argument("Missing 'inputs' or 'instances' key")


def _from_columns(document: Document, types: Mapping[str, TensorType]) -> dict[str, np.ndarray]:
    value = document.members["inputs"]
    if not isinstance(value, dict) or is_base64(value):
        if len(types) > 1:
            raise invalid_argument(
                "inputs is a plain value/list, but expecting an object as multiple input tensors required as per "
                "tensorinfo_map"
            )
        return {name: to_tensor(document, value, kind) for name, kind in types.items()}
    arrays = {}
    for name, kind in types.items():
        if name not in value:
            raise invalid_argument(f"Missing named input: {name} in 'inputs' object.")
        arrays[name] = to_tensor(document, value[name], kind)
    return arrays


def to_tensor(document: Document, value: Any, kind: TensorType) -> np.ndarray:
    """Nested lists of `document` as an array of the shape that they have; raises ServingError INVALID_ARGUMENT."""
    array_ = convert_at_once(value, kind, document.may_hold_booleans)
    if array_ is not None:
        return array_
    shape = shape_of(value, kind)
    values: list[Any] = []
    collect(value, 0, shape, kind, values)
    return to_array(values, kind).reshape(shape)


def _from_rows(document: Document, types: Mapping[str, TensorType]) -> dict[str, np.ndarray]:
    rows = document.members["instances"]
    if not isinstance(rows, list):
        raise format_error(document.members, "Expecting 'instances' to be an list/array")
    if not rows:
        raise format_error(document.members, "No values in 'instances' array")
    if not isinstance(rows[0], dict) and len(types) > 1:
        raise invalid_argument(
            "instances is a plain list, but expecting list of objects as multiple input tensors required as per "
            "tensorinfo_map"
        )
    columns = _columns_of(rows, types) if _is_named_row(rows[0]) else dict.fromkeys(types, rows)
    if columns is not None:
        arrays = {
            name: convert_at_once(column, types[name], document.may_hold_booleans) for name, column in columns.items()
        }
        if all(array_ is not None for array_ in arrays.values()):
            return {name: array_ for name, array_ in arrays.items() if array_ is not None}
    # The list of rows is one level itself.
    return _Rows({name: TensorType(kind.dtype, kind.max_depth - 1) for name, kind in types.items()}).convert(rows)


def _is_named_row(row: Any) -> bool:
    return isinstance(row, dict) and not is_base64(row)


def _columns_of(rows: list[Any], types: Mapping[str, TensorType]) -> dict[str, list[Any]] | None:
    """Rows of named values as one list for each name, if each row has exactly the signature's names."""
    names = types.keys()
    if not all(type(row) is dict and row.keys() == names for row in rows):
        return None
    return {name: [row[name] for row in rows] for name in names}


class _Rows:
    """Rows taken one by one, as TensorFlow Serving takes them, so that its errors come in its order."""

    def __init__(self, types: Mapping[str, TensorType]) -> None:
        self.types = types
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.values: dict[str, list[Any]] = {name: [] for name in types}

    def convert(self, rows: list[Any]) -> dict[str, np.ndarray]:
        named = _is_named_row(rows[0])
        for index, row in enumerate(rows):
            if named and not _is_named_row(row):
                raise invalid_argument(f"Expecting object but got list at item {index} of input list")
            if not named and _is_named_row(row):
                raise invalid_argument(f"Expecting value/list but got object at item {index} of input list")
            if named:
                self._add_named(index, row)
            else:
                self._add(f"{index}", next(iter(self.types)), row)
        return {
            name: to_array(values, self.types[name]).reshape(len(rows), *self.shapes[name])
            for name, values in self.values.items()
        }

    def _add_named(self, index: int, row: dict[str, Any]) -> None:
        for name, value in row.items():
            self._add(f"{index} key: {name}", name, value)
        if row.keys() != self.types.keys():
            raise invalid_argument(
                f"Failed to process element: {index} of 'instances' list. JSON object: {value_text(row)} "
                f"keys must be equal to: {','.join(sorted(self.types))}"
            )

    def _add(self, where: str, name: str, value: Any) -> None:
        try:
            self._append(name, value)
        except ServingError as error:
            raise invalid_argument(
                f"Failed to process element: {where} of 'instances' list. Error: {error.code.name}: {error.message}",
            ) from error

    def _append(self, name: str, value: Any) -> None:
        if name not in self.types:
            raise invalid_argument(f"JSON object: does not have named input: {name}")
        kind = self.types[name]
        values = self.values[name]
        before = len(values)
        shape = shape_of(value, kind)
        collect(value, 0, shape, kind, values)
        first_shape = self.shapes.setdefault(name, shape)
        size, first_size = len(values) - before, int(np.prod(first_shape, dtype=np.int64))
        if size != first_size:
            raise invalid_argument(f"Expecting tensor size: {first_size} but got: {size}")
        if shape != first_shape:
            raise invalid_argument(f"Expecting shape {_shape_text(first_shape)} but got: {_shape_text(shape)}")


def _shape_text(shape: tuple[int, ...]) -> str:
    return f"[{','.join(map(str, shape))}]"

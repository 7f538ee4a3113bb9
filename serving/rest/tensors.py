"""Tensors in the JSON of a predict request: row form under `instances`, column form under `inputs`.

A signature says how each input is named and typed. A short request is converted at once, and of a long one many rows
are. Whatever that cannot vouch for goes the careful way, row by row, which finds TensorFlow Serving's error for it, or
accepts it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from tensorflow.core.protobuf.meta_graph_pb2 import TensorInfo

from ..errors import ServingError, invalid_argument
from ..model.unannounced_shapes import ShapeCheck
from .pieces import PIECE_ROWS, PIECE_VALUES, at_once, convert, join, num_values
from .rapidjson import Document, format_error, value_text
from .values import TensorType, convert_at_once, is_base64, shape_of


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
    document: Document, inputs: Mapping[str, TensorInfo], *, max_depth: int, check_shape: ShapeCheck | None = None
) -> tuple[dict[str, np.ndarray], bool]:
    """The request's arrays by input name, and whether it is in row form, as its response has to be.

    Args:
        inputs: the signature's.
        max_depth: the deepest nesting of lists that is followed.
        check_shape: refuses what does not fit the signature, by the shape that an input begins with, before all of it
            is converted; None for a short request, which whoever runs the model checks.

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
        return _from_rows(document, types, check_shape), True
    if "inputs" in members:
        return _from_columns(document, types, check_shape), False
    raise invalid_argument("Missing 'inputs' or 'instances' key")


def _from_columns(
    document: Document, types: Mapping[str, TensorType], check_shape: ShapeCheck | None
) -> dict[str, np.ndarray]:
    value = document.members["inputs"]
    if not isinstance(value, dict) or is_base64(value):
        if len(types) > 1:
            raise invalid_argument(
                "inputs is a plain value/list, but expecting an object as multiple input tensors required as per "
                "tensorinfo_map"
            )
        value = dict.fromkeys(types, value)
    arrays = {}
    for name, kind in types.items():
        if name not in value:
            raise invalid_argument(f"Missing named input: {name} in 'inputs' object.")
        if check_shape is not None:
            check_shape(name, shape_of(value[name], kind))
        found = convert_at_once(value[name], kind, document.may_hold_booleans) if check_shape is None else None
        arrays[name] = to_tensor(document, value[name], kind) if found is None else found
    return arrays


def to_tensor(document: Document, value: Any, kind: TensorType) -> np.ndarray:
    """Nested lists of `document` as an array of the shape that they have; raises ServingError INVALID_ARGUMENT."""
    return convert(value, shape_of(value, kind), kind, may_hold_booleans=document.may_hold_booleans)


def _from_rows(
    document: Document, types: Mapping[str, TensorType], check_shape: ShapeCheck | None
) -> dict[str, np.ndarray]:
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
    if check_shape is None and (arrays := _rows_at_once(document, rows, types)) is not None:
        return arrays
    # The list of rows is one level itself.
    row_types = {name: TensorType(kind.dtype, kind.max_depth - 1) for name, kind in types.items()}
    return _Rows(row_types, may_hold_booleans=document.may_hold_booleans).convert(rows, check_shape)


def _rows_at_once(document: Document, rows: list[Any], types: Mapping[str, TensorType]) -> dict[str, np.ndarray] | None:
    """The arrays of all `rows`; None where they have to be looked at one by one."""
    columns = _columns_of(rows, types) if _is_named_row(rows[0]) else dict.fromkeys(types, rows)
    arrays = {}
    for name, column in (columns or {}).items():
        found = convert_at_once(column, types[name], document.may_hold_booleans)
        if found is None:
            return None
        arrays[name] = found
    return arrays or None


def _is_named_row(row: Any) -> bool:
    return isinstance(row, dict) and not is_base64(row)


def _columns_of(rows: list[Any], types: Mapping[str, TensorType]) -> dict[str, list[Any]] | None:
    """Rows of named values as one list for each name, if each row has exactly the signature's names."""
    names = types.keys()
    if not all(type(row) is dict and row.keys() == names for row in rows):
        return None
    return {name: [row[name] for row in rows] for name in names}


class _Rows:
    """Rows, some at once where that can be, and one by one as TensorFlow Serving takes them where it cannot."""

    def __init__(self, types: Mapping[str, TensorType], *, may_hold_booleans: bool) -> None:
        self.types = types
        self.may_hold_booleans = may_hold_booleans
        self.shapes: dict[str, tuple[int, ...]] = {}  # of one row
        self.pieces: dict[str, list[np.ndarray]] = {name: [] for name in types}  # one-dimensional

    def convert(self, rows: list[Any], check_shape: ShapeCheck | None) -> dict[str, np.ndarray]:
        named = _is_named_row(rows[0])
        self._add_one_by_one(0, rows[:1], named=named)
        if check_shape is not None:
            for name, shape in self.shapes.items():
                check_shape(name, (len(rows), *shape))
        at_a_time = min(PIECE_ROWS, PIECE_VALUES // sum(map(num_values, self.shapes.values())))
        for start in range(1, len(rows), max(1, at_a_time)):
            some = rows[start : start + max(1, at_a_time)]
            if not at_a_time or not self._add_at_once(some, named=named):
                self._add_one_by_one(start, some, named=named)
        return {name: join(iter(self.pieces[name])).reshape(len(rows), *shape) for name, shape in self.shapes.items()}

    def _add_at_once(self, rows: list[Any], *, named: bool) -> bool:
        columns = _columns_of(rows, self.types) if named else dict.fromkeys(self.types, rows)
        if columns is None:
            return False
        arrays = []
        for name, column in columns.items():
            shape = (len(rows), *self.shapes[name])
            array = at_once(column, shape, self.types[name], may_hold_booleans=self.may_hold_booleans)
            if array is None:
                return False
            arrays.append(array.ravel())
        for name, array in zip(columns, arrays, strict=True):
            self.pieces[name].append(array)
        return True

    def _add_one_by_one(self, start: int, rows: Sequence[Any], *, named: bool) -> None:
        for index, row in enumerate(rows, start):
            if named and not _is_named_row(row):
                raise invalid_argument(f"Expecting object but got list at item {index} of input list")
            if not named and _is_named_row(row):
                raise invalid_argument(f"Expecting value/list but got object at item {index} of input list")
            if named:
                self._add_named(index, row)
            else:
                self._add(f"{index}", next(iter(self.types)), row)

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
        shape = shape_of(value, kind)
        array = convert(value, shape, kind, may_hold_booleans=self.may_hold_booleans).ravel()
        first_shape = self.shapes.setdefault(name, shape)
        first_size = int(np.prod(first_shape, dtype=np.int64))
        if array.size != first_size:
            raise invalid_argument(f"Expecting tensor size: {first_size} but got: {array.size}")
        if shape != first_shape:
            raise invalid_argument(f"Expecting shape {_shape_text(first_shape)} but got: {_shape_text(shape)}")
        self.pieces[name].append(array)


def _shape_text(shape: tuple[int, ...]) -> str:
    return f"[{','.join(map(str, shape))}]"

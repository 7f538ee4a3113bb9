"""Responses as TensorFlow Serving writes them: predictions, classifications, regressions, status, metadata, errors.

The layout, blank for blank, is RapidJSON's pretty printer with the arrays inside a row in one line; status and metadata
are protobuf's own JSON with one blank of indentation.
"""

import base64
from collections.abc import Mapping

import ml_dtypes
import numpy as np
from google.protobuf import json_format
from google.protobuf.message import Message
from tensorflow_serving.apis.classification_pb2 import ClassificationResult
from tensorflow_serving.apis.get_model_metadata_pb2 import GetModelMetadataResponse, SignatureDefMap
from tensorflow_serving.apis.get_model_status_pb2 import GetModelStatusResponse
from tensorflow_serving.apis.regression_pb2 import RegressionResult

from ..errors import internal, invalid_argument
from .rapidjson import indent, nest, number_texts, string_text

PIECE_ELEMENTS = 1 << 14  # written at once: Python lets no other thread run meanwhile
BYTES_SUFFIX = "_bytes"  # of outputs that are written as base64
MAX_ERROR = 8192  # characters of an error's text: it may repeat what a caller has sent
NARROW_FLOATS = (np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16))


def error_body(message: str) -> bytes:
    """The body of an error."""
    # A message may repeat half a surrogate pair that the caller has sent, which has no bytes.
    return f'{{\n    "error": {string_text(message[:MAX_ERROR])}\n}}'.encode("utf-8", "replace")


def predictions(outputs: Mapping[str, np.ndarray], *, row_form: bool) -> bytes:
    """The response to a predict request: `predictions` in row form, `outputs` in column form.

    Args:
        outputs: arrays by name, [rows, ...] each in row form; strings as object arrays of bytes.
        row_form: whether the request was in row form.

    Raises: ServingError if rows are asked for and the outputs do not have the same number of rows, or if a type has no
        JSON form.
    """
    if not outputs:
        raise invalid_argument("Cannot convert empty tensor map to JSON")
    ordered = dict(sorted(outputs.items()))
    return _to_bytes(_rows(ordered) if row_form else _columns(ordered))


def _rows(outputs: dict[str, np.ndarray]) -> str:
    if _common_rows(outputs) == 0:
        return '{\n    "predictions": []\n}'
    if len(outputs) == 1:
        [(name, array)] = outputs.items()
        rows = ", ".join(_row_texts(name, array, depth=2))
    else:
        columns = [
            [f"{indent(3)}{string_text(name)}: {text}" for text in _row_texts(name, array, depth=3)]
            for name, array in outputs.items()
        ]
        rows = ",".join(
            f"\n{indent(2)}{{\n" + ",\n".join(members) + f"\n{indent(2)}}}" for members in zip(*columns, strict=True)
        )
    return f'{{\n    "predictions": [{rows}\n    ]\n}}'


def _common_rows(outputs: dict[str, np.ndarray]) -> int:
    num_rows = -1
    for name, array in outputs.items():
        if array.ndim == 0:
            raise invalid_argument(f"Tensor name: {name} has no shape information ")
        if num_rows not in (-1, array.shape[0]):
            raise invalid_argument(
                f"Tensor name: {name} has inconsistent batch size: {array.shape[0]} expecting: {num_rows}"
            )
        num_rows = array.shape[0]
    return num_rows


def _row_texts(name: str, array: np.ndarray, depth: int) -> list[str]:
    """A text for each row of `array`."""
    texts = _element_texts(name, array, depth + array.ndim - 1)
    size = array.size // array.shape[0] if array.shape[0] else 0
    if array.ndim == 1:
        return texts
    if size == 0:
        return nest([], array.shape[1:], depth=None) * array.shape[0]
    return [nest(texts[start : start + size], array.shape[1:], depth=None)[0] for start in range(0, len(texts), size)]


def _columns(outputs: dict[str, np.ndarray]) -> str:
    if len(outputs) == 1:
        [(name, array)] = outputs.items()
        return f'{{\n    "outputs": {_column_text(name, array, depth=1)}\n}}'
    members = ",\n".join(
        f"{indent(2)}{string_text(name)}: {_column_text(name, array, depth=2)}" for name, array in outputs.items()
    )
    return f'{{\n    "outputs": {{\n{members}\n    }}\n}}'


def _column_text(name: str, array: np.ndarray, depth: int) -> str:
    return nest(_element_texts(name, array, depth + array.ndim), array.shape, depth=depth)[0]


def _element_texts(name: str, array: np.ndarray, depth: int) -> list[str]:
    """A text for each element; `depth` is how many objects and arrays are open around it."""
    flat = array.ravel()
    if flat.size <= PIECE_ELEMENTS:
        return _piece_texts(name, flat, depth)
    texts: list[str] = []
    for start in range(0, flat.size, PIECE_ELEMENTS):
        texts += _piece_texts(name, flat[start : start + PIECE_ELEMENTS], depth)
    return texts


def _piece_texts(name: str, array: np.ndarray, depth: int) -> list[str]:
    if array.dtype in NARROW_FLOATS:
        array = array.astype(np.float32)
    match array.dtype.kind:
        case "f":
            return number_texts(array)
        case "i" | "u":
            return list(map(str, array.tolist()))
        case "b":
            return ["true" if value else "false" for value in array.tolist()]
        case "O" | "S":
            values = array.tolist()
            return [_bytes_text(value, depth) for value in values] if name.endswith(BYTES_SUFFIX) else _texts(values)
    raise invalid_argument(f"Failed to write JSON value for tensor type: {array.dtype.name}")


def _texts(values: list[bytes]) -> list[str]:
    # Bytes that are not UTF-8 leave as they are: TensorFlow Serving does not look at them either.
    return [string_text(value.decode("utf-8", "surrogateescape")) for value in values]


def _bytes_text(value: bytes, depth: int) -> str:
    return f'{{\n{indent(depth + 1)}"b64": "{base64.b64encode(value).decode()}"\n{indent(depth)}}}'


def classifications(result: ClassificationResult) -> bytes:
    """The response to a classify request: for each example its labels and scores.

    Raises: ServingError.
    """
    if not result.classifications:
        raise invalid_argument("Cannot convert empty ClassificationResults to JSON")
    scores = [item.score for entry in result.classifications for item in entry.classes]
    texts = iter(number_texts(np.array(scores, np.float32)))
    entries = [
        "[" + ", ".join(f"[{string_text(item.label)}, {next(texts)}]" for item in entry.classes) + "]"
        for entry in result.classifications
    ]
    return _to_bytes(f'{{\n    "results": [{", ".join(entries)}\n    ]\n}}')


def regressions(result: RegressionResult) -> bytes:
    """The response to a regress request: a number for each example.

    Raises: ServingError.
    """
    if not result.regressions:
        raise invalid_argument("Cannot convert empty RegressionResults to JSON")
    texts = number_texts(np.array([item.value for item in result.regressions], np.float32))
    return _to_bytes(f'{{\n    "results": [{", ".join(texts)}]\n}}')


def status(response: GetModelStatusResponse) -> bytes:
    """The state of each version."""
    return _to_bytes(f"{_message_json(response)}\n")


def metadata(response: GetModelMetadataResponse) -> bytes:
    """The signatures of a version.

    Raises: ServingError.
    """
    signatures = SignatureDefMap()
    if not response.metadata["signature_def"].Unpack(signatures):
        raise internal("Failed to unpack 'Any' object to 'SignatureDefMap'.")
    return _to_bytes(
        f'{{\n"model_spec":{_message_json(response.model_spec)}\n,\n'
        f'"metadata": {{"signature_def": {_message_json(signatures)}\n}}\n}}\n'
    )


def _message_json(message: Message) -> str:
    return json_format.MessageToJson(
        message,
        indent=1,
        ensure_ascii=False,
        preserving_proto_field_name=True,
        always_print_fields_with_no_presence=True,
    )


def _to_bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")

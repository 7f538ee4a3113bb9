"""Examples in the JSON of a classify or regress request: objects of features, as the messages of the gRPC API."""

from typing import Any

from tensorflow.core.example.example_pb2 import Example
from tensorflow.core.example.feature_pb2 import Feature
from tensorflow_serving.apis.input_pb2 import Input

from ..errors import ServingError, invalid_argument
from .rapidjson import Document, format_error, type_name, value_text
from .values import decode_base64, encode_text, is_base64

KIND_WORDS = {"bytes_list": "bytes", "float_list": "float", "int64_list": "int64"}


def examples(document: Document) -> Input:
    """The request's `examples`, with their common `context` if it has one.

    Raises: ServingError.
    """
    members = document.members
    result = Input()
    if "context" in members:
        _fill(result.example_list_with_context.context, members["context"])
        target = result.example_list_with_context.examples
    else:
        target = result.example_list.examples
    if "examples" not in members:
        raise format_error(members, "When method is classify, key 'examples' is expected and was not found")
    listed = members["examples"]
    if not isinstance(listed, list):
        raise format_error(members, "Expecting 'examples' value to be an list/array")
    if not listed:
        raise format_error(members, "'examples' value is an empty array")
    for value in listed:
        _fill(target.add(), value)
    return result


def _fill(example: Example, value: Any) -> None:
    if not isinstance(value, dict):
        raise invalid_argument(f"Example must be JSON object but got JSON {type_name(value)}")
    for name, content in value.items():
        # A feature without values is there all the same.
        feature = example.features.feature[_name(name)]
        for element in content if isinstance(content, list) else [content]:
            _append(feature, name, element)


def _name(name: str) -> str:
    try:
        name.encode()
    except UnicodeEncodeError:
        raise invalid_argument(f"Feature name {value_text(name)} is not valid UTF-8") from None
    return name


def _append(feature: Feature, name: str, value: Any) -> None:
    if isinstance(value, bool):
        _check_kind(feature, name, "int64_list")
        feature.int64_list.value.append(int(value))
    elif isinstance(value, str):
        _check_kind(feature, name, "bytes_list")
        feature.bytes_list.value.append(encode_text(value))
    elif is_base64(value):
        _check_kind(feature, name, "bytes_list")
        feature.bytes_list.value.append(decode_base64(value))
    elif isinstance(value, float) or (isinstance(value, int) and not -(1 << 63) <= value < 1 << 64):
        _check_kind(feature, name, "float_list")
        feature.float_list.value.append(value)
    elif isinstance(value, int):
        _check_kind(feature, name, "int64_list")
        if value >= 1 << 63:
            raise invalid_argument(f"Feature: {name} has uint64 element. Only int64 is supported.")
        feature.int64_list.value.append(value)
    else:
        raise invalid_argument(f"Feature: {name} has element with unexpected JSON type: {type_name(value)}")


def _check_kind(feature: Feature, name: str, kind: str) -> None:
    """All values of a feature are of one kind, the first one's."""
    present = feature.WhichOneof("kind")
    if present not in (None, kind):
        raise _kind_error(name, present)


def _kind_error(name: str, present: str) -> ServingError:
    return invalid_argument(f"Unexpected element type in feature: {name} expecting type: {KIND_WORDS[present]}")

"""The bodies of responses: JSON and, for outputs that are asked for so, binary data behind it."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import ml_dtypes
import numpy as np

from ...arrays import Array
from ...errors import invalid_argument
from ...v2 import contents
from ...v2.datatypes import datatype_of
from ...v2.repository import IndexEntry
from ...v2.service import EXTENSIONS, PLATFORM, SERVER_NAME, ModelMetadata, TensorMetadata, server_version
from ..rapidjson import number_texts, string_text
from .requests import LENGTH_HEADER, InferRequest


@dataclass(frozen=True, slots=True)
class Reply:
    """A body, and what is said about it in headers."""

    body: bytes
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


def reply(value: Any) -> Reply:
    """`value` as JSON."""
    return Reply(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"))


def server_metadata() -> Reply:
    """What the server is and can."""
    return reply({"name": SERVER_NAME, "version": server_version(), "extensions": EXTENSIONS})


def model_metadata(found: ModelMetadata) -> Reply:
    """What a model takes and gives."""
    return reply(
        {
            "name": found.name,
            "versions": found.versions,
            "platform": PLATFORM,
            "inputs": [_tensor(tensor) for tensor in found.inputs],
            "outputs": [_tensor(tensor) for tensor in found.outputs],
            "properties": {"signature_names": ",".join(found.signature_names)},
        }
    )


def _tensor(tensor: TensorMetadata) -> dict[str, Any]:
    return {"name": tensor.name, "datatype": tensor.datatype, "shape": tensor.shape}


def index(entries: Iterable[IndexEntry]) -> Reply:
    """The index of the model repository."""
    return reply(
        [
            {"name": entry.name, "version": entry.version, "state": entry.state, "reason": entry.reason}
            for entry in entries
        ]
    )


def size_of(request: InferRequest, outputs: Mapping[str, Array]) -> int:
    """How long it takes to write the response, in the sense of offload.py."""
    return sum(contents.size_of(array) if request.is_binary(name) else array.size for name, array in outputs.items())


def inference(request: InferRequest, outputs: Mapping[str, Array], *, model_name: str, version: int) -> Reply:
    """The response to an inference.

    Args:
        request: says which outputs go as binary data.
        outputs: arrays by name; strings as object arrays of bytes.
        model_name: of the model that was asked.
        version: that answered.

    Raises: ServingError INVALID_ARGUMENT for an output that cannot be sent in the form that is asked for.
    """
    texts, blocks = [], []
    for name, array in outputs.items():
        head = (
            f'{{"name":{string_text(name)},"datatype":"{datatype_of(name, array.dtype)}",'
            f'"shape":[{",".join(map(str, array.shape))}],'
        )
        if request.is_binary(name):
            blocks.append(contents.to_raw(array))
            texts.append(f'{head}"parameters":{{"binary_data_size":{len(blocks[-1])}}}}}')
        else:
            texts.append(f'{head}"data":[{",".join(_element_texts(name, array))}]}}')
    identifier = f'"id":{string_text(request.request_id)},' if request.request_id else ""
    text = (
        f'{{"model_name":{string_text(model_name)},"model_version":"{version}",{identifier}'
        f'"outputs":[{",".join(texts)}]}}'
    ).encode()
    if not blocks:
        return Reply(text)
    return Reply(b"".join([text, *blocks]), "application/octet-stream", {LENGTH_HEADER: str(len(text))})


def _element_texts(name: str, array: Array) -> list[str]:
    if array.dtype in (np.float16, ml_dtypes.bfloat16):
        array = array.astype(np.float32)
    match array.dtype.kind:
        case "f":
            return number_texts(array)
        case "b":
            return ["true" if value else "false" for value in array.ravel().tolist()]
        case "O":
            return [_string_text(name, value) for value in array.flat]
    return list(map(str, array.ravel().tolist()))


def _string_text(name: str, value: bytes) -> str:
    try:
        return string_text(value.decode())
    except UnicodeDecodeError:
        raise invalid_argument(
            f"output '{name}' holds bytes that are no UTF-8, which JSON cannot carry; ask for it with the parameter "
            '"binary_data": true'
        ) from None

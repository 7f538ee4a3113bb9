"""The Open Inference Protocol's gRPC service: its messages to the calls of v2/service.py, and back.

Outputs always come as `raw_output_contents`, as Triton sends them: its clients read nothing else, and FP16 has no other
form.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
from google.protobuf.message import Message

from ..arrays import Array
from ..errors import ServingError, invalid_argument
from ..offload import Offload
from ..proto import open_inference_pb2 as messages
from ..v2 import contents
from ..v2.datatypes import datatype_of, numpy_dtype
from ..v2.repository import check_load_parameters
from ..v2.service import (
    EXTENSIONS,
    PLATFORM,
    SERVER_NAME,
    TensorMetadata,
    V2Service,
    check_parameters,
    server_version,
)

Method = Callable[[Any], Any]

# datatype: the list that carries its elements.
LISTS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
LIST_DTYPES: dict[str, Any] = {
    "bool_contents": np.bool_,
    "int_contents": np.int32,
    "int64_contents": np.int64,
    "uint_contents": np.uint32,
    "uint64_contents": np.uint64,
    "fp32_contents": np.float32,
    "fp64_contents": np.float64,
    "bytes_contents": object,
}


class V2Rpcs:
    """Responds to the RPCs of `inference.GRPCInferenceService`."""

    def __init__(self, service: V2Service, offload: Offload | None = None) -> None:
        """The RPCs of `service`; what is long is converted by `offload`, None for threads of its own."""
        self._service = service
        self._repository = service.repository
        self._offload = offload or Offload()

    def methods(self) -> dict[str, tuple[type[Message], Method]]:
        """Each RPC's kind of request, and what responds to it."""
        return {
            "ServerLive": (messages.ServerLiveRequest, self._server_live),
            "ServerReady": (messages.ServerReadyRequest, self._server_ready),
            "ModelReady": (messages.ModelReadyRequest, self._model_ready),
            "ServerMetadata": (messages.ServerMetadataRequest, self._server_metadata),
            "ModelMetadata": (messages.ModelMetadataRequest, self._model_metadata),
            "ModelInfer": (messages.ModelInferRequest, self._model_infer),
            "RepositoryIndex": (messages.RepositoryIndexRequest, self._repository_index),
            "RepositoryModelLoad": (messages.RepositoryModelLoadRequest, self._repository_load),
            "RepositoryModelUnload": (messages.RepositoryModelUnloadRequest, self._repository_unload),
        }

    def _server_live(self, request: messages.ServerLiveRequest) -> messages.ServerLiveResponse:
        return messages.ServerLiveResponse(live=True)

    def _server_ready(self, request: messages.ServerReadyRequest) -> messages.ServerReadyResponse:
        return messages.ServerReadyResponse(ready=self._service.is_ready())

    def _model_ready(self, request: messages.ModelReadyRequest) -> messages.ModelReadyResponse:
        return messages.ModelReadyResponse(ready=self._service.is_model_ready(request.name, request.version))

    def _server_metadata(self, request: messages.ServerMetadataRequest) -> messages.ServerMetadataResponse:
        return messages.ServerMetadataResponse(name=SERVER_NAME, version=server_version(), extensions=EXTENSIONS)

    def _model_metadata(self, request: messages.ModelMetadataRequest) -> messages.ModelMetadataResponse:
        found = self._service.model_metadata(request.name, request.version)
        return messages.ModelMetadataResponse(
            name=found.name,
            versions=found.versions,
            platform=PLATFORM,
            inputs=map(_tensor_metadata, found.inputs),
            outputs=map(_tensor_metadata, found.outputs),
        )

    async def _model_infer(self, request: messages.ModelInferRequest, *, size: int = 0) -> messages.ModelInferResponse:
        parameters = parameter_values(request.parameters)
        with self._service.call(request.model_name, request.model_version, parameters) as call:
            inputs = await self._offload.run(partial(tensors, request), size=size)
            names = [output.name for output in request.outputs]
            outputs = await self._service.infer(call, parameters, inputs, names)
            size_of_outputs = sum(map(contents.size_of, outputs.values()))
            response = await self._offload.run(partial(infer_response, outputs), size=size_of_outputs)
            response.model_name = call.model.name
            response.model_version = str(call.model.version)
            response.id = request.id
        return response

    async def _repository_index(self, request: messages.RepositoryIndexRequest) -> messages.RepositoryIndexResponse:
        _check_repository_name(request.repository_name)
        response = messages.RepositoryIndexResponse()
        for entry in await self._repository.index(ready_only=request.ready):
            response.models.add(name=entry.name, version=entry.version, state=entry.state, reason=entry.reason)
        return response

    async def _repository_load(
        self, request: messages.RepositoryModelLoadRequest
    ) -> messages.RepositoryModelLoadResponse:
        _check_repository_name(request.repository_name)
        check_load_parameters(request.parameters)
        await self._repository.load(request.model_name)
        return messages.RepositoryModelLoadResponse()

    async def _repository_unload(
        self, request: messages.RepositoryModelUnloadRequest
    ) -> messages.RepositoryModelUnloadResponse:
        _check_repository_name(request.repository_name)
        await self._repository.unload(request.model_name)
        return messages.RepositoryModelUnloadResponse()


def _check_repository_name(name: str) -> None:
    if name:
        raise invalid_argument(f"'repository_name' is '{name}', but its specification is not supported; leave it empty")


def parameter_values(parameters: Mapping[str, messages.InferParameter]) -> dict[str, object]:
    """The parameters of a message as Python's values."""
    return {
        name: getattr(parameter, kind)
        for name, parameter in parameters.items()
        if (kind := parameter.WhichOneof("parameter_choice")) is not None
    }


def tensors(request: messages.ModelInferRequest) -> dict[str, Array]:
    """The inputs of `request` by name.

    Raises: ServingError INVALID_ARGUMENT if one of them is no tensor.
    """
    raw = request.raw_input_contents
    if raw and len(raw) != len(request.inputs):
        raise invalid_argument(
            f"expected as many raw_input_contents as inputs for model '{request.model_name}': "
            f"{len(request.inputs)}, got {len(raw)}"
        )
    arrays: dict[str, Array] = {}
    for index, tensor in enumerate(request.inputs):
        if tensor.name in arrays:
            raise invalid_argument(f"input '{tensor.name}' is given more than once")
        check_parameters("input", tensor.name, tensor.parameters)
        arrays[tensor.name] = _from_raw(tensor, raw[index], request.model_name) if raw else _from_list(tensor)
    for output in request.outputs:
        check_parameters("output", output.name, output.parameters)
    return arrays


def _from_raw(tensor: messages.ModelInferRequest.InferInputTensor, raw: bytes, model_name: str) -> Array:
    if tensor.HasField("contents"):
        raise invalid_argument(
            f"contents field must not be specified when using raw_input_contents for '{tensor.name}' "
            f"for model '{model_name}'"
        )
    return contents.from_raw(tensor.name, tuple(tensor.shape), numpy_dtype(tensor.name, tensor.datatype), raw)


def _from_list(tensor: messages.ModelInferRequest.InferInputTensor) -> Array:
    dtype = numpy_dtype(tensor.name, tensor.datatype)
    shape = tuple(tensor.shape)
    size = contents.num_elements(tensor.name, shape, dtype)
    kind = LISTS.get(tensor.datatype)
    if kind is None:
        raise invalid_argument(f"input '{tensor.name}' is {tensor.datatype}, which must come in raw_input_contents")
    others = [field.name for field, _ in tensor.contents.ListFields() if field.name != kind]
    if others:
        raise _wrong_list(tensor, f"has {', '.join(others)}; expected {kind}")
    listed = getattr(tensor.contents, kind)
    if len(listed) != size:
        raise _wrong_list(tensor, f"has {len(listed)} elements in {kind}; expected {size} for shape {list(shape)}")
    return _array(tensor, listed, LIST_DTYPES[kind], dtype).reshape(shape)


def _array(tensor: messages.ModelInferRequest.InferInputTensor, listed: Any, wide: Any, dtype: np.dtype[Any]) -> Array:
    if wide is object:
        strings = np.empty(len(listed), object)
        strings[:] = listed
        return strings
    values: Array = np.array(listed, wide)
    narrow = values.astype(dtype, copy=False)
    if values.dtype.kind in "iu" and not np.array_equal(values, narrow):
        index = int(np.flatnonzero(values != narrow)[0])
        raise _wrong_list(tensor, f"has {values[index]} as element {index}, which is outside its range")
    return narrow


def _wrong_list(tensor: messages.ModelInferRequest.InferInputTensor, why: str) -> ServingError:
    return invalid_argument(f"input '{tensor.name}' of {tensor.datatype} {why}")


def infer_response(outputs: Mapping[str, Array]) -> messages.ModelInferResponse:
    """A response with these outputs.

    Raises: ServingError INVALID_ARGUMENT if the protocol has no datatype for one of them.
    """
    response = messages.ModelInferResponse()
    for name, array in outputs.items():
        response.outputs.add(name=name, datatype=datatype_of(name, array.dtype), shape=array.shape)
        response.raw_output_contents.append(contents.to_raw(array))
    return response


def _tensor_metadata(tensor: TensorMetadata) -> messages.ModelMetadataResponse.TensorMetadata:
    return messages.ModelMetadataResponse.TensorMetadata(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)

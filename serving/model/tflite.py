"""Serve a TFLite model, with --prefer_tflite_model: `model.tflite` in a version's folder.

Runs on `ai-edge-litert` (the extra `tflite`), or else on TensorFlow's own interpreter. An interpreter runs one request
at a time and is resized to the shape of each, so there is a pool of them.
"""

from collections.abc import Mapping, Sequence
from queue import SimpleQueue
from typing import Any

import numpy as np
import tensorflow as tf
from flatbuffers import flexbuffers  # type: ignore[import-untyped]
from tensorflow.core.framework.graph_pb2 import GraphDef
from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef, TensorInfo
from tensorflow.lite.python import schema_py_generated

from ..arrays import Array, Function
from ..errors import invalid_argument
from ..names import DEFAULT_SIGNATURE, PREDICT
from ..tensors import number_of, shape_proto

SIGNATURES_METADATA = b"signature_defs_metadata"


class LiteModel:
    """One version of a TFLite model."""

    graph_def: GraphDef | None = None

    def __init__(self, file: str, *, interpreters: int) -> None:
        """Load `file`, a path or URI.

        Raises: ServingError.
        """
        with tf.io.gfile.GFile(file, "rb") as opened:
            content: bytes = opened.read()
        try:
            pool = [_make_interpreter(content) for _ in range(max(1, interpreters))]
        except (ValueError, RuntimeError) as error:
            raise invalid_argument(f"{file} is not a usable TFLite model: {error}") from error
        self._pool: SimpleQueue[Any] = SimpleQueue()
        for interpreter in pool:
            self._pool.put(interpreter)
        self.signature_defs: Mapping[str, SignatureDef] = _signatures(pool[0], content)

    def function(self, inputs: Sequence[str], outputs: Sequence[str]) -> Function:
        def function(values: Sequence[Array]) -> list[Array]:
            interpreter = self._pool.get()
            try:
                return _invoke(interpreter, inputs, values, outputs)
            except (ValueError, RuntimeError) as error:
                raise invalid_argument(f"Failed to invoke the TFLite interpreter: {error}") from error
            finally:
                self._pool.put(interpreter)

        return function

    def close(self) -> None:
        while not self._pool.empty():
            self._pool.get()


def _make_interpreter(content: bytes) -> Any:
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        Interpreter = tf.lite.Interpreter
    return Interpreter(model_content=content, num_threads=1)


def _details(interpreter: Any) -> dict[str, dict[str, Any]]:
    """Inputs and outputs by the name of their tensor, with and without TensorFlow's `:0`."""
    every = (*interpreter.get_input_details(), *interpreter.get_output_details())
    return {each["name"].removesuffix(":0"): each for each in every} | {each["name"]: each for each in every}


def _signatures(interpreter: Any, content: bytes) -> dict[str, SignatureDef]:
    """The model's signatures; without any, its inputs and outputs under the names of their tensors."""
    keys = interpreter.get_signature_list()
    if keys:
        runners = {key: interpreter.get_signature_runner(key) for key in keys}
        return {
            key: _definition(runner.get_input_details(), runner.get_output_details()) for key, runner in runners.items()
        }
    stored = _stored_signatures(content)
    if stored:
        return stored
    by_tensor = [
        {each["name"].partition(":")[0]: each for each in details}
        for details in (interpreter.get_input_details(), interpreter.get_output_details())
    ]
    return {DEFAULT_SIGNATURE: _definition(*by_tensor)}


def _definition(inputs: Mapping[str, dict[str, Any]], outputs: Mapping[str, dict[str, Any]]) -> SignatureDef:
    definition = SignatureDef(method_name=PREDICT)
    for details, infos in ((inputs, definition.inputs), (outputs, definition.outputs)):
        for alias, each in details.items():
            infos[alias].CopyFrom(_info(each))
    return definition


def _stored_signatures(content: bytes) -> dict[str, SignatureDef]:
    """SignatureDefs that TensorFlow Lite's signature tools put into the metadata, before models had signatures."""
    model = schema_py_generated.Model.GetRootAs(content, 0)
    for index in range(model.MetadataLength()):
        entry = model.Metadata(index)
        if entry.Name() == SIGNATURES_METADATA:
            packed = model.Buffers(entry.Buffer()).DataAsNumpy().tobytes()
            mapping = flexbuffers.GetRoot(bytearray(packed)).AsMap
            names = [key.AsKey for key in mapping.Keys]
            found = {name: SignatureDef.FromString(mapping[name].AsStringBytes) for name in names}
            for definition in found.values():
                for info in (*definition.inputs.values(), *definition.outputs.values()):
                    info.name = info.name.removesuffix(":0")
            return found
    return {}


def _info(details: dict[str, Any]) -> TensorInfo:
    kind = details["dtype"]
    number = number_of(np.dtype(object if kind is np.bytes_ else kind))
    info = TensorInfo(name=details["name"], dtype=number)
    sizes = [int(size) for size in details["shape_signature"]]
    # Converters write one row for any number of rows unless they are told to keep it open, and an interpreter is
    # resized to what comes. No dimensions mean a scalar or any rank: the file does not tell.
    if sizes[:1] == [1]:
        sizes[0] = -1
    info.tensor_shape.CopyFrom(shape_proto(tuple(sizes)))
    info.tensor_shape.unknown_rank = not sizes
    return info


def _invoke(interpreter: Any, inputs: Sequence[str], values: Sequence[Array], outputs: Sequence[str]) -> list[Array]:
    details = _details(interpreter)
    values = [
        value.reshape(value.shape + (1,) * (len(details[name]["shape"]) - value.ndim))
        for name, value in zip(inputs, values, strict=True)
    ]
    for name, value in zip(inputs, values, strict=True):
        if tuple(details[name]["shape"]) != value.shape:
            interpreter.resize_tensor_input(details[name]["index"], value.shape)
    interpreter.allocate_tensors()
    for name, value in zip(inputs, values, strict=True):
        interpreter.set_tensor(details[name]["index"], value)
    interpreter.invoke()
    return [interpreter.get_tensor(details[name]["index"]) for name in outputs]

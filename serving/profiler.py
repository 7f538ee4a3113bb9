"""TensorFlow's ProfilerService: `tf.profiler.experimental.client.trace` and TensorBoard's "capture profile".

The messages are those of tsl/profiler/protobuf/profiler_service.proto, for which no Python package has code.
"""

import asyncio
import contextlib
import posixpath
import tempfile
from pathlib import Path
from typing import Any

import grpc
import tensorflow as tf
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError
from tensorflow.tsl.profiler.protobuf import profiler_options_pb2

from serving.errors import ServingError, invalid_argument, unavailable
from serving.runtime import serving_error

SERVICE = "tensorflow.ProfilerService"
PACKAGE = "inkling.profiler"
MESSAGES = {
    "ProfileRequest": {
        "duration_ms": (1, "UINT64"),
        "opts": (4, ".tensorflow.ProfileOptions"),
        "repository_root": (5, "STRING"),
        "session_id": (6, "STRING"),
        "host_name": (7, "STRING"),
        "emit_xspace": (9, "BOOL"),
    },
    "ProfileResponse": {"empty_trace": (7, "BOOL"), "xspace": (8, "BYTES")},  # an XSpace, which stays packed here
    "TerminateRequest": {"session_id": (1, "STRING")},
}


def _message_classes() -> dict[str, Any]:
    types = descriptor_pb2.FieldDescriptorProto
    options = profiler_options_pb2.DESCRIPTOR
    file = descriptor_pb2.FileDescriptorProto(
        name="inkling/profiler_service.proto", package=PACKAGE, syntax="proto3", dependency=[options.name]
    )
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, (number, kind) in fields.items():
            added = message.field.add(name=field, number=number, label=types.LABEL_OPTIONAL)
            if kind.startswith("."):
                added.type, added.type_name = types.TYPE_MESSAGE, kind
            else:
                added.type = getattr(types, f"TYPE_{kind}")
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(options.serialized_pb)
    pool.AddSerializedFile(file.SerializeToString())
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.{name}")) for name in MESSAGES}


_CLASSES = _message_classes()


class Profiler:
    """Traces this process when asked; one trace at a time."""

    def __init__(self) -> None:
        self._stops: dict[str, asyncio.Event] = {}  # of running traces, by session

    def add_to(self, server: grpc.aio.Server) -> None:
        """Register the service with `server`."""
        methods = {"Profile": self._profile, "Terminate": self._terminate}
        handlers = {name: grpc.unary_unary_rpc_method_handler(_answering(method)) for name, method in methods.items()}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))

    async def _profile(self, content: bytes) -> bytes:
        request = _parse("ProfileRequest", content)
        response = _CLASSES["ProfileResponse"]()
        # Of the caller's making, and part of a path.
        for name in ("session_id", "host_name"):
            if "/" in (value := getattr(request, name)) or value in (".", ".."):
                raise invalid_argument(f"{name} cannot be {value!r}")
        if self._stops:
            raise unavailable("Another profiler session active.")
        stop = self._stops[request.session_id] = asyncio.Event()
        tracing = asyncio.create_task(self._trace(request, stop))
        tracing.add_done_callback(lambda _: self._stops.pop(request.session_id))
        try:
            trace = await asyncio.shield(tracing)  # what TensorFlow has begun must be ended, whoever goes away
        finally:
            stop.set()
        if request.emit_xspace:
            response.xspace = trace
        elif request.repository_root:
            await asyncio.to_thread(_write, request, trace)
        response.empty_trace = not trace
        return bytes(response.SerializeToString())

    async def _trace(self, request: Any, stop: asyncio.Event) -> bytes:
        """A trace of the next `duration_ms`, or until `stop`, as an XSpace."""
        options = tf.profiler.experimental.ProfilerOptions(
            host_tracer_level=request.opts.host_tracer_level or 2,
            python_tracer_level=request.opts.python_tracer_level,
            device_tracer_level=request.opts.device_tracer_level or 1,
        )
        with tempfile.TemporaryDirectory(prefix="inkling-profile-") as folder:
            await asyncio.to_thread(tf.profiler.experimental.start, folder, options)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), request.duration_ms / 1000)
            await asyncio.to_thread(tf.profiler.experimental.stop)
            return b"".join(path.read_bytes() for path in Path(folder).rglob("*.xplane.pb"))

    async def _terminate(self, content: bytes) -> bytes:
        request = _parse("TerminateRequest", content)
        if request.session_id in self._stops:
            self._stops[request.session_id].set()
        return b""


def _write(request: Any, trace: bytes) -> None:
    folder = posixpath.join(request.repository_root, request.session_id)
    tf.io.gfile.makedirs(folder)
    with tf.io.gfile.GFile(posixpath.join(folder, f"{request.host_name}.xplane.pb"), "wb") as file:
        file.write(trace)


def _parse(kind: str, content: bytes) -> Any:
    try:
        return _CLASSES[kind].FromString(content)
    except DecodeError as error:
        raise invalid_argument(f"the request is no {kind}: {error}") from error


def _answering(method: Any) -> Any:
    async def call(content: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        try:
            answer: bytes = await method(content)
            return answer
        except ServingError as error:
            refusal = error
        except tf.errors.OpError as error:
            refusal = serving_error(error)
        context.set_code(refusal.code)
        context.set_details(refusal.message)
        return b""

    return call

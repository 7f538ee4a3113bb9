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
from google.protobuf.message import DecodeError
from tensorflow.tsl.profiler.protobuf import profiler_options_pb2

from ..errors import ServingError, invalid_argument, unavailable
from ..model.saved_model import serving_error
from ..proto.messages import Messages, message_classes

SERVICE = "tensorflow.ProfilerService"
MESSAGES: Messages = {
    "ProfileRequest": {
        "duration_ms": ("uint64", 1),
        "opts": (".tensorflow.ProfileOptions", 4),
        "repository_root": ("string", 5),
        "session_id": ("string", 6),
        "host_name": ("string", 7),
        "emit_xspace": ("bool", 9),
    },
    "ProfileResponse": {"empty_trace": ("bool", 7), "xspace": ("bytes", 8)},  # an XSpace, which stays packed here
    "TerminateRequest": {"session_id": ("string", 1)},
}

_CLASSES = message_classes(MESSAGES, package="inkling.profiler", imports=[profiler_options_pb2.DESCRIPTOR])


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

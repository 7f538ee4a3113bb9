"""TensorFlow's ProfilerService: `tf.profiler.experimental.client.trace` and TensorBoard's "capture profile"."""

import asyncio
import contextlib
import posixpath
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

import grpc
import tensorflow as tf

from ..errors import ServingError, invalid_argument, unavailable
from ..model.saved_model import serving_error
from ..proto.profiler_pb2 import ProfileRequest, ProfileResponse, TerminateRequest
from .parsing import parse

SERVICE = "tensorflow.ProfilerService"

Method = Callable[[bytes], Awaitable[bytes]]
Behaviour = Callable[[bytes, "grpc.aio.ServicerContext[bytes, bytes]"], Awaitable[bytes]]


class Profiler:
    """Traces this process when asked; one trace at a time."""

    def __init__(self, end_everywhere: Callable[[str], Awaitable[None]] | None = None) -> None:
        """Nothing is traced.

        Args:
            end_everywhere: has the trace of a session ended in whichever of several processes it is; None: there is
                this process only.
        """
        self._stops: dict[str, asyncio.Event] = {}  # of running traces, by session
        self._end_everywhere = end_everywhere or self.end

    def add_to(self, server: grpc.aio.Server) -> None:
        """Register the service with `server`."""
        methods = {"Profile": self._profile, "Terminate": self._terminate}
        handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
            name: grpc.unary_unary_rpc_method_handler(_behaviour(method)) for name, method in methods.items()
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))

    async def _profile(self, content: bytes) -> bytes:
        request = parse(content, ProfileRequest)
        # Of the caller's making, and part of a path.
        for name, value in (("session_id", request.session_id), ("host_name", request.host_name)):
            if "/" in value or value in (".", ".."):
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
        response = ProfileResponse(empty_trace=not trace)
        if request.emit_xspace:
            response.xspace = trace
        elif request.repository_root:
            await asyncio.to_thread(_write, request, trace)
        return response.SerializeToString()

    async def _trace(self, request: ProfileRequest, stop: asyncio.Event) -> bytes:
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
        await self._end_everywhere(parse(content, TerminateRequest).session_id)
        return b""

    async def end(self, session_id: str) -> None:
        """End the trace of this session, if it is here."""
        if session_id in self._stops:
            self._stops[session_id].set()


def _write(request: ProfileRequest, trace: bytes) -> None:
    folder = posixpath.join(request.repository_root, request.session_id)
    tf.io.gfile.makedirs(folder)
    with tf.io.gfile.GFile(posixpath.join(folder, f"{request.host_name}.xplane.pb"), "wb") as file:
        file.write(trace)


def _behaviour(method: Method) -> Behaviour:
    async def call(content: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        try:
            return await method(content)
        except ServingError as error:
            refusal = error
        except tf.errors.OpError as error:
            refusal = serving_error(error)
        context.set_code(refusal.code)
        context.set_details(refusal.message)
        return b""

    return call

"""The gRPC side: PredictionService, ModelService and the Open Inference Protocol over `grpc.aio`.

Requests come as bytes and are parsed here, so that a message that does not parse is the caller's INVALID_ARGUMENT and
not an INTERNAL error of gRPC's. SessionService exists as a proto only, in TensorFlow Serving too: UNIMPLEMENTED.
"""

import asyncio
import contextlib
import inspect
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, cast

import grpc
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message
from tensorflow_serving.apis.classification_pb2 import ClassificationRequest
from tensorflow_serving.apis.get_model_metadata_pb2 import GetModelMetadataRequest
from tensorflow_serving.apis.get_model_status_pb2 import GetModelStatusRequest
from tensorflow_serving.apis.inference_pb2 import MultiInferenceRequest
from tensorflow_serving.apis.model_management_pb2 import ReloadConfigRequest
from tensorflow_serving.apis.predict_pb2 import PredictRequest
from tensorflow_serving.apis.regression_pb2 import RegressionRequest

from .. import deadlines
from ..config.files import TlsConfig
from ..errors import ServingError, unavailable
from ..load_shedding import KnownFullQueues, QueueFull
from ..model_service import ModelService
from ..monitoring import logs
from ..monitoring.events import ServerEvents
from ..monitoring.tracing import OFF, Tracing
from ..names import MODEL_SERVICE, PREDICTION_SERVICE, V2_SERVICE
from ..offload import Offload
from ..prediction_service import PredictionService
from .density import check_density, size_of
from .parsing import parse
from .v2 import V2Rpcs

logger = logging.getLogger(__name__)

MAX_PENDING_REQUESTS = 16_384
MAX_MESSAGE_BYTES = 2**31 - 1
LEAST_MESSAGE_BYTES = 4 << 20  # gRPC's own default
MAX_STATUS_BYTES = 1024  # gRPC sends the text as a header, with three bytes for most others than ASCII; 8 kB is usual
CUT = "...TRUNCATED"
REQUEST_ID = "x-request-id"  # metadata in which a caller may name its request for the log

# An RPC of a service: takes a parsed request of its own kind, and, if it is an inference, the size of it; a coroutine
# function or not.
Method = Callable[..., Any]
Behaviour = Callable[[bytes, "grpc.aio.ServicerContext[bytes, bytes]"], Awaitable[bytes]]


class GrpcApi:
    """Binds the services to a gRPC server."""

    def __init__(
        self,
        predictions: PredictionService,
        models: ModelService,
        *,
        shedding: KnownFullQueues,
        events: ServerEvents,
        max_pending_bytes: int,
        offload: Offload | None = None,
        v2: V2Rpcs | None = None,
        tracing: Tracing = OFF,
    ) -> None:
        """An API that no server has yet.

        Args:
            predictions: responds to the RPCs of PredictionService.
            models: responds to those of ModelService.
            shedding: knows whose queues are full.
            events: is told of each response.
            max_pending_bytes: size of all requests held at once; what comes on top is refused.
            offload: parses what is long; None for threads of its own.
            v2: responds to the RPCs of the Open Inference Protocol; None: there are none.
            tracing: makes traces of the RPCs.
        """
        self._predictions = predictions
        self._models = models
        self._v2 = v2
        self._tracing = tracing
        self._shedding = shedding
        self._events = events
        self._max_pending_bytes = max_pending_bytes
        self._offload = offload or Offload()
        self._pending_bytes = 0
        self._num_pending = 0
        self._is_ending = False  # what ends from now on counts until its response has left
        self._idle = asyncio.Event()
        self._idle.set()

    def add_to(self, server: grpc.aio.Server) -> None:
        """Register all methods with `server`."""
        predictions, models = self._predictions, self._models
        rpcs: dict[str, dict[str, tuple[type[Message], Method]]] = {
            PREDICTION_SERVICE: {
                "Predict": (PredictRequest, predictions.predict),
                "Classify": (ClassificationRequest, predictions.classify),
                "Regress": (RegressionRequest, predictions.regress),
                "MultiInference": (MultiInferenceRequest, predictions.multi_inference),
                "GetModelMetadata": (GetModelMetadataRequest, predictions.get_model_metadata),
            },
            MODEL_SERVICE: {
                "GetModelStatus": (GetModelStatusRequest, models.get_model_status),
                "HandleReloadConfigRequest": (ReloadConfigRequest, models.reload_config),
            },
        }
        if self._v2 is not None:
            rpcs[V2_SERVICE] = self._v2.methods()
        for service, methods in rpcs.items():
            handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
                name: grpc.unary_unary_rpc_method_handler(
                    self._tracing.rpc(f"{service}/{name}", self._behaviour(name, request_class, method))
                )
                for name, (request_class, method) in methods.items()
            }
            server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))

    def _behaviour(self, api: str, request_class: type[Message], method: Method) -> Behaviour:
        is_coroutine = inspect.iscoroutinefunction(method)
        takes_size = "size" in inspect.signature(method).parameters

        async def call(content: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
            started = time.perf_counter()
            if logs.request_lines_enabled():
                given = dict(context.invocation_metadata() or ()).get(REQUEST_ID)
                logs.begin_request(given if isinstance(given, str) else None)
            result, model_name = b"", ""
            code, details = grpc.StatusCode.OK, ""
            self._begin(content)
            deadlines.begin(context.time_remaining())
            try:
                self._check_room(content)
                if (refusal := self._shedding.check(api, content)) is not None:
                    latency_s = time.perf_counter() - started
                    self._events.signature_finished(**refusal.key, code=refusal.code, latency_s=latency_s)
                    raise refusal
                size = size_of(content, _descriptor_of(request_class))
                request = await self._offload.run(partial(_parse, content, request_class), size=size)
                model_name = _model_name(request)
                returned = method(request, size=size) if takes_size else method(request)
                response = await returned if is_coroutine else returned
                result = await self._offload.run(response.SerializeToString, size=size)
            except QueueFull as error:
                self._shedding.remember(api, content, error)
                model_name, code, details = error.key["model_name"], error.code, error.message
            except ServingError as error:
                code, details = error.code, error.message
            except asyncio.CancelledError:
                code = grpc.StatusCode.CANCELLED
                raise
            except Exception as error:
                logger.exception("%s failed; this is a bug", api)
                code, details = grpc.StatusCode.INTERNAL, f"{type(error).__name__}: {error}"
            finally:
                if self._is_ending:
                    context.add_done_callback(lambda _: self._end(content))  # type: ignore[arg-type]
                else:
                    self._end(content)
                self._finished(api, model_name, code, details, time.perf_counter() - started)
            if code is not grpc.StatusCode.OK:
                context.set_code(code)
                context.set_details(cut(details))
            return result

        return call

    def _check_room(self, content: bytes) -> None:
        """Refuse `content` if all requests held now are too many bytes; one alone may be of any size."""
        if self._pending_bytes > self._max_pending_bytes and self._pending_bytes > len(content):
            raise unavailable(
                f"The server holds {self._pending_bytes} bytes of requests and takes {self._max_pending_bytes}; "
                "try again"
            )

    async def until_idle(self, timeout_s: float) -> None:
        """Return when no request is in hand and the responses have left, or after `timeout_s`."""
        self._is_ending = True
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), timeout_s)

    def _begin(self, content: bytes) -> None:
        self._num_pending += 1
        self._pending_bytes += len(content)
        self._idle.clear()

    def _end(self, content: bytes) -> None:
        self._num_pending -= 1
        self._pending_bytes -= len(content)
        if not self._num_pending:
            self._idle.set()

    def _finished(self, api: str, model_name: str, code: grpc.StatusCode, details: str, latency_s: float) -> None:
        self._events.request_finished(model_name=model_name, api=api, entrypoint="GRPC", code=code, latency_s=latency_s)
        logs.request_finished(
            model_name=model_name, api=api, entrypoint="GRPC", code=code, latency_s=latency_s, error=details
        )


def make_server(
    *,
    arguments: str,
    max_concurrent_rpcs: int,
    max_message_bytes: int = MAX_MESSAGE_BYTES,
    interceptors: Sequence[grpc.aio.ServerInterceptor] = (),
    shares_port: bool = False,
) -> grpc.aio.Server:
    """A server without ports.

    Args:
        arguments: as in --grpc_channel_arguments.
        max_concurrent_rpcs: RPCs held at once.
        max_message_bytes: of a request, if that is more than gRPC's own default and less than its maximum.
        interceptors: what stands before all services: the door.
        shares_port: with other processes of the server.
    """
    options: list[tuple[str, int | str]] = [
        ("grpc.max_receive_message_length", min(MAX_MESSAGE_BYTES, max(LEAST_MESSAGE_BYTES, max_message_bytes))),
        ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        # Of one connection. Streams that are reset as soon as they are opened count until they are gone: without this
        # 135,000 of them in four seconds took 2 GB (https://nvd.nist.gov/vuln/detail/CVE-2023-44487).
        ("grpc.max_concurrent_streams", max_concurrent_rpcs),
        # Beyond these gRPC's core ends RPCs before we see them (https://github.com/grpc/grpc/pull/34782), as CANCELLED;
        # ours are refused with a reason. One that waits to be seen takes 10 kB.
        ("grpc.server.max_pending_requests", MAX_PENDING_REQUESTS),
        ("grpc.server.max_pending_requests_hard_limit", MAX_PENDING_REQUESTS),
        # Or a second server on the same port would start, and take half the requests.
        ("grpc.so_reuseport", int(shares_port)),
        *parse_arguments(arguments),
    ]
    return grpc.aio.server(options=options, maximum_concurrent_rpcs=max_concurrent_rpcs, interceptors=interceptors)


def add_port(server: grpc.aio.Server, address: str, tls: TlsConfig | None) -> None:
    """Have `server` listen.

    Args:
        server: not started yet.
        address: `HOST:PORT` or `unix:PATH`.
        tls: certificates; None for plaintext.

    Raises: OSError if the address cannot be bound.
    """
    try:
        if tls is None:
            server.add_insecure_port(address)
        else:
            credentials = grpc.ssl_server_credentials(
                [(tls.server_key, tls.server_cert)],
                root_certificates=tls.custom_ca or None,
                require_client_auth=tls.client_verify,
            )
            server.add_secure_port(address, credentials)
    except RuntimeError as error:  # grpcio: "Failed to bind to address ..."
        why = "; the certificates or the key may be wrong" if tls is not None else ""
        raise OSError(f"gRPC cannot listen on {address}: it is in use, or not ours to use{why}") from error


def parse_arguments(text: str) -> Sequence[tuple[str, int | str]]:
    """The pairs of `key=value,key=value`; values that are integers become such."""
    pairs: list[tuple[str, int | str]] = []
    for pair in text.split(","):
        key, equals, value = pair.strip().partition("=")
        if equals and key:
            pairs.append((key, int(value) if value.lstrip("-").isdecimal() else value))
    return pairs


def cut(text: str) -> str:
    """`text`, short enough for a status message."""
    content = text.encode()
    if len(content) <= MAX_STATUS_BYTES:
        return text
    return content[: MAX_STATUS_BYTES - len(CUT)].decode(errors="ignore") + CUT


def _descriptor_of(request_class: type[Message]) -> Descriptor:
    return cast(Descriptor, request_class.DESCRIPTOR)  # the C implementation has a class of its own for it


def _parse(content: bytes, request_class: type[Message]) -> Message:
    check_density(content, _descriptor_of(request_class))
    return parse(content, request_class)


def _model_name(request: Any) -> str:
    """The model that a request of any RPC names, empty if none."""
    spec = getattr(request, "model_spec", None)
    if spec is None and getattr(request, "tasks", None):
        spec = request.tasks[0].model_spec
    if spec is not None:
        return spec.name
    return getattr(request, "model_name", "") or getattr(request, "name", "")

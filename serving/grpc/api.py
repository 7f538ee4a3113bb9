"""The gRPC side: PredictionService and ModelService over `grpc.aio`.

Requests come as bytes and are parsed here, so that a message that does not parse is the caller's INVALID_ARGUMENT and
not an INTERNAL error of gRPC's. SessionService exists as a proto only, in TensorFlow Serving too: UNIMPLEMENTED.
"""

import asyncio
import contextlib
import inspect
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import grpc
from google.protobuf.message import DecodeError, Message
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    predict_pb2,
    regression_pb2,
)

from ..config.files import TlsConfig
from ..errors import QueueFull, ServingError, invalid_argument, unavailable
from ..handlers import Handlers
from ..load_shedding import FullQueues
from ..monitoring import logs
from ..monitoring.events import Observer

logger = logging.getLogger(__name__)

PREDICTION_SERVICE = "tensorflow.serving.PredictionService"
MODEL_SERVICE = "tensorflow.serving.ModelService"
MAX_PENDING_REQUESTS = 1_000_000
MAX_MESSAGE_BYTES = 2**31 - 1
MAX_STATUS_BYTES = 1024  # gRPC sends the text as a header, with three bytes for most others than ASCII; 8 kB is usual
CUT = "...TRUNCATED"
REQUEST_ID = "x-request-id"  # metadata in which a caller may name its request for the log

Method = Callable[[Any], Any]


class GrpcApi:
    """Binds `Handlers` to the two services."""

    def __init__(self, handlers: Handlers, *, observer: Observer, max_pending_bytes: int) -> None:
        """Args: max_pending_bytes: size of all requests held at once; what comes on top is refused."""
        self._observer = observer
        self._max_pending_bytes = max_pending_bytes
        self._pending_bytes = 0
        self._pending = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._handlers = handlers

    def add_to(self, server: grpc.aio.Server) -> None:
        """Register all methods with `server`."""
        handlers = self._handlers
        prediction = {
            "Predict": (predict_pb2.PredictRequest, handlers.predict),
            "Classify": (classification_pb2.ClassificationRequest, handlers.classify),
            "Regress": (regression_pb2.RegressionRequest, handlers.regress),
            "MultiInference": (inference_pb2.MultiInferenceRequest, handlers.multi_inference),
            "GetModelMetadata": (get_model_metadata_pb2.GetModelMetadataRequest, handlers.get_model_metadata),
        }
        model = {
            "GetModelStatus": (get_model_status_pb2.GetModelStatusRequest, handlers.get_model_status),
            "HandleReloadConfigRequest": (model_management_pb2.ReloadConfigRequest, handlers.reload_config),
        }
        for service, methods in ((PREDICTION_SERVICE, prediction), (MODEL_SERVICE, model)):
            server.add_generic_rpc_handlers(
                (
                    grpc.method_handlers_generic_handler(
                        service,
                        {
                            name: grpc.unary_unary_rpc_method_handler(self._method(name, message, method))
                            for name, (message, method) in methods.items()
                        },
                    ),
                )
            )

    def _method(
        self, api: str, message_class: type[Message], method: Method
    ) -> Callable[[bytes, grpc.aio.ServicerContext[bytes, bytes]], Awaitable[bytes]]:
        parse = message_class.FromString
        is_coroutine = inspect.iscoroutinefunction(method)
        full = FullQueues()

        async def call(content: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
            started = time.perf_counter()
            if logs.wanted():
                logs.begin_request(dict(context.invocation_metadata() or ()).get(REQUEST_ID))
            answer, model_name = b"", ""
            code, details = grpc.StatusCode.OK, ""
            self._begin(content)
            try:
                self._check_room(content)
                if (refusal := full.check(content)) is not None:
                    latency_s = time.perf_counter() - started
                    self._observer.signature_finished(**refusal.labels, code=refusal.code, latency_s=latency_s)
                    raise refusal
                request = _parse(parse, content, message_class)
                model_name = _model_name(request)
                response = await method(request) if is_coroutine else method(request)
                answer = response.SerializeToString()
            except QueueFull as error:
                full.remember(content, error)
                model_name, code, details = error.labels["model_name"], error.code, error.message
            except ServingError as error:
                code, details = error.code, error.message
            except asyncio.CancelledError:
                code = grpc.StatusCode.CANCELLED
                raise
            except Exception as error:
                logger.exception("%s failed; this is a bug", api)
                code, details = grpc.StatusCode.INTERNAL, f"{type(error).__name__}: {error}"
            finally:
                self._end(content)
                self._finished(api, model_name, code, details, time.perf_counter() - started)
            if code is not grpc.StatusCode.OK:
                context.set_code(code)
                context.set_details(cut(details))
            return answer

        return call

    def _check_room(self, content: bytes) -> None:
        """Refuse `content` if all requests held now are too many bytes; one alone may be of any size."""
        if self._pending_bytes > self._max_pending_bytes and self._pending_bytes > len(content):
            raise unavailable(
                f"The server holds {self._pending_bytes} bytes of requests and takes {self._max_pending_bytes}; "
                "try again"
            )

    async def until_idle(self, timeout_s: float) -> None:
        """Return when no request is being answered, or after `timeout_s`."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), timeout_s)

    def _begin(self, content: bytes) -> None:
        self._pending += 1
        self._pending_bytes += len(content)
        self._idle.clear()

    def _end(self, content: bytes) -> None:
        self._pending -= 1
        self._pending_bytes -= len(content)
        if not self._pending:
            self._idle.set()

    def _finished(self, api: str, model_name: str, code: grpc.StatusCode, details: str, latency_s: float) -> None:
        labels: dict[str, Any] = {"model_name": model_name, "api": api, "entrypoint": "GRPC", "code": code}
        self._observer.request_finished(**labels, latency_s=latency_s)
        logs.request_finished(**labels, latency_s=latency_s, error=details)


def make_server(*, arguments: str, max_concurrent_rpcs: int) -> grpc.aio.Server:
    """A server without ports; `arguments` as in --grpc_channel_arguments."""
    options: list[tuple[str, Any]] = [
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        # Beyond these gRPC's core ends RPCs as CANCELLED before we see them; ours are refused with a reason.
        ("grpc.server.max_pending_requests", MAX_PENDING_REQUESTS),
        ("grpc.server.max_pending_requests_hard_limit", MAX_PENDING_REQUESTS),
        ("grpc.so_reuseport", 0),  # or a second server on the same port would start, and take half the requests
        *parse_arguments(arguments),
    ]
    return grpc.aio.server(options=options, maximum_concurrent_rpcs=max_concurrent_rpcs)


def add_port(server: grpc.aio.Server, address: str, tls: TlsConfig | None) -> None:
    """Listen on `address`, `HOST:PORT` or `unix:PATH`; raises OSError if that cannot be."""
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
    """`key=value,key=value`; values that are integers become such."""
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


def _parse(parse: Callable[[bytes], Any], content: bytes, message_class: type[Message]) -> Any:
    try:
        return parse(content)
    except DecodeError as error:
        raise invalid_argument(f"the request is no {message_class.DESCRIPTOR.name}: {error}") from error


def _model_name(request: Any) -> str:
    """The model that a request names, empty if none."""
    spec = getattr(request, "model_spec", None)
    if spec is None and getattr(request, "tasks", None):
        spec = request.tasks[0].model_spec
    return spec.name if spec is not None else ""

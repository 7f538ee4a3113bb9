"""The REST API: HTTP on the server's own event loop, with TensorFlow Serving's routes, bodies and status codes.

`start` opens the port. Beside the API it serves `/healthz`, `/readyz` and, if monitoring is on, the metrics' path.
"""

import asyncio
import contextlib
import logging
import time
from dataclasses import dataclass, field
from functools import partial

import grpc
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from tensorflow_serving.apis.classification_pb2 import ClassificationRequest
from tensorflow_serving.apis.get_model_metadata_pb2 import GetModelMetadataRequest
from tensorflow_serving.apis.get_model_status_pb2 import GetModelStatusRequest
from tensorflow_serving.apis.input_pb2 import Input
from tensorflow_serving.apis.regression_pb2 import RegressionRequest

from ..arrays import Array
from ..config.files import MonitoringConfig
from ..errors import ServingError, failed_precondition, invalid_argument
from ..flags import ServerConfig
from ..load_shedding import Drain
from ..model.input_checks import check_shape
from ..model.signatures import Signature
from ..model_service import ModelService
from ..monitoring import logs
from ..monitoring.metrics import Metrics
from ..names import DEFAULT_SIGNATURE
from ..offload import SHORT, Offload
from ..prediction_service import PredictionService
from . import responses, routes
from .body import BodyReader, BodyTooLarge, json_size
from .examples import examples
from .long_json import parse_long_object
from .pieces import release
from .rapidjson import Document
from .routes import HTTP_STATUS, Target
from .tensors import CheckShape, signature_name, tensors

logger = logging.getLogger(__name__)

SHOWN_NAME = 256  # characters of a signature's name that an error repeats
CORS_HEADERS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "POST, GET",
    "Access-Control-Allow-Headers": "Content-Type",
}
NOT_FOUND_PAGE = "<HTML><HEAD>\n<TITLE>404 Not Found</TITLE>\n</HEAD><BODY>\n<H1>Not Found</H1>\n</BODY></HTML>\n"


@dataclass(frozen=True, kw_only=True, slots=True)
class Backend:
    """What is behind the API: the services that gRPC has too, and what is known about the server."""

    predictions: PredictionService
    models: ModelService
    drain: Drain
    metrics: Metrics
    offload: Offload = field(default_factory=Offload)


class RestApi:
    """Responds to HTTP requests."""

    def __init__(self, config: ServerConfig, backend: Backend, monitoring: MonitoringConfig | None = None) -> None:
        self._predictions = backend.predictions
        self._offload = backend.offload
        self._models = backend.models
        self._drain = backend.drain
        self._metrics = backend.metrics
        self._metrics_path = monitoring.path if monitoring and monitoring.enable else None
        self._timeout_s = config.rest_api_timeout_in_ms / 1e3 if config.rest_api_timeout_in_ms > 0 else None
        self._max_depth = config.rest_api_max_json_depth
        self._cors = CORS_HEADERS if config.rest_api_enable_cors_support else {}
        self._bodies = BodyReader(config.rest_api_max_body_mb * 10**6)

    async def respond(self, request: web.BaseRequest) -> web.StreamResponse:
        """The response to any request."""
        path = _path_of(request)
        if path == self._metrics_path:
            return web.Response(body=self._metrics.exposition(), headers={"Content-Type": "text/plain"})
        if path == "/healthz":
            return web.Response(text="ok\n")
        if path == "/readyz":
            return self._readiness()
        if not routes.is_api(path):
            return web.Response(status=404, text=NOT_FOUND_PAGE, content_type="text/html")
        return await self._respond_api(request, path)

    def _readiness(self) -> web.Response:
        reasons = ["draining: the server is about to end"] if self._drain.has_begun else []
        reasons += self._models.not_ready()
        return web.Response(status=503 if reasons else 200, text="\n".join(reasons or ["ok"]) + "\n")

    async def _respond_api(self, request: web.BaseRequest, path: str) -> web.Response:
        began = time.perf_counter()
        caller_id = request.headers.get("X-Request-Id")
        headers = dict(self._cors)
        if caller_id or logs.request_lines_enabled():
            headers["X-Request-Id"] = logs.begin_request(caller_id)
        target = Target("")
        code = grpc.StatusCode.CANCELLED  # if the caller leaves before there is a response
        message = ""
        try:
            if request.method == "OPTIONS":
                body = _preflight(request)
            else:
                target = routes.parse(request.method, path)
                body = await self._serve(request, target)
            code, status = grpc.StatusCode.OK, 200
        except ServingError as error:
            code, message = error.code, error.message
            status = 413 if isinstance(error, BodyTooLarge) else HTTP_STATUS[code]
        except Exception:
            logger.exception("request %s %s failed", request.method, path)
            code, message, status = grpc.StatusCode.INTERNAL, "Internal error; the server's log has it", 500
        finally:
            self._finished(target, code, time.perf_counter() - began, message)
        if code is not grpc.StatusCode.OK:
            body = responses.error_body(message)
        response = web.Response(body=body, status=status, headers=headers, content_type="application/json")
        if self._drain.has_begun or status == 413:
            response.force_close()
        return response

    def _finished(self, target: Target, code: grpc.StatusCode, latency_s: float, message: str) -> None:
        self._metrics.request_finished(
            model_name=target.model_name, api=target.verb, entrypoint="REST", code=code, latency_s=latency_s
        )
        logs.request_finished(
            entrypoint="REST",
            api=target.verb or ("metadata" if target.metadata else "status"),
            model_name=target.model_name,
            code=code,
            latency_s=latency_s,
            error=message,
        )

    async def _serve(self, request: web.BaseRequest, target: Target) -> bytes:
        if not target.verb:
            return self._describe(target)
        async with self._bodies.read(request) as body:
            size = json_size(body)
            document = await self._offload.run(partial(parse_long_object, body), size=size)
            try:
                async with asyncio.timeout(self._timeout_s):
                    return await self._infer(target, document, size=size)
            except TimeoutError:
                raise ServingError(
                    grpc.StatusCode.DEADLINE_EXCEEDED,
                    f"Request was not answered within {self._timeout_s} s (--rest_api_timeout_in_ms)",
                ) from None

    def _describe(self, target: Target) -> bytes:
        if not target.model_name:
            raise invalid_argument("Missing model name in request.")
        if target.metadata:
            request = GetModelMetadataRequest(model_spec=target.model_spec(), metadata_field=["signature_def"])
            return responses.metadata(self._predictions.get_model_metadata(request))
        return responses.status(self._models.get_model_status(GetModelStatusRequest(model_spec=target.model_spec())))

    async def _infer(self, target: Target, document: Document, *, size: int) -> bytes:
        signature = signature_name(document)
        if target.verb == "predict":
            return await self._predict(target, document, signature, size=size)
        spec = target.model_spec(signature)
        content = await self._offload.run(partial(_examples, document, size), size=size)
        if target.verb == "classify":
            to_classify = ClassificationRequest(model_spec=spec, input=content)
            classified = await self._predictions.classify(to_classify, size=size)
            num_classes = sum(len(each.classes) for each in classified.result.classifications)
            return await self._offload.run(partial(responses.classifications, classified.result), size=num_classes)
        regressed = await self._predictions.regress(RegressionRequest(model_spec=spec, input=content), size=size)
        num_values = len(regressed.result.regressions)
        return await self._offload.run(partial(responses.regressions, regressed.result), size=num_values)

    async def _predict(self, target: Target, document: Document, name: str, *, size: int) -> bytes:
        with self._predictions.call("Predict", target.model_spec(name)) as call:
            try:
                signature = call.model.signature(name)
            except ServingError as error:
                shown = (name or DEFAULT_SIGNATURE)[:SHOWN_NAME]
                raise invalid_argument(f'Serving signature name: "{shown}" not found in signature def') from error
            inputs, row_form = await self._offload.run(partial(self._tensors, document, signature, size), size=size)
            outputs = await self._predictions.predict_arrays(call, name, inputs)
        num_elements = sum(array.size for array in outputs.values())
        return await self._offload.run(partial(responses.predictions, outputs, row_form=row_form), size=num_elements)

    def _tensors(self, document: Document, signature: Signature, size: int) -> tuple[dict[str, Array], bool]:
        """A document's tensors; those of a long one are held against the signature by their shapes first."""
        inputs = signature.definition.inputs
        if size <= SHORT:
            return tensors(document, inputs, max_depth=self._max_depth)
        try:
            return tensors(document, inputs, max_depth=self._max_depth, check_shape=_shape_check(signature))
        finally:
            release(document.members)


def _shape_check(signature: Signature) -> CheckShape:
    specs = {spec.alias: spec for spec in signature.inputs}

    def check(alias: str, shape: tuple[int, ...]) -> None:
        check_shape(specs[alias], shape, trailing_ones_optional=signature.trailing_ones_optional)

    return check


def _examples(document: Document, size: int) -> Input:
    try:
        return examples(document)
    finally:
        if size > SHORT:
            release(document.members)


def _path_of(request: web.BaseRequest) -> str:
    """The path as it came, which is what the API's patterns match: not decoded, without the query."""
    raw = request.raw_path if request.raw_path.startswith("/") else request.rel_url.raw_path
    return raw.partition("?")[0].partition("#")[0]


def _preflight(request: web.BaseRequest) -> bytes:
    if not request.headers.get("Origin", "").startswith(("http://", "https://")):
        raise failed_precondition("Origin header is missing in CORS preflight")
    return b""


def _http_logger() -> logging.Logger:
    """A logger without the caller's own mistakes: a traceback for each would fill the disk."""
    http_logger = logging.getLogger("serving.http")
    http_logger.addFilter(lambda record: not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError)))
    return http_logger


class RestServer:
    """The open port."""

    def __init__(self, server: web.Server, runner: web.ServerRunner, port: int) -> None:
        self.port = port
        self._server = server
        self._runner = runner

    async def stop(self, grace_s: float) -> None:
        """Take no more connections, and wait up to `grace_s` for the requests in hand."""
        for site in list(self._runner.sites):
            await site.stop()
        await asyncio.sleep(0)  # what has arrived by now becomes a request, and gets its response
        self._server.pre_shutdown()
        await self._server.shutdown(grace_s)
        await self._runner.cleanup()


async def start(config: ServerConfig, backend: Backend, monitoring: MonitoringConfig | None = None) -> RestServer:
    """Serve HTTP on `config.rest_api_port`, on all addresses; 0: on any free port.

    Args:
        config: the flags.
        backend: what is behind the API.
        monitoring: where the metrics' page is; None for nowhere.

    Raises: OSError if the port is in use.
    """
    api = RestApi(config, backend, monitoring)
    server = web.Server(
        api.respond,
        handler_cancellation=True,
        access_log=None,
        auto_decompress=False,
        keepalive_timeout=75.0,
        logger=_http_logger(),
    )
    runner = web.ServerRunner(server)
    await runner.setup()
    site = web.TCPSite(runner, "0.0.0.0", config.rest_api_port, backlog=1024, reuse_address=True)
    try:
        await site.start()
    except OSError:
        await runner.cleanup()
        raise
    port = runner.addresses[0][1]
    with contextlib.suppress(OSError):  # localhost is ::1 first; a machine without IPv6 does without
        await web.TCPSite(runner, "::", port, backlog=1024, reuse_address=True).start()
    logger.info("REST API on http://localhost:%d", port)
    return RestServer(server, runner, port)

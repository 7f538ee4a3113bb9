"""The REST API: HTTP on the server's own event loop, with TensorFlow Serving's routes, bodies and status codes.

`start` opens the port. Beside the API it serves the Open Inference Protocol (v2/api.py), `/healthz`, `/readyz` and, if
monitoring is on, the metrics' path.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

import grpc
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from tensorflow.core.protobuf.meta_graph_pb2 import TensorInfo
from tensorflow_serving.apis.classification_pb2 import ClassificationRequest
from tensorflow_serving.apis.get_model_metadata_pb2 import GetModelMetadataRequest
from tensorflow_serving.apis.get_model_status_pb2 import GetModelStatusRequest
from tensorflow_serving.apis.input_pb2 import Input
from tensorflow_serving.apis.regression_pb2 import RegressionRequest

from ..arrays import Array
from ..config.files import MonitoringConfig
from ..deadlines import time_limit
from ..errors import ServingError, failed_precondition, invalid_argument
from ..flags import ServerConfig
from ..load_shedding import Drain
from ..model.unannounced_shapes import ShapeCheck
from ..model_service import ModelService
from ..monitoring import logs
from ..monitoring.metrics import Metrics
from ..monitoring.tracing import OFF, Tracing
from ..names import DEFAULT_SIGNATURE
from ..offload import SHORT, Offload
from ..prediction_service import PredictionService
from ..v2.service import V2Service
from . import responses, routes
from .body import BodyReader, BodyTooLarge, json_size
from .connections import HttpServer, path_of
from .door import Guard
from .examples import examples
from .long_json import parse_long_object
from .pieces import release
from .rapidjson import MAX_SHOWN_BYTES, Document
from .routes import HTTP_STATUS, TIMEOUT_FLAG, Target
from .tensors import signature_name, tensors
from .v2 import routes as v2_routes
from .v2.api import V2Api
from .v2.responses import Reply

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
    v2: V2Service | None = None  # None: without the Open Inference Protocol
    offload: Offload = field(default_factory=Offload)
    num_processes: int = 1  # that share the limit of all bodies together
    tracing: Tracing = OFF


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
        self._bodies = BodyReader(config.rest_api_max_body_mb * 10**6, num_processes=backend.num_processes)
        self._v2 = self._make_v2(backend.v2) if backend.v2 is not None else None

    async def respond(self, request: web.BaseRequest) -> web.StreamResponse:
        """The response to any request."""
        path = path_of(request)
        if path == self._metrics_path:
            return web.Response(body=await self._metrics.page(), headers={"Content-Type": "text/plain"})
        if path == "/healthz":
            return web.Response(text="ok\n")
        if path == "/readyz":
            return self._readiness()
        if self._v2 is not None and v2_routes.is_v2(path):
            return await self._respond_v2(self._v2, request, path)
        if not routes.is_api(path):
            return web.Response(status=404, text=NOT_FOUND_PAGE, content_type="text/html")
        return await self._respond_api(request, path)

    def _readiness(self) -> web.Response:
        reasons = ["draining: the server is about to end"] if self._drain.has_begun else []
        reasons += ["loading the first models"] if self._drain.is_loading else []
        reasons += self._models.not_ready()
        return web.Response(status=503 if reasons else 200, text="\n".join(reasons or ["ok"]) + "\n")

    def _make_v2(self, service: V2Service) -> V2Api:
        return V2Api(
            service,
            bodies=self._bodies,
            offload=self._offload,
            timeout_s=self._timeout_s,
            max_depth=self._max_depth,
        )

    async def _respond_v2(self, v2: V2Api, request: web.BaseRequest, path: str) -> web.Response:
        if request.method == "OPTIONS":
            return await self._respond_api(request, path)
        try:
            target = v2_routes.parse(request.method, path)
        except v2_routes.NoRoute as error:
            return web.json_response({"error": error.message}, status=error.status, headers=self._cors)
        return v2.probe(target) or await self._respond_api(request, path, v2_target=target)

    async def _respond_api(
        self, request: web.BaseRequest, path: str, v2_target: v2_routes.Target | None = None
    ) -> web.Response:
        began = time.perf_counter()
        caller_id = request.headers.get("X-Request-Id")
        headers = dict(self._cors)
        if caller_id or logs.request_lines_enabled():
            headers["X-Request-Id"] = logs.begin_request(caller_id)
        target: Target | v2_routes.Target = v2_target or Target("")
        code = grpc.StatusCode.CANCELLED  # if the caller leaves before there is a response
        message = ""
        try:
            if request.method == "OPTIONS":
                reply = Reply(_preflight(request))
            elif v2_target is not None:
                assert self._v2 is not None
                reply = await self._v2.serve(request, v2_target)
            else:
                target = routes.parse(request.method, path)
                reply = Reply(await self._serve(request, target))
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
            reply = Reply(responses.error_body(message if v2_target is None else message[:MAX_SHOWN_BYTES]))
        headers.update(reply.headers)
        response = web.Response(body=reply.body, status=status, headers=headers, content_type=reply.content_type)
        if self._drain.has_begun or status == 413:
            response.force_close()
        return response

    def _finished(
        self, target: Target | v2_routes.Target, code: grpc.StatusCode, latency_s: float, message: str
    ) -> None:
        self._metrics.request_finished(
            model_name=target.model_name, api=target.verb, entrypoint="REST", code=code, latency_s=latency_s
        )
        logs.request_finished(
            entrypoint="REST",
            api=target.api,
            model_name=target.model_name,
            code=code,
            latency_s=latency_s,
            error=message,
        )

    async def _serve(self, request: web.BaseRequest, target: Target) -> bytes:
        if not target.verb:
            return await self._describe(target)
        async with self._bodies.read(request) as body:
            size = json_size(body)
            document = await self._offload.run(partial(parse_long_object, body), size=size)
            async with time_limit(self._timeout_s, TIMEOUT_FLAG):
                return await self._infer(target, document, size=size)

    async def _describe(self, target: Target) -> bytes:
        if not target.model_name:
            raise invalid_argument("Missing model name in request.")
        if target.metadata:
            request = GetModelMetadataRequest(model_spec=target.model_spec(), metadata_field=["signature_def"])
            return responses.metadata(self._predictions.get_model_metadata(request))
        status = await self._models.get_model_status(GetModelStatusRequest(model_spec=target.model_spec()))
        return responses.status(status)

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
            check_shape = call.model.shape_check(signature) if size > SHORT else None
            to_tensors = partial(self._tensors, document, signature.definition.inputs, check_shape)
            inputs, row_form = await self._offload.run(to_tensors, size=size)
            outputs = await self._predictions.predict_arrays(call, name, inputs)
        num_elements = sum(array.size for array in outputs.values())
        return await self._offload.run(partial(responses.predictions, outputs, row_form=row_form), size=num_elements)

    def _tensors(
        self, document: Document, inputs: Mapping[str, TensorInfo], check_shape: ShapeCheck | None
    ) -> tuple[dict[str, Array], bool]:
        """A document's tensors; those of a long one are held against the signature by their shapes first."""
        try:
            return tensors(document, inputs, max_depth=self._max_depth, check_shape=check_shape)
        finally:
            if check_shape is not None:
                release(document.members)


def _examples(document: Document, size: int) -> Input:
    try:
        return examples(document)
    finally:
        if size > SHORT:
            release(document.members)


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

    def __init__(self, server: HttpServer, runner: web.ServerRunner, port: int) -> None:
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


async def start(
    config: ServerConfig,
    backend: Backend,
    monitoring: MonitoringConfig | None = None,
    guard: Guard | None = None,
    *,
    shares_port: bool = False,
) -> RestServer:
    """Serve HTTP on `config.rest_api_port`, on all addresses; 0: on any free port.

    Args:
        config: the flags.
        backend: what is behind the API.
        monitoring: where the metrics' page is; None for nowhere.
        guard: the door before the API, and TLS; None without.
        shares_port: with other processes of the server.

    Raises: OSError if the port is in use.
    """
    api = RestApi(config, backend, monitoring)
    server = HttpServer(
        backend.tracing.http(guard.door.before(api.respond) if guard and guard.door else api.respond),
        handler_cancellation=True,
        access_log=None,
        auto_decompress=False,
        keepalive_timeout=75.0,
        logger=_http_logger(),
    )
    runner = web.ServerRunner(server)
    await runner.setup()
    tls = guard.tls if guard else None
    open_port = partial(web.TCPSite, runner, backlog=1024, reuse_address=True, reuse_port=shares_port, ssl_context=tls)
    try:
        await open_port("0.0.0.0", config.rest_api_port).start()
    except OSError:
        await runner.cleanup()
        raise
    port = runner.addresses[0][1]
    with contextlib.suppress(OSError):  # localhost is ::1 first; a machine without IPv6 does without
        await open_port("::", port).start()
    logger.info("REST API on %s://localhost:%d", "http" if tls is None else "https", port)
    return RestServer(server, runner, port)

"""Spans of requests, by OpenTelemetry: the classes of tracing.py that do something.

    client's span ─┬─ SERVER   the RPC or HTTP request
                   ├─── queue    one request waits                             ─ ─ link to its batch
                   └─── batch    requests that run together, in the trace of   ─ ─ links to all of them
                         └─ run  the first one that is sampled

A batch may serve requests of many traces and a span has one parent only, hence the links. Names of attributes are those
of OpenTelemetry's semantic conventions, and `inkling.` for what these do not know.
"""

import re
import threading
import time
from collections.abc import Mapping, Sequence
from contextvars import Token
from types import TracebackType
from typing import Any, Self

import grpc
from opentelemetry import propagate
from opentelemetry.context import Context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import Sampler, TraceIdRatioBased
from opentelemetry.trace import Link, SpanKind, StatusCode, Tracer, set_span_in_context
from opentelemetry.trace import Span as OtelSpan

from ..arrays import Array, Function
from ..errors import ServingError
from ..names import ModelKey
from .tracing import (
    Batch,
    Handler,
    Queued,
    Span,
    Traced,
    Tracing,
    current_request,
)

# Which statuses are a server's errors, not the caller's:
# https://opentelemetry.io/docs/specs/semconv/rpc/grpc/
SERVER_ERRORS = frozenset({"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"})
CODES = {code.value[0]: code.name for code in grpc.StatusCode}
# https://www.w3.org/TR/trace-context/#traceparent-header, with the lowest bit of its flags not set
NOT_SAMPLED = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f][02468ace]")
API_PATH = re.compile(r"/v[12]([/?]|$)")
PARTS_OF_PATHS = (  # what differs between requests of one route
    (re.compile(r"/models/[^/:]+"), "/models/{model}"),
    (re.compile(r"/versions/[^/:]+"), "/versions/{version}"),
    (re.compile(r"/labels/[^/:]+"), "/labels/{label}"),
)


class OtelTracing(Tracing):
    """Spans to one provider."""

    def __init__(self, provider: TracerProvider) -> None:
        self._provider = provider
        self._ids = DrawnIds(provider.id_generator)
        provider.id_generator = self._ids  # type: ignore[assignment]  # annotated by its default
        self._bound = _bound_of(provider.sampler)
        self._tracer = provider.get_tracer("inkling.serving")
        self._follows_callers = provider.sampler.get_description().startswith("ParentBased")
        self._fields = propagate.get_global_textmap().fields  # headers that bring a trace along

    def rpc(self, method: str, behaviour: Handler) -> Handler:
        attributes = {"rpc.system.name": "grpc", "rpc.method": method}

        async def traced(content: bytes, context: Any) -> Any:
            headers = {key: value for key, value in context.invocation_metadata() or () if key in self._fields}
            if self._is_declined(headers):
                return await behaviour(content, context)
            parent = self._parent(headers)
            span = self._tracer.start_span(method, parent, SpanKind.SERVER, attributes)
            if not span.is_recording():
                return await behaviour(content, context)
            with TracedRpc(self._tracer, span) as request:
                response = await behaviour(content, context)
                request.ended(_code_name(context.code()), str(context.details() or ""))
            return response

        return traced

    def http(self, respond: Handler) -> Handler:
        async def traced(request: Any) -> Any:
            raw = request.raw_path  # `path` would be decoded, which takes longer than all else here
            if not API_PATH.match(raw if raw.startswith("/") else request.path):
                return await respond(request)
            headers = {key: request.headers[key] for key in self._fields if key in request.headers}
            if self._is_declined(headers):
                return await respond(request)
            parent = self._parent(headers)
            span = self._tracer.start_span(request.method, parent, SpanKind.SERVER)
            if not span.is_recording():
                return await respond(request)
            _describe(span, request)
            with TracedRequest(self._tracer, span):
                response = await respond(request)
                span.set_attribute("http.response.status_code", response.status)
                if response.status >= 500:
                    _fail(span, str(response.status))
            return response

        return traced

    def close(self, timeout_s: float) -> None:
        # The provider would wait for its exporter for 30 seconds, whatever it is told.
        closing = threading.Thread(target=self._provider.shutdown, name="traces-close", daemon=True)
        closing.start()
        closing.join(timeout_s)

    def _is_declined(self, headers: Mapping[str, str]) -> bool:
        """Whether there is no span: by the flag of the caller's `traceparent`, or by our ratio where there is none.

        OpenTelemetry comes to the same in several times as long, and most requests are such.
        """
        if not headers:
            return self._bound is not None and not self._ids.draw(self._bound)
        return self._follows_callers and NOT_SAMPLED.fullmatch(headers.get("traceparent", "")) is not None

    @staticmethod
    def _parent(headers: Mapping[str, str]) -> Context:
        return propagate.extract(headers) if headers else Context()


class DrawnIds(IdGenerator):
    """The ids of another generator; a trace's may be drawn before it begins."""

    def __init__(self, ids: IdGenerator) -> None:
        self._ids = ids
        self._drawn: int | None = None

    def draw(self, bound: int) -> bool:
        """Draw a trace's id; returns whether it is sampled, and then it is that of the next trace."""
        trace_id = self._ids.generate_trace_id()
        is_sampled = trace_id & TraceIdRatioBased.TRACE_ID_LIMIT < bound
        self._drawn = trace_id if is_sampled else None
        return is_sampled

    def generate_trace_id(self) -> int:
        drawn, self._drawn = self._drawn, None
        return self._ids.generate_trace_id() if drawn is None else drawn

    def generate_span_id(self) -> int:
        return self._ids.generate_span_id()

    def is_trace_id_random(self) -> bool:
        return self._ids.is_trace_id_random()


def _bound_of(sampler: Sampler) -> int | None:
    """Below which a trace's id is sampled that begins here; None if `sampler` goes by something else."""
    root = getattr(sampler, "_root", sampler)  # of one that goes by the parent, where there is none
    return root.bound if isinstance(root, TraceIdRatioBased) else None


def _describe(span: OtelSpan, request: Any) -> None:
    """Say what an HTTP request is: only now, since most are not sampled."""
    route = route_of(request.path)
    span.update_name(f"{request.method} {route}")
    span.set_attributes(
        {
            "http.request.method": request.method,
            "http.route": route,
            "url.path": request.path,
            "url.scheme": request.scheme,
        }
    )


def route_of(path: str) -> str:
    """`path` with names in place of what differs between requests."""
    for part, name in PARTS_OF_PATHS:
        path = part.sub(name, path)
    return path


def _code_name(code: Any) -> str:
    """A status that was set; gRPC gives it as it was set, as a number, or as 0 where none was."""
    return code.name if isinstance(code, grpc.StatusCode) else CODES.get(code or 0, "UNKNOWN")


def _fail(span: OtelSpan, kind: str, message: str = "") -> None:
    span.set_attribute("error.type", kind)
    span.set_status(StatusCode.ERROR, message or None)


def _fail_by(span: OtelSpan, error: BaseException) -> None:
    kind = error.code.name if isinstance(error, ServingError) else type(error).__name__
    _fail(span, kind, str(error))


class OtelSpanOf(Span):
    """One span, which ends with its block, and has failed if the block has."""

    __slots__ = ("span", "tracer")

    def __init__(self, tracer: Tracer, span: OtelSpan) -> None:
        self.tracer = tracer
        self.span = span

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            _fail_by(self.span, error)
        self.span.end()

    def child(self, name: str, **options: Any) -> OtelSpan:
        """A span within this one."""
        return self.tracer.start_span(name, set_span_in_context(self.span, Context()), **options)


class TracedRequest(OtelSpanOf, Traced):
    """A request in a trace that is sampled."""

    __slots__ = ("_token",)

    def __enter__(self) -> Self:
        self._token: Token[Traced] = current_request.set(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        current_request.reset(self._token)
        super().__exit__(kind, error, trace)

    def ids(self) -> Mapping[str, str]:
        context = self.span.get_span_context()
        return {"trace_id": f"{context.trace_id:032x}", "span_id": f"{context.span_id:016x}"}

    def found(self, *, model_name: str, version: int) -> None:
        self.span.set_attributes({"inkling.model": model_name, "inkling.version": version})

    def queued(self) -> Queued:
        return TracedQueued(self)


class TracedRpc(TracedRequest):
    """An RPC."""

    __slots__ = ()

    def ended(self, code: str, message: str) -> None:
        """It was answered with the status `code`."""
        self.span.set_attribute("rpc.response.status_code", code)
        if code in SERVER_ERRORS:
            _fail(self.span, code, message)


class TracedQueued(Queued):
    """A request of such a trace that waits."""

    __slots__ = ("_came_at", "_has_left", "request")

    def __init__(self, request: TracedRequest) -> None:
        self.request = request
        self._came_at = time.time_ns()
        self._has_left = False

    def batch(self, key: ModelKey, queued: Sequence[Queued], *, num_rows: int, num_padded_rows: int) -> Batch:
        traced = [each for each in queued if isinstance(each, TracedQueued)]
        attributes = {
            "inkling.model": key["model_name"],
            "inkling.version": key["version"],
            "inkling.signature": key["signature_name"],
            "inkling.batch.num_requests": len(queued),
            "inkling.batch.num_rows": num_rows,
            "inkling.batch.num_padded_rows": num_padded_rows,
        }
        links = [Link(each.request.span.get_span_context()) for each in traced]
        found = TracedBatch(self.request.tracer, self.request.child("batch", attributes=attributes, links=links))
        for each in traced:
            each.left(found.span)
        return found

    def left(self, batch: OtelSpan) -> None:
        """It waits no more; a batch that fails is run again one by one, which is no second wait."""
        if not self._has_left:
            self._has_left = True
            links = [Link(batch.get_span_context())]
            self.request.child("queue", links=links, start_time=self._came_at).end()


class TracedBatch(OtelSpanOf, Batch):
    """A batch with a request of such a trace in it."""

    __slots__ = ()

    def traced(self, function: Function) -> Function:
        def run(values: Sequence[Array]) -> list[Array]:
            with OtelSpanOf(self.tracer, self.child("run")):
                return function(values)

        return run

"""A collector of OpenTelemetry's in the test's own process: takes traces over OTLP, and has them for a look."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType

import grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)
from opentelemetry.proto.trace.v1 import trace_pb2

from tests.patience import wait_until


@dataclass(frozen=True)
class Span:
    """A span as it came, with the name of the program that made it."""

    service: str
    proto: trace_pb2.Span

    @property
    def name(self) -> str:
        return self.proto.name

    @property
    def kind(self) -> str:
        return trace_pb2.Span.SpanKind.Name(self.proto.kind).removeprefix("SPAN_KIND_")

    @property
    def trace(self) -> str:
        return self.proto.trace_id.hex()

    @property
    def id(self) -> str:
        return self.proto.span_id.hex()

    @property
    def parent(self) -> str:
        return self.proto.parent_span_id.hex()

    @property
    def links(self) -> set[str]:
        """The ids of the spans that it is linked to."""
        return {link.span_id.hex() for link in self.proto.links}

    @property
    def attributes(self) -> dict[str, object]:
        return _values(self.proto.attributes)

    @property
    def failed(self) -> bool:
        return self.proto.status.code == trace_pb2.Status.STATUS_CODE_ERROR


def _values(attributes) -> dict[str, object]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in attributes}


class Collector(TraceServiceServicer):
    """Listens from `with` to the end of its block; `port` 0 is any free one."""

    def __init__(self, port: int = 0) -> None:
        self.requests: list[ExportTraceServiceRequest] = []
        self._lock = threading.Lock()
        self._server = grpc.server(ThreadPoolExecutor(4))
        add_TraceServiceServicer_to_server(self, self._server)
        self.port = self._server.add_insecure_port(f"127.0.0.1:{port}")
        self.endpoint = f"http://127.0.0.1:{self.port}"
        # Spans are sent soon, so that tests need not wait for them.
        self.environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": self.endpoint, "OTEL_BSP_SCHEDULE_DELAY": "50"}

    def Export(self, request, context):
        with self._lock:
            self.requests.append(request)
        return ExportTraceServiceResponse()

    def __enter__(self) -> "Collector":
        self._server.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.stop(None)

    @property
    def spans(self) -> list[Span]:
        with self._lock:
            return [span for request in self.requests for span in _spans(request)]

    def wait_for(self, *names: str) -> list[Span]:
        """All spans, once there is one at least of each of these names."""

        def missing() -> set[str]:
            return set(names) - {span.name for span in self.spans}

        wait_until(lambda: not missing(), lambda: f"no {missing()} in {[span.name for span in self.spans]}")
        return self.spans


def _spans(request: ExportTraceServiceRequest) -> Iterator[Span]:
    for resource in request.resource_spans:
        service = str(_values(resource.resource.attributes)["service.name"])
        for scope in resource.scope_spans:
            yield from (Span(service, proto) for proto in scope.spans)

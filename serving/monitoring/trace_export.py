"""Where the spans of a server go: its tracer provider, as OTEL_ variables say.

OpenTelemetry is imported within functions: it takes time and memory that only those who want traces should pay.
"""

import logging
from collections.abc import Iterator, Mapping
from importlib import metadata
from typing import Any

from .tracing import OFF, Tracing

logger = logging.getLogger(__name__)

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
EXPORTERS = "OTEL_TRACES_EXPORTER"
DISABLED = "OTEL_SDK_DISABLED"
SERVICE_NAME = "inkling-serving"
# They log each try that failed, and that there is no room for more spans.
CHATTY = ("opentelemetry.exporter", "opentelemetry.sdk._shared_internal")


def from_environment(environment: Mapping[str, str]) -> Tracing:
    """What OpenTelemetry's variables ask for; `OFF`, with a line in the log, if it is not installed."""
    if not is_wanted(environment):
        return OFF
    try:
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        from .otel import OtelTracing

        provider = TracerProvider(resource=_resource(), shutdown_on_exit=False)
        for exporter in list(_exporters(environment)):
            provider.add_span_processor(BatchSpanProcessor(exporter))
    except ImportError as error:
        logger.warning("no traces, though OTEL_ variables ask for them: %s; pip install 'inkling-serving[otel]'", error)
        return OFF
    logger.info("traces of requests go to %s", _endpoint(environment))
    return OtelTracing(provider)


def is_wanted(environment: Mapping[str, str]) -> bool:
    """Whether variables of OpenTelemetry's ask for traces: an exporter by name, or else an endpoint."""
    if environment.get(DISABLED, "").strip().lower() == "true":
        return False
    if exporter := environment.get(EXPORTERS, "").strip().lower():
        return exporter != "none"
    return any(environment.get(name, "").strip() for name in ENDPOINTS)


class PatientExporter:
    """An exporter that says once that nobody takes its spans, and once that somebody does again."""

    def __init__(self, exporter: Any, endpoint: str) -> None:
        self._exporter = exporter
        self._endpoint = endpoint
        self._is_away = False
        for name in CHATTY:
            logging.getLogger(name).setLevel(logging.CRITICAL)

    def export(self, spans: Any) -> Any:
        """Send `spans`; returns the exporter's own result."""
        result = self._exporter.export(spans)
        is_away = result.name != "SUCCESS"
        if is_away and not self._is_away:
            logger.warning("traces do not get to %s, and are dropped meanwhile: is a collector there?", self._endpoint)
        elif self._is_away and not is_away:
            logger.info("traces get to %s again", self._endpoint)
        self._is_away = is_away
        return result

    def shutdown(self) -> None:
        """Close it."""
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Nothing is kept here."""
        return True


def _resource() -> Any:
    """Who this is: by OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES, and by our own name without them."""
    from opentelemetry.sdk.resources import Resource

    resource = Resource.create()
    if str(resource.attributes.get("service.name", "")).startswith("unknown_service"):
        resource = resource.merge(Resource({"service.name": SERVICE_NAME}))
    return resource


def _exporters(environment: Mapping[str, str]) -> Iterator[Any]:
    """Those that are named.

    Raises: ImportError if one is not installed.
    """
    for name in _exporter_names(environment):
        found = [*metadata.entry_points(group="opentelemetry_traces_exporter", name=name)]
        if not found:
            raise ImportError(f"there is no exporter {name!r} ({EXPORTERS})")
        yield PatientExporter(found[0].load()(), _endpoint(environment))


def _exporter_names(environment: Mapping[str, str]) -> list[str]:
    """The exporters as their packages call themselves; `otlp` is two, by the protocol, and gRPC by default."""
    protocol = next((value for name in PROTOCOLS if (value := environment.get(name, "").strip())), "grpc")
    otlp = "otlp_proto_http" if protocol.startswith("http") else "otlp_proto_grpc"
    names = (environment.get(EXPORTERS, "").strip() or "otlp").split(",")
    return [otlp if name.strip().lower() == "otlp" else name.strip() for name in names]


def _endpoint(environment: Mapping[str, str]) -> str:
    return next((value for name in ENDPOINTS if (value := environment.get(name, ""))), "the exporter's usual place")

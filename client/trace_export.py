"""Where the spans of a command go: a tracer provider for the whole process, as OTEL_ variables say.

OpenTelemetry is imported within functions: that takes longer than all else that most commands do.
"""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
EXPORTERS = "OTEL_TRACES_EXPORTER"
DISABLED = "OTEL_SDK_DISABLED"
SERVICE_NAME = "inkling-client"
CLOSE_S = 2.0  # that a command waits at its end for its spans to be taken
# They log each try that failed, and that there is no room for more spans.
CHATTY = ("opentelemetry.exporter", "opentelemetry.sdk._shared_internal")
Tell = Callable[[str], None]


@contextmanager
def exported(environment: Mapping[str, str], tell: Tell) -> Iterator[None]:
    """Make traces of the block as OTEL_ variables say, and send them.

    Args:
        environment: has these variables.
        tell: takes a line about traces that are wanted and cannot be made, or sent.
    """
    close = _begin(environment, tell) if is_wanted(environment) else _nothing
    try:
        yield
    finally:
        close()


def is_wanted(environment: Mapping[str, str]) -> bool:
    """Whether variables of OpenTelemetry's ask for traces: an exporter by name, or else an endpoint."""
    if environment.get(DISABLED, "").strip().lower() == "true":
        return False
    if exporter := environment.get(EXPORTERS, "").strip().lower():
        return exporter != "none"
    return any(environment.get(name, "").strip() for name in ENDPOINTS)


class OneComplaint:
    """An exporter that tells once that nobody takes its spans."""

    def __init__(self, exporter: Any, endpoint: str, tell: Tell) -> None:
        self._exporter, self._endpoint, self._tell = exporter, endpoint, tell
        self._has_told = False

    def export(self, spans: Any) -> Any:
        """Send `spans`; returns the exporter's own result."""
        result = self._exporter.export(spans)
        if result.name != "SUCCESS":
            self.complain()
        return result

    def complain(self) -> None:
        """Tell it, unless that was done."""
        if not self._has_told:
            self._has_told = True
            self._tell(f"traces do not get to {self._endpoint}, and are dropped: is a collector there?")

    def shutdown(self) -> None:
        """Close it."""
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Nothing is kept here."""
        return True


def _begin(environment: Mapping[str, str], tell: Tell) -> Callable[[], None]:
    """Provide the process with tracers; returns what sends the rest, in two seconds at most."""
    try:
        from opentelemetry import trace
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        exporters = [*_exporters(environment, tell)]
    except ImportError as error:
        tell(f"no traces, though OTEL_ variables ask for them: {error}; pip install 'inkling-client[otel]'")
        return _nothing
    provider = TracerProvider(resource=_resource(), shutdown_on_exit=False)
    for exporter in exporters:
        provider.add_span_processor(BatchSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    return lambda: _close(provider.shutdown, exporters)


def _nothing() -> None:
    pass


def _close(shutdown: Callable[[], None], exporters: Sequence[OneComplaint]) -> None:
    # A provider waits for its exporters for 30 seconds, whatever it is told.
    closing = threading.Thread(target=shutdown, name="traces-close", daemon=True)
    closing.start()
    closing.join(CLOSE_S)
    if closing.is_alive():
        for exporter in exporters:
            exporter.complain()


def _resource() -> Any:
    """Who this is: by OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES, and by our own name without them."""
    from opentelemetry.sdk.resources import Resource

    resource = Resource.create()
    if str(resource.attributes.get("service.name", "")).startswith("unknown_service"):
        resource = resource.merge(Resource({"service.name": SERVICE_NAME}))
    return resource


def _exporters(environment: Mapping[str, str], tell: Tell) -> Iterator[Any]:
    """Those that are named.

    Raises: ImportError if one is not installed.
    """
    import logging
    from importlib import metadata

    for chatty in CHATTY:
        logging.getLogger(chatty).setLevel(logging.CRITICAL)
    for name in _exporter_names(environment):
        found = [*metadata.entry_points(group="opentelemetry_traces_exporter", name=name)]
        if not found:
            raise ImportError(f"there is no exporter {name!r} ({EXPORTERS})")
        yield OneComplaint(found[0].load()(), _endpoint(environment), tell)


def _exporter_names(environment: Mapping[str, str]) -> list[str]:
    """The exporters as their packages call themselves; `otlp` is two, by the protocol, and gRPC by default."""
    protocol = next((value for name in PROTOCOLS if (value := environment.get(name, "").strip())), "grpc")
    otlp = "otlp_proto_http" if protocol.startswith("http") else "otlp_proto_grpc"
    names = (environment.get(EXPORTERS, "").strip() or "otlp").split(",")
    return [otlp if name.strip().lower() == "otlp" else name.strip() for name in names]


def _endpoint(environment: Mapping[str, str]) -> str:
    return next((value for name in ENDPOINTS if (value := environment.get(name, ""))), "the exporter's usual place")

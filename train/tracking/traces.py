"""A run as a trace: spans of its epochs, checkpoints, test and publication, by OpenTelemetry.

    train ─┬─ start          until the first steps are told
           ├─ epoch          one for each, its validation included
           │    └─ checkpoint
           ├─ test           with the report
           └─ publish

Not a `Tracker`: spans are made as things happen, and OpenTelemetry has a thread of its own to send them. It is imported
within functions, since most runs do without.
"""

import logging
import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import metadata
from typing import Any

from ..progress import Advance, Event, Published, Saved, Tested, Validated
from ..runs import Run
from .tracker import Status

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
EXPORTERS = "OTEL_TRACES_EXPORTER"
DISABLED = "OTEL_SDK_DISABLED"
SERVICE_NAME = "inkling-train"
ROUNDING = 1e-6  # of an epoch
CLOSE_S = 5.0  # for the last spans to be sent
# They log each try that failed, and that there is no room for more spans.
CHATTY = ("opentelemetry.exporter", "opentelemetry.sdk._shared_internal")
SETTINGS = ("epochs", "global_batch_size", "learning_rate", "seed")  # of a run, that its span has
Tell = Callable[[str], None]


class NoTrace:
    """A run that is not traced."""

    def put(self, event: Event) -> None:
        """Take what happened."""

    def close(self, status: Status) -> None:
        """The run has ended so."""


class RunTrace(NoTrace):
    """A run in a trace of its own."""

    def __init__(self, provider: Any, run: Run, exporters: "Sequence[OneComplaint]" = ()) -> None:
        """Begin it.

        Args:
            provider: OpenTelemetry's.
            exporters: the provider's own.
        """
        self._provider, self._exporters = provider, exporters
        self._tracer = provider.get_tracer("inkling.train")
        settings = {f"inkling.{name}": getattr(run.config, name) for name in SETTINGS}
        attributes = {"inkling.run": run.folder.name, "inkling.data": run.job.data, **settings}
        self._root = self._tracer.start_span("train", attributes=attributes)
        self._part = self._child("start")
        self._epoch = 0  # the one that goes on; 0: none yet
        self._is_last = False  # whether all steps are taken

    def put(self, event: Event) -> None:
        match event:
            case Advance():
                self._advance(event)
            case Saved():
                self._saved(event)
            case Validated():
                self._note(event.figures)
            case Tested():
                self._note(event.figures)
                self._begin("publish")
            case Published():
                self._part.set_attributes({"inkling.model": event.model_name, "inkling.version": event.version})

    def _advance(self, event: Advance) -> None:
        """The epoch in which the last step began: one may end within a step."""
        began = event.epoch * (event.step - 1) / event.step
        epoch = math.floor(began + ROUNDING) + 1
        if epoch != self._epoch:
            self._epoch = epoch
            self._begin("epoch", epoch)
        self._is_last = event.step >= event.total_steps

    def _saved(self, event: Saved) -> None:
        """A checkpoint in this part; the last one of all ends the training."""
        begin = time.time_ns() - round(event.seconds * 1e9)
        self._child("checkpoint", self._part, start_time=begin, attributes={"inkling.step": event.step}).end()
        if self._is_last:
            self._begin("test")

    def _note(self, figures: Mapping[str, float]) -> None:
        self._part.set_attributes({f"inkling.{name}": value for name, value in figures.items()})

    def _begin(self, name: str, epoch: int = 0) -> None:
        """The next part of the run, where the one before ends."""
        self._part.end()
        self._part = self._child(name, attributes={"inkling.epoch": epoch} if epoch else {})

    def _child(self, name: str, parent: Any = None, **options: Any) -> Any:
        from opentelemetry.trace import set_span_in_context

        return self._tracer.start_span(name, set_span_in_context(parent or self._root), **options)

    def close(self, status: Status) -> None:
        from opentelemetry.trace import StatusCode

        self._part.end()
        self._root.set_attribute("inkling.status", status)
        if status == "failed":
            self._root.set_status(StatusCode.ERROR)
        self._root.end()
        # A provider waits for its exporters for 30 seconds, whatever it is told.
        closing = threading.Thread(target=self._provider.shutdown, name="traces-close", daemon=True)
        closing.start()
        closing.join(CLOSE_S)
        if closing.is_alive():
            for exporter in self._exporters:
                exporter.complain()


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
            self._tell(f"traces do not get to {self._endpoint}, and are dropped meanwhile: is a collector there?")

    def shutdown(self) -> None:
        """Close it."""
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Nothing is kept here."""
        return True


def trace_of(run: Run, environment: Mapping[str, str], tell: Tell) -> NoTrace:
    """The trace of `run` that OpenTelemetry's variables ask for.

    Args:
        run: about to be worked on.
        environment: has the variables.
        tell: takes a line about traces that are wanted and cannot be made, or sent; from any thread.
    """
    if not is_wanted(environment):
        return NoTrace()
    try:
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        exporters = [*_exporters(environment, tell)]
    except ImportError as error:
        tell(f"no traces, though OTEL_ variables ask for them: {error}; pip install 'inkling-train[otel]'")
        return NoTrace()
    provider = TracerProvider(resource=_resource(), shutdown_on_exit=False)
    for exporter in exporters:
        provider.add_span_processor(BatchSpanProcessor(exporter))
    return RunTrace(provider, run, exporters)


def is_wanted(environment: Mapping[str, str]) -> bool:
    """Whether variables of OpenTelemetry's ask for traces: an exporter by name, or else an endpoint."""
    if environment.get(DISABLED, "").strip().lower() == "true":
        return False
    if exporter := environment.get(EXPORTERS, "").strip().lower():
        return exporter != "none"
    return any(environment.get(name, "").strip() for name in ENDPOINTS)


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

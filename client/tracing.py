"""Traces of a client's calls, by OpenTelemetry, in programs that use it.

A client makes spans where its program has a tracer provider, as our commands have by trace_export.py. In any other
program OpenTelemetry is not even imported: what is below then does nothing.

    inkling.read ─┬─ find digits      the client's own work
                  └─ tensorflow.serving.PredictionService/Predict      a call, to which the server's span belongs
"""

import sys
from collections.abc import Generator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from types import TracebackType
from typing import Any, Self

from .errors import InklingError


class RpcSpan:
    """One call. This one has no span."""

    headers: Sequence[tuple[str, str]] = ()  # metadata that tells the server of the trace

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.end(error)

    def end(self, error: BaseException | None = None) -> None:
        """It is over, by a response or by `error`."""


UNTRACED = RpcSpan()


def operation_span(generator: Generator[Any, Any, Any]) -> AbstractContextManager[Any]:
    """A span of one of the client's methods, for a `with` block."""
    return work_span(f"inkling.{getattr(generator, '__name__', 'call')}")


def work_span(name: str) -> AbstractContextManager[Any]:
    """A span of what the client computes itself, for a `with` block."""
    tracer = _tracer()
    return nullcontext() if tracer is None else tracer.start_as_current_span(name)


def rpc_span(path: str, server: str) -> RpcSpan:
    """A span of one call of `/package.Service/Method` of the server with this address."""
    tracer = _tracer()
    return UNTRACED if tracer is None else _TracedRpc(tracer, path.removeprefix("/"), server)


def _tracer() -> Any:
    """The program's tracer; None if it has no provider, or has not imported OpenTelemetry: then we do not either."""
    api = sys.modules.get("opentelemetry.trace")
    if api is None:
        return None
    provider = api.get_tracer_provider()
    return None if isinstance(provider, api.ProxyTracerProvider) else _tracer_of(provider)


@lru_cache(maxsize=1)
def _tracer_of(provider: Any) -> Any:
    return provider.get_tracer("inkling.client")


class _TracedRpc(RpcSpan):
    def __init__(self, tracer: Any, method: str, server: str) -> None:
        from opentelemetry import propagate, trace

        attributes = {"rpc.system.name": "grpc", "rpc.method": method, **_address(server)}
        self._span = tracer.start_span(method, kind=trace.SpanKind.CLIENT, attributes=attributes)
        headers: dict[str, str] = {}
        propagate.inject(headers, trace.set_span_in_context(self._span))
        self.headers = tuple(headers.items())

    def end(self, error: BaseException | None = None) -> None:
        if self._span.is_recording():
            self._set_status(error)
        self._span.end()

    def _set_status(self, error: BaseException | None) -> None:
        from opentelemetry.trace import StatusCode

        if error is None:
            self._span.set_attribute("rpc.response.status_code", "OK")
            return
        status = error.status if isinstance(error, InklingError) else None
        if status is not None:
            self._span.set_attribute("rpc.response.status_code", status.name)
        self._span.set_attribute("error.type", status.name if status is not None else type(error).__name__)
        self._span.set_status(StatusCode.ERROR, str(error))


def _address(server: str) -> dict[str, Any]:
    """OpenTelemetry's attributes of `host:port`, or of another target as it is."""
    host, _, port = server.rpartition(":")
    return (
        {"server.address": host, "server.port": int(port)} if host and port.isdecimal() else {"server.address": server}
    )

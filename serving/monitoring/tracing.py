"""The trace of a request, from where it comes in through its queue to the run: the part that OpenTelemetry is not in.

A transport's handlers are wrapped by a `Tracing`, which sets a `Traced` for each request. What the server does between
asks `current()` and tells it; `Queued` goes along with what waits, and makes the `Batch` that it is run in. Each class
here does nothing, which is what a server without tracing has; otel.py has those that make spans. So OpenTelemetry is
imported only where traces are wanted, and nobody asks whether they are.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Self

from ..arrays import Function
from ..names import ModelKey

Handler = Callable[..., Awaitable[Any]]


class Span:
    """A stretch of time in a trace, from `with` to the end of its block, failures included."""

    __slots__ = ()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None


class Batch(Span):
    """Requests that run together."""

    __slots__ = ()

    def traced(self, function: Function) -> Function:
        """`function`, each call of which is the runtime's part of it."""
        return function


class Queued:
    """A request, or a part of one, that waits to be run."""

    __slots__ = ()

    def batch(self, key: ModelKey, queued: "Sequence[Queued]", *, num_rows: int, num_padded_rows: int) -> Batch:
        """The batch of all `queued`, to which this one belongs and whose wait is over."""
        return UNTRACED_BATCH


class Traced:
    """A request."""

    __slots__ = ()

    def ids(self) -> Mapping[str, str]:
        """What its log lines say of its trace."""
        return {}

    def found(self, *, model_name: str, version: int) -> None:
        """It is known which version it asks for."""

    def queued(self) -> Queued:
        """It waits from now on."""
        return UNTRACED_QUEUED


class Tracing:
    """What begins a trace's part in this server."""

    def rpc(self, method: str, behaviour: Handler) -> Handler:
        """`behaviour`, which takes a message and a context of gRPC's, traced as `method`: `package.Service/Method`."""
        return behaviour

    def http(self, respond: Handler) -> Handler:
        """`respond`, which takes a request of aiohttp's, traced."""
        return respond

    def close(self, timeout_s: float) -> None:
        """Send what is not sent yet, for up to `timeout_s`."""


UNTRACED_BATCH, UNTRACED_QUEUED, UNTRACED = Batch(), Queued(), Traced()
OFF = Tracing()
current_request: ContextVar[Traced] = ContextVar("traced", default=UNTRACED)


def current() -> Traced:
    """The request that is handled in this context."""
    return current_request.get()


def batch(key: ModelKey, queued: Sequence[Queued], *, num_rows: int, num_padded_rows: int) -> Batch:
    """The run of all `queued` together, of which some may be traced."""
    for first in queued:
        if first is not UNTRACED_QUEUED:
            return first.batch(key, queued, num_rows=num_rows, num_padded_rows=num_padded_rows)
    return UNTRACED_BATCH

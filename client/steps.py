"""What an operation may want done by the client that drives it."""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from client.rpc import Call


@dataclass(frozen=True, slots=True)
class SendAll:
    """Make these calls, so many at once; the responses come back in their order, or the first error."""

    calls: Sequence[Call]
    max_in_flight: int


@dataclass(frozen=True, slots=True)
class Pause:
    """Do nothing for so long."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Work:
    """Compute something that takes long enough to be kept from an event loop."""

    function: Callable[[], Any]


Step = Call | SendAll | Pause | Work
T = TypeVar("T")
Steps = Generator[Step, Any, T]

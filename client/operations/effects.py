"""What an operation may want done by the client that drives it."""

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, TypeVar

from ..protocol.rpc import Call


@dataclass(frozen=True, slots=True)
class SendAll:
    """Make so many calls, a few at once; the responses come back in their order, or the first error.

    `call` makes the call of each number when its turn comes, so that not all requests are in memory at once.
    """

    call: Callable[[int], Call]
    count: int
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

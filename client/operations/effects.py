"""What an operation may want done by the client that drives it: the effects of the sans-I/O pattern.

https://sans-io.readthedocs.io/
"""

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, TypeVar

from ..protocol.rpc import Call


@dataclass(frozen=True, slots=True)
class SendAll:
    """Make `count` calls, a few at once; the responses come back in the calls' order, or the first error.

    `call` makes the call of each number when its turn comes, so that not all requests are in memory at once.
    """

    call: Callable[[int], Call]
    count: int
    max_in_flight: int


@dataclass(frozen=True, slots=True)
class Pause:
    """Do nothing for so many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Work:
    """Compute something that takes too long for an event loop."""

    name: str  # as a trace has it
    function: Callable[[], Any]


Effect = Call | SendAll | Pause | Work
T = TypeVar("T")
Operation = Generator[Effect, Any, T]

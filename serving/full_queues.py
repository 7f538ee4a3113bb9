"""Refuses requests for a full queue before they are parsed.

Under a flood nearly all work is that of saying no, and each no takes time from what was accepted. A request's first
field is its ModelSpec, so requests that begin with the same bytes want the same model, version and signature: after one
of them has found its queue full, the next ones are held against that queue as they come.
"""

from collections.abc import Callable

from serving.errors import QueueFull

MAX_REMEMBERED = 64  # more than the queues of a server; callers can spell a ModelSpec in endless ways
FIRST_FIELD = 0x0A  # number 1, length-delimited
LONGEST = 0x80  # lengths below it take one byte


class FullQueues:
    """The queues of one RPC that were full when last seen."""

    def __init__(self) -> None:
        self._refusals: dict[bytes, Callable[[], QueueFull | None]] = {}

    def check(self, content: bytes) -> None:
        """Raises QueueFull if the serialized request `content` is for a queue that is known and still full."""
        if not self._refusals:
            return
        spec = _spec(content)
        if (refusal := self._refusals.get(spec)) is None:
            return
        if (error := refusal()) is not None:
            raise error
        del self._refusals[spec]

    def remember(self, content: bytes, error: QueueFull) -> None:
        """The request `content` found its queue full."""
        if (spec := _spec(content)) and len(self._refusals) < MAX_REMEMBERED:
            self._refusals[spec] = error.refusal


def _spec(content: bytes) -> bytes:
    """A request's first field as it was sent; empty if it cannot be a ModelSpec, or is longer than they are."""
    if len(content) < 2 or content[0] != FIRST_FIELD or content[1] >= LONGEST:
        return b""
    return content[: 2 + content[1]]

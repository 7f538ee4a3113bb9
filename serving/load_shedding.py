"""Refuses requests for a full queue before they are parsed.

Under a flood nearly all work is that of saying no, and each no takes time from what was accepted. Requests whose bytes
are the same but for their inputs want the same model, version, signature and outputs: after one of them has found its
queue full, the next ones are held against that queue as they come. Where a name or a label means another version by
now, that is found out as soon as the old one's queue has room, a run later.
"""

from collections.abc import Callable
from weakref import WeakMethod

from .errors import QueueFull

MAX_REMEMBERED = 64  # more than the queues of a server; callers can spell a request in endless ways
MAX_FIELDS = 16
MAX_LENGTH_BYTES = 5  # of a field's length as it is sent: up to 2 GB
MAX_KEY_BYTES = 256
INPUTS = 0x12  # of all inference requests: field 2, length-delimited
OTHERS = (0x0A, 0x1A)  # fields 1 and 3: model_spec and output_filter, or the tasks of MultiInference


class FullQueues:
    """The queues of one RPC that were full when last seen."""

    def __init__(self) -> None:
        # Not the queues themselves, which hold a model's memory.
        self._refusals: dict[bytes, WeakMethod[Callable[[], QueueFull | None]]] = {}

    def check(self, content: bytes) -> QueueFull | None:
        """The refusal of the serialized request `content`, if its queue is known and still full."""
        if not self._refusals:
            return None
        key = _without_inputs(content)
        if (remembered := self._refusals.get(key)) is None:
            return None
        refusal = remembered()
        error = refusal() if refusal is not None else None
        if error is None:
            del self._refusals[key]
        return error

    def remember(self, content: bytes, error: QueueFull) -> None:
        """The request `content` found its queue full."""
        key = _without_inputs(content)
        if not key or key in self._refusals:
            return
        if len(self._refusals) >= MAX_REMEMBERED:
            del self._refusals[next(iter(self._refusals))]
        self._refusals[key] = WeakMethod(error.refusal)


def _without_inputs(content: bytes) -> bytes:
    """A serialized inference request but for its inputs; empty if it is none, or is longer than they are."""
    key, start = b"", 0
    for _ in range(MAX_FIELDS):
        if start == len(content):
            return key
        tag = content[start]
        if tag != INPUTS and tag not in OTHERS:
            return b""
        end = _end_of_field(content, start + 1)
        if end > len(content):
            return b""
        if tag != INPUTS:
            if len(key) + end - start > MAX_KEY_BYTES:
                return b""
            key += content[start:end]
        start = end
    return b""


def _end_of_field(content: bytes, start: int) -> int:
    """Where a length-delimited field ends whose length begins at `start`; beyond `content` if it is not whole."""
    length = 0
    for index, byte in enumerate(content[start : start + MAX_LENGTH_BYTES]):
        length |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            return start + index + 1 + length
    return len(content) + 1

"""What the server refuses before it costs anything: all work while it drains, and requests for queues that are full.

Under a flood nearly all work is that of saying no, and each no takes time from what was accepted. Requests whose bytes
are the same but for their inputs want the same model, version, signature and outputs: after one of them has found its
queue full, the next ones are held against that queue as they come, before they are parsed. Where a name or a label
means another version by now, that is found out as soon as the old one's queue has room, a run later.
"""

import itertools
from typing import Protocol
from weakref import WeakValueDictionary

import grpc

from .errors import ServingError, unavailable
from .names import ModelKey

MAX_REMEMBERED = 64  # requests: more than the queues of a server; callers can spell a request in endless ways
MAX_FIELDS = 16
MAX_LENGTH_BYTES = 5  # of a field's length on the wire: up to 2 GB
MAX_KEY_BYTES = 256
INPUTS = (0x12,)  # of TensorFlow Serving's inference requests: field 2, length-delimited
OTHERS = (0x0A, 0x1A)  # fields 1 and 3: model_spec and output_filter, or the tasks of MultiInference
V2_RPC = "ModelInfer"
V2_INPUTS = (0x1A, 0x2A, 0x3A)  # id, inputs and raw_input_contents
V2_OTHERS = (0x0A, 0x12, 0x22, 0x32)  # model_name, model_version, parameters and outputs


class Drain:
    """Whether the server is about to end. It begins once and never stops.

    At the other end of its life a server listens before its first models are loaded: what cannot be answered yet is
    refused in the same way, since another server may have it, and this one will soon.
    """

    def __init__(self, *, is_loading: bool = False) -> None:
        self.has_begun = False
        self.is_loading = is_loading  # the first models

    def begin(self) -> None:
        """Refuse new work from now on."""
        self.has_begun = True

    def has_loaded(self) -> None:
        """The first models are there, and what they do not answer does not exist."""
        self.is_loading = False

    def check_loaded(self) -> None:
        """Refuse a request that the first models may answer once they are there.

        Raises: ServingError UNAVAILABLE.
        """
        if self.is_loading:
            raise unavailable("The server is loading its models; send the request to another one, or try again")

    def check(self) -> None:
        """Refuse a request that comes too late.

        Raises: ServingError UNAVAILABLE.
        """
        if self.has_begun:
            raise unavailable("The server is shutting down; send the request to another one")


class QueueFull(ServingError):
    """A request found its queue full."""

    def __init__(self, message: str, *, key: ModelKey, queue_id: int) -> None:
        super().__init__(grpc.StatusCode.UNAVAILABLE, message)
        self.key = key
        self.queue_id = queue_id  # what `KnownFullQueues.register` gave to the queue


class Queue(Protocol):
    """What can be full."""

    def refusal(self) -> QueueFull | None:
        """The error for a request of one row that came now; None if there is room for it."""


class KnownFullQueues:
    """The queues of a server, and the requests that found theirs full."""

    def __init__(self) -> None:
        self._ids = itertools.count()
        self._queues: WeakValueDictionary[int, Queue] = WeakValueDictionary()  # a queue holds a model's memory
        self._remembered: dict[tuple[str, bytes], int] = {}  # RPC and request without inputs: the queue's id

    def register(self, queue: Queue) -> int:
        """The id of `queue`, to be named in its errors."""
        queue_id = next(self._ids)
        self._queues[queue_id] = queue
        return queue_id

    def check(self, rpc: str, content: bytes) -> QueueFull | None:
        """The refusal of the serialized request `content`, if its queue is known to be full and still is."""
        if not self._remembered:
            return None
        request = rpc, _without_inputs(rpc, content)
        if (queue_id := self._remembered.get(request)) is None:
            return None
        queue = self._queues.get(queue_id)
        refusal = queue.refusal() if queue is not None else None
        if refusal is None:
            del self._remembered[request]
        return refusal

    def remember(self, rpc: str, content: bytes, error: QueueFull) -> None:
        """Keep that the serialized request `content` found its queue full."""
        request = rpc, _without_inputs(rpc, content)
        if not request[1] or request in self._remembered:
            return
        if len(self._remembered) >= MAX_REMEMBERED:
            del self._remembered[next(iter(self._remembered))]
        self._remembered[request] = error.queue_id


def _without_inputs(rpc: str, content: bytes) -> bytes:
    """A serialized inference request without its inputs; empty if it cannot be told, or is too long to keep."""
    inputs, others = (V2_INPUTS, V2_OTHERS) if rpc == V2_RPC else (INPUTS, OTHERS)
    key, start = b"", 0
    for _ in range(MAX_FIELDS):
        if start == len(content):
            return key
        tag = content[start]
        if tag not in inputs and tag not in others:
            return b""
        end = _end_of_field(content, start + 1)
        if end > len(content):
            return b""
        if tag not in inputs:
            if len(key) + end - start > MAX_KEY_BYTES:
                return b""
            key += content[start:end]
        start = end
    return b""


def _end_of_field(content: bytes, start: int) -> int:
    """Where a length-delimited field ends whose length begins at `start`; beyond `content` if it is cut off."""
    length = 0
    for index, byte in enumerate(content[start : start + MAX_LENGTH_BYTES]):
        length |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            return start + index + 1 + length
    return len(content) + 1

"""Where the numbers of metrics lie: in this process's memory, or in a file that outlives it.

With several processes behind one port each has a file of its own, in memory only, which the supervisor holds open: the
page shows what all of them have counted, those included that were killed. A file is a header, the number of bytes in
use, and then one record for each series: its size, its numbers, and its name and label values as JSON. Only the process
that it belongs to writes to it.
"""

import json
import logging
import mmap
import os
import struct
from collections import defaultdict
from collections.abc import Iterator, MutableSequence, Sequence
from dataclasses import dataclass

logger = logging.getLogger(__name__)

Key = tuple[str, ...]
FILE_BYTES = 64 << 20  # of which only what is in use takes memory
HEADER = struct.Struct("=Q")
RECORD = struct.Struct("=IIII")  # bytes of the record, numbers, bytes of the name, whether it is in use
NAME_STEP = 64  # bytes to which a name's room is rounded up, so that another one fits in later


@dataclass(frozen=True, slots=True)
class Counted:
    """What all processes of a server have counted, those included that have ended."""

    serving: tuple[bytes, ...]  # of each that serves, as `read` gives it
    ended: bytes  # of all others together
    pids: tuple[int, ...]
    ended_cpu_s: float  # processor time that the others have had


class Series:
    """Numbers in this process's memory."""

    def make(self, family: str, key: Key, count: int) -> MutableSequence[float]:
        """`count` zeros for the series of `family` with the label values `key`."""
        return [0.0] * count

    def drop(self, numbers: MutableSequence[float]) -> None:
        """What `make` gave is not needed any more."""


class SharedSeries(Series):
    """Numbers in a file that other processes read. Not locked: its user does that."""

    def __init__(self, file: int) -> None:
        """Nothing is counted yet.

        Args:
            file: descriptor of an empty file.
        """
        os.ftruncate(file, FILE_BYTES)
        self._view = memoryview(mmap.mmap(file, FILE_BYTES))
        self._end = HEADER.size
        self._places: dict[int, int] = {}  # by identity of the numbers: where their record begins
        self._free: dict[tuple[int, int], list[int]] = defaultdict(list)  # by numbers and room for the name
        HEADER.pack_into(self._view, 0, self._end)

    def make(self, family: str, key: Key, count: int) -> MutableSequence[float]:
        name = json.dumps([family, *key]).encode()
        room = -(-len(name) // NAME_STEP) * NAME_STEP
        free = self._free[count, room]
        size = RECORD.size + 8 * count + room
        if not free and self._end + size > FILE_BYTES:
            logger.warning("no room for %s of %s: the metrics' page is without it", key, family)
            return super().make(family, key, count)
        start = free.pop() if free else self._end
        first = start + RECORD.size
        numbers = self._view[first : first + 8 * count].cast("d")
        for index in range(count):
            numbers[index] = 0.0
        self._view[first + 8 * count : first + 8 * count + len(name)] = name
        RECORD.pack_into(self._view, start, size, count, len(name), True)
        self._end = max(self._end, start + size)
        HEADER.pack_into(self._view, 0, self._end)
        self._places[id(numbers)] = start
        return numbers  # type: ignore[return-value]  # a memoryview of doubles is written to like a list

    def drop(self, numbers: MutableSequence[float]) -> None:
        start = self._places.pop(id(numbers), None)
        if start is None:
            return
        size, count, name, _ = RECORD.unpack_from(self._view, start)
        RECORD.pack_into(self._view, start, size, count, name, False)
        self._free[count, size - RECORD.size - 8 * count].append(start)


def read(file: int) -> bytes:
    """What has been written to a file of `SharedSeries`; empty if nothing has."""
    header = os.pread(file, HEADER.size, 0)
    return os.pread(file, HEADER.unpack(header)[0], 0) if len(header) == HEADER.size else b""


def merge(content: bytes, other: bytes) -> bytes:
    """The sums of what two files hold, as one more such file."""
    sums: dict[tuple[str, Key], list[float]] = {}
    for family, key, numbers in (*parse(content), *parse(other)):
        before = sums.get((family, key), [0.0] * len(numbers))
        sums[family, key] = [one + more for one, more in zip(before, numbers, strict=True)]
    records = b"".join(_record(family, key, numbers) for (family, key), numbers in sums.items())
    return HEADER.pack(HEADER.size + len(records)) + records


def _record(family: str, key: Key, numbers: Sequence[float]) -> bytes:
    name, count = json.dumps([family, *key]).encode(), len(numbers)
    packed = struct.pack(f"={count}d", *numbers)
    return RECORD.pack(RECORD.size + len(packed) + len(name), count, len(name), True) + packed + name


def parse(content: bytes) -> Iterator[tuple[str, Key, Sequence[float]]]:
    """Family, label values and numbers of each series in `content`."""
    start = HEADER.size
    while start + RECORD.size <= len(content):
        size, count, name_bytes, is_used = RECORD.unpack_from(content, start)
        first, name = start + RECORD.size, start + RECORD.size + 8 * count
        if is_used:
            family, *key = json.loads(content[name : name + name_bytes])
            yield family, tuple(key), struct.unpack_from(f"={count}d", content, first)
        start += size

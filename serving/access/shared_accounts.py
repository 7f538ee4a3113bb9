"""Callers' accounts where several processes serve: one share for each caller, whichever process it reaches.

A table in a file that all share: their number, and then a place for each caller, with a hash of its name, the tokens of
its bucket and, for each process, how many requests it has in hand. Each use locks the table for some microseconds; a
process that dies gives way, and what it had in hand is taken out.
"""

import contextlib
import fcntl
import hashlib
import os
import struct
from collections.abc import Iterator

from .callers import Caller
from .limits import MAX_CALLERS, Account

START = 4096  # where the table begins; what comes before is others'
COUNT = struct.Struct("=q")
HEAD = struct.Struct("=16sdd")  # hash of the caller, tokens, when the bucket was filled


class SharedAccounts:
    """Accounts in a file."""

    def __init__(self, file: int, *, process: int, number: int) -> None:
        """The table, as other processes may have filled it.

        Args:
            file: its descriptor.
            process: this one's number.
            number: of processes.
        """
        self._file = file
        self._process = process
        self._place = struct.Struct(f"{HEAD.format}{number}i")
        self._places: dict[bytes, int] = {}  # as they were when they were last looked at

    @contextlib.contextmanager
    def use(self, caller: Caller, now: float) -> Iterator[Account]:
        """The account of `caller`; other processes wait until the block is left."""
        key = hashlib.blake2b(f"{caller.kind}:{caller.name}".encode(), digest_size=16).digest()
        with self._locked():
            place = self._find(key)
            found, tokens, filled_at, *in_hand = self._read(place)
            account = Account(tokens, filled_at, sum(in_hand)) if found == key else Account.full(caller.limits, now)
            before = account.in_hand
            try:
                yield account
            finally:
                in_hand[self._process] += account.in_hand - before
                self._write(place, key, account.tokens, account.filled_at, *in_hand)

    def forget_process(self, process: int) -> None:
        """Nothing is in hand any more of a process that has ended."""
        with self._locked():
            for place in range(self._count()):
                key, tokens, filled_at, *in_hand = self._read(place)
                in_hand[process] = 0
                self._write(place, key, tokens, filled_at, *in_hand)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        fcntl.lockf(self._file, fcntl.LOCK_EX, 1, START)
        try:
            yield
        finally:
            fcntl.lockf(self._file, fcntl.LOCK_UN, 1, START)

    def _find(self, key: bytes) -> int:
        """The place of `key`: its own, or one that it may have."""
        place = self._places.get(key)
        if place is not None and self._read(place)[0] == key:
            return place
        everybody = [self._read(place) for place in range(self._count())]
        self._places = {found[0]: place for place, found in enumerate(everybody)}
        if key in self._places:
            return self._places[key]
        if len(everybody) < MAX_CALLERS:
            self._places[key] = len(everybody)
            os.pwrite(self._file, COUNT.pack(len(everybody) + 1), START)
            return len(everybody)
        return next((place for place, found in enumerate(everybody) if not any(found[3:])), 0)

    def _count(self) -> int:
        content = os.pread(self._file, COUNT.size, START)
        return int(COUNT.unpack(content)[0]) if len(content) == COUNT.size else 0

    def _read(self, place: int) -> tuple[bytes, float, float, *tuple[int, ...]]:
        """Hash, tokens, when filled, and requests in hand by process; zeros for a place that nobody has had."""
        content = os.pread(self._file, self._place.size, self._offset(place))
        found: tuple[bytes, float, float, *tuple[int, ...]]
        found = self._place.unpack(content.ljust(self._place.size, b"\0"))  # type: ignore[assignment]
        return found

    def _write(self, place: int, *values: bytes | float) -> None:
        os.pwrite(self._file, self._place.pack(*values), self._offset(place))

    def _offset(self, place: int) -> int:
        return START + COUNT.size + place * self._place.size

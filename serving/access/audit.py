"""The audit log: who asked for what administration, when, and what came of it; one JSON object a line.

Lines are appended, and never taken away by us: whoever rotates the file moves it, and the next line makes a new one. A
thread writes. What cannot be written, on a full disk say, waits in memory for its turn and goes to the server's log at
once; no request waits for it or fails by it.
"""

import contextlib
import errno
import json
import logging
import os
import stat
import threading
import time
from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime

import grpc

from .callers import Caller

logger = logging.getLogger(__name__)

OWNER_ONLY = 0o600
MAX_WAITING = 10_000  # lines; the oldest ones are left to the server's log, which has them all
RETRY_S = 5.0
REFUSALS_A_MINUTE = 100  # that get lines; or whoever has no key could fill the disk


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One call of administration."""

    caller: Caller
    peer: str  # where it came from
    call: str  # what was asked for
    about: str  # of which models, from where
    outcome: grpc.StatusCode
    message: str  # why, if it failed

    def fields(self) -> dict[str, str | int]:
        """What its line says."""
        fields: dict[str, str | int] = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "caller": self.caller.name,
            "kind": self.caller.kind,
            "peer": self.peer,
            "call": self.call,
            "about": self.about,
            "outcome": self.outcome.name,
        }
        return fields | ({"message": self.message} if self.message else {})


class AuditLog:
    """Appends lines to a file."""

    def __init__(self, path: str, *, retry_s: float = RETRY_S) -> None:
        """A log at `path`, which is made if it is not there.

        Raises: OSError if it cannot be opened.
        """
        os.close(_open(path))
        self._path = path
        self._retry_s = retry_s
        self._lines: deque[bytes] = deque(maxlen=MAX_WAITING)
        self._changed = threading.Condition()
        self._is_closed = False
        self._is_failing = False  # what waits is in the server's log
        self._is_torn = False  # the file ends within a line
        self._minute, self._refusals = 0.0, 0
        self._thread = threading.Thread(target=self._run, name="audit-log", daemon=True)
        self._thread.start()

    def write(self, entry: Entry) -> None:
        """Have `entry` written, unless it is one refusal too many."""
        is_refusal = entry.outcome in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED)
        left_out = self._left_out() if is_refusal else 0
        if left_out is None:
            return
        line = json.dumps(entry.fields() | ({"refusals_left_out": left_out} if left_out else {}))
        with self._changed:
            self._lines.append(line.encode() + b"\n")
            if self._is_failing:
                self._tell(self._lines[-1], "still")
            self._changed.notify()

    def close(self, timeout_s: float) -> None:
        """Write what waits, for `timeout_s` at most."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        self._thread.join(timeout_s)

    def _left_out(self) -> int | None:
        """How many refusals got no line before this one, which does; None if it gets none either."""
        now = time.monotonic()
        left_out = 0
        if now - self._minute >= 60:
            left_out = max(0, self._refusals - REFUSALS_A_MINUTE)
            self._minute, self._refusals = now, 0
        self._refusals += 1
        return left_out if self._refusals <= REFUSALS_A_MINUTE else None

    def _run(self) -> None:
        is_last_try = False
        while (line := self._next()) is not None:
            try:
                self._append(line)
            except OSError as error:
                self._fail(error)
                if is_last_try:
                    return
                with self._changed:
                    is_last_try = self._changed.wait_for(lambda: self._is_closed, self._retry_s)
            else:
                self._done(line)

    def _next(self) -> bytes | None:
        """The oldest line, when there is one; None if there will be none."""
        with self._changed:
            self._changed.wait_for(lambda: self._lines or self._is_closed)
            return self._lines[0] if self._lines else None

    def _done(self, line: bytes) -> None:
        with self._changed:
            self._is_failing = False
            if self._lines and self._lines[0] is line:  # a full deque has let it go
                self._lines.popleft()

    def _fail(self, error: OSError) -> None:
        with self._changed:
            if self._is_failing:
                return
            self._is_failing = True
            waiting = list(self._lines)
        for line in waiting:
            self._tell(line, error.strerror)

    def _tell(self, line: bytes, reason: str | None) -> None:
        logger.error("%s is not written (%s), and tried again: %s", self._path, reason, line.decode().strip())

    def _append(self, line: bytes) -> None:
        content = b"\n" + line if self._is_torn else line
        file = _open(self._path)
        try:
            written = os.write(file, content)
            self._is_torn = written != len(content)
            if self._is_torn:
                raise OSError(errno.ENOSPC, f"{written} of {len(content)} bytes were written")
        finally:
            os.close(file)


def _open(path: str) -> int:
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, OWNER_ONLY)
    with contextlib.suppress(OSError):
        if stat.S_ISREG(os.fstat(file).st_mode):
            os.fchmod(file, OWNER_ONLY)  # one that is there may be open to others
    return file

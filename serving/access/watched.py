"""Values from files that others may change while the server runs."""

import logging
import os
import stat
from collections.abc import Callable
from typing import Generic, TypeVar

from ..errors import ServingError, invalid_argument

logger = logging.getLogger(__name__)

MAX_BYTES = 16 << 20
Value = TypeVar("Value")
Stamp = tuple[int, int, int, int]


class WatchedFile(Generic[Value]):
    """What is made of a file's text, and made again when the file has changed."""

    def __init__(self, path: str, parse: Callable[[str], Value]) -> None:
        """Read the file at `path`; `parse` raises ValueError where it cannot.

        Raises: ServingError INVALID_ARGUMENT if it cannot be read or parsed.
        """
        self._path = path
        self._parse = parse
        self._complaint = ""
        try:
            self._stamp = _stamp(path)
            self.value = self._read()
        except (OSError, ValueError) as error:
            raise self._failure(error) from error

    def look(self) -> bool:
        """Take the file as it is now; returns whether it has changed. What cannot be read leaves the value before."""
        try:
            stamp = _stamp(self._path)
            if stamp == self._stamp:
                return False
            self.value = self._read()
        except (OSError, ValueError) as error:
            self._complain(self._failure(error).message)
            return False
        self._stamp, self._complaint = stamp, ""
        logger.info("%s is read anew", self._path)
        return True

    def _read(self) -> Value:
        with open(self._path, encoding="utf-8-sig") as file:  # some editors write a byte order mark
            text = file.read(MAX_BYTES + 1)
        if len(text) > MAX_BYTES:
            raise ValueError(f"it has over {MAX_BYTES} characters")
        return self._parse(text)

    def _failure(self, error: Exception) -> ServingError:
        reason = error.strerror if isinstance(error, OSError) else error
        return invalid_argument(f"{self._path} cannot be used: {reason}")

    def _complain(self, complaint: str) -> None:
        if complaint != self._complaint:
            logger.error("%s; what it said before still counts", complaint)
        self._complaint = complaint


def _stamp(path: str) -> Stamp:
    """What differs where the file does: the time of change too, since a copy may keep all else."""
    found = os.stat(path)
    if not stat.S_ISREG(found.st_mode):  # a pipe would be waited for, and nothing be looked at any more
        raise ValueError("it is no regular file")
    return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino

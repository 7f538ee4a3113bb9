"""The files of the request log where several processes write to them by turns.

They are the files of request_log.py: the same names, sizes and order, no file with a part of a record. Whoever has the
lock knows from the state that all share how many bytes of the open file are whole records; what is beyond them was left
by a process that was killed while it wrote.
"""

import contextlib
import errno
import fcntl
import os
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import tensorflow as tf

from .request_log import MAX_WARMUP_RECORDS, OWNER_ONLY, RETRY_S

STATE = struct.Struct("=QQ")  # records and bytes of the open file; no records: there is none yet


class SharedFiles:
    """TFRecord files that are begun anew when they are large, of several processes."""

    def __init__(self, path: str, *, max_bytes: int, max_files: int, state_file: int) -> None:
        """Nothing is opened yet.

        Args:
            path: of a file on this machine.
            max_bytes: the size at which a new file is begun.
            max_files: how many files are kept.
            state_file: descriptor of a file that the processes share; its first bytes are used.
        """
        self.path = path
        self._max_bytes = max_bytes
        self._names = [path] + [f"{path}.{number}" for number in range(1, max_files)]
        self._state_file = state_file
        self._is_rotated = not os.path.exists(path) or os.path.isfile(path)  # a device, such as /dev/stdout, is not
        self._scratch = os.memfd_create("inkling-record")
        self._retry_at = 0.0
        self._failure = ""

    def write(self, record: bytes) -> None:
        """Append `record`. After a failure nothing is tried for a while.

        Raises: OSError.
        """
        if time.monotonic() < self._retry_at:
            raise OSError(self._failure)
        content = self._framed(record)
        try:
            with self._turn():
                self._append(content)
        except OSError as error:
            self._retry_at, self._failure = time.monotonic() + RETRY_S, str(error)
            raise

    def flush(self) -> None:
        """All is in the file already."""

    def close(self) -> None:
        """Nothing is open."""

    def _framed(self, record: bytes) -> bytes:
        """`record` with its length and checksums, which TensorFlow computes."""
        path = f"/proc/self/fd/{self._scratch}"
        with tf.io.TFRecordWriter(path) as writer:  # begins with an empty file
            writer.write(record)
        return Path(path).read_bytes()

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        """Keep the other processes out; a process that dies gives way."""
        fcntl.lockf(self._state_file, fcntl.LOCK_EX, STATE.size)
        try:
            yield
        finally:
            fcntl.lockf(self._state_file, fcntl.LOCK_UN, STATE.size)

    def _append(self, content: bytes) -> None:
        if not self._is_rotated:
            with open(self.path, "ab", buffering=0) as device:
                device.write(content)
            return
        state = os.pread(self._state_file, STATE.size, 0)
        records, size = STATE.unpack(state) if len(state) == STATE.size else (0, 0)
        is_full = records == MAX_WARMUP_RECORDS or size + len(content) > self._max_bytes
        if not records or is_full or not self._is_whole(size):
            self._begin(content)
            records = size = 0
        else:
            _write_at_end(self.path, content, size)
        os.pwrite(self._state_file, STATE.pack(records + 1, size + len(content)), 0)

    def _is_whole(self, size: int) -> bool:
        """Whether the open file has its `size` bytes: somebody may have taken it away."""
        with contextlib.suppress(OSError):
            return os.stat(self.path).st_size >= size
        return False

    def _begin(self, content: bytes) -> None:
        """A new file, which takes its place when its first record is on the disk."""
        new = f"{self.path}.new"
        os.makedirs(os.path.dirname(self.path) or ".", exist_ok=True)
        try:
            file = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, OWNER_ONLY)
            os.fchmod(file, OWNER_ONLY)  # one that is left over may be open to others
            os.close(file)
            _write_at_end(new, content, 0)
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(new)
            raise
        for older, newer in zip(reversed(self._names), reversed(self._names[:-1]), strict=False):
            if os.path.exists(newer):
                os.replace(newer, older)
        os.replace(new, self.path)


def _write_at_end(path: str, content: bytes, size: int) -> None:
    """Write `content` behind the first `size` bytes of a file, which are all that is left of it if that fails."""
    file = os.open(path, os.O_WRONLY)
    try:
        os.truncate(file, size)
        if os.pwrite(file, content, size) != len(content):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
    except OSError:
        with contextlib.suppress(OSError):
            os.truncate(file, size)
        raise
    finally:
        os.close(file)

"""The request log: sampled requests as a TFRecord of PredictionLog, which is also what a model is warmed up with.

A thread writes, so that requests never wait for the disk; when it cannot keep up, or the disk is full, requests go
unlogged, and are counted as such. Files are rotated as `<path>`, `<path>.1`, `<path>.2` and so on, the newest first. No
file has more records than TensorFlow Serving takes for a warm-up: copy one to a version's
`assets.extra/tf_serving_warmup_requests`, and that version is warmed with real requests.

A file takes its place among the others, and the oldest one's, only when its first record is on the disk: until then it
is `<path>.new`. A disk that is full erases nothing. Files hold what callers have sent: nobody but their owner may read
them.
"""

import contextlib
import logging
import os
import queue
import random
import threading
import time
from collections.abc import Callable, Iterator
from typing import Protocol

import grpc
import tensorflow as tf
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

from .events import ServerEvents
from .logs import COMPLAINT_INTERVAL_S

logger = logging.getLogger(__name__)

MAX_WARMUP_RECORDS = 1000  # in one file: TensorFlow Serving refuses longer ones
MAX_WAITING = 1000  # requests between the server and the disk
OVERHEAD_BYTES = 16  # of a record: its length and two checksums
OWNER_ONLY = 0o600
RETRY_S = 5.0  # after a failure, until the disk is tried again
MAX_WAITING_BYTES = 64 * 10**6  # of those requests and their responses; one alone may be of any size


class RequestLog:
    """Writes sampled requests to a rotated file, from a thread of its own."""

    def __init__(self, files: "Files", *, sampling_rate: float, events: ServerEvents) -> None:
        """Nothing is written yet.

        Args:
            files: where requests go.
            sampling_rate: the share of requests to write, 0 to 1.
            events: is told of every request, written or not.
        """
        self._files = files
        self._sampling_rate = sampling_rate
        self._events = events
        self._queue: queue.SimpleQueue[PredictionLog | None] = queue.SimpleQueue()
        self._lock = threading.Lock()  # of the two below
        self._waiting = 0
        self._waiting_bytes = 0
        self._complained = -COMPLAINT_INTERVAL_S
        self._thread = threading.Thread(target=self._run, name="request-log", daemon=True)
        self._thread.start()

    def wants(self) -> bool:
        """Whether to write the next request down: the sampling decision."""
        return self._sampling_rate > 0 and random.random() < self._sampling_rate

    def write(self, log: PredictionLog) -> None:
        """Have `log` written, or count that it was not."""
        if self._enter(log.ByteSize()):
            self._queue.put(log)
        else:
            self._tell(log, grpc.StatusCode.RESOURCE_EXHAUSTED)

    def close(self, timeout_s: float = 30.0) -> None:
        """Write what waits, and end; after `timeout_s` what is not written yet is left out."""
        self._queue.put(None)
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            logger.warning("%d requests did not get to %s in %g s", self._waiting, self._files.path, timeout_s)

    def _enter(self, size: int) -> bool:
        """Whether there is room for `size` bytes more; if so they count as waiting."""
        with self._lock:
            if self._waiting and (self._waiting == MAX_WAITING or self._waiting_bytes + size > MAX_WAITING_BYTES):
                return False
            self._waiting += 1
            self._waiting_bytes += size
            return True

    def _leave(self, size: int) -> None:
        with self._lock:
            self._waiting -= 1
            self._waiting_bytes -= size

    def _run(self) -> None:
        while (log := self._queue.get()) is not None:
            self._write(log)
            self._leave(log.ByteSize())
        try:
            self._files.close()
        except (OSError, tf.errors.OpError) as error:
            self._complain(error)

    def _write(self, log: PredictionLog) -> None:
        try:
            self._files.write(log.SerializeToString())
            if self._queue.empty():
                self._files.flush()
        except (OSError, tf.errors.OpError) as error:
            self._complain(error)
            self._tell(log, grpc.StatusCode.UNAVAILABLE)
        else:
            self._tell(log, grpc.StatusCode.OK)

    def _tell(self, log: PredictionLog, code: grpc.StatusCode) -> None:
        self._events.request_logged(model_name=log.log_metadata.model_spec.name, code=code)

    def _complain(self, error: Exception) -> None:
        now = time.monotonic()
        if now - self._complained >= COMPLAINT_INTERVAL_S:
            self._complained = now
            logger.warning("requests are not logged to %s: %s", self._files.path, error)


class Files(Protocol):
    """Where records go."""

    path: str

    def write(self, record: bytes) -> None:
        """Append `record`; raises OSError or tf.errors.OpError."""

    def flush(self) -> None:
        """Let readers see all of it; raises OSError or tf.errors.OpError."""

    def close(self) -> None:
        """Finish the file; raises OSError or tf.errors.OpError."""


class RotatedFiles:
    """TFRecord files that are begun anew when they are large."""

    def __init__(
        self,
        path: str,
        *,
        max_bytes: int,
        max_files: int,
        open_writer: Callable[[str], tf.io.TFRecordWriter] = tf.io.TFRecordWriter,
    ) -> None:
        """Nothing is opened yet.

        Args:
            path: a file, or a URI that TensorFlow's file system knows.
            max_bytes: the size at which a new file is begun.
            max_files: how many files are kept, the open one included.
            open_writer: opens a file.
        """
        self.path = path
        self._max_bytes = max_bytes
        self._max_files = max_files
        self._open_writer = open_writer
        self._is_rotated = not os.path.exists(path) or os.path.isfile(path)  # a device, such as /dev/stdout, is not
        self._new = f"{path}.new" if "://" not in path and self._is_rotated else path
        self._writer: tf.io.TFRecordWriter | None = None
        self._records = 0
        self._bytes = 0
        self._bytes_on_disk = 0
        self._is_kept = True  # what is at the path now has records
        self._retry_at = 0.0
        self._failure = ""

    def write(self, record: bytes) -> None:
        """Append `record`. After a failure nothing is tried for a while.

        Raises: OSError or tf.errors.OpError.
        """
        if time.monotonic() < self._retry_at:
            raise OSError(self._failure)
        with self._giving_up_on_errors():
            if self._writer is None or self._is_full(record):
                self._begin()
            assert self._writer is not None
            self._writer.write(record)
            self._records += 1
            self._bytes += len(record) + OVERHEAD_BYTES
            if self._records == 1:
                self._flush()
                self._take_place()

    def flush(self) -> None:
        """Let readers see all of it.

        Raises: OSError or tf.errors.OpError.
        """
        if self._writer is not None:
            with self._giving_up_on_errors():
                self._flush()

    def close(self) -> None:
        """Finish the file.

        Raises: OSError or tf.errors.OpError.
        """
        if self._writer is not None:
            with self._giving_up_on_errors():
                self._flush()
                writer, self._writer = self._writer, None
                writer.close()

    def _is_full(self, record: bytes) -> bool:
        return self._records == MAX_WARMUP_RECORDS or self._bytes + len(record) > self._max_bytes

    @contextlib.contextmanager
    def _giving_up_on_errors(self) -> Iterator[None]:
        """After an error, leave the file as it was when it was last flushed: a record that breaks off is not one."""
        try:
            yield
        except (OSError, tf.errors.OpError) as error:
            self._retry_at, self._failure = time.monotonic() + RETRY_S, str(error)
            self._give_up()
            raise

    def _give_up(self) -> None:
        writer, self._writer = self._writer, None
        with contextlib.suppress(OSError, tf.errors.OpError):
            if writer is not None:
                writer.close()
        if self._new == self.path:
            return
        with contextlib.suppress(OSError):
            if writer is not None and self._records and not os.path.exists(self._new):
                os.truncate(self.path, self._bytes_on_disk)
            else:
                os.unlink(self._new)

    def _begin(self) -> None:
        self.close()
        folder = self.path.rpartition("/")[0]
        if folder:
            tf.io.gfile.makedirs(folder)
        if self._new == self.path:
            if self._is_rotated and self._is_kept:
                self._shift()
            self._is_kept = False
        else:
            os.close(os.open(self._new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, OWNER_ONLY))
            os.chmod(self._new, OWNER_ONLY)  # one that is left over may be open to others
        self._writer = self._open_writer(self._new)
        self._records = self._bytes = self._bytes_on_disk = 0

    def _flush(self) -> None:
        assert self._writer is not None
        self._writer.flush()
        self._bytes_on_disk = self._bytes

    def _take_place(self) -> None:
        self._is_kept = True
        if self._new != self.path:
            self._shift()
            os.replace(self._new, self.path)

    def _shift(self) -> None:
        names = [self.path] + [f"{self.path}.{number}" for number in range(1, self._max_files)]
        for older, newer in zip(reversed(names), reversed(names[:-1]), strict=False):
            if tf.io.gfile.exists(newer):
                tf.io.gfile.rename(newer, older, overwrite=True)

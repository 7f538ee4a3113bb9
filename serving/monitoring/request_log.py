"""The request log: sampled requests as a TFRecord of PredictionLog, which is also what a model is warmed up with.

A thread writes, so that requests never wait for the disk; when it cannot keep up, or the disk is full, requests go
unlogged, and are counted as such. Files are rotated as `<path>`, `<path>.1`, `<path>.2` and so on, the newest first. No
file has more records than TensorFlow Serving takes for a warm-up: copy one to a version's
`assets.extra/tf_serving_warmup_requests`, and that version is warmed with real requests.
"""

import logging
import os
import queue
import random
import threading
import time

import grpc
import tensorflow as tf
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

from .events import ServerEvents

logger = logging.getLogger(__name__)

MAX_WARMUP_RECORDS = 1000  # in one file: TensorFlow Serving refuses longer ones
MAX_WAITING = 1000  # requests between the server and the disk
MAX_WAITING_BYTES = 64 * 10**6  # of those requests and their responses; one alone may be of any size
COMPLAINT_INTERVAL_S = 60.0  # between two lines about the same trouble


class RequestLog:
    """Writes sampled requests to a rotated file, from a thread of its own."""

    def __init__(
        self, path: str, *, sampling_rate: float, max_bytes: int, max_files: int, events: ServerEvents
    ) -> None:
        """Begin a new file.

        Args:
            path: a file, or a URI that TensorFlow's file system knows.
            sampling_rate: the share of requests to write, 0 to 1.
            max_bytes: the size at which a new file is begun.
            max_files: how many files are kept, the open one included.
            events: is told of every request, written or not.
        """
        self._files = RotatedFiles(path, max_bytes=max_bytes, max_files=max_files)
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


class RotatedFiles:
    """TFRecord files that are begun anew when they are large."""

    def __init__(self, path: str, *, max_bytes: int, max_files: int) -> None:
        self.path = path
        self._max_bytes = max_bytes
        self._max_files = max_files
        self._writer: tf.io.TFRecordWriter | None = None
        self._records = 0
        self._bytes = 0

    def write(self, record: bytes) -> None:
        """Append `record`.

        Raises: OSError or tf.errors.OpError.
        """
        if self._writer is None or self._records == MAX_WARMUP_RECORDS or self._bytes + len(record) > self._max_bytes:
            self._begin()
        assert self._writer is not None
        self._writer.write(record)
        self._records += 1
        self._bytes += len(record) + 16  # length and two checksums

    def flush(self) -> None:
        """Let readers see all of it."""
        if self._writer is not None:
            try:
                self._writer.flush()
            except tf.errors.OpError:
                self._writer = None  # what it holds back cannot be written: try a new file with the next record
                raise

    def close(self) -> None:
        """Finish the file."""
        if self._writer is not None:
            writer, self._writer = self._writer, None
            writer.close()

    def _begin(self) -> None:
        self.close()
        folder = self.path.rpartition("/")[0]
        if folder:
            tf.io.gfile.makedirs(folder)
        self._shift()
        self._writer = tf.io.TFRecordWriter(self.path)
        self._records = self._bytes = 0

    def _shift(self) -> None:
        names = [self.path] + [f"{self.path}.{number}" for number in range(1, self._max_files)]
        for older, newer in zip(reversed(names), reversed(names[:-1]), strict=False):
            if _is_file(newer):
                tf.io.gfile.rename(newer, older, overwrite=True)


def _is_file(path: str) -> bool:
    """Whether there is a file to move out of the way: not a device, such as /dev/stdout."""
    return bool(tf.io.gfile.exists(path)) and (os.path.isfile(path) or not os.path.exists(path))

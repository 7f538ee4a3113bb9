"""Threads that call TensorFlow, which lets go of Python's lock while it computes.

Each signature of each version has its own, so that no model waits for the runs of another one. Cheaper than
`ThreadPoolExecutor`, which makes a future for each call and keeps its threads from ending the process: a batch crosses
to a thread by one queue and back by one wake-up of the event loop.
"""

import logging
import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue

logger = logging.getLogger(__name__)


class RuntimeThreads:
    """Threads that run what they are given, in order. They start as work comes, and end with `close` or the process."""

    def __init__(self, num_threads: int, *, spare: int = 0, name: str) -> None:
        """Threads that have not started yet.

        Args:
            num_threads: how many runs should go on at once, by the machine.
            spare: how many more threads may be, beside those that are in long runs.
            name: what the threads' names begin with.
        """
        self.num_threads = num_threads
        self._most = num_threads + spare
        self._name = name
        self._num_started = 0
        self._idle = threading.Semaphore(0)
        self._queue: SimpleQueue[Callable[[], None] | None] = SimpleQueue()

    def submit(self, work: Callable[[], None]) -> None:
        """Have `work` done by the next free thread. It must not raise. Call it from one thread only."""
        self._queue.put(work)
        if self._num_started < self._most and not self._idle.acquire(blocking=False):
            threading.Thread(target=self._run, name=f"{self._name}-{self._num_started}", daemon=True).start()
            self._num_started += 1

    def close(self) -> None:
        """Let the threads end once what was submitted is done; nothing may be submitted afterwards."""
        for _ in range(self._num_started):
            self._queue.put(None)

    def _run(self) -> None:
        while (work := self._next()) is not None:
            try:
                work()
            except Exception:
                logger.exception("work on a runtime thread failed; this is a bug")
            del work  # it may hold a batch, and the next one may be long in coming

    def _next(self) -> Callable[[], None] | None:
        try:
            return self._queue.get_nowait()
        except Empty:
            self._idle.release()
            return self._queue.get()

"""Threads that call TensorFlow, which lets go of Python's lock while it computes.

Cheaper than `ThreadPoolExecutor`, which makes a future for each call and keeps its threads from ending the process:
a batch crosses to a thread by one queue and back by one wake-up of the event loop.
"""

import logging
import threading
from collections.abc import Callable
from queue import SimpleQueue

logger = logging.getLogger(__name__)


class RuntimeThreads:
    """A fixed number of threads that run what they are given, in order, until the process ends."""

    def __init__(self, num_threads: int, *, name: str) -> None:
        self.num_threads = num_threads
        self._queue: SimpleQueue[Callable[[], None]] = SimpleQueue()
        for index in range(num_threads):
            threading.Thread(target=self._run, name=f"{name}-{index}", daemon=True).start()

    def submit(self, work: Callable[[], None]) -> None:
        """Have `work` done by the next free thread. It must not raise."""
        self._queue.put(work)

    def _run(self) -> None:
        while True:
            work = self._queue.get()
            try:
                work()
            except Exception:
                logger.exception("work on a runtime thread failed; this is a bug")
            del work  # it may hold a batch, and the next one may be long in coming

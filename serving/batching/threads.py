"""Threads that call TensorFlow, which lets go of Python's lock while it computes.

Cheaper than `ThreadPoolExecutor`, which makes a future for each call and keeps its threads from ending the process:
a batch crosses to a thread by one queue and back by one wake-up of the event loop.
"""

import logging
import threading
from collections.abc import Callable
from queue import SimpleQueue

logger = logging.getLogger(__name__)


class Workers:
    """A fixed number of threads that run what they are given, in order."""

    def __init__(self, number: int, *, name: str) -> None:
        self.number = number
        self._queue: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        for index in range(number):
            threading.Thread(target=self._run, name=f"{name}-{index}", daemon=True).start()

    def submit(self, work: Callable[[], None]) -> None:
        """Have `work` done by the next free thread. It must not raise."""
        self._queue.put(work)

    def stop(self) -> None:
        """End the threads once they have done what they were given."""
        for _ in range(self.number):
            self._queue.put(None)

    def _run(self) -> None:
        while (work := self._queue.get()) is not None:
            try:
                work()
            except Exception:
                logger.exception("a worker failed; this is a bug")
            del work  # it may hold a batch, and the next one may be long in coming

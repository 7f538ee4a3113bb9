"""Where work for a request is done: on the event loop, or on a thread.

The event loop serves everybody, so no single request may keep it for more than a few milliseconds. What is short is
done there all the same, before a thread would have begun. Everything else goes to a thread, and there are two: one for
what takes milliseconds, one for what takes longer, so that a very large request delays only its like. More threads
would not do more: Python runs one at a time, and each that wants to run makes the event loop wait its turn.

Whoever gives work says how many bytes or values it goes through; work with a single long step, during which Python lets
no other thread run, should be cut into pieces by its author.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

# Values, bytes of a message, or the like. A value costs up to half a microsecond, a byte far less.
SHORT = 4096
MEDIUM = 1 << 20
Result = TypeVar("Result")


class Offload:
    """The event loop and two threads."""

    def __init__(self) -> None:
        self._medium = ThreadPoolExecutor(1, thread_name_prefix="convert")
        self._long = ThreadPoolExecutor(1, thread_name_prefix="convert-large")

    async def run(self, work: Callable[[], Result], *, size: int) -> Result:
        """What `work` returns.

        Args:
            work: does not touch what belongs to the event loop.
            size: how much it goes through.
        """
        if size <= SHORT:
            return work()
        threads = self._medium if size <= MEDIUM else self._long
        return await asyncio.get_running_loop().run_in_executor(threads, work)

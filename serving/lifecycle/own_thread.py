"""Work that may hang: on a thread of its own, so that nobody else waits for one from a pool."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

Result = TypeVar("Result")


async def in_own_thread(work: Callable[[], Result], *, name: str) -> Result:
    """What `work` returns or raises, from a new thread, which does not keep the process from ending."""
    future: Future[Result] = Future()
    future.set_running_or_notify_cancel()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, name=name, daemon=True).start()
    return await asyncio.wrap_future(future)

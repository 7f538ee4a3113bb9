"""Until when somebody waits for what is being done: set where a request comes in, read where the runtime is called.

A context variable, since the nine modules between do nothing with it: each request is a task of asyncio's with a
context of its own, and each thread that runs a model has one too.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar

import grpc

from .errors import ServingError

_ends_at: ContextVar[float | None] = ContextVar("ends_at", default=None)


def begin(timeout_s: float | None) -> None:
    """What is done in this context from now on is waited for so long; None: for ever."""
    _ends_at.set(None if timeout_s is None else time.perf_counter() + timeout_s)


def ends_at() -> float | None:
    """When nobody waits any more, by time.perf_counter; None: never."""
    return _ends_at.get()


def seconds_left() -> float | None:
    """How long somebody waits still, 0 or less if nobody does; None: for ever."""
    end = _ends_at.get()
    return None if end is None else end - time.perf_counter()


@asynccontextmanager
async def time_limit(timeout_s: float | None, flag: str) -> AsyncIterator[None]:
    """Give up the block after `timeout_s`, which `flag` has set; None: never.

    Raises: ServingError DEADLINE_EXCEEDED.
    """
    begin(timeout_s)
    try:
        async with asyncio.timeout(timeout_s):
            yield
    except TimeoutError:
        text = f"Request was not answered within {timeout_s} s ({flag})"
        raise ServingError(grpc.StatusCode.DEADLINE_EXCEEDED, text) from None

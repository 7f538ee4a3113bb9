"""What tests that run with `Client` and `AsyncClient` alike share."""

import asyncio

import grpc
import numpy as np

from inkling.client import AsyncClient, Client, Retry

IMAGES = np.arange(2 * 28 * 28, dtype=np.uint8).reshape(2, 28, 28)
SIX_IMAGES = np.arange(6 * 28 * 28, dtype=np.uint8).reshape(6, 28, 28)
UNAVAILABLE = grpc.StatusCode.UNAVAILABLE
FAST = Retry(initial_backoff_s=0.01, max_backoff_s=0.02)


def call(kind, address, ask, **settings):
    """The result of one call by either client."""
    if kind is Client:
        with Client(address, **settings) as client:
            return ask(client)

    async def ask_async():
        async with AsyncClient(address, **settings) as client:
            return await ask(client)

    return asyncio.run(ask_async())


class Blocking:
    """`AsyncClient` with the calls of `Client`."""

    def __init__(self, *arguments, **settings):
        self._client = AsyncClient(*arguments, **settings)
        self._loop = asyncio.new_event_loop()

    def __getattr__(self, name):
        method = getattr(self._client, name)
        return lambda *arguments, **named: self._loop.run_until_complete(method(*arguments, **named))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
        self._loop.close()

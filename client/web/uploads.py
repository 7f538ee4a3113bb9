"""Takes pictures in from browsers, in bounded memory and time: who has no room waits before a byte of it is read."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.requests import Request

from .connections import is_chunked
from .decoding import TooLarge

STALL_S = 10.0  # without a byte of an upload
UPLOAD_S = 60.0  # for the whole of it: 20 MiB at 2.8 Mbit/s
WAIT_S = 120.0  # for room


class TooBusy(Exception):
    """Too many pictures are there already, or none of them went in time."""


class Stalled(Exception):
    """An upload stopped, or took too long."""


class NoLength(Exception):
    """An upload does not say how large it is."""


class Room:
    """Bytes that uploads may take together, and how many of them may be there: being read, or waiting for room."""

    def __init__(self, *, max_bytes: int, max_present: int) -> None:
        self._free = max_bytes
        self._changed = asyncio.Condition()
        self._present = 0
        self._max_present = max_present

    @asynccontextmanager
    async def taken(self, size: int) -> AsyncIterator[None]:
        """Room for `size` bytes, from when others have left enough of it.

        Raises: TooBusy.
        """
        if self._present >= self._max_present:
            raise TooBusy
        self._present += 1
        try:
            await self._take(size)
            try:
                yield
            finally:
                await self._give(size)
        finally:
            self._present -= 1

    async def _take(self, size: int) -> None:
        try:
            async with asyncio.timeout(WAIT_S), self._changed:
                await self._changed.wait_for(lambda: self._free >= size)
                self._free -= size
        except TimeoutError as error:
            raise TooBusy from error

    async def _give(self, size: int) -> None:
        self._free += size  # at once, even if what follows is cancelled
        async with self._changed:
            self._changed.notify_all()


def announced_bytes(request: Request, *, limit: int) -> int:
    """The size of a request's body.

    Raises:
        TooLarge: it is over the limit.
        NoLength: the request does not say it, or sends the body in chunks all the same.
    """
    length = request.headers.get("content-length")
    if length is None or is_chunked(request.headers.raw):
        raise NoLength
    if int(length) > limit:
        raise TooLarge
    return int(length)


async def read_body(request: Request) -> bytearray:
    """The body of a request, which is as long as it says.

    Raises:
        Stalled: it stopped, or took too long.
        ClientDisconnect: the browser went away.
    """
    body, chunks = bytearray(), aiter(request.stream())
    try:
        async with asyncio.timeout(UPLOAD_S):
            while (chunk := await _next(chunks)) is not None:
                body += chunk
    except TimeoutError as error:
        raise Stalled from error
    return body


async def _next(chunks: AsyncIterator[bytes]) -> bytes | None:
    async with asyncio.timeout(STALL_S):
        return await anext(chunks, None)

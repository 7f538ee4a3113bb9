"""Reads the bodies of REST requests: plain or gzip, and never more of them than memory allows.

A body may be as large as the limit, and all bodies that are in the server at once together twice that. As Python
objects JSON takes many times its length, so what a body will grow to is estimated as it comes.
"""

import asyncio
import contextlib
import zlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import grpc
from aiohttp import ClientPayloadError, web
from aiohttp.http_exceptions import HttpProcessingError

from ..errors import ServingError, invalid_argument, unavailable
from ..offload import SHORT

STALL_S = 30.0  # without a byte from the caller
PIECE_BYTES = 1 << 18  # unpacked at once
PACKED_BYTES = 1 << 12  # unpacked at once: 200 members of a gzip file, if it has nothing in it
LONG_BYTES = 1 << 16  # of a piece after which others have their turn
HUGE_BYTES = 1 << 22  # of a body that is put together on a thread
GROWTH = 16  # bytes that a byte of the limit may become as Python objects
ELEMENT_BYTES = 32  # of a number or short string in a list
CONTAINER_BYTES = 64  # of an empty list or object
BYTES_A_VALUE = 16  # of a body in which only a few bytes are looked at one by one


def json_size(body: bytes, json_length: int | None = None) -> int:
    """A body's size in the sense of offload.py: about how many values it holds, or for a long one how many bytes.

    Args:
        body: the whole of it.
        json_length: how many bytes at its beginning are JSON; None: all. What follows may be strings.
    """
    if len(body) > BYTES_A_VALUE * SHORT:
        return len(body)
    num_parts = sum(body.count(mark, 0, json_length) for mark in (b",", b"[", b"{"))
    return max(len(body) // BYTES_A_VALUE, num_parts)


class BodyTooLarge(ServingError):
    """A body over the limit: 413 in HTTP, where gRPC has no code of its own."""

    def __init__(self, message: str) -> None:
        super().__init__(grpc.StatusCode.RESOURCE_EXHAUSTED, message)


class BodyReader:
    """Reads bodies within one budget."""

    def __init__(self, max_bytes: int, *, num_processes: int = 1) -> None:
        """A reader with its whole budget.

        Args:
            max_bytes: of the largest body, after decompression; all bodies together may take twice that.
            num_processes: that read bodies; each may read one of the largest at least.
        """
        self._max_bytes = max_bytes
        self._budget = max(max_bytes, 2 * max_bytes // num_processes)
        self._held = 0

    @contextlib.asynccontextmanager
    async def read(
        self, request: web.BaseRequest, *, json_length: int | None = None, deflate: bool = False
    ) -> AsyncIterator[bytes]:
        """The request's body, decompressed. It counts against the budget until the block is left.

        Args:
            request: whose body has not been read.
            json_length: how many bytes at its beginning are JSON; None: all.
            deflate: whether it may be packed so, and not by gzip alone.

        Raises: ServingError.
        """
        with self._hold() as hold:
            chunks = [chunk async for chunk in self._chunks(request, hold, json_length, deflate=deflate)]
            yield await asyncio.to_thread(b"".join, chunks) if hold.size > HUGE_BYTES else b"".join(chunks)

    @contextlib.contextmanager
    def _hold(self) -> Iterator["_Hold"]:
        hold = _Hold()
        try:
            yield hold
        finally:
            self._held -= hold.size

    def _take(self, hold: "_Hold", size: int) -> None:
        if hold.size + size > self._max_bytes:
            raise BodyTooLarge(f"Request body is larger than {self._max_bytes} bytes (--rest_api_max_body_mb)")
        if self._held + size > self._budget:
            raise unavailable(f"Too many bytes of request bodies at once; the server holds at most {self._budget}")
        hold.size += size
        self._held += size

    async def _chunks(
        self, request: web.BaseRequest, hold: "_Hold", json_length: int | None, *, deflate: bool
    ) -> AsyncIterator[bytes]:
        if (request.content_length or 0) > self._max_bytes:
            raise BodyTooLarge(
                f"Request body of {request.content_length} bytes is larger than {self._max_bytes} bytes "
                "(--rest_api_max_body_mb)"
            )
        decode = _decoder(request.headers.get("Content-Encoding", ""), deflate=deflate)
        _send_continue(request)
        while chunk := await _next_chunk(request):
            for piece in decode.pieces(chunk):
                self._take(hold, len(piece))
                self._check_growth(hold, piece, json_length)
                yield piece
                if len(piece) >= LONG_BYTES or not piece:
                    await asyncio.sleep(0)  # others have their turn between the pieces of a long body
        decode.finish()

    def _check_growth(self, hold: "_Hold", piece: bytes, json_length: int | None) -> None:
        end = None if json_length is None else max(0, json_length - hold.size + len(piece))
        num_containers = piece.count(b"[", 0, end) + piece.count(b"{", 0, end)
        hold.grown += ELEMENT_BYTES * piece.count(b",", 0, end) + CONTAINER_BYTES * num_containers
        if hold.grown > GROWTH * self._max_bytes:
            raise BodyTooLarge(
                f"Request body of {hold.size} bytes or more holds too many lists and values; parsed it would take "
                f"{hold.grown} bytes or more (--rest_api_max_body_mb)"
            )


@dataclass(slots=True)
class _Hold:
    """What is known of one body."""

    size: int = 0  # bytes that it has taken from the budget
    grown: int = 0  # bytes that it will take as Python objects, about


def _send_continue(request: web.BaseRequest) -> None:
    """Respond to `Expect: 100-continue`, with which curl asks before it sends a long body, and waits a second."""
    if request.headers.get("Expect", "").lower() == "100-continue" and request.transport is not None:
        request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")


async def _next_chunk(request: web.BaseRequest) -> bytes:
    try:
        async with asyncio.timeout(STALL_S):
            return await request.content.readany()
    except TimeoutError:
        raise ServingError(
            grpc.StatusCode.DEADLINE_EXCEEDED, f"No byte of the request body came for {STALL_S:g} s"
        ) from None
    except (HttpProcessingError, ClientPayloadError, ConnectionError) as error:
        raise invalid_argument(f"Request body ends too early or is badly framed: {error}") from error


def _decoder(encoding: str, *, deflate: bool) -> "_Plain | _Inflated":
    match encoding.strip().lower():
        case "" | "identity":
            return _Plain()
        case "gzip" | "x-gzip":
            return _Inflated("gzip", wbits=16 + zlib.MAX_WBITS)
        case "deflate" if deflate:
            return _Inflated("deflate", wbits=zlib.MAX_WBITS)
    packings = "gzip or deflate" if deflate else "gzip"
    raise invalid_argument(
        f"Content-Encoding {encoding!r} is not supported; send the body as it is, or with {packings}"
    )


class _Plain:
    """A body as it is."""

    def pieces(self, chunk: bytes) -> Iterator[bytes]:
        yield chunk

    def finish(self) -> None:
        pass


class _Inflated:
    """A compressed body, unpacked in pieces of bounded size: a small one can unpack to gigabytes, or to nothing."""

    def __init__(self, encoding: str, *, wbits: int) -> None:
        self._encoding = encoding
        self._wbits = wbits
        self._inflate = zlib.decompressobj(wbits=wbits)

    def pieces(self, chunk: bytes) -> Iterator[bytes]:
        for start in range(0, len(chunk), PACKED_BYTES):
            yield from self._unpack(chunk[start : start + PACKED_BYTES])

    def _unpack(self, chunk: bytes) -> Iterator[bytes]:
        more = True
        while more:
            if self._inflate.eof:  # a further member of the file
                self._inflate = zlib.decompressobj(wbits=self._wbits)
                yield b""
            try:
                piece = self._inflate.decompress(chunk, PIECE_BYTES)
            except zlib.error as error:
                raise invalid_argument(f"Request body is not valid {self._encoding}: {error}") from None
            chunk = self._inflate.unused_data if self._inflate.eof else self._inflate.unconsumed_tail
            more = bool(chunk) or len(piece) == PIECE_BYTES
            if piece:
                yield piece

    def finish(self) -> None:
        if not self._inflate.eof:
            raise invalid_argument(f"Request body is not valid {self._encoding}: it ends too early")

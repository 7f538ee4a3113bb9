"""HTTP connections: what aiohttp's do, but for two things.

A caller that has sent its request and closes its end (`printf ... | nc -N`, `shutdown(SHUT_WR)`) still gets its
response. It looks the same as one that has gone altogether, whose request should not be computed to the end; so while a
request goes on, such a caller is sent `100 Continue`, which every client passes over, and which nobody takes who is
gone. And responses do not say what the server is made of.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import HttpVersion11, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import StreamReader
from aiohttp.web_protocol import RequestHandler

PROBE_S = 1.0
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


def path_of(request: web.BaseRequest) -> str:
    """The path as it came, which is what the API's patterns match: not decoded, without the query."""
    raw = request.raw_path if request.raw_path.startswith("/") else request.rel_url.raw_path
    return raw.partition("?")[0].partition("#")[0]


class Request(web.BaseRequest):
    """A request whose response has no `Server` header."""

    async def _prepare_hook(self, response: web.StreamResponse) -> None:
        response.headers.popall("Server", None)


class Connection(RequestHandler):
    """One caller's connection."""

    __slots__ = ()

    def eof_received(self) -> bool:  # type: ignore[override]  # asyncio asks whether to keep the other direction open
        """The caller has closed its end."""
        if self.transport is None or self.transport.get_extra_info("sslcontext") is not None:
            return False  # TLS closes both directions
        if not self._is_owed_a_response():
            return False
        self.close()  # after the response
        self._loop.call_later(PROBE_S, self._probe)
        return True

    def _is_owed_a_response(self) -> bool:
        if self._current_request is not None:
            return self._current_request.content.is_eof()
        if self._messages:
            return any(payload.is_eof() for _, payload in self._messages)
        is_idle = self._waiter is not None and not self._waiter.done()
        return self._request_count > 0 and not is_idle  # a request has come, and is not in its handler yet

    def _probe(self) -> None:
        """Write something, as long as there is no response: if nobody is there to take it, the connection is lost."""
        request = self._current_request
        if request is None or self.transport is None:
            return
        if not request.content.is_eof():  # the rest of it will not come
            self.transport.close()
        elif request.version >= HttpVersion11:
            self.transport.write(CONTINUE)
            self._loop.call_later(PROBE_S, self._probe)


class HttpServer(web.Server):
    """Makes such connections."""

    def __init__(self, handler: Handler, **options: Any) -> None:
        super().__init__(handler, request_factory=self._make, **options)

    def _make(
        self,
        message: RawRequestMessage,
        payload: StreamReader,
        protocol: RequestHandler,
        writer: AbstractStreamWriter,
        task: "asyncio.Task[None]",
    ) -> Request:
        return Request(message, payload, protocol, writer, task, self._loop)

    def __call__(self) -> RequestHandler:
        return Connection(self, loop=self._loop, **self._kwargs)

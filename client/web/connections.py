"""Connections that take no more than their share: a limit of their number, and of the time that one may do nothing.

uvicorn waits for ever for the end of a request's header, and for a browser that does not read its answer. Bodies in
chunks are not read: browsers say how long a picture is, chunks of a byte would keep the event loop busy, and a request
with both a length and chunks says two things about its size.
"""

import asyncio
import socket
from collections.abc import Iterable

from uvicorn.protocols.http.h11_impl import H11Protocol

MAX_CONNECTIONS = 100
HEADER_S = 10.0  # from when a connection could begin a request to the end of its header
UNREAD_S = 30.0  # without so much of an answer being taken:
LEAST_TAKEN_BYTES = 1 << 14
MAX_UNSENT_BYTES = 16 << 20  # of all answers that wait to be taken
LOOK_EVERY_S = 1.0
PIECE_BYTES = 1 << 13  # that are looked at before it is known whether they are chunks
RECEIVE_BYTES = 1 << 17  # that the kernel keeps for a connection that is not read, in place of up to 6 MB


def is_chunked(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether a request's body comes in chunks, whatever else its headers say."""
    return any(name.lower() == b"transfer-encoding" for name, _ in headers)


class BoundedConnection(H11Protocol):
    """uvicorn's HTTP/1.1, ended when nothing comes or goes."""

    max_connections = MAX_CONNECTIONS
    header_s = HEADER_S
    unread_s = UNREAD_S
    max_unsent_bytes = MAX_UNSENT_BYTES
    _next_look: asyncio.TimerHandle | None = None
    _waits: tuple[float, object] | None = None  # what `_waits_for` said, since `_waits_since`
    _waits_since = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take the connection; where there are too many, end the one that has kept us waiting longest, or else this."""
        super().connection_made(transport)
        if len(self.connections) > self.max_connections:
            self._longest_waiting().transport.abort()
            if transport.is_closing():
                return
        peer = transport.get_extra_info("socket")
        if peer is not None:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)
        self._next_look = self.loop.call_later(LOOK_EVERY_S, self._look)

    def data_received(self, data: bytes) -> None:
        """Take what a browser sends, up to a body in chunks: that request is the connection's last."""
        for start in range(0, len(data), PIECE_BYTES):
            if self.transport.is_closing():
                return
            super().data_received(data[start : start + PIECE_BYTES])
            if self.cycle is not None and is_chunked(self.headers):
                self.cycle.keep_alive = False
                self.transport.pause_reading()
                return

    def connection_lost(self, exc: Exception | None) -> None:
        """Look no more."""
        if self._next_look is not None:
            self._next_look.cancel()
        super().connection_lost(exc)

    def _longest_waiting(self) -> "BoundedConnection":
        """The connection whose browser has not done what it is to do next for longest; this one, if there is none."""
        others = [each for each in self.connections if isinstance(each, BoundedConnection) and each._waits is not None]
        return min(others, key=lambda each: each._waits_since, default=self)

    def _look(self) -> None:
        """End the connection if it has waited for the browser, and for the same, too long, or fills the memory."""
        waits, now = self._waits_for(), self.loop.time()
        if waits is None or waits != self._waits:
            self._waits, self._waits_since = waits, now
        elif now - self._waits_since >= waits[0]:
            self.transport.abort()
            return
        if self._has_most_unsent():
            self.transport.abort()
            return
        self._next_look = self.loop.call_later(LOOK_EVERY_S, self._look)

    def _has_most_unsent(self) -> bool:
        """Whether there are too many bytes that no browser takes, and of no connection more than of this one."""
        unsent = [each.transport.get_write_buffer_size() for each in self.connections]
        return sum(unsent) > self.max_unsent_bytes and self.transport.get_write_buffer_size() == max(unsent)

    def _waits_for(self) -> tuple[float, object] | None:
        """How long the browser may take for what it is to do next, and a mark that changes when it does something.

        Returns: None while it is the page's turn, or an upload's, which `uploads` watches.
        """
        if unsent := self.transport.get_write_buffer_size():
            return self.unread_s, unsent // LEAST_TAKEN_BYTES
        if self.cycle is None or self.cycle.response_complete:
            return self.header_s, self.cycle
        return None

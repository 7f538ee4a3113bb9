"""Connections that take no more than their share: a limit of their number, and of the time that one may do nothing.

uvicorn waits for ever for the end of a request's header, and for a browser that does not read its answer.
"""

import asyncio
import socket

from uvicorn.protocols.http.h11_impl import H11Protocol

MAX_CONNECTIONS = 100
HEADER_S = 10.0  # from when a connection could begin a request to the end of its header
UNREAD_S = 30.0  # without a byte of an answer being taken
LOOK_EVERY_S = 1.0
RECEIVE_BYTES = 1 << 17  # that the kernel keeps for a connection that is not read, in place of up to 6 MB


class BoundedConnection(H11Protocol):
    """uvicorn's HTTP/1.1, ended when nothing comes or goes."""

    _next_look: asyncio.TimerHandle | None = None
    _waits: tuple[float, object] | None = None  # what `_waits_for` said, since `_waits_since`
    _waits_since = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take the connection, or end it at once if there are too many."""
        super().connection_made(transport)
        if len(self.connections) > MAX_CONNECTIONS:
            transport.abort()
            return
        peer = transport.get_extra_info("socket")
        if peer is not None:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)
        self._next_look = self.loop.call_later(LOOK_EVERY_S, self._look)

    def connection_lost(self, exc: Exception | None) -> None:
        """Look no more."""
        if self._next_look is not None:
            self._next_look.cancel()
        super().connection_lost(exc)

    def _look(self) -> None:
        """End the connection if it has waited for the browser, and for the same, too long."""
        waits, now = self._waits_for(), self.loop.time()
        if waits is None or waits != self._waits:
            self._waits, self._waits_since = waits, now
        elif now - self._waits_since >= waits[0]:
            self.transport.abort()
            return
        self._next_look = self.loop.call_later(LOOK_EVERY_S, self._look)

    def _waits_for(self) -> tuple[float, object] | None:
        """How long the browser may take for what it is to do next, and a mark that changes when it does something.

        Returns: None while it is the page's turn, or an upload's, which `uploads` watches.
        """
        if unsent := self.transport.get_write_buffer_size():
            return UNREAD_S, unsent
        if self.cycle is None or self.cycle.response_complete:
            return HEADER_S, self.cycle
        return None

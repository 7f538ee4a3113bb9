"""A peer of the page that does what a browser would not."""

import contextlib
import socket


class Peer:
    """A connection to a port of this machine, on which `data` was sent as far as it was taken."""

    def __init__(self, port, data, *, receive_bytes=None):
        self.answer = b""
        self.socket = socket.socket()
        if receive_bytes:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        self.socket.connect(("127.0.0.1", port))
        self.socket.settimeout(1)  # what is not taken from us is not sent
        with contextlib.suppress(ConnectionError, TimeoutError):
            self.socket.sendall(data)
        self.socket.setblocking(False)

    def is_closed(self):
        try:
            while data := self.socket.recv(1 << 16):
                self.answer += data
        except BlockingIOError:
            return False
        except ConnectionError:
            pass
        return True

"""A proxy in front of a server, which does to its connections what a test wants."""

import contextlib
import socket
import struct
import threading


class Proxy:
    """Carries connections to a server, and does to them what a test wants."""

    def __init__(self, server):
        self._server = server
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.connections = []
        self.resets_left = 0
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def _accept(self):
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            if self.resets_left:
                self.resets_left -= 1
                self._reset(near)
                continue
            try:
                far = socket.create_connection(("127.0.0.1", self._server.port))
            except OSError:
                near.close()
                continue
            self.connections.append((near, far))
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._carry, args=(source, sink), daemon=True).start()

    def _carry(self, source, sink):
        try:
            while data := source.recv(1 << 16):
                sink.sendall(data)
        except OSError:
            pass

    def reset_connections(self):
        while self.connections:
            for end in self.connections.pop():
                self._reset(end)

    def _reset(self, end):
        with contextlib.suppress(OSError):  # the other side may have been first
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            end.shutdown(socket.SHUT_RD)  # wakes the thread that reads it, which would keep it open
        end.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._accepting.join()
        self._listener.close()
        self.reset_connections()


class ConnectProxy:
    """An HTTP proxy for CONNECT, which keeps what it was asked."""

    def __init__(self):
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.targets = []
        self.credentials = set()
        self._connections = []
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                self._connections.append(threading.Thread(target=self._connect, args=(near,), daemon=True))
                self._connections[-1].start()

    def _connect(self, near):
        with near:
            self._serve(near)

    def _serve(self, near):
        request = b""
        while b"\r\n\r\n" not in request:
            request += near.recv(1 << 16)
        lines = request.decode().split("\r\n")
        target = lines[0].split()[1]
        self.targets.append(target)
        self.credentials |= {line for line in lines if line.lower().startswith("proxy-authorization")}
        host, _, port = target.rpartition(":")
        try:
            far = socket.create_connection((host.strip("[]"), int(port)))
        except (OSError, ValueError):
            return near.sendall(b"HTTP/1.1 502 Bad Gateway\r\n\r\n")
        with far:
            near.sendall(b"HTTP/1.1 200 Connected\r\n\r\n")
            back = threading.Thread(target=carry, args=(far, near), daemon=True)
            back.start()
            carry(near, far)
            back.join()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._accepting.join()
        self._listener.close()
        for each in self._connections:
            each.join()


def carry(source, sink):
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)


class Counting:
    def __init__(self, source, sizes):
        self._source, self._sizes = source, sizes

    def recv(self, size):
        data = self._source.recv(size)
        self._sizes.append(len(data))
        return data

"""Sends one prepared gRPC request over many connections, at a tenth of what a gRPC client of Python costs.

Where 16 processes answer, a client in Python's gRPC needs as many cores as they do. This one writes HTTP/2 frames that
it has made once, several requests on each connection at a time, and looks of the answers at the frames' heads only: one
with a DATA frame is an answer, one without is an error. A process of its own; several of them make a load.

    python -m benchmarks.grpc_flood 127.0.0.1:8500 /tensorflow.serving.PredictionService/Predict body.bin \
        --connections 32 --in-flight 2 --seconds 2
"""

import argparse
import json
import selectors
import socket
import struct
import time
from dataclasses import dataclass, field
from pathlib import Path

WARMUP_S = 0.5
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, END_HEADERS, ACK = 0x1, 0x4, 0x1
HEAD = struct.Struct(">BHBBI")  # of a frame: length in three bytes, kind, flags, stream
LARGEST_WINDOW = 2**31 - 1
INITIAL_WINDOW_SIZE = 4
REFILL_BYTES = 1 << 29  # of answers, after which the connection's window is opened again


def frame(kind: int, flags: int, stream: int, content: bytes = b"") -> bytes:
    """A frame of HTTP/2."""
    size = len(content)
    return HEAD.pack(size >> 16, size & 0xFFFF, kind, flags, stream) + content


def literal(name: str, value: str) -> bytes:
    """A header, in HPACK, without a table: so that it is the same in every request."""
    assert len(name) < 127 and len(value) < 127, (name, value)
    return bytes([0, len(name)]) + name.encode() + bytes([len(value)]) + value.encode()


def headers(address: str, path: str) -> bytes:
    """The headers of a request."""
    pairs = {":method": "POST", ":scheme": "http", ":path": path, ":authority": address}
    pairs |= {"content-type": "application/grpc", "te": "trailers"}
    return b"".join(literal(name, value) for name, value in pairs.items())


@dataclass(slots=True)
class Counts:
    """What has come of the requests."""

    good: int = 0
    failed: int = 0
    latencies: list[float] = field(default_factory=list)
    warm_up: int = 0  # answers before the measured time


class Connection:
    """One connection with a number of requests in flight."""

    def __init__(self, address: str, path: str, body: bytes, in_flight: int) -> None:
        host, port = address.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._headers = headers(address, path)
        self._data = b"\0" + struct.pack(">I", len(body)) + body
        self._stream = 1
        self._received = b""
        self._unrefilled = 0
        self._sent: dict[int, float] = {}  # by stream: when
        self._answered: set[int] = set()  # streams with a DATA frame
        settings = struct.pack(">HI", INITIAL_WINDOW_SIZE, LARGEST_WINDOW)
        opening = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS, 0, 0, settings)
        opening += frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", LARGEST_WINDOW - 65_535))
        self.socket.sendall(opening + b"".join(self._request() for _ in range(in_flight)))

    def _request(self) -> bytes:
        stream, self._stream = self._stream, self._stream + 2
        self._sent[stream] = time.perf_counter()
        return frame(HEADERS, END_HEADERS, stream, self._headers) + frame(DATA, END_STREAM, stream, self._data)

    def receive(self, counts: Counts) -> None:
        """Take what has come, count it, and send as many requests as have ended. Raises: ConnectionError."""
        chunk = self.socket.recv(1 << 18)
        if not chunk:
            raise ConnectionError("the server has closed a connection")
        content, start, replies = self._received + chunk, 0, []
        while len(content) - start >= HEAD.size:
            high, low, kind, flags, stream = HEAD.unpack_from(content, start)
            end = start + HEAD.size + (high << 16) + low
            if end > len(content):
                break
            replies.append(self._take(kind, flags, stream, content[start + HEAD.size : end], counts))
            start = end
        self._received = content[start:]
        if reply := b"".join(replies):
            self.socket.sendall(reply)

    def _take(self, kind: int, flags: int, stream: int, content: bytes, counts: Counts) -> bytes:
        """What is sent in return for a frame."""
        if kind == DATA:
            self._answered.add(stream)
            self._unrefilled += len(content)
            if self._unrefilled > REFILL_BYTES:
                refill, self._unrefilled = self._unrefilled, 0
                return frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", refill))
        elif kind == SETTINGS and not flags & ACK:
            return frame(SETTINGS, ACK, 0)
        elif kind == PING and not flags & ACK:
            return frame(PING, ACK, 0, content)
        elif kind == GOAWAY:
            raise ConnectionError("the server says goodbye")
        elif (kind == HEADERS and flags & END_STREAM) or kind == RST_STREAM:
            counts.latencies.append(time.perf_counter() - self._sent.pop(stream))
            if stream in self._answered:
                self._answered.discard(stream)
                counts.good += 1
            else:
                counts.failed += 1
            return self._request()
        return b""


def flood(address: str, path: str, body: bytes, *, connections: int, in_flight: int, seconds: float) -> Counts:
    """Send for `seconds` after a warm-up; returns what has come in the measured time."""
    selector = selectors.DefaultSelector()
    for _ in range(connections):
        connection = Connection(address, path, body, in_flight)
        selector.register(connection.socket, selectors.EVENT_READ, connection)
    counts, begin = Counts(), time.perf_counter() + WARMUP_S
    has_begun = False
    while (now := time.perf_counter()) < begin + seconds:
        if not has_begun and now >= begin:
            counts, has_begun = Counts(warm_up=counts.good), True
        for key, _ in selector.select(0.1):
            key.data.receive(counts)
    return counts


def main() -> None:
    """Command line; prints JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("address", help="host:port")
    parser.add_argument("path", help="/service/method")
    parser.add_argument("body", type=Path, help="file with the request's bytes")
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--in-flight", type=int, default=2, help="requests at once on each connection")
    parser.add_argument("--seconds", type=float, default=2.0)
    flags = parser.parse_args()
    cpu = time.process_time()
    counts = flood(
        flags.address,
        flags.path,
        flags.body.read_bytes(),
        connections=flags.connections,
        in_flight=flags.in_flight,
        seconds=flags.seconds,
    )
    latencies = sorted(counts.latencies)
    print(
        json.dumps(
            {
                "requests_per_s": counts.good / flags.seconds,
                "failed": counts.failed,
                "answered": counts.good + counts.warm_up,
                "p50_ms": latencies[len(latencies) // 2] * 1e3 if latencies else None,
                "p99_ms": latencies[len(latencies) * 99 // 100] * 1e3 if latencies else None,
                "busy": (time.process_time() - cpu) / (flags.seconds + WARMUP_S),
            }
        )
    )


if __name__ == "__main__":
    main()

"""Sends one prepared request over and over to a server, and tells how many were answered and how fast.

A process of its own, so that the client's work is not done at the server's cost: the body is bytes from a file, and
answers are not looked into. Closed loop, a number of callers that each wait for their answer before they ask again; or
with `--rate` open loop, so many requests a second whatever becomes of them.

    python -m benchmarks.serving_load grpc://127.0.0.1:8500/tensorflow.serving.PredictionService/Predict body.bin \
        --callers 32 --seconds 4
"""

import argparse
import asyncio
import json
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlsplit

import grpc
import numpy as np

WARMUP_S = 1.0
MAX_OUTSTANDING = 4096  # of an open loop
Call = Callable[[], Awaitable[str]]  # sends the request; gives the status of the answer


@dataclass(frozen=True, slots=True)
class Load:
    """What was asked of a server, and what came of it, without the warm-up."""

    requests_per_s: float  # answered well
    p50_ms: float
    p99_ms: float
    statuses: dict[str, int]  # answers by status
    failed_p50_ms: float | None  # latency of answers that were errors
    failed_p99_ms: float | None


class Recorder:
    """Collects statuses and latencies of the answers within the measured time."""

    def __init__(self, seconds: float) -> None:
        self._begin = time.perf_counter() + WARMUP_S
        self.end = self._begin + seconds
        self._seconds = seconds
        self._latencies: dict[str, list[float]] = defaultdict(list)

    def record(self, status: str, began: float) -> None:
        now = time.perf_counter()
        if self._begin <= now < self.end:
            self._latencies[status].append(now - began)

    def load(self) -> Load:
        good = self._latencies.pop("OK", [])
        failed = [latency for latencies in self._latencies.values() for latency in latencies]
        statuses = Counter({status: len(latencies) for status, latencies in self._latencies.items()}) + Counter(
            OK=len(good)
        )
        return Load(
            requests_per_s=len(good) / self._seconds,
            p50_ms=_percentile_ms(good, 50) or float("nan"),
            p99_ms=_percentile_ms(good, 99) or float("nan"),
            statuses=dict(statuses),
            failed_p50_ms=_percentile_ms(failed, 50),
            failed_p99_ms=_percentile_ms(failed, 99),
        )


def _percentile_ms(latencies: list[float], percent: float) -> float | None:
    return float(np.percentile(latencies, percent)) * 1e3 if latencies else None


async def closed_loop(call: Call, callers: int, recorder: Recorder) -> None:
    """`callers` that ask, wait for the answer, and ask again."""

    async def caller() -> None:
        while (began := time.perf_counter()) < recorder.end:
            recorder.record(await call(), began)

    await asyncio.gather(*(caller() for _ in range(callers)))


async def open_loop(call: Call, rate: float, recorder: Recorder) -> None:
    """`rate` requests a second, at even distances, whether or not they are answered."""
    outstanding: set[asyncio.Task[None]] = set()

    async def ask() -> None:
        began = time.perf_counter()
        recorder.record(await call(), began)

    due = time.perf_counter()
    while (now := time.perf_counter()) < recorder.end:
        while due <= now and len(outstanding) < MAX_OUTSTANDING:
            task = asyncio.create_task(ask())
            outstanding.add(task)
            task.add_done_callback(outstanding.discard)
            due += 1 / rate
        due = max(due, now - 0.1)  # what could not be sent in time is not sent later in a burst
        await asyncio.sleep(max(0.0, min(due - time.perf_counter(), 0.01)))
    for task in list(outstanding):
        task.cancel()
    await asyncio.gather(*outstanding, return_exceptions=True)


def grpc_call(channel: grpc.aio.Channel, path: str, body: bytes, timeout_s: float) -> Call:
    """One RPC of prepared bytes."""
    method: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(path)

    async def call() -> str:
        try:
            await method(body, timeout=timeout_s)
        except grpc.aio.AioRpcError as error:
            return error.code().name
        return "OK"

    return call


class HttpConnections:
    """Keep-alive connections that send prepared bytes; a small client costs the measured server least."""

    def __init__(self, host: str, port: int, path: str, body: bytes, headers: dict[str, str]) -> None:
        lines = [f"POST {path} HTTP/1.1", f"Host: {host}:{port}", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        self._request = ("\r\n".join(lines) + "\r\n\r\n").encode() + body
        self._address = (host, port)
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def call(self) -> str:
        """Send the request over an idle connection or a new one."""
        reader, writer = self._idle.pop() if self._idle else await asyncio.open_connection(*self._address)
        writer.write(self._request)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = head.partition(b"\r\ncontent-length:")[2].partition(b"\r\n")[0]
        await reader.readexactly(int(length))
        if b"connection: close" in head:
            writer.close()
        else:
            self._idle.append((reader, writer))
        status = head.split(b" ", 2)[1].decode()
        return "OK" if status == "200" else status


async def run(
    url: str,
    body: bytes,
    *,
    callers: int,
    rate: float | None,
    seconds: float,
    headers: dict[str, str],
    timeout_s: float,
) -> Load:
    """Load the server at `url`: grpc://host:port/service/method or http://host:port/path."""
    parts = urlsplit(url)
    assert parts.hostname and parts.port, url
    async with grpc.aio.insecure_channel(
        f"{parts.hostname}:{parts.port}",
        options=[("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)],
    ) as channel:
        if parts.scheme == "grpc":
            call = grpc_call(channel, parts.path, body, timeout_s)
        else:
            call = HttpConnections(parts.hostname, parts.port, parts.path, body, headers).call
        recorder = Recorder(seconds)
        await (open_loop(call, rate, recorder) if rate else closed_loop(call, callers, recorder))
    return recorder.load()


def main() -> None:
    """Command line; prints a `Load` as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", help="grpc://host:port/service/method or http://host:port/path")
    parser.add_argument("body", type=Path, help="file with the request's bytes")
    parser.add_argument("--callers", type=int, default=1, help="requests at once")
    parser.add_argument("--rate", type=float, help="requests a second, in an open loop")
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--timeout-s", type=float, default=30.0, help="deadline of an RPC")
    parser.add_argument("--header", action="append", default=[], metavar="NAME:VALUE")
    arguments = parser.parse_args()
    headers = dict(header.split(":", 1) for header in arguments.header)
    load = asyncio.run(
        run(
            arguments.url,
            arguments.body.read_bytes(),
            callers=arguments.callers,
            rate=arguments.rate,
            seconds=arguments.seconds,
            headers=headers,
            timeout_s=arguments.timeout_s,
        )
    )
    print(json.dumps(asdict(load)))


if __name__ == "__main__":
    main()

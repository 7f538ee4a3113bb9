"""Servers of a model that hardly computes, side by side in turns, so that what differs is the servers' own.

Each gets some hundred requests in its turn, over gRPC and REST, and many turns. Ratios are of a server's throughput to
that of another one in the same turn, and of their CPU time for a request, which a busy machine disturbs less.
"""

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import grpc
import psutil

from .serving_load import Call, HttpConnections

ROOT = Path(__file__).parents[1]
CALLERS = 16
START_S = 120.0
PREDICT = "/tensorflow.serving.PredictionService/Predict"
JSON_BODY = b'{"instances": [1.0, 2.0, 5.0]}'
MODEL = """
import sys, tensorflow as tf
module = tf.Module()
module.run = tf.function(lambda x: {"y": x * 2}, input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
tf.saved_model.save(module, sys.argv[1], signatures=module.run)
from tensorflow_serving.apis.predict_pb2 import PredictRequest
request = PredictRequest()
request.model_spec.name = "double"
request.inputs["x"].CopyFrom(tf.make_tensor_proto([1.0, 2.0, 5.0]))
open(sys.argv[2], "wb").write(request.SerializeToString())
"""


@dataclass(frozen=True, slots=True)
class Running:
    """A server's process, and where it listens."""

    contender: "Contender"
    port: int
    rest_port: int
    process: psutil.Process


@dataclass(frozen=True, slots=True)
class Contender:
    """A server, and what its callers send to be let in."""

    name: str
    flags: tuple[str, ...]
    credential: str
    environment: Mapping[str, str] = field(default_factory=dict)  # on top of this process's own


@contextlib.contextmanager
def running(contender: Contender, base: Path, folder: Path) -> Iterator["Running"]:
    """A server that answers.

    Raises: TimeoutError.
    """
    port, rest_port = _free_port(), _free_port()
    flags = [f"--port={port}", f"--rest_api_port={rest_port}", "--model_name=double", f"--model_base_path={base}"]
    with (folder / f"{contender.name}.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "serving", *flags, *contender.flags],
            cwd=ROOT,
            env={**os.environ, **contender.environment},
            stdout=log,
            stderr=log,
        )
        try:
            deadline = time.monotonic() + START_S
            while b"Running gRPC ModelServer" not in (folder / f"{contender.name}.log").read_bytes():
                if process.poll() is not None or time.monotonic() > deadline:
                    raise TimeoutError((folder / f"{contender.name}.log").read_text()[-2000:])
                time.sleep(0.1)
            yield Running(contender, port, rest_port, psutil.Process(process.pid))
        finally:
            process.terminate()
            process.wait()


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@dataclass(slots=True)
class Figures:
    """What one server has done so far over one transport."""

    rates: list[float] = field(default_factory=list)  # requests a second of each turn
    cpu_us: list[float] = field(default_factory=list)  # of the server, for a request of each turn


async def turn(server: Running, transport: str, body: bytes, count: int) -> tuple[float, float]:
    """Send `count` requests; returns the seconds they took, and the server's CPU time."""
    credential = server.contender.credential
    if transport == "REST":
        headers = {"X-Api-Key": credential} if credential else {}
        rest = HttpConnections("127.0.0.1", server.rest_port, "/v1/models/double:predict", JSON_BODY, headers)
        return await timed(rest.call, server.process, count)
    metadata = (("x-api-key", credential),) if credential else None
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        method: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(PREDICT)

        async def call() -> str:
            await method(body, metadata=metadata, timeout=60)
            return "OK"

        return await timed(call, server.process, count)


async def timed(call: Call, process: psutil.Process, count: int) -> tuple[float, float]:
    """Send `count` requests by `call`; returns the seconds they took, and the server's CPU time."""
    await _send(call, 4 * CALLERS)
    began, cpu = time.perf_counter(), process.cpu_times()
    await _send(call, count)
    now = process.cpu_times()
    return time.perf_counter() - began, now.user + now.system - cpu.user - cpu.system


async def _send(call: Call, count: int) -> None:
    """`count` requests by CALLERS that each wait for an answer. Raises: RuntimeError if one is not good."""
    left = count

    async def caller() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            if (status := await call()) != "OK":
                raise RuntimeError(f"an answer was {status}")

    await asyncio.gather(*(caller() for _ in range(CALLERS)))


def measure(make: Callable[[Path], Sequence[Contender]], turns: int, count: int) -> dict[str, dict[str, Figures]]:
    """What each server has done, by transport and by its contender's name.

    Args:
        make: the contenders, of which files may be in the folder that it is given.
        turns: of each server.
        count: requests in each turn.
    """
    with tempfile.TemporaryDirectory() as scratch, contextlib.ExitStack() as stack:
        folder = Path(scratch)
        base, file = folder / "double", folder / "body"
        subprocess.run([sys.executable, "-c", MODEL, str(base / "1"), str(file)], check=True, capture_output=True)
        body = file.read_bytes()
        servers = [stack.enter_context(running(each, base, folder)) for each in make(folder)]
        figures = {kind: {server.contender.name: Figures() for server in servers} for kind in ("gRPC", "REST")}
        for number in range(turns):
            for transport, by_name in figures.items():
                for server in servers if number % 2 else reversed(servers):
                    seconds, cpu_s = asyncio.run(turn(server, transport, body, count))
                    found = by_name[server.contender.name]
                    found.rates.append(count / seconds)
                    found.cpu_us.append(cpu_s / count * 1e6)
        return figures


def table(figures: dict[str, dict[str, Figures]], *, what: str, base_name: str) -> str:
    """The figures as Markdown.

    Args:
        figures: as `measure` gives them.
        what: the first column's title.
        base_name: the contender that ratios are to.
    """
    lines = [f"| {what} |" + "".join(f" {kind}, requests/s | ratio | CPU, µs a request | ratio |" for kind in figures)]
    lines.append("|" + "---|" * (1 + 4 * len(figures)))
    for name in figures["gRPC"]:
        cells = [name]
        for by_name in figures.values():
            mine = by_name[name]
            ratio, cpu_ratio = ratios(mine, by_name[base_name])
            cells += [f"{median(mine.rates):,.0f}", f"{ratio:.3f}", f"{median(mine.cpu_us):.0f}", f"{cpu_ratio:.3f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def ratios(mine: Figures, base: Figures) -> tuple[float, float]:
    """Of a server's throughput to another one's, and of that one's CPU time for a request to its own, in each turn.

    A turn that something else on the machine disturbs is one of many: the medians.
    """
    ratio = median(rate / least for rate, least in zip(mine.rates, base.rates, strict=True))
    return ratio, median(least / cpu for cpu, least in zip(mine.cpu_us, base.cpu_us, strict=True))

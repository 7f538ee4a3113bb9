"""One setting, tried: a real server in a process of its own, with more and more callers until it is too slow."""

import asyncio
import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from .load import Measured, Request, send
from .settings import Setting

LADDER = (1, 2, 4, 8, 16, 32, 64, 128, 256)  # callers
POLL_S = 0.1
END_S = 30.0  # for a server to end, before it is killed
PACKAGE = __name__.partition(".tuning")[0]  # `serving` in a checkout, `inkling.serving` when installed


class TrialFailed(RuntimeError):
    """A server did not start; the message has its last line."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Conditions:
    """What all settings are tried with."""

    flags: Sequence[str]  # of every server: its model, and what the user adds
    requests: Sequence[Request]
    latency_ms: float  # that 99 of 100 requests may take
    seconds: float  # of load, for each number of callers
    start_s: float  # that a server may take to start
    folder: Path  # for files


@dataclass(slots=True)
class Trial:
    """A setting, and what it has done."""

    setting: Setting
    steps: list[Measured] = field(default_factory=list)
    latency_ms: float = 0.0
    failure: str = ""  # why it could not be tried

    @property
    def best(self) -> Measured | None:
        """The step with the highest throughput of those within the latency; None if there is none."""
        within = [step for step in self.steps if is_within(step, self.latency_ms)]
        return max(within, key=lambda step: step.requests_per_s, default=None)


def is_within(step: Measured, latency_ms: float) -> bool:
    """Whether every request was answered, and 99 of 100 in time."""
    return not step.errors and step.p99_ms <= latency_ms


def try_setting(setting: Setting, conditions: Conditions) -> Trial:
    """Start a server with `setting`, and load it until it is too slow or no faster."""
    trial = Trial(setting, latency_ms=conditions.latency_ms)
    try:
        with running(setting, conditions) as port:
            for callers in LADDER:
                step = asyncio.run(send(port, conditions.requests, callers=callers, seconds=conditions.seconds))
                trial.steps.append(step)
                if not is_within(step, conditions.latency_ms):
                    break
    except TrialFailed as error:
        trial.failure = str(error)
    return trial


@contextlib.contextmanager
def running(setting: Setting, conditions: Conditions) -> Iterator[int]:
    """A server that answers; yields its port.

    Raises: TrialFailed.
    """
    parameters, log, port = conditions.folder / "batching.config", conditions.folder / "server.log", _free_port()
    parameters.write_text(setting.parameters())
    command = [sys.executable, "-m", PACKAGE, f"--port={port}", *conditions.flags, *setting.flags(parameters)]
    with log.open("wb") as output:
        # In a session of its own: a Ctrl-C is ours to pass on.
        process = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)
        try:
            _wait(process, port, log, conditions.start_s)
            yield port
        finally:
            _end(process)


def _wait(process: "subprocess.Popen[bytes]", port: int, log: Path, start_s: float) -> None:
    deadline = time.monotonic() + start_s
    while not _is_serving(port):
        if process.poll() is not None:
            lines = log.read_text(errors="replace").strip().splitlines() or ["it printed nothing"]
            raise TrialFailed(f"the server ended with {process.returncode}: {lines[-1]}")
        if time.monotonic() > deadline:
            raise TrialFailed(f"the server is not ready after {start_s:g} s; see --start_s")
        time.sleep(POLL_S)


def _is_serving(port: int) -> bool:
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=5)
        except grpc.RpcError:
            return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(END_S)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):  # a second Ctrl-C does not wait
        process.kill()
        process.wait()


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])

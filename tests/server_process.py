"""A server in a process of its own, for tests that talk to it as its users do."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType

import grpc
import psutil
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.patience import PATIENCE_S, POLL_S
from tests.ports import free_port

ROOT = Path(__file__).parents[1]


class ServerProcess:
    """`python -m serving` with `flags`, on free ports, from `with` to the end of its block.

    `ready=False` does not wait for the models; `environment` is added to this process's own. The first start, if it
    waits, is tried again on other ports where somebody else was quicker to take one.
    """

    def __init__(
        self,
        *flags: str,
        ready: bool = True,
        environment: dict[str, str] | None = None,
        cwd: Path | None = None,
        ports: bool = True,
    ) -> None:
        self._flags = flags
        self._chooses_ports = ports
        self._ready = ready
        self._take_ports()
        self._environment = {**os.environ, "PYTHONPATH": str(ROOT), **(environment or {})}
        self._cwd = cwd
        self._log = tempfile.NamedTemporaryFile(suffix=".log")  # noqa: SIM115
        self.process: subprocess.Popen[bytes]

    def _take_ports(self) -> None:
        self.port, self.rest_port = free_port(), free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.rest_url = f"http://127.0.0.1:{self.rest_port}"
        own = [f"--port={self.port}", f"--rest_api_port={self.rest_port}"] if self._chooses_ports else []
        self._command = [sys.executable, "-m", "serving", *own, *self._flags]

    def __enter__(self) -> "ServerProcess":
        try:
            self.start()
        except AssertionError:
            if not self._chooses_ports or "in use" not in self.log_text():
                raise
            self._log.seek(0)  # where the next process writes on
            self._log.truncate()
            self._take_ports()
            self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        if error is not None:
            print(f"--- log of the server ---\n{self.log_text()}", file=sys.stderr)
        self._log.close()

    def start(self) -> None:
        """Start the process; with `ready`, return when all models are available."""
        self.process = subprocess.Popen(
            self._command, env=self._environment, cwd=self._cwd, stdout=self._log, stderr=subprocess.STDOUT
        )
        if self._ready:
            self.wait_until_ready()

    def stop(self) -> int:
        """End the process by SIGTERM, by SIGKILL if that takes too long; returns its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                raise
        return self.process.returncode

    def wait_until_ready(self, timeout_s: float = PATIENCE_S) -> None:
        """Return when the health service says SERVING; raises AssertionError with the log otherwise."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                break
            if self.is_serving():
                return
            time.sleep(POLL_S)
        code = self.process.poll()
        self.process.kill()
        self.process.wait()
        raise AssertionError(f"the server is not ready (exit code {code}); its log:\n{self.log_text()}")

    def is_serving(self, service: str = "") -> bool:
        """Whether the health service says SERVING for `service`."""
        with grpc.insecure_channel(self.address) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            try:
                answer = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=10)
            except grpc.RpcError:
                return False
            return answer.status == health_pb2.HealthCheckResponse.SERVING

    def wait_for_log(self, text: str, timeout_s: float = PATIENCE_S) -> None:
        """Return when the log holds `text`; raises AssertionError otherwise."""
        deadline = time.monotonic() + timeout_s
        while text not in self.log_text():
            ended = self.process.poll() is not None
            if (ended and text not in self.log_text()) or time.monotonic() > deadline:
                raise AssertionError(f"the server's log does not say {text!r}:\n{self.log_text()}")
            time.sleep(POLL_S)

    def log_text(self) -> str:
        """What the process has written to stdout and stderr."""
        return Path(self._log.name).read_text(errors="replace")

    def cpu_s(self) -> float:
        """The processor time that the process has had, in seconds."""
        times = psutil.Process(self.process.pid).cpu_times()
        return float(times.user + times.system)

    def memory_mb(self) -> float:
        """The process's resident memory, in 10^6 bytes. Linux only."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
        return int(line.split()[1]) * 1024 / 1e6

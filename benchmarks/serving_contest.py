"""Who takes part in the serving benchmark: how each is installed, started and asked, and how it is measured.

Peers get a virtual environment of their own, made when it is first needed, which sees this project's packages too, so
that TensorFlow is the same for all.
"""

import base64
import contextlib
import json
import os
import re
import signal
import site
import socket
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
ENVIRONMENTS = ROOT / "build" / "serving_peers"
PREDICT = "/tensorflow.serving.PredictionService/Predict"
START_S = 120.0
ENVIRONMENT = {
    "PYTHONPATH": str(ROOT),
    "TF_CPP_MIN_LOG_LEVEL": "2",
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",  # its proxy imports TensorFlow, which takes longer
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Contestant:
    """One server and how to talk to it."""

    name: str
    title: str
    wire: str  # what goes over the connection
    module: str  # started as `python -m <module> --port <port> --model <folder>`, unless `command` says otherwise
    url: str = f"grpc://127.0.0.1:{{port}}{PREDICT}"
    body: Callable[[np.ndarray, Path], bytes]  # of a request for images; the path is of the contestant's Python
    headers: Mapping[str, str] = field(default_factory=dict)
    package: str = ""  # installed for it
    command: Callable[[int, Path, Path, Path], list[str]] | None = None  # from port, model, Python, a folder of its own


class NotInstallable(RuntimeError):
    """A peer's packages do not install here."""


def predict_body(images: np.ndarray, python: Path) -> bytes:
    """A PredictRequest, with the pixels as they lie in memory."""
    from tensorflow.core.framework.tensor_pb2 import TensorProto
    from tensorflow.core.framework.types_pb2 import DT_UINT8
    from tensorflow_serving.apis.predict_pb2 import PredictRequest

    request = PredictRequest()
    request.model_spec.name = "mnist"
    tensor = TensorProto(dtype=DT_UINT8, tensor_content=images.tobytes())
    for size in images.shape:
        tensor.tensor_shape.dim.add(size=size)
    request.inputs["images"].CopyFrom(tensor)
    return bytes(request.SerializeToString())


def rest_body(images: np.ndarray, python: Path) -> bytes:
    """The same as JSON, in row form."""
    return json.dumps({"instances": images.tolist()}, separators=(",", ":")).encode()


def _base64_body(images: np.ndarray, python: Path) -> bytes:
    return json.dumps({"images": base64.b64encode(images.tobytes()).decode()}).encode()


def _base64_list_body(images: np.ndarray, python: Path) -> bytes:
    return json.dumps({"images": [base64.b64encode(image.tobytes()).decode() for image in images]}).encode()


def _mlserver_body(images: np.ndarray, python: Path) -> bytes:
    command = [str(python), "-m", "benchmarks.serving_peers.mlserver_runtime", str(len(images))]
    return subprocess.run(command, input=images.tobytes(), capture_output=True, cwd=ROOT, check=True).stdout


def _ours(port: int, model: Path, python: Path, folder: Path) -> list[str]:
    flags = [f"--port={port}", f"--rest_api_port={port + 1}", "--model_name=mnist", f"--model_base_path={model.parent}"]
    return [str(python), "-m", "serving", *flags]


def _bentoml(port: int, model: Path, python: Path, folder: Path) -> list[str]:
    service = "benchmarks.serving_peers.bentoml_service:Digits"
    return [str(python), "-m", "bentoml", "serve", service, "--host", "127.0.0.1", "--port", str(port)]


def _mlserver(port: int, model: Path, python: Path, folder: Path) -> list[str]:
    settings = {"host": "127.0.0.1", "grpc_port": port, "http_port": port + 1, "metrics_port": port + 2}
    (folder / "settings.json").write_text(json.dumps({**settings, "parallel_workers": 0, "debug": False}))
    runtime = {"name": "digits", "implementation": "benchmarks.serving_peers.mlserver_runtime.Digits"}
    batching = {"max_batch_size": 64, "max_batch_time": 0.001}
    (folder / "model-settings.json").write_text(json.dumps({**runtime, **batching, "parameters": {"uri": str(model)}}))
    return [str(python), "-c", "from mlserver.cli import main; main()", "start", str(folder)]


JSON_HEADERS = {"Content-Type": "application/json"}
PEERS = "benchmarks.serving_peers"
CONTESTANTS = (
    Contestant(name="inkling", title="this server", wire="gRPC", module="serving", body=predict_body, command=_ours),
    Contestant(
        name="inkling_rest",
        title="this server, REST",
        wire="HTTP, JSON",
        module="serving",
        url="http://127.0.0.1:{port_1}/v1/models/mnist:predict",
        body=rest_body,
        headers=JSON_HEADERS,
        command=_ours,
    ),
    Contestant(name="naive", title="naive grpcio server", wire="gRPC", module=f"{PEERS}.naive", body=predict_body),
    Contestant(name="echo", title="RPC that computes nothing", wire="gRPC", module=f"{PEERS}.echo", body=predict_body),
    Contestant(
        name="bentoml",
        title="BentoML",
        wire="HTTP, JSON + base64",
        module=f"{PEERS}.bentoml_service",
        url="http://127.0.0.1:{port}/predict",
        body=_base64_list_body,
        headers=JSON_HEADERS,
        package="bentoml>=1.4,<2",
        command=_bentoml,
    ),
    Contestant(
        name="litserve",
        title="LitServe",
        wire="HTTP, JSON + base64",
        module=f"{PEERS}.litserve_server",
        url="http://127.0.0.1:{port}/predict",
        body=_base64_body,
        headers=JSON_HEADERS,
        package="litserve>=0.2.16,<0.3",
    ),
    Contestant(
        name="mlserver",
        title="MLServer",
        wire="gRPC",
        module=f"{PEERS}.mlserver_runtime",
        url="grpc://127.0.0.1:{port}/inference.GRPCInferenceService/ModelInfer",
        body=_mlserver_body,
        package="mlserver>=1.7,<2",
        command=_mlserver,
    ),
    Contestant(
        name="ray_serve",
        title="Ray Serve",
        wire="gRPC",
        module=f"{PEERS}.ray_serve",
        body=predict_body,
        package="ray[serve]>=2.50",
    ),
)


def python_of(contestant: Contestant) -> Path:
    """The Python that runs `contestant`; its environment is made if it is not there. Raises: NotInstallable."""
    if not contestant.package:
        return Path(sys.executable)
    folder = ENVIRONMENTS / contestant.name
    python = folder / "bin" / "python"
    if (folder / "complete").exists():
        return python
    print(f"installing {contestant.package} into {folder}", file=sys.stderr)
    venv.create(folder, with_pip=True, clear=True)
    [packages] = folder.glob("lib/python*/site-packages")
    (packages / "project.pth").write_text("\n".join(site.getsitepackages()) + "\n")
    done = subprocess.run(
        [python, "-m", "pip", "install", "--quiet", contestant.package], capture_output=True, text=True
    )
    if done.returncode:
        raise NotInstallable(f"{contestant.package} does not install here: {done.stderr.strip().splitlines()[-1]}")
    (folder / "complete").touch()
    return python


@contextlib.contextmanager
def running(contestant: Contestant, model: Path, flags: tuple[str, ...] = ()) -> Iterator["Running"]:
    """`contestant` as a process that answers; ended afterwards. Raises: NotInstallable, TimeoutError."""
    python, port = python_of(contestant), free_ports()
    with tempfile.TemporaryDirectory() as folder, (Path(folder) / "log").open("wb") as log:
        command = [str(python), "-m", contestant.module, "--port", str(port), "--model", str(model)]
        if contestant.command:
            command = contestant.command(port, model, python, Path(folder))
        environment = {**os.environ, **ENVIRONMENT, "DIGIT_MODEL": str(model)}
        process = subprocess.Popen(
            [*command, *flags], cwd=ROOT, env=environment, stdout=log, stderr=log, process_group=0
        )
        try:
            server = Running(contestant, process, python, port, Path(folder))
            server.wait()
            yield server
        finally:
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the process and those it started, which are in its group."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(20)
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@dataclass(frozen=True, slots=True)
class Running:
    """A server that answers."""

    contestant: Contestant
    process: subprocess.Popen[bytes]
    python: Path
    port: int
    folder: Path

    def wait(self) -> None:
        """Until it answers a request well. Raises: TimeoutError, with the end of its log."""
        deadline = time.monotonic() + START_S
        body = self.body(np.zeros((1, 28, 28), np.uint8))
        while self.process.poll() is None and time.monotonic() < deadline:
            load = self.load(body, "--seconds", "0.2", "--timeout-s", "5", check=False)
            if load.get("statuses", {}).keys() == {"OK"}:
                return
        log = (self.folder / "log").read_text(errors="replace")[-2000:]
        raise TimeoutError(f"{self.contestant.title} does not answer; its log ends:\n{log}")

    def body(self, images: np.ndarray) -> bytes:
        """A request for `images`."""
        return self.contestant.body(images, self.python)

    def load(self, body: bytes, *options: str, check: bool = True) -> dict[str, Any]:
        """What benchmarks.serving_load measures with `options`; empty if it fails and need not succeed."""
        path = self.folder / "body"
        path.write_bytes(body)
        url = self.contestant.url.format(port=self.port, port_1=self.port + 1)
        command = [sys.executable, "-m", "benchmarks.serving_load", url, str(path), *options]
        for name, value in self.contestant.headers.items():
            command += ["--header", f"{name}:{value}"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        if done.returncode:
            if check:
                raise RuntimeError(f"load on {self.contestant.title} failed:\n{done.stderr[-2000:]}")
            return {}
        measured: dict[str, Any] = json.loads(done.stdout)
        return measured

    def peak_memory_mb(self) -> float:
        """The most memory its processes have had, added up."""
        return sum(_peak_kb(pid) for pid in process_tree(self.process.pid)) / 1e3


def process_tree(pid: int) -> list[int]:
    """The process and those below it."""
    children = []
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            children += [int(child) for child in (task / "children").read_text().split()]
    return [pid] + [below for child in children for below in process_tree(child)]


def _peak_kb(pid: int) -> int:
    with contextlib.suppress(OSError):
        match = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
        return int(match[1]) if match else 0
    return 0


def free_ports() -> int:
    """A port that is free, with two free ones after it."""
    while True:
        with contextlib.ExitStack() as stack:
            first = stack.enter_context(socket.socket())
            first.bind(("127.0.0.1", 0))
            port: int = first.getsockname()[1]
            with contextlib.suppress(OSError, OverflowError):
                for further in (port + 1, port + 2):
                    stack.enter_context(socket.socket()).bind(("127.0.0.1", further))
                return port

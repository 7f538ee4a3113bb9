"""Measures requests/s against the number of server processes: `--num_processes` beside as many naive grpcio servers.

Single images, closed loop, for a model that costs nothing (a slice of its input) and for the digit model. All servers
are started first, and measured one after the other; the others wait meanwhile. The clients are processes too
(grpc_flood.py), with 16 connections for each server process. Beside requests/s stand the cores that server and clients
had, and the server's processor time for a request: where the machine has other work, or no core left for the clients,
that says what requests/s cannot. Then, at the most processes, the same load over 1, 4 and 32 connections: one lives in
one process. GPUs are hidden.

    python -m benchmarks.serving_processes --model models/mnist                 prints tables, writes the plot
    python -m benchmarks.serving_processes --model models/mnist --numbers 1 2   for these numbers of processes

On 16 cores in about 90 seconds.
"""

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from benchmarks.serving import images, newest_version
from benchmarks.serving_contest import PREDICT, ROOT, free_ports, process_tree

CONNECTIONS_PER_PROCESS, IN_FLIGHT = 16, 2
FEW_CONNECTIONS = (1, 4, 32)
START_S = 300.0
FREE = "free"
DIGITS = "digits"
ENVIRONMENT = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2", "CUDA_VISIBLE_DEVICES": "-1"}
COLUMNS = (
    *("model", "server", "processes", "requests/s", "of one"),
    *("server µs a request", "server's cores", "clients' cores", "p50 ms", "p99 ms", "failed"),
)
TITLES = {"inkling": "python -m serving --num_processes N", "naive": "N naive grpcio servers"}


@dataclass(frozen=True, slots=True)
class Server:
    """Processes on one port."""

    name: str
    number: int
    port: int
    processes: list[subprocess.Popen[bytes]]
    log: Path

    def wait(self, body: bytes) -> None:
        """Until all its processes answer. Raises: TimeoutError, with the end of its log."""
        deadline = time.monotonic() + START_S
        marks = self.number if self.name == "naive" else 1
        while self.log.read_text(errors="replace").count("Running") < marks:
            if time.monotonic() > deadline or any(process.poll() is not None for process in self.processes):
                raise TimeoutError(f"{self.name} does not start; its log:\n{self.log.read_text()[-2000:]}")
            time.sleep(0.1)
        with grpc.insecure_channel(f"127.0.0.1:{self.port}") as channel:
            predict: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(PREDICT)
            predict(body, timeout=60)


def write_free_model(folder: Path) -> None:
    """A SavedModel that takes uint8 [n, 28, 28] and gives float32 [n, 10], a slice of it."""
    import tensorflow as tf

    module = tf.Module()

    @tf.function(input_signature=[tf.TensorSpec([None, 28, 28], tf.uint8, name="images")])  # type: ignore[untyped-decorator]
    def take(images: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"probabilities": tf.cast(images[:, 0, :10], tf.float32)}

    tf.saved_model.save(module, str(folder), signatures=take)


def request(model_name: str) -> bytes:
    """A PredictRequest for one image."""
    from tensorflow.core.framework.types_pb2 import DT_UINT8
    from tensorflow_serving.apis.predict_pb2 import PredictRequest

    message = PredictRequest()
    message.model_spec.name = model_name
    tensor, image = message.inputs["images"], images(1)
    tensor.dtype, tensor.tensor_content = DT_UINT8, image.tobytes()
    for size in image.shape:
        tensor.tensor_shape.dim.add(size=size)
    return bytes(message.SerializeToString())


@contextlib.contextmanager
def started(name: str, number: int, models: dict[str, Path], folder: Path) -> Iterator[Server]:
    """A server of `number` processes, which loads its models meanwhile.

    Args:
        name: a key of TITLES.
        number: of processes.
        models: folders of versions, NAME/VERSION, by name.
        folder: for its files.
    """
    port, log = free_ports(), folder / f"{name}{number}.log"
    if name == "naive":
        folders = [str(path) for path in models.values()]
        command, count = ["-m", "benchmarks.serving_peers.naive", "--port", str(port), "--model", *folders], number
    else:
        entries = "".join(
            f'config {{ name: "{each}" base_path: "{path.parent}" model_platform: "tensorflow" }}'
            for each, path in models.items()
        )
        (folder / "models.config").write_text(f"model_config_list {{ {entries} }}")
        flags = [f"--port={port}", f"--num_processes={number}", f"--model_config_file={folder / 'models.config'}"]
        command, count = ["-m", "serving", *flags], 1
    with log.open("wb") as file:
        processes = [
            subprocess.Popen([sys.executable, *command], cwd=ROOT, env=ENVIRONMENT, stdout=file, stderr=file)
            for _ in range(count)
        ]
    try:
        yield Server(name, number, port, processes, log)
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait()


def cpu_s(server: Server) -> float:
    """The processor time that the server's processes have had, in seconds."""
    pids = [pid for process in server.processes for pid in process_tree(process.pid)]
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])  # utime and stime
    return ticks / os.sysconf("SC_CLK_TCK")


def load(server: Server, body: Path, *, connections: int, in_flight: int, seconds: float) -> dict[str, Any]:
    """What several clients measure together."""
    clients = min(connections, max(1, min(4, server.number)))
    shares = [connections // clients + (index < connections % clients) for index in range(clients)]
    command = [sys.executable, "-m", "benchmarks.grpc_flood", f"127.0.0.1:{server.port}", PREDICT, str(body)]
    options = ["--in-flight", str(in_flight), "--seconds", str(seconds)]
    before, began = cpu_s(server), time.perf_counter()
    running = [
        subprocess.Popen([*command, *options, "--connections", str(share)], cwd=ROOT, stdout=subprocess.PIPE)
        for share in shares
    ]
    found = [json.loads(client.communicate()[0]) for client in running]
    used_s, answered = cpu_s(server) - before, sum(each["answered"] for each in found)
    return {
        "server_busy": used_s / (time.perf_counter() - began),
        "server_us": used_s / max(1, answered) * 1e6,
        "requests_per_s": sum(each["requests_per_s"] for each in found),
        "failed": sum(each["failed"] for each in found),
        "p50_ms": float(np.median([each["p50_ms"] for each in found if each["p50_ms"]] or [np.nan])),
        "p99_ms": max((each["p99_ms"] or 0.0) for each in found),
        "clients_busy": sum(each["busy"] for each in found),
    }


def measure(servers: Sequence[Server], bodies: dict[str, Path], seconds: float, rounds: int) -> list[dict[str, Any]]:
    """All points, by model, server and number of processes; of several rounds each one's best."""
    best: dict[tuple[str, str, int], dict[str, Any]] = {}
    for _ in range(rounds):
        for model, body in bodies.items():
            for server in servers:
                connections = CONNECTIONS_PER_PROCESS * server.number
                found = load(server, body, connections=connections, in_flight=IN_FLIGHT, seconds=seconds)
                key = model, server.name, server.number
                _say(f"{key}: {found}")
                if key not in best or found["requests_per_s"] > best[key]["requests_per_s"]:
                    best[key] = found
    return [{"model": key[0], "server": key[1], "processes": key[2], **found} for key, found in best.items()]


def measure_few(server: Server, body: Path, seconds: float) -> list[dict[str, Any]]:
    """The same load over few connections."""
    whole = CONNECTIONS_PER_PROCESS * IN_FLIGHT * server.number
    points = []
    for connections in dict.fromkeys((*FEW_CONNECTIONS, CONNECTIONS_PER_PROCESS * server.number)):
        in_flight = min(100, max(1, whole // connections))
        found = load(server, body, connections=connections, in_flight=in_flight, seconds=seconds)
        points.append({"connections": connections, **found})
        _say(f"{connections} connections: {found}")
    return points


def table(points: Sequence[dict[str, Any]]) -> str:
    """The points in Markdown, with the ratio to one process."""
    lines = [f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|"]
    for point in points:
        first = next(each for each in points if (each["model"], each["server"]) == (point["model"], point["server"]))
        lines.append(
            f"| {point['model']} | {TITLES[point['server']]} | {point['processes']} | {point['requests_per_s']:.0f} | "
            f"{point['requests_per_s'] / first['requests_per_s']:.2f} | {point['server_us']:.0f} | "
            f"{point['server_busy']:.2f} | {point['clients_busy']:.2f} | {point['p50_ms']:.1f} | "
            f"{point['p99_ms']:.1f} | {point['failed']} |"
        )
    return "\n".join(lines)


def few_table(points: Sequence[dict[str, Any]]) -> str:
    """What few connections reach, in Markdown."""
    lines = ["| connections | requests/s | p99 ms |", "|---|---|---|"]
    lines += [f"| {each['connections']} | {each['requests_per_s']:.0f} | {each['p99_ms']:.1f} |" for each in points]
    return "\n".join(lines)


def plot(points: Sequence[dict[str, Any]], path: Path) -> None:
    """Requests/s against processes, a picture for each model; without matplotlib a line says that there is none."""
    try:
        import matplotlib
    except ImportError:
        _say(f"{path} is not written: matplotlib is not installed here")
        return
    matplotlib.use("Agg")
    from matplotlib import pyplot

    models = list(dict.fromkeys(point["model"] for point in points))
    figure, axes = pyplot.subplots(1, len(models), figsize=(5 * len(models), 3.6), squeeze=False)
    for axis, model in zip(axes[0], models, strict=True):
        for name, title in TITLES.items():
            mine = [each for each in points if (each["model"], each["server"]) == (model, name)]
            numbers, rates = [each["processes"] for each in mine], [each["requests_per_s"] for each in mine]
            [line] = axis.plot(numbers, rates, "o-", label=title)
            linear = [rates[0] * number / numbers[0] for number in numbers]
            axis.plot(numbers, linear, ":", color=line.get_color(), linewidth=1)
        axis.set(
            title=f"{model}: single images", xlabel="processes", ylabel="requests/s", ylim=(0, None), xlim=(0, None)
        )
        axis.set_xticks(numbers)
        axis.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _numbers(cores: int) -> list[int]:
    return [2**power for power in range(cores.bit_length()) if 2**power <= cores]


def main() -> None:
    """Command line."""
    cores = len(os.sched_getaffinity(0))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=Path("models/mnist"), help="folder of the version folders")
    parser.add_argument("--numbers", type=int, nargs="+", default=_numbers(cores), help="of processes")
    parser.add_argument("--seconds", type=float, default=1.5, help="measured time of each point")
    parser.add_argument("--rounds", type=int, default=1, help="times that all are measured; the best of each counts")
    parser.add_argument("--plot", type=Path, default=ROOT / "docs" / "serving_processes.png")
    parser.add_argument("--json", type=Path, help="all points too")
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary, contextlib.ExitStack() as stack:
        folder = Path(temporary)
        write_free_model(folder / FREE / "1")
        digits = folder / DIGITS / "1"
        shutil.copytree(newest_version(flags.model), digits)
        models = {FREE: folder / FREE / "1", DIGITS: digits}
        servers = [
            stack.enter_context(started(name, number, models, folder)) for name in TITLES for number in flags.numbers
        ]
        bodies = {name: folder / f"{name}.body" for name in models}
        for name, body in bodies.items():
            body.write_bytes(request(name))
        for server in servers:
            server.wait(bodies[DIGITS].read_bytes())
        _say(f"{sum(server.number for server in servers)} server processes on {cores} cores")
        points = measure(servers, bodies, flags.seconds, flags.rounds)
        most = max((server for server in servers if server.name == "inkling"), key=lambda server: server.number)
        few = measure_few(most, bodies[FREE], flags.seconds)
    print(f"{table(points)}\n\n{FREE} model, {most.number} processes:\n\n{few_table(few)}")
    plot(points, flags.plot)
    if flags.json:
        flags.json.write_text(json.dumps({"cores": cores, "points": points, "few": few}, indent=1))


if __name__ == "__main__":
    main()

"""The client beside what a user would write otherwise: time of a call, throughput, size and import time.

    python -m benchmarks.client                 all of it; two to three minutes, and the network for the two installs
    python -m benchmarks.client --no-install    without installing anything: import times are this environment's

One server process that computes nothing serves all of them, so that only the client differs. Calls are made in
short turns, one kind after the other, round and round, so that whatever else the machine does falls on all alike. The
figure of a kind is the median over its calls.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Awaitable, Callable
from pathlib import Path
from statistics import median
from typing import Any

import grpc
import numpy as np

from inkling.client import AsyncClient, Client
from inkling.client.protocol import wire_pb2 as wire
from inkling.client.results import table

ROOT = Path(__file__).parents[1]
PATH = "/tensorflow.serving.PredictionService/Predict"
BATCHES = (1, 64, 1024)
MAX_OVERHEAD_US = 60.0
MIN_ASYNC_RATIO = 0.85
MAX_INSTALL_MB = 117.0
MAX_IMPORT_S = 0.35
# What a program imports before its first call: this client, or upstream's stubs and what fills and reads their tensors.
IMPORTS = {
    "inkling-client": "import inkling.client",
    "tensorflow-serving-api": "import tensorflow, tensorflow_serving.apis.prediction_service_pb2_grpc",
}

# Responds with classes and probabilities as TensorFlow Serving does, in typed lists, prepared for each batch size.
SERVER = """
import sys
from concurrent import futures
import grpc, numpy as np
from inkling.client.protocol import wire_pb2 as wire
from inkling.client.protocol.tensors import to_tensor

responses = {}
for size in map(int, sys.argv[1:]):
    response = wire.PredictResponse()
    response.model_spec.name, response.model_spec.version.value = "mnist", 1
    response.model_spec.signature_name = "serving_default"
    response.outputs["classes"].CopyFrom(wire.TensorProto(dtype=9, int64_val=np.arange(size) % 10))
    response.outputs["classes"].tensor_shape.dim.add(size=size)
    response.outputs["probabilities"].CopyFrom(wire.TensorProto(dtype=1, float_val=np.full(size * 10, 0.1)))
    for length in (size, 10):
        response.outputs["probabilities"].tensor_shape.dim.add(size=length)
    responses[size] = response.SerializeToString()
sizes = sorted(responses)

def predict(request, context):
    return responses[min((size for size in sizes if size * 784 >= len(request) - 200), default=sizes[-1])]

class Handler(grpc.GenericRpcHandler):
    def service(self, details):
        return grpc.unary_unary_rpc_method_handler(predict)

server = grpc.server(futures.ThreadPoolExecutor(4), [Handler()], options=[("grpc.max_receive_message_length", -1)])
print(server.add_insecure_port("127.0.0.1:0"), flush=True)
server.start()
sys.stdin.read()
"""


class Server:
    """The server, in a process of its own."""

    def __enter__(self) -> str:
        command = [sys.executable, "-c", SERVER, *map(str, BATCHES)]
        self._process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        return f"127.0.0.1:{int(self._process.stdout.readline())}"

    def __exit__(self, *_: object) -> None:
        self._process.communicate("")


def in_turns(kinds: dict[str, Callable[[], Any]], *, seconds: float, calls_a_turn: int) -> dict[str, float]:
    """Median time of a call of each kind, in µs."""
    times: dict[str, list[float]] = {name: [] for name in kinds}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        for name, call in kinds.items():
            for _ in range(calls_a_turn):
                start = time.perf_counter()
                call()
                times[name].append(time.perf_counter() - start)
    # The first turn warms up.
    return {name: median(found[calls_a_turn:]) * 1e6 for name, found in times.items()}


def images_of(size: int) -> Any:
    """As many images like MNIST's: ink within four pixels of paper on each side."""
    ink = np.random.default_rng(0).integers(0, 256, (size, 20, 20), np.uint8)
    return np.pad(ink, ((0, 0), (4, 4), (4, 4)))


def latency(address: str, *, seconds: float) -> list[dict[str, Any]]:
    """Time of one call after the other, for each batch size."""
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    rows = []
    for size in BATCHES:
        images = images_of(size)
        with (
            Client(address, max_rows=size, split_bytes=1 << 30) as client,
            grpc.insecure_channel(address, options) as channel,
            grpc.insecure_channel(address, [*options, ("grpc.primary_user_agent", "other")]) as other,
        ):
            prepared = wire.PredictRequest()
            prepared.model_spec.name = "mnist"
            prepared.inputs["images"].CopyFrom(
                wire.TensorProto.FromString(tf.make_tensor_proto(images).SerializeToString())
            )
            data = prepared.SerializeToString()
            # Bytes in, bytes out: what gRPC itself costs.
            bare: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(PATH)
            stub = prediction_service_pb2_grpc.PredictionServiceStub(other)
            message = predict_pb2.PredictRequest.FromString(data)

            def ask_bare(bare: Any = bare, data: bytes = data) -> None:
                bare(data, timeout=10)

            def ask_stub(stub: Any = stub, message: Any = message) -> None:
                stub.Predict(message, timeout=10)

            def ask_client(client: Client = client, images: Any = images) -> None:
                client.predict(images)

            def ask_tensorflow(stub: Any = stub, images: Any = images) -> None:
                request = predict_pb2.PredictRequest()
                request.model_spec.name = "mnist"
                request.inputs["images"].CopyFrom(tf.make_tensor_proto(images))
                response = stub.Predict(request, timeout=10)
                for output in response.outputs.values():
                    tf.make_ndarray(output)

            found = in_turns(
                {"bare": ask_bare, "stub": ask_stub, "client": ask_client, "tensorflow": ask_tensorflow},
                seconds=seconds,
                calls_a_turn=50,
            )
        rows.append({"images": size} | {f"{name}_us": found[name] for name in found})
    return rows


async def closed_loop(call: Callable[[], Awaitable[Any]], *, concurrency: int, seconds: float) -> float:
    """Calls a second of `concurrency` callers, each of which calls again when its last call has returned."""
    end = time.perf_counter() + seconds
    done = 0

    async def caller() -> None:
        nonlocal done
        while time.perf_counter() < end:
            await call()
            done += 1

    start = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(concurrency)))
    return done / (time.perf_counter() - start)


async def throughput(address: str, *, concurrency: int, seconds: float, rounds: int) -> dict[str, float]:
    """Calls a second of the asynchronous clients, one image each, and each rate's ratio to the stub's."""
    image = images_of(1)
    prepared = wire.PredictRequest()
    prepared.model_spec.name = "mnist"
    prepared.inputs["images"].tensor_content = image.tobytes()
    data = prepared.SerializeToString()
    async with AsyncClient(address) as client, grpc.aio.insecure_channel(address) as channel:
        bare: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(PATH)
        stub = channel.unary_unary(
            PATH,
            request_serializer=wire.PredictRequest.SerializeToString,
            response_deserializer=wire.PredictResponse.FromString,
        )

        kinds: dict[str, Callable[[], Awaitable[Any]]] = {
            "bare": lambda: bare(data, timeout=10),
            "stub": lambda: stub(prepared, timeout=10),
            "client": lambda: client.predict(image),
        }
        turns = [
            {name: await closed_loop(call, concurrency=concurrency, seconds=seconds) for name, call in kinds.items()}
            for _ in range(rounds + 1)
        ][1:]  # the first turn warms up
    rates = {name: median(turn[name] for turn in turns) for name in kinds}
    # Turn by turn, as the machine may be slower in one turn than in the next.
    return rates | {f"{name} ratio": median(turn[name] / turn["stub"] for turn in turns) for name in kinds}


def install(what: str, imports: str) -> dict[str, float]:
    """Size in MB and import time in s of a fresh environment with nothing but `what`."""
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        python = str(Path(folder, "bin", "python"))
        before = disk_mb(Path(folder))
        constraints = ["--constraint", str(ROOT / "constraints.txt")]
        subprocess.run(
            [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *constraints, what], check=True
        )
        return {"mb": disk_mb(Path(folder)) - before, "import_s": import_s(python, imports, folder=folder)}


def import_s(python: str, imports: str, *, folder: str | Path) -> float:
    """Seconds that the imports take in a new process, the median of five."""
    script = f"import time; start = time.perf_counter(); {imports}; print(time.perf_counter() - start)"
    environment = {"PATH": os.environ["PATH"], "TF_CPP_MIN_LOG_LEVEL": "3"}
    times = [
        float(
            subprocess.run(
                [python, "-c", script], check=True, capture_output=True, text=True, cwd=folder, env=environment
            ).stdout.split()[-1]
        )
        for _ in range(6)
    ]
    return median(times[1:])  # the first import compiles


def disk_mb(folder: Path) -> float:
    """Bytes of all files, in 10^6."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink()) / 1e6


def measure(*, seconds: float, fresh: bool) -> dict[str, Any]:
    """All figures; of fresh environments with sizes, else the import times of this one."""
    with Server() as address:
        rows = latency(address, seconds=seconds)
        rates = asyncio.run(throughput(address, concurrency=64, seconds=seconds / 20, rounds=15))
    environments = {
        name: install(str(ROOT / "client") if name == "inkling-client" else name, imports)
        if fresh
        else {"import_s": import_s(sys.executable, imports, folder=ROOT)}
        for name, imports in IMPORTS.items()
    }
    return {"latency": rows, "calls_per_s": rates, "environments": environments}


def floors(figures: dict[str, Any]) -> dict[str, bool]:
    """What is promised, and whether it holds."""
    rows, ours = figures["latency"], figures["environments"]["inkling-client"]
    promised = {
        f"at most {MAX_OVERHEAD_US:.0f} µs over the generated stub for one image": (
            rows[0]["client_us"] - rows[0]["stub_us"] <= MAX_OVERHEAD_US
        ),
        "never slower than tensorflow-serving-api": all(row["client_us"] <= row["tensorflow_us"] for row in rows),
        f"AsyncClient at least {MIN_ASYNC_RATIO} of the stub": figures["calls_per_s"]["client ratio"]
        >= MIN_ASYNC_RATIO,
        f"imported in at most {MAX_IMPORT_S} s": ours["import_s"] <= MAX_IMPORT_S,
    }
    if "mb" in ours:
        promised[f"at most {MAX_INSTALL_MB:.0f} MB installed"] = ours["mb"] <= MAX_INSTALL_MB
    return promised


def latency_table(rows: list[dict[str, Any]]) -> str:
    """One call after the other, in µs."""
    kinds = {
        "bare": "bare, bytes only",
        "stub": "generated stub, message prepared",
        "client": "Client.predict",
        "tensorflow": "generated stub, tf.make_tensor_proto",
    }
    sizes = [f"{row['images']:,} image{'s' if row['images'] > 1 else ''}" for row in rows]
    head = ("one call after the other, µs", *sizes, "over the stub, 1 image")
    lines = [
        (
            title,
            *(f"{row[f'{kind}_us']:,.0f}" for row in rows),
            f"{rows[0][f'{kind}_us'] - rows[0]['stub_us']:+,.0f}",
        )
        for kind, title in kinds.items()
    ]
    return table([head, *lines])


def throughput_table(rates: dict[str, float]) -> str:
    """Many calls at once."""
    return table(
        [
            ("64 calls at once, asyncio", "calls/s", "of the stub"),
            ("bare, bytes only", f"{rates['bare']:,.0f}", f"{rates['bare ratio']:.2f}"),
            ("stub, messages", f"{rates['stub']:,.0f}", "1.00"),
            ("AsyncClient.predict", f"{rates['client']:,.0f}", f"{rates['client ratio']:.2f}"),
        ]
    )


def environments_table(environments: dict[str, dict[str, float]]) -> str:
    """Import time, and the size where it was measured."""
    fresh = all("mb" in one for one in environments.values())
    head = ("fresh environment", "import s", "MB") if fresh else ("this environment", "import s")
    lines = [
        (name, f"{one['import_s']:.2f}", *([f"{one['mb']:,.0f}"] if fresh else []))
        for name, one in environments.items()
    ]
    return table([head, *lines])


def main() -> int:
    """Measure, print, and say whether the floors hold: exit status 1 if one does not."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--no-install", action="store_true", help="leave out the sizes; import times of what is here")
    parser.add_argument("--seconds", type=float, default=6.0, help="for each batch size (%(default)s)")
    parser.add_argument("--json", type=Path, help="write the figures there")
    flags = parser.parse_args()
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    figures = measure(seconds=flags.seconds, fresh=not flags.no_install)
    promised = floors(figures)
    print(latency_table(figures["latency"]), end="\n\n")
    print(throughput_table(figures["calls_per_s"]), end="\n\n")
    print(environments_table(figures["environments"]), end="\n\n")
    print(table([("holds" if holds else "FAILS", floor) for floor, holds in promised.items()]))
    if flags.json:
        flags.json.write_text(json.dumps(figures, indent=2) + "\n")
    return 0 if all(promised.values()) else 1


if __name__ == "__main__":
    sys.exit(main())

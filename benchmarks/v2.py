"""What the Open Inference Protocol costs beside the TensorFlow Serving API: the same images, one server, in turns.

    python -m benchmarks.v2 --model models/mnist
    python -m benchmarks.v2 --model models/mnist --turns 1 --requests 50     whether it works; its figures say nothing

Ratios are to Predict over the same transport, of one turn, as benchmarks/side_by_side.py has them. Bodies are made
once and answers not looked into: what is measured is the server.
"""

import argparse
import asyncio
import contextlib
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import grpc
import numpy as np
from tensorflow_serving.apis.predict_pb2 import PredictRequest

from inkling.serving.proto.open_inference_pb2 import ModelInferRequest

from .serving_load import HttpConnections
from .side_by_side import PREDICT, Contender, Figures, Running, ratios, running, timed

LEAST = 0.9  # of the throughput of Predict, for raw and binary tensors
INFER = "/inference.GRPCInferenceService/ModelInfer"
LENGTH = "Inference-Header-Content-Length"
DT_UINT8 = 4
HEAD = """\
| images | transport | call | requests/s | ratio | CPU, µs a request | ratio |
|---|---|---|---|---|---|---|"""
Images = np.ndarray[Any, np.dtype[np.uint8]]


@dataclass(frozen=True, slots=True)
class Way:
    """A way to ask for the same."""

    transport: str
    name: str
    path: str
    body: bytes
    json_length: int | None = None  # of a body with binary data behind
    is_base: bool = False
    has_floor: bool = False


def ways(images: Images) -> list[Way]:
    """All of them.

    Args:
        images: uint8 [rows, 28, 28].
    """
    binary, length = _binary(images)
    v1, v2 = "/v1/models/mnist:predict", "/v2/models/mnist/infer"
    return [
        Way("gRPC", "Predict", PREDICT, _predict(images), is_base=True),
        Way("gRPC", "ModelInfer, raw", INFER, _infer(images, raw=True), has_floor=True),
        Way("gRPC", "ModelInfer, typed contents", INFER, _infer(images, raw=False)),
        Way("REST", "predict, JSON", v1, json.dumps({"instances": images.tolist()}).encode(), is_base=True),
        Way("REST", "infer, JSON", v2, _json(images), has_floor=True),
        Way("REST", "infer, binary both ways", v2, binary, length, has_floor=True),
    ]


def _predict(images: Images) -> bytes:
    request = PredictRequest()
    request.model_spec.name = "mnist"
    tensor = request.inputs["images"]
    tensor.dtype = DT_UINT8
    for size in images.shape:
        tensor.tensor_shape.dim.add(size=size)
    tensor.tensor_content = images.tobytes()
    return request.SerializeToString()


def _infer(images: Images, *, raw: bool) -> bytes:
    request = ModelInferRequest(model_name="mnist")
    tensor = request.inputs.add(name="images", datatype="UINT8", shape=images.shape)
    if raw:
        request.raw_input_contents.append(images.tobytes())
    else:
        tensor.contents.uint_contents.extend(images.ravel().tolist())
    return request.SerializeToString()


def _json(images: Images) -> bytes:
    tensor = {"name": "images", "datatype": "UINT8", "shape": images.shape, "data": images.tolist()}
    return json.dumps({"inputs": [tensor]}).encode()


def _binary(images: Images) -> tuple[bytes, int]:
    parameters = {"binary_data_size": images.nbytes}
    tensor = {"name": "images", "datatype": "UINT8", "shape": images.shape, "parameters": parameters}
    text = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    return text + images.tobytes(), len(text)


async def turn(server: Running, way: Way, count: int) -> tuple[float, float]:
    """Send `count` requests; returns the seconds they took, and the server's CPU time."""
    if way.transport == "REST":
        headers = {} if way.json_length is None else {LENGTH: str(way.json_length)}
        rest = HttpConnections("127.0.0.1", server.rest_port, way.path, way.body, headers)
        return await timed(rest.call, server.process, count)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        method: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(way.path)

        async def call() -> str:
            await method(way.body, timeout=60)
            return "OK"

        return await timed(call, server.process, count)


def measure(server: Running, asked: Sequence[Way], turns: int, count: int) -> list[Figures]:
    """What the server has done in each way."""
    figures = [Figures() for _ in asked]
    for number in range(turns):
        for index in range(len(asked)) if number % 2 else reversed(range(len(asked))):
            seconds, cpu_s = asyncio.run(turn(server, asked[index], count))
            figures[index].rates.append(count / seconds)
            figures[index].cpu_us.append(cpu_s / count * 1e6)
    return figures


def lines(rows: int, asked: Sequence[Way], figures: Sequence[Figures]) -> Iterator[tuple[str, float]]:
    """Each way's line of the table, and the better of its two ratios, since noise falls on either."""
    bases = {way.transport: each for way, each in zip(asked, figures, strict=True) if way.is_base}
    for way, mine in zip(asked, figures, strict=True):
        ratio, cpu_ratio = ratios(mine, bases[way.transport])
        speeds = f"{median(mine.rates):,.0f} | {ratio:.2f} | {median(mine.cpu_us):.0f} | {cpu_ratio:.2f}"
        yield f"| {rows} | {way.transport} | {way.name} | {speeds} |", max(ratio, cpu_ratio)


def main() -> int:
    """Command line; prints the table. Returns 1 if a ratio is below the floor."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=Path("models/mnist"), help="its model's folder (%(default)s)")
    parser.add_argument("--turns", type=int, default=10, help="turns of each way (%(default)s)")
    parser.add_argument("--requests", type=int, default=300, help="requests in each turn (%(default)s)")
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 32], help="images in a request (1 32)")
    arguments = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    flags = ("--model_name=mnist", f"--model_base_path={arguments.model.resolve()}")
    costs: list[float] = []
    with tempfile.TemporaryDirectory() as scratch, contextlib.ExitStack() as stack:
        server = stack.enter_context(running(Contender("mnist", flags, ""), arguments.model, Path(scratch)))
        print(HEAD)
        for rows in arguments.rows:
            asked = ways(np.random.default_rng(0).integers(0, 256, (rows, 28, 28), np.uint8))
            figures = measure(server, asked, arguments.turns, max(50, arguments.requests // rows))
            for way, (line, ratio) in zip(asked, lines(rows, asked, figures), strict=True):
                print(line, flush=True)
                costs += [ratio] if way.has_floor else []
    return 0 if min(costs) >= LEAST else 1


if __name__ == "__main__":
    sys.exit(main())

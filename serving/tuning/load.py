"""The load of a request log: its requests, sent again and again by callers that each wait for their answer."""

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import grpc
import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow_serving.apis.model_pb2 import ModelSpec
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

from ..names import PREDICTION_SERVICE

RPCS = {  # by the field of a PredictionLog
    "predict_log": "Predict",
    "classify_log": "Classify",
    "regress_log": "Regress",
    "multi_inference_log": "MultiInference",
}
MAX_REQUESTS = 10_000  # of a log, that are kept in memory
CALL_TIMEOUT_S = 30.0


class UnusableLog(ValueError):
    """There is no request in a log that can be sent; the message says why."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request of the log."""

    path: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Measured:
    """What came of some seconds of load."""

    callers: int
    requests_per_s: float  # that were answered
    p50_ms: float
    p99_ms: float
    errors: dict[str, int]  # by status


def read_log(path: str, model_name: str) -> list[Request]:
    """The requests of a log for one model, the newest version of which is asked.

    Raises: UnusableLog.
    """
    found = list(itertools.islice(_requests(path, model_name), MAX_REQUESTS))
    if not found:
        raise UnusableLog(f"{path} has no request for a model {model_name!r}; see --model_name, --request_log_file")
    return found


def _requests(path: str, model_name: str) -> Iterator[Request]:
    try:
        # Not a tf.data.TFRecordDataset, which would take the GPU's memory from the servers.
        for record in tf.compat.v1.io.tf_record_iterator(path):
            yield from _request(PredictionLog.FromString(record), model_name)
    except (tf.errors.OpError, DecodeError) as error:
        raise UnusableLog(f"{path} is not a TFRecord of PredictionLog: {error}") from error


def _request(log: PredictionLog, model_name: str) -> Iterator[Request]:
    kind = log.WhichOneof("log_type")
    if kind not in RPCS:
        return
    request = getattr(log, kind).request
    specs: list[ModelSpec] = (
        [task.model_spec for task in request.tasks] if kind == "multi_inference_log" else [request.model_spec]
    )
    if any(spec.name != model_name for spec in specs):
        return
    for spec in specs:
        spec.ClearField("version_choice")
    yield Request(f"/{PREDICTION_SERVICE}/{RPCS[kind]}", request.SerializeToString())


async def send(port: int, requests: Sequence[Request], *, callers: int, seconds: float) -> Measured:
    """Send `requests` in turn for so long, and measure all but the first fifth of it."""
    latencies: list[float] = []
    errors: Counter[str] = Counter()
    turn = itertools.cycle(requests)
    began = time.perf_counter()
    measured_from, end = began + seconds / 5, began + seconds

    async def caller(channel: grpc.aio.Channel) -> None:
        calls: dict[str, grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]] = {}
        while (sent_at := time.perf_counter()) < end:
            request = next(turn)
            call = calls.setdefault(request.path, channel.unary_unary(request.path))
            try:
                await call(request.content, timeout=CALL_TIMEOUT_S)
            except grpc.aio.AioRpcError as error:
                errors[error.code().name] += 1
                continue
            if sent_at >= measured_from:
                latencies.append(time.perf_counter() - sent_at)

    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.max_receive_message_length", -1)]) as one:
        await asyncio.gather(*[caller(one) for _ in range(callers)])
    p50, p99 = np.percentile(latencies, [50, 99]) * 1e3 if latencies else (float("inf"), float("inf"))
    return Measured(callers, len(latencies) / (seconds * 4 / 5), float(p50), float(p99), dict(errors))

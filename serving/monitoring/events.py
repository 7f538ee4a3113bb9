"""What the server tells those who watch it: metrics.py counts it, request_log.py writes it down.

Every method of `Observer` does nothing here, so that the parts can be used without metrics. Calls come from the event
loop and from worker threads.
"""

from collections.abc import Sequence
from typing import Protocol, TypedDict

import grpc
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog


class Labels(TypedDict):
    """Whose requests an event is about."""

    model_name: str
    version: int
    signature_name: str


class Observer:
    """Events of a server, in the order of a request's life, then of a model's."""

    def request_finished(
        self, *, model_name: str, api: str, entrypoint: str, code: grpc.StatusCode, latency_s: float
    ) -> None:
        """A transport answered; `api` is the RPC's name (REST: the verb), `entrypoint` GRPC or REST."""

    def signature_finished(
        self, *, model_name: str, version: int, signature_name: str, code: grpc.StatusCode, latency_s: float
    ) -> None:
        """A request for one signature was computed or failed, without the transport's share."""

    def runtime_finished(
        self, *, model_name: str, version: int, signature_name: str, api: str, latency_s: float
    ) -> None:
        """An inference request passed queue and runtime."""

    def examples(self, *, model_name: str, count: int) -> None:
        """The batch size of one inference request."""

    def batch_executed(
        self,
        *,
        model_name: str,
        version: int,
        signature_name: str,
        size: int,
        padded_size: int,
        queue_s: Sequence[float],
        run_s: float,
    ) -> None:
        """One run of the runtime: rows asked for and run, how long each request waited, how long it ran."""

    def queue_depth(self, *, model_name: str, version: int, signature_name: str, depth: int) -> None:
        """The number of requests that wait for the runtime has changed."""

    def model_loaded(self, *, model_name: str, version: int, load_s: float) -> None:
        """A version is available."""

    def model_unloaded(self, *, model_name: str, version: int) -> None:
        """A version is gone."""

    def warmup_finished(self, *, model_path: str, code: grpc.StatusCode, latency_s: float, records: int) -> None:
        """The warm-up requests of a version were run."""

    def metric_value(self, name: str) -> int:
        """What the metric `name`, such as /tensorflow/serving/request_count, has counted in its first series."""
        return 0

    def request_logged(self, *, model_name: str, code: grpc.StatusCode) -> None:
        """A request was written to the request log, or could not be."""


class RequestLog(Protocol):
    """Where sampled requests go."""

    def wants(self, model_name: str) -> bool:
        """Whether to write the next request down: the sampling decision."""

    def write(self, log: PredictionLog) -> None:
        """Keep `log`; never blocks."""

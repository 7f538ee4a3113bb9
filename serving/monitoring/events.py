"""What happens in a server, told to those who count it: monitoring/metrics.py does.

Every method of `ServerEvents` does nothing here, so that the parts can be used without metrics. Calls come from the
event loop and from the threads that run models.
"""

from collections.abc import Sequence

import grpc

from .drift import DriftWindow


class ServerEvents:
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

    def examples(self, *, model_name: str, num_examples: int) -> None:
        """The batch size of one inference request."""

    def batch_executed(
        self,
        *,
        model_name: str,
        version: int,
        signature_name: str,
        num_rows: int,
        num_padded_rows: int,
        queue_s: Sequence[float],
        run_s: float,
    ) -> None:
        """The runtime ran a batch: rows asked for and run, how long each request waited, how long the run took."""

    def queue_depth(self, *, model_name: str, version: int, signature_name: str, num_requests: int) -> None:
        """The number of requests that wait for the runtime has changed."""

    def model_loaded(self, *, model_name: str, version: int, load_s: float) -> None:
        """A version is available."""

    def drift_watched(self, *, model_name: str, version: int, window: DriftWindow) -> None:
        """A version's requests are compared with its reference statistics, in `window`."""

    def model_unloaded(self, *, model_name: str, version: int) -> None:
        """A version is gone."""

    def look_finished(self, *, model_name: str) -> None:
        """A look at a model's base path has ended, whatever it has shown."""

    def model_removed(self, *, model_name: str) -> None:
        """A model is not configured any more."""

    def warmup_finished(self, *, model_path: str, code: grpc.StatusCode, latency_s: float, num_records: int) -> None:
        """The warm-up requests of a version were run."""

    def request_logged(self, *, model_name: str, code: grpc.StatusCode) -> None:
        """A request was written to the request log, or could not be."""

    def request_refused(self, *, entrypoint: str, code: grpc.StatusCode) -> None:
        """A request was not let through the door: no key, no right, or over a caller's limit."""

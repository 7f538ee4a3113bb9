"""Counts what the server does, for Prometheus: TensorFlow Serving's metrics under its names, and ours per version.

`Metrics` are `ServerEvents`; `exposition` is the page that the REST port serves. The real server's families start with
`:tensorflow:serving:`, have no HELP lines and count in microseconds. Ours start with `inkling_serving_` and count in
seconds, by model, version and signature. An event costs a few microseconds and takes one lock. Several processes behind
one port count each for itself, and whichever is asked for the page adds them up (series.py).
"""

import platform
import threading
import time
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from statistics import fmean
from typing import TypeGuard

import grpc

from . import process_metrics, series
from .drift import DriftWindow
from .events import ServerEvents
from .exposition import Counter, Family, Gauge, Histogram, exponential_bounds
from .series import Counted, Key, Series

MAX_UNKNOWN_NAMES = 100  # unknown models that are counted by name; callers can invent any number of names
MAX_NAME_LENGTH = 256  # of those
OTHER = "(other)"
REMEMBERED_PATHS = 64  # of versions warmed up, each of which the real server remembers for ever
REMEMBERED_VERSIONS = 16  # unloaded versions whose counts are still shown
LATENCY_S = exponential_bounds(0.0001, 2, 19)  # 0.1 ms to 26 s
BATCH_SIZES = exponential_bounds(1, 2, 13)  # 1 to 4096
MICROSECONDS = exponential_bounds(10, 1.8, 33)  # of the real server: 10 us to 25 minutes
SIGNATURE = ("model_name", "version", "signature_name")


class Metrics(ServerEvents):
    """All families of one server, or of one process of it."""

    def __init__(self, numbers: Series | None = None) -> None:
        """Nothing has happened yet.

        Args:
            numbers: where to count; None: in this process's memory.
        """
        self._lock = threading.Lock()
        self._models: set[str] = set()
        self._unknown_names: set[str] = set()
        self._gone: deque[tuple[str, str]] = deque()
        self._warmed: deque[str] = deque()
        self._looked_at: dict[str, float] = {}  # model: when, by time.monotonic
        self._drift: dict[tuple[str, str], DriftWindow] = {}  # by model and version
        self._define_tensorflow_families()
        self._define_own_families()
        self._families: list[Family] = [value for value in vars(self).values() if isinstance(value, Family)]
        if numbers is not None:
            for family in self._families:
                family.series = numbers
        self._begin()
        self._by_signature = [family for family in self._families if family.labels[:3] == SIGNATURE]

    def _define_tensorflow_families(self) -> None:
        serving = ":tensorflow:serving:"
        session = f"{serving}batching_session:"
        self._request_count = Counter(f"{serving}request_count", ("model_name", "status"))
        self._request_latency = Histogram(
            f"{serving}request_latency", ("model_name", "API", "entrypoint"), MICROSECONDS
        )
        self._runtime_latency = Histogram(f"{serving}runtime_latency", ("model_name", "API", "runtime"), MICROSECONDS)
        self._example_counts = Histogram(f"{serving}request_example_counts", ("model",), exponential_bounds(1, 2, 15))
        self._example_total = Counter(f"{serving}request_example_count_total", ("model",))
        self._log_count = Counter(f"{serving}request_log_count", ("model_name", "status_code"))
        self._warmup_latency = Histogram(f"{serving}model_warmup_latency", ("model_path", "status"), MICROSECONDS)
        self._warmup_records = Counter(f"{serving}model_warmup_records_read", ("model_path",))
        self._queuing_latency = Histogram(
            f"{session}queuing_latency", ("thread_pool_name",), exponential_bounds(100, 1.2, 52)
        )
        # The real server keeps percentiles under the next names, which its exporter writes as scalars. Sums are worth
        # more: their rate over that of wrapped_run_count is the mean.
        self._run_count = Counter(f"{session}wrapped_run_count", ())
        self._input_batch_size = Counter(f"{session}input_batch_size", ())
        self._processed_batch_size = Counter(f"{session}processed_batch_size", ())
        self._padding_size = Counter(f"{session}padding_size", ("execution_batch_size",))
        # Never set: the real server's page has its TYPE line, and nothing below it without ML Metadata.
        self._mlmd_map = Gauge(f"{serving}mlmd_map", ("model_name", "version"))

    def _define_own_families(self) -> None:
        own = "inkling_serving_"
        self._requests = Counter(
            f"{own}requests_total", (*SIGNATURE, "code"), "Inference requests by version, signature and gRPC status."
        )
        self._request_seconds = Histogram(
            f"{own}request_duration_seconds", SIGNATURE, LATENCY_S, "From the request's arrival to its answer."
        )
        self._queue_seconds = Histogram(
            f"{own}queue_duration_seconds", SIGNATURE, LATENCY_S, "How long requests wait to be batched."
        )
        self._run_seconds = Histogram(
            f"{own}runtime_duration_seconds", SIGNATURE, LATENCY_S, "How long TensorFlow takes for a batch."
        )
        self._batch_size = Histogram(f"{own}batch_size", SIGNATURE, BATCH_SIZES, "Rows in a batch, without padding.")
        self._padding = Counter(f"{own}batch_padding_rows_total", SIGNATURE, "Rows added to reach an allowed size.")
        self._queue_depth = Gauge(f"{own}queue_depth", SIGNATURE, "Requests that wait for the runtime.")
        self._available = Gauge(f"{own}model_available", ("model_name", "version"), "1 for a version that serves.", min)
        self._load_seconds = Gauge(
            f"{own}model_load_seconds",
            ("model_name", "version"),
            "How long a version took to load, not to warm up.",
            max,
        )
        self._refused = Counter(
            f"{own}refused_total", ("entrypoint", "code"), "Requests without key or right, or over a caller's limit."
        )
        self._loads = Counter(f"{own}model_loads_total", ("model_name",), "Versions loaded since the start.")
        self._look_age = Gauge(
            f"{own}base_path_look_age_seconds",
            ("model_name",),
            "How long ago the last look at a base path has ended.",
            max,
        )
        feature = ("model_name", "version", "feature")
        self._stability_index = Gauge(
            f"{own}drift_stability_index",
            feature,
            "Population stability index of live requests, by the model card.",
            fmean,
        )
        self._kolmogorov_smirnov = Gauge(
            f"{own}drift_kolmogorov_smirnov", feature, "Kolmogorov-Smirnov statistic of live requests, likewise.", fmean
        )
        self._drift_examples = Gauge(
            f"{own}drift_examples", ("model_name", "version"), "Live examples that are compared with the model card's."
        )
        self._build = Gauge(
            f"{own}build_info", ("version", "tensorflow", "python"), "1; the labels say what runs.", max
        )
        self._start = Gauge(f"{own}start_time_seconds", (), "When the server started, in Unix time.", min)

    def _begin(self) -> None:
        self._run_count.add((), 0)  # there from the start, as without labels nothing else would make it appear
        self._input_batch_size.add((), 0)
        self._processed_batch_size.add((), 0)
        self._build.set((_version("inkling-serving"), _version("tensorflow"), platform.python_version()), 1)
        self._start.set((), time.time())

    async def page(self) -> bytes:
        """The page of the server."""
        return self.exposition()

    def exposition(self) -> bytes:
        """The page of this process in Prometheus' text format."""
        self.look()
        with self._lock:
            lines = [line for family in self._families for line in family.lines()]
        return _page(lines) + process_metrics.of_this_process()

    def look(self) -> None:
        """Bring up to date what is no count of events."""
        with self._lock:
            for name, ended in self._looked_at.items():
                self._look_age.set((name,), time.monotonic() - ended)
            self._look_at_drift()

    def exposition_of(self, counted: Counted) -> bytes:
        """The page of all processes together; long work, which touches nothing of this process's own count."""
        serving = _by_family(counted.serving)
        every = _by_family([*counted.serving, counted.ended])
        lines: list[str] = []
        for family in self._families:
            found = (serving if isinstance(family, Gauge) else every)[family.name]
            lines += family.lines({key: _merged(family, numbers) for key, numbers in found.items()})
        return _page(lines) + process_metrics.of_processes(counted.pids, counted.ended_cpu_s)

    def _look_at_drift(self) -> None:
        for key, window in self._drift.items():
            self._drift_examples.set(key, window.num_examples())
            for found in window.distances():
                self._stability_index.set((*key, found.feature), found.stability_index)
                if found.kolmogorov_smirnov is not None:
                    self._kolmogorov_smirnov.set((*key, found.feature), found.kolmogorov_smirnov)

    def request_finished(
        self, *, model_name: str, api: str, entrypoint: str, code: grpc.StatusCode, latency_s: float
    ) -> None:
        with self._lock:
            name = self._label_of(model_name)
            self._request_count.add((name, code.name), 1)
            if code is grpc.StatusCode.OK and api:
                self._request_latency.observe((name, api, entrypoint), latency_s * 1e6)

    def _label_of(self, model_name: str) -> str:
        """The name itself, unless callers have asked for too many models that do not exist, or for a very long one."""
        if model_name in self._models or model_name in self._unknown_names:
            return model_name
        if len(self._unknown_names) >= MAX_UNKNOWN_NAMES or len(model_name) > MAX_NAME_LENGTH:
            return OTHER
        self._unknown_names.add(model_name)
        return model_name

    def signature_finished(
        self, *, model_name: str, version: int, signature_name: str, code: grpc.StatusCode, latency_s: float
    ) -> None:
        key = (model_name, str(version), signature_name)
        with self._lock:
            self._requests.add((*key, code.name), 1)
            self._request_seconds.observe(key, latency_s)

    def runtime_finished(
        self, *, model_name: str, version: int, signature_name: str, api: str, latency_s: float
    ) -> None:
        with self._lock:
            self._runtime_latency.observe((model_name, api, "TF1"), latency_s * 1e6)

    def examples(self, *, model_name: str, num_examples: int) -> None:
        with self._lock:
            self._example_counts.observe((model_name,), num_examples)
            self._example_total.add((model_name,), num_examples)

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
        key = (model_name, str(version), signature_name)
        with self._lock:
            self._run_count.add((), 1)
            self._input_batch_size.add((), num_rows)
            self._processed_batch_size.add((), num_padded_rows)
            self._padding_size.add((str(num_padded_rows),), num_padded_rows - num_rows)
            self._run_seconds.observe(key, run_s)
            self._batch_size.observe(key, num_rows)
            self._padding.add(key, num_padded_rows - num_rows)
            for seconds in queue_s:
                self._queuing_latency.observe(("",), seconds * 1e6)
                self._queue_seconds.observe(key, seconds)

    def queue_depth(self, *, model_name: str, version: int, signature_name: str, num_requests: int) -> None:
        with self._lock:
            self._queue_depth.set((model_name, str(version), signature_name), num_requests)

    def model_loaded(self, *, model_name: str, version: int, load_s: float) -> None:
        with self._lock:
            self._models.add(model_name)
            self._available.set((model_name, str(version)), 1)
            self._load_seconds.set((model_name, str(version)), load_s)
            self._loads.add((model_name,), 1)

    def drift_watched(self, *, model_name: str, version: int, window: DriftWindow) -> None:
        with self._lock:
            self._drift[model_name, str(version)] = window

    def model_unloaded(self, *, model_name: str, version: int) -> None:
        key = (model_name, str(version))
        with self._lock:
            self._drift.pop(key, None)
            drift = (self._stability_index, self._kolmogorov_smirnov, self._drift_examples)
            for gauge in (self._available, self._load_seconds, self._queue_depth, *drift):
                gauge.forget(key)
            self._gone.append(key)
            # What a version counted is worth another scrape or two, and then only memory.
            if len(self._gone) > REMEMBERED_VERSIONS:
                oldest = self._gone.popleft()
                if oldest not in self._gone and not self._available.has(oldest):
                    for family in self._by_signature:
                        family.forget(oldest)

    def look_finished(self, *, model_name: str) -> None:
        with self._lock:
            self._looked_at[model_name] = time.monotonic()

    def model_removed(self, *, model_name: str) -> None:
        with self._lock:
            self._looked_at.pop(model_name, None)
            self._look_age.forget((model_name,))

    def warmup_finished(self, *, model_path: str, code: grpc.StatusCode, latency_s: float, num_records: int) -> None:
        with self._lock:
            self._warmup_latency.observe((model_path, code.name), latency_s * 1e6)
            self._warmup_records.add((model_path,), num_records)
            self._warmed.append(model_path)
            if len(self._warmed) > REMEMBERED_PATHS:
                oldest = self._warmed.popleft()
                if oldest not in self._warmed:
                    self._warmup_latency.forget((oldest,))
                    self._warmup_records.forget((oldest,))

    def request_logged(self, *, model_name: str, code: grpc.StatusCode) -> None:
        with self._lock:
            self._log_count.add((model_name, code.name), 1)

    def request_refused(self, *, entrypoint: str, code: grpc.StatusCode) -> None:
        with self._lock:
            self._refused.add((entrypoint, code.name), 1)

    def value(self, name: str) -> int:
        """What the counter `name`, such as /tensorflow/serving/request_count, has counted in its oldest series."""
        with self._lock:
            for family in self._families:
                if _is_called(family, name):
                    return int(family.first())
        return 0

    def value_of(self, name: str, counted: Counted) -> int:
        """The same of all processes together."""
        every = _by_family([*counted.serving, counted.ended])
        for family in self._families:
            if _is_called(family, name) and every[family.name]:
                oldest = next(iter(every[family.name].values()))
                return int(_merged(family, oldest)[0])
        return 0


def _is_called(family: Family, name: str) -> TypeGuard[Counter]:
    # TensorFlow's own spelling is a path; Prometheus, which allows no slashes, gets colons.
    return isinstance(family, Counter) and name in (family.name, family.name.replace(":", "/"))


def _page(lines: Sequence[str]) -> bytes:
    return ("\n".join(lines) + "\n").encode()


def _by_family(contents: Iterable[bytes]) -> Mapping[str, Mapping[Key, list[Sequence[float]]]]:
    """The numbers of each process that has some, by family and label values."""
    found: dict[str, dict[Key, list[Sequence[float]]]] = defaultdict(lambda: defaultdict(list))
    for content in contents:
        for name, key, numbers in series.parse(content):
            found[name][key].append(numbers)
    return found


def _merged(family: Family, numbers: Sequence[Sequence[float]]) -> list[float]:
    return [family.merge(of_each) for of_each in zip(*numbers, strict=True)]


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "unknown"

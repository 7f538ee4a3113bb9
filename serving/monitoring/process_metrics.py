"""What the operating system and Python say about the server's processes, on the metrics' page."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

CPU_TIME = "process_cpu_seconds"
MERGES: Mapping[str, Callable[[Iterable[float]], float]] = {
    "process_start_time_seconds": min,
    "process_max_fds": min,
}  # all others are added up


class _Processes(Collector):
    def __init__(self, pids: Sequence[int], ended_cpu_s: float) -> None:
        self._collectors = [ProcessCollector(registry=None, pid=partial(int, pid)) for pid in pids]
        self._ended_cpu_s = ended_cpu_s

    def collect(self) -> Iterable[Metric]:
        found: dict[str, list[Metric]] = {}
        for collector in self._collectors:
            for metric in collector.collect():  # none of a process that has just ended
                found.setdefault(metric.name, []).append(metric)
        for name, metrics in found.items():
            value = MERGES.get(name, sum)([metric.samples[0].value for metric in metrics])
            if name == CPU_TIME:
                value += self._ended_cpu_s
            kind = CounterMetricFamily if metrics[0].type == "counter" else GaugeMetricFamily
            yield kind(name, metrics[0].documentation, value=value)


def of_this_process() -> bytes:
    """`process_*` and `python_gc_*` of this process."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    GCCollector(registry=registry)
    return bytes(generate_latest(registry))


def of_processes(pids: Sequence[int], ended_cpu_s: float) -> bytes:
    """`process_*` of the processes `pids` together.

    Args:
        pids: those that run.
        ended_cpu_s: processor time of others, which counts too.
    """
    registry = CollectorRegistry()
    registry.register(_Processes(pids, ended_cpu_s))
    return bytes(generate_latest(registry))

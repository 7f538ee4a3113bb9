"""Counters, gauges and histograms by labels, and how they look in Prometheus' text format.

Why not prometheus_client: it accepts the names that TensorFlow Serving gives its metrics, but appends `_total` to those
of counters (https://github.com/prometheus/client_python/issues/677) and adds `_created` series, tried with 0.26.0:
dashboards made for the real server would not find theirs. Not locked: metrics.py does that once for all families of an
event.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence

Key = tuple[str, ...]


def exponential_bounds(scale: float, growth: float, count: int) -> tuple[float, ...]:
    """`count` upper bounds of buckets: scale, scale x growth, scale x growth^2, and so on."""
    bounds = [scale]
    for _ in range(count - 1):
        bounds.append(bounds[-1] * growth)
    return tuple(bounds)


class Family:
    """One metric with its series, one for each combination of label values."""

    kind = ""

    def __init__(self, name: str, labels: Sequence[str], text: str = "") -> None:
        """A family without series.

        Args:
            name: the metric's.
            labels: names of the labels, in the order of a key's values.
            text: the HELP line's; if empty, there is no such line.
        """
        self.name = name
        self.labels = tuple(labels)
        self.text = text

    def lines(self) -> Iterator[str]:
        """The family's lines on the page."""
        if self.text:
            yield f"# HELP {self.name} {self.text}"
        yield f"# TYPE {self.name} {self.kind}"
        yield from self._series()

    def _series(self) -> Iterator[str]:
        raise NotImplementedError

    def forget(self, key: Key) -> None:
        """Drop the series whose label values begin with `key`."""
        raise NotImplementedError

    def _pairs(self, key: Key) -> str:
        return ",".join(f'{label}="{_escape(value)}"' for label, value in zip(self.labels, key, strict=True))


class Scalar(Family):
    """A family with one number for each series."""

    def __init__(self, name: str, labels: Sequence[str], text: str = "") -> None:
        super().__init__(name, labels, text)
        self._values: dict[Key, float] = {}

    def _series(self) -> Iterator[str]:
        for key, value in self._values.items():
            yield f"{self.name}{{{self._pairs(key)}}} {_number(value)}"

    def forget(self, key: Key) -> None:
        for found in [found for found in self._values if found[: len(key)] == key]:
            del self._values[found]


class Counter(Scalar):
    """What only grows."""

    kind = "counter"

    def add(self, key: Key, amount: float) -> None:
        """Count `amount` more; with 0 the series appears."""
        self._values[key] = self._values.get(key, 0) + amount

    def first(self) -> float:
        """The oldest series' value, 0 without series."""
        return next(iter(self._values.values()), 0)


class Gauge(Scalar):
    """What goes up and down."""

    kind = "gauge"

    def set(self, key: Key, value: float) -> None:
        """The series' value from now on."""
        self._values[key] = value

    def has(self, key: Key) -> bool:
        """Whether there is a series with these label values."""
        return key in self._values


class Histogram(Family):
    """How values are spread over buckets."""

    kind = "histogram"

    def __init__(self, name: str, labels: Sequence[str], bounds: Sequence[float], text: str = "") -> None:
        super().__init__(name, labels, text)
        self.bounds = tuple(bounds)
        self._limits = [f"{bound:g}" for bound in bounds] + ["+Inf"]
        self._counts: dict[Key, list[int]] = {}
        self._sums: dict[Key, float] = {}

    def observe(self, key: Key, value: float) -> None:
        """Count one value. As in TensorFlow, one that equals a bound falls into the bucket above."""
        counts = self._counts.get(key)
        if counts is None:
            counts = self._counts[key] = [0] * (len(self.bounds) + 1)
            self._sums[key] = 0.0
        counts[bisect_right(self.bounds, value)] += 1
        self._sums[key] += value

    def _series(self) -> Iterator[str]:
        for key, counts in self._counts.items():
            pairs = self._pairs(key)
            prefix = f"{self.name}_bucket{{{pairs}{',' if pairs else ''}le="
            total = 0
            for limit, count in zip(self._limits, counts, strict=True):
                total += count
                yield f'{prefix}"{limit}"}} {total}'
            yield f"{self.name}_sum{{{pairs}}} {_number(self._sums[key])}"
            yield f"{self.name}_count{{{pairs}}} {total}"

    def forget(self, key: Key) -> None:
        for found in [found for found in self._counts if found[: len(key)] == key]:
            del self._counts[found], self._sums[found]


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)

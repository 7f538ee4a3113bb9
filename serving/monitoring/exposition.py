"""Counters, gauges and histograms by labels, and how they look in Prometheus' text format.

Why not prometheus_client: it accepts the names that TensorFlow Serving gives its metrics, but appends `_total` to those
of counters (https://github.com/prometheus/client_python/issues/677) and adds `_created` series, tried with 0.26.0:
dashboards made for the real server would not find theirs. Not locked: metrics.py does that once for all families of an
event.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableSequence, Sequence

from .series import Key, Series

Merge = Callable[[Iterable[float]], float]


def exponential_bounds(scale: float, growth: float, count: int) -> tuple[float, ...]:
    """`count` upper bounds of buckets: scale, scale x growth, scale x growth^2, and so on."""
    bounds = [scale]
    for _ in range(count - 1):
        bounds.append(bounds[-1] * growth)
    return tuple(bounds)


class Family:
    """One metric with its series, one for each combination of label values."""

    kind = ""
    count = 1  # numbers of a series

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
        self.merge: Merge = sum  # what a number is over several processes
        self.series = Series()
        self._numbers: dict[Key, MutableSequence[float]] = {}

    def lines(self, numbers: Mapping[Key, Sequence[float]] | None = None) -> Iterator[str]:
        """The family's lines on the page, of `numbers` in place of its own if there are some."""
        if self.text:
            yield f"# HELP {self.name} {self.text}"
        yield f"# TYPE {self.name} {self.kind}"
        for key, values in (self._numbers if numbers is None else numbers).items():
            yield from self._lines_of(self._pairs(key), values)

    def _lines_of(self, pairs: str, numbers: Sequence[float]) -> Iterator[str]:
        yield f"{self.name}{{{pairs}}} {_number(numbers[0])}"

    def forget(self, key: Key) -> None:
        """Drop the series whose label values begin with `key`."""
        for found in [found for found in self._numbers if found[: len(key)] == key]:
            self.series.drop(self._numbers.pop(found))

    def has(self, key: Key) -> bool:
        """Whether there is a series with these label values."""
        return key in self._numbers

    def _of(self, key: Key) -> MutableSequence[float]:
        numbers = self._numbers.get(key)
        if numbers is None:
            numbers = self._numbers[key] = self.series.make(self.name, key, self.count)
        return numbers

    def _pairs(self, key: Key) -> str:
        return ",".join(f'{label}="{_escape(value)}"' for label, value in zip(self.labels, key, strict=True))


class Counter(Family):
    """What only grows."""

    kind = "counter"

    def add(self, key: Key, amount: float) -> None:
        """Count `amount` more; with 0 the series appears."""
        self._of(key)[0] += amount

    def first(self) -> float:
        """The oldest series' value, 0 without series."""
        return next((numbers[0] for numbers in self._numbers.values()), 0)


class Gauge(Family):
    """What goes up and down."""

    kind = "gauge"

    def __init__(self, name: str, labels: Sequence[str], text: str = "", merge: Merge = sum) -> None:
        super().__init__(name, labels, text)
        self.merge = merge

    def set(self, key: Key, value: float) -> None:
        """The series' value from now on."""
        self._of(key)[0] = value


class Histogram(Family):
    """How values are spread over buckets."""

    kind = "histogram"

    def __init__(self, name: str, labels: Sequence[str], bounds: Sequence[float], text: str = "") -> None:
        super().__init__(name, labels, text)
        self.bounds = tuple(bounds)
        self.count = len(bounds) + 2  # one for each bucket, and the sum of the values
        self._limits = [f"{bound:g}" for bound in bounds] + ["+Inf"]

    def observe(self, key: Key, value: float) -> None:
        """Count one value. As in TensorFlow, one that equals a bound falls into the bucket above."""
        numbers = self._of(key)
        numbers[bisect_right(self.bounds, value)] += 1
        numbers[-1] += value

    def _lines_of(self, pairs: str, numbers: Sequence[float]) -> Iterator[str]:
        prefix = f"{self.name}_bucket{{{pairs}{',' if pairs else ''}le="
        total = 0
        for limit, count in zip(self._limits, numbers, strict=False):
            total += int(count)
            yield f'{prefix}"{limit}"}} {total}'
        yield f"{self.name}_sum{{{pairs}}} {_number(numbers[-1])}"
        yield f"{self.name}_count{{{pairs}}} {total}"


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)

"""Closed-loop load for users: N callers, each of which sends its next call when its last one has returned.

`inkling bench` asks how many predictions a server makes for this client, with the user's own images and connection.
The load generator of the benchmarks (`benchmarks/serving_load.py`) asks how many a server can make at all: it sends
prepared bytes from processes that do nothing else.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .errors import InklingError, InvalidInput
from .operations.images import as_images
from .results import table

if TYPE_CHECKING:
    from .aio import AsyncClient

PERCENTILES = (50.0, 90.0, 95.0, 99.0, 99.9)
NOISE_IMAGES = 1024


@dataclass(frozen=True, slots=True)
class Report:
    """What came of a load."""

    concurrency: int
    batch_size: int
    duration_s: float
    latencies_ms: NDArray[np.float64]  # float64 [requests]: of the calls that succeeded
    errors: dict[str, int]  # calls by status, or by error where there is none
    examples: dict[str, str]  # one error's text for each of these

    @property
    def requests_per_s(self) -> float:
        """Calls that succeeded, per second."""
        return len(self.latencies_ms) / self.duration_s

    def percentiles(self) -> dict[str, float]:
        """Latencies in ms, by name; empty if no call succeeded."""
        if not len(self.latencies_ms):
            return {}
        values = np.percentile(self.latencies_ms, PERCENTILES)
        named = {f"p{rank:g}": float(value) for rank, value in zip(PERCENTILES, values, strict=True)}
        return named | {"max": float(self.latencies_ms.max())}

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "concurrency": self.concurrency,
            "batch_size": self.batch_size,
            "duration_s": self.duration_s,
            "requests": len(self.latencies_ms),
            "requests_per_s": self.requests_per_s,
            "images_per_s": self.requests_per_s * self.batch_size,
            "latency_ms": self.percentiles(),
            "errors": self.errors,
        }

    def __str__(self) -> str:
        rows = [
            ("load", f"{self.concurrency} at once, {self.batch_size} images each, {self.duration_s:.1f} s"),
            ("requests/s", f"{self.requests_per_s:,.0f}"),
            ("images/s", f"{self.requests_per_s * self.batch_size:,.0f}"),
            *((f"{name} ms", f"{value:,.2f}") for name, value in self.percentiles().items()),
            ("errors", ", ".join(f"{count:,} {name}" for name, count in self.errors.items()) or "none"),
        ]
        return table(rows)


async def measure(
    client: "AsyncClient",
    images: ArrayLike | None,
    *,
    concurrency: int,
    batch_size: int,
    duration_s: float,
    warmup_s: float = 0.0,
    version: int | None = None,
    label: str | None = None,
) -> Report:
    """Put load on a server, and measure what it does.

    Args:
        client: what to send with.
        images: uint8 [n, height, width], sent in turn; noise if None.
        concurrency: the number of callers.
        batch_size: images in each call.
        duration_s: seconds that are measured.
        warmup_s: seconds of load before that.
        version, label: one version of the model; the newest if neither is given.

    Raises: InvalidInput if `images` is empty or holds anything else.
    """
    pool = _noise() if images is None else as_images(images)
    if not len(pool):
        raise InvalidInput("there are no images to send; expected one at least")
    batches = _batches(pool, batch_size)
    latencies: list[float] = []
    errors: Counter[str] = Counter()
    examples: dict[str, str] = {}
    start = time.perf_counter() + warmup_s
    end = start + duration_s

    async def caller() -> None:
        while (begun := time.perf_counter()) < end:
            try:
                await client.predict(next(batches), version=version, label=label, as_is=True)
            except InklingError as error:
                name = error.status.name if error.status else type(error).__name__
                if begun >= start:
                    errors[name] += 1
                    examples.setdefault(name, str(error))
                await asyncio.sleep(0.01)  # a server that refuses at once would take all of this process
            else:
                if begun >= start:
                    latencies.append(time.perf_counter() - begun)

    await asyncio.gather(*(caller() for _ in range(concurrency)))
    took = time.perf_counter() - start  # the last calls return after the end
    return Report(concurrency, batch_size, took, np.array(latencies) * 1e3, dict(errors), examples)


def _noise() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (NOISE_IMAGES, 28, 28), np.uint8)


def _batches(pool: NDArray[np.uint8], size: int) -> Iterator[NDArray[np.uint8]]:
    """Endless batches, round and round through the pool."""
    pool = np.concatenate([pool] * (-(-size // len(pool)) + 1))
    while True:
        for begin in range(0, len(pool) - size + 1, size):
            yield pool[begin : begin + size]

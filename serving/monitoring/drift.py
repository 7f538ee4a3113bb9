"""Whether what comes in, and goes out, still looks like what the model was measured with.

A version's model card may hold reference statistics: for some features of images and predictions a histogram over
images that the model was not trained with. Here the same histograms are kept over a window of live requests, and two
distances between them and the reference:

- the population stability index, the sum over the bins of (p - q) ln(p / q); by custom, 0.1 is a small change and 0.25
  one to act upon (N. Siddiqi, Credit Risk Scorecards, 2006);
- the Kolmogorov-Smirnov statistic, the largest difference between the two distribution functions, at the bins' edges.

Features are computed as train/publishing/reference.py does; the packages share no code, and
tests/serving/monitoring/test_drift.py holds them together.
"""

import time
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..arrays import Array

IMAGES, CLASSES, PROBABILITIES = "images", "classes", "probabilities"  # as inputs and outputs are called
MIN_EXAMPLES = 100  # in the window, before there is a distance: with fewer, chance alone makes a large one
MAX_ROWS = 64  # of a request that are looked at
MAX_VALUES = 1 << 20  # of these
COST_SHARE = 0.01  # of the event loop's time that may be spent here
HALF = 0.5  # of an example in each bin beside those that were counted, so that no logarithm is infinite


@dataclass(frozen=True, slots=True)
class Histogram:
    """A feature's distribution: bin i holds values above edge i - 1, up to and with edge i."""

    edges: NDArray[np.float64]  # [bins - 1], ascending
    counts: NDArray[np.int64]  # [bins]
    is_ordered: bool  # whether there is a distribution function: classes have none


@dataclass(frozen=True, slots=True)
class Distance:
    """How far a feature is from its reference."""

    feature: str
    stability_index: float
    kolmogorov_smirnov: float | None  # None: the feature's values have no order


Reference = Mapping[str, Histogram]  # by feature


def features_of(inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> dict[str, NDArray[np.float64]]:
    """The features of a request and its response, float64 [rows] each; those that can be computed from them.

    Args:
        inputs: `images`, uint8 [rows, height, width], has features.
        outputs: `classes`, integers [rows], and `probabilities`, floats [rows, classes], have.
    """
    features: dict[str, NDArray[np.float64]] = {}
    images = inputs.get(IMAGES)
    if images is not None and images.dtype == np.uint8 and images.ndim == 3:
        features |= image_features(images[: _num_rows(images)])
    classes, probabilities = outputs.get(CLASSES), outputs.get(PROBABILITIES)
    if classes is not None and classes.ndim == 1 and classes.dtype.kind in "iu":
        features["class"] = classes[:MAX_ROWS].astype(np.float64)
    if probabilities is not None and probabilities.ndim == 2 and probabilities.size and probabilities.dtype.kind == "f":
        features["confidence"] = probabilities[:MAX_ROWS].max(axis=1).astype(np.float64)
    return features


def _num_rows(images: Array) -> int:
    size = images.shape[1] * images.shape[2]
    return min(MAX_ROWS, MAX_VALUES // size) if size else 0


def image_features(images: NDArray[np.uint8]) -> dict[str, NDArray[np.float64]]:
    """Features of images, uint8 [n, height, width]; float64 [n] each, 0 to 1 but for the last one.

    `ink` is the mean value, `rim` that of the outermost pixels, `height` and `width` the shares of rows and columns
    with a pixel of at least half, `sharpness` the mean step from a pixel to its right neighbour, by the mean value.
    """
    if min(images.shape) == 0 or images.shape[2] < 2:
        return {}
    values = images / 255.0
    rim = np.concatenate([values[:, 0], values[:, -1], values[:, 1:-1, 0], values[:, 1:-1, -1]], axis=1)
    strong = images >= 128
    ink = values.mean(axis=(1, 2))
    steps = np.abs(np.diff(values, axis=2)).mean(axis=(1, 2))
    return {
        "ink": ink,
        "rim": rim.mean(axis=1),
        "height": strong.any(axis=2).mean(axis=1),
        "width": strong.any(axis=1).mean(axis=1),
        "sharpness": steps / (ink + 1 / 255),
    }


class DriftWindow:
    """The last examples of one version. Used on the event loop only."""

    def __init__(self, reference: Reference, size: int) -> None:
        """An empty window of up to `size` examples."""
        self._reference = reference
        self._size = size
        self._bins: dict[str, deque[int]] = {name: deque() for name in reference}
        self._counts = {name: np.zeros_like(histogram.counts) for name, histogram in reference.items()}
        self._next_at = 0.0

    def observe(self, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> None:
        """Count the first rows of a request and its response, unless too much time went into that lately."""
        if time.perf_counter() < self._next_at:
            return
        began = time.thread_time()  # not counting what the machine does meanwhile
        for name, values in features_of(inputs, outputs).items():
            if name in self._reference:
                self._count(name, np.searchsorted(self._reference[name].edges, values))
        self._next_at = time.perf_counter() + (time.thread_time() - began) / COST_SHARE

    def _count(self, name: str, found: NDArray[np.intp]) -> None:
        bins, counts = self._bins[name], self._counts[name]
        for index in found.tolist():
            if len(bins) == self._size:
                counts[bins.popleft()] -= 1
            bins.append(index)
            counts[index] += 1

    def num_examples(self) -> int:
        """How many are in the window."""
        return max(map(len, self._bins.values()), default=0)

    def distances(self) -> Iterator[Distance]:
        """Of each feature that enough examples have."""
        for name, histogram in self._reference.items():
            if len(self._bins[name]) >= MIN_EXAMPLES:
                yield distance(name, histogram, self._counts[name])


def distance(feature: str, reference: Histogram, counts: NDArray[np.int64]) -> Distance:
    """How far `counts`, in the reference's bins, are from it."""
    expected = (reference.counts + HALF) / (reference.counts + HALF).sum()
    found = (counts + HALF) / (counts + HALF).sum()
    index = float(((found - expected) * np.log(found / expected)).sum())
    if not reference.is_ordered:
        return Distance(feature, index, None)
    difference = np.cumsum(counts / max(1, counts.sum())) - np.cumsum(reference.counts / reference.counts.sum())
    return Distance(feature, index, float(np.abs(difference).max()))

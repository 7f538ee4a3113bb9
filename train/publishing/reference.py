"""Reference statistics for the model card: what a server compares live requests with.

For each feature of images and predictions a histogram over images that the model was not trained with. The features of
an image are its ink (the mean value), that of its rim, the shares of rows and columns that the writing takes, and how
sharp it is; those of a prediction are its class and how sure it is. The server computes the same
(serving/monitoring/drift.py), from requests, and the tests hold both together. Of images in colour there are only those
of the predictions.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

DECILES = np.arange(1, 10) / 10
CONFIDENCES = (0.5, 0.8, 0.9, 0.95, 0.99, 0.999)  # edges; nearly all are at the upper end, where deciles are alike
DIGITS = 6  # of the edges behind the point


def reference_statistics(images: NDArray[np.uint8], probabilities: NDArray[np.float32]) -> dict[str, Any]:
    """The statistics, as JSON values.

    Args:
        images: uint8 [n, height, width], or [n, height, width, 3] in colour.
        probabilities: [n, classes], the model's for them.

    Returns: `examples`, their number, and `features`: by name `edges`, `counts` of the bins between them (bin i holds
        values above edge i - 1, up to and with edge i), and `ordered`, whether the values have an order.
    """
    of_images = image_features(images) if images.ndim == 3 else {}
    features = {name: _histogram(values, _deciles(values)) for name, values in of_images.items()}
    features["confidence"] = _histogram(probabilities.max(axis=1), np.array(CONFIDENCES))
    classes = probabilities.argmax(axis=1)
    features["class"] = _histogram(classes, np.arange(probabilities.shape[1] - 1) + 0.5, ordered=False)
    return {"examples": len(images), "features": features}


def _deciles(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.unique(np.quantile(values, DECILES).round(DIGITS))


def _histogram(values: NDArray[Any], edges: NDArray[np.float64], *, ordered: bool = True) -> dict[str, Any]:
    counts = np.bincount(np.searchsorted(edges, values.astype(np.float64)), minlength=len(edges) + 1)
    return {"edges": edges.tolist(), "counts": counts.tolist(), "ordered": ordered}


def image_features(images: NDArray[np.uint8]) -> dict[str, NDArray[np.float64]]:
    """Features of images, uint8 [n, height, width] with at least two columns; float64 [n] each.

    `ink` is the mean value, 0 to 1, `rim` that of the outermost pixels, `height` and `width` the shares of rows and
    columns with a pixel of at least half, `sharpness` the mean step from a pixel to its right neighbour, by the mean
    value.
    """
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

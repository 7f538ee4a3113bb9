"""How good a classifier is: predictions on all replicas, each example once, and the figures drawn from them."""

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from .data.pixels import to_model_input
from .strategy import PER_REPLICA_BATCH_SIZE, replica_slices

CALIBRATION_BINS = 15


def make_predict(
    model: keras.Model, strategy: tf.distribute.Strategy, *, per_replica_batch_size: int = PER_REPLICA_BATCH_SIZE
) -> Any:
    """Compile prediction on all replicas. Returns `predict(images)`.

    `predict` takes images uint8 [n, height, width] or [n, height, width, 3] and returns probabilities float32 [n,
    num_classes], in order, every example computed by exactly one replica. All workers must call it together, with the
    same images.
    """

    @tf.function(reduce_retracing=True)
    def forward(images: tf.Tensor) -> tf.Tensor:
        def replica(images: tf.Tensor) -> tf.Tensor:
            return model(to_model_input(images), training=False)

        return strategy.gather(strategy.run(replica, args=(images,)), axis=0)

    def predict(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        slices = replica_slices(images, strategy, per_replica_batch_size)
        return np.concatenate([forward(values).numpy()[:count] for values, _, count in slices])

    return predict


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The figures of one model on one labelled set; fractions are from 0 to 1."""

    accuracy: float
    loss: float  # mean cross-entropy, in nats
    expected_calibration_error: float  # Guo et al., "On calibration of modern neural networks", ICML 2017; 15 bins
    precision: list[float | None]  # of each class; None where it was never predicted
    recall: list[float | None]  # of each class; None where the set has none
    confusion: list[list[int]]  # [true class][predicted class]
    num_examples: int

    @classmethod
    def of(cls, probabilities: NDArray[np.float32], labels: NDArray[np.int64]) -> "Evaluation":
        """The figures of a classifier that gave `probabilities` for examples of these `labels`.

        Args:
            probabilities: float32 [n, num_classes].
            labels: int64 [n], 0 to num_classes - 1.
        """
        num_classes = probabilities.shape[1]
        predicted = probabilities.argmax(axis=1)
        confusion = np.zeros((num_classes, num_classes), np.int64)
        np.add.at(confusion, (labels, predicted), 1)
        of_label = probabilities[np.arange(len(labels)), labels].astype(np.float64)
        return cls(
            accuracy=float(np.mean(predicted == labels)),
            loss=float(-np.log(np.maximum(of_label, np.finfo(np.float32).tiny)).mean()),
            expected_calibration_error=_calibration_error(probabilities.max(axis=1), predicted == labels),
            precision=_shares(np.diag(confusion), confusion.sum(axis=0)),
            recall=_shares(np.diag(confusion), confusion.sum(axis=1)),
            confusion=confusion.tolist(),
            num_examples=len(labels),
        )

    def table(self, class_names: tuple[str, ...]) -> str:
        """The figures as lines of text for a terminal."""
        lines = [
            f"accuracy                    {self.accuracy:.2%} of {self.num_examples:,}",
            f"loss                        {self.loss:.4f} nats",
            f"expected calibration error  {self.expected_calibration_error:.2%}",
            "",
            f"{'class':>10}  precision   recall  images",
        ]
        counts = np.sum(self.confusion, axis=1)
        rows = zip(class_names, self.precision, self.recall, counts, strict=True)
        return "\n".join(
            [*lines, *(f"{name:>10}  {_percent(p):>9}  {_percent(r):>7}  {n:6,}" for name, p, r, n in rows)]
        )


def _shares(parts: NDArray[np.int64], wholes: NDArray[np.int64]) -> list[float | None]:
    return [part / whole if whole else None for part, whole in zip(parts.tolist(), wholes.tolist(), strict=True)]


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.2%}"


def _calibration_error(confidence: NDArray[np.float32], correct: NDArray[np.bool_]) -> float:
    bins = np.minimum((confidence * CALIBRATION_BINS).astype(np.int64), CALIBRATION_BINS - 1)
    gaps = np.bincount(bins, weights=confidence.astype(np.float64) - correct, minlength=CALIBRATION_BINS)
    return float(np.abs(gaps).sum() / len(confidence))

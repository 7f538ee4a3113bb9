"""Makes `client/reading/digit_subspaces.npz` from MNIST's training images, for `client/reading/novelty.py`.

    python -m tools.digit_subspaces

The arrays are 8-bit integers, to be small, and one float32 a class. Linear algebra on another machine, or on another
number of threads, may turn a direction round or round a few of them the other way, which changes no outlier score to
speak of; `python -m tools.reading_statistics` compares.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inkling.client.reading import novelty
from inkling.client.reading.mnist_form import upright
from inkling.train import data

DIRECTIONS = 8  # of a class
IMAGES_A_CLASS = 2500  # the first ones; more change little
WITHIN = 0.99  # share of them that keep within an outlier score of 1
FILE = Path(novelty.__file__).with_name("digit_subspaces.npz")


def class_subspace(images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32], float]:
    """Fit one class's subspace.

    Args:
        images: uint8 [n, 28, 28], the class's digits as MNIST has them.

    Returns: the mean, float32 [784]; the principal directions, float32 [DIRECTIONS, 784]; and the distance that WITHIN
    of the images keep within.
    """
    points = novelty.features(np.stack([upright(image) for image in images]))
    mean = points.mean(axis=0)
    away = points - mean
    _, _, rows = np.linalg.svd(away, full_matrices=False)
    directions = rows[:DIRECTIONS]
    beyond = away - away @ directions.T @ directions
    return mean, directions, float(np.quantile(np.linalg.norm(beyond, axis=1), WITHIN))


def stored_arrays(images: NDArray[np.uint8], labels: NDArray[np.int64]) -> dict[str, Any]:
    """Fit all classes, and round to what the file holds.

    Args:
        images: uint8 [n, 28, 28].
        labels: int64 [n].

    Returns: the file's arrays by name.
    """
    fitted = [class_subspace(images[labels == label][:IMAGES_A_CLASS]) for label in range(10)]
    means, directions, usual = zip(*fitted, strict=True)
    scale = float(np.abs(means).max()) / 127
    return {
        "means": np.rint(np.array(means) / scale).astype(np.int8),
        "mean_scale": np.array(scale, np.float32),
        "directions": np.rint(np.array(directions) * (127 / np.abs(directions).max())).astype(np.int8),
        "usual": np.array(usual, np.float32),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the file."""
    parser = argparse.ArgumentParser(prog="python -m tools.digit_subspaces", description=__doc__.partition("\n")[0])
    parser.add_argument("-o", "--output", type=Path, default=FILE)
    output = parser.parse_args(arguments).output
    dataset = data.load()
    np.savez_compressed(output, **stored_arrays(np.asarray(dataset.train_images), np.asarray(dataset.train_labels)))
    print(f"{output}: {output.stat().st_size / 1000:.0f} kB")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

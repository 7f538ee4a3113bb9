"""Makes `client/reading/digit_subspaces.npz` from MNIST's training images, for `client/reading/novelty.py`.

python -m tools.digit_subspaces
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from inkling.client.reading import novelty
from inkling.client.reading.mnist_form import upright
from inkling.train import data

DIRECTIONS = 8
IMAGES_A_CLASS = 2500


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the file and print how strange MNIST's test images are by it."""
    parser = argparse.ArgumentParser(prog="python -m tools.digit_subspaces", description=__doc__.partition("\n")[0])
    default = Path(novelty.__file__).with_name("digit_subspaces.npz")
    parser.add_argument("-o", "--output", type=Path, default=default)
    output = parser.parse_args(arguments).output
    dataset = data.load()
    means, directions, usual = [], [], []
    for label in range(10):
        images = dataset.train_images[dataset.train_labels == label][:IMAGES_A_CLASS]
        points = novelty.features(np.stack([upright(image) for image in images]))
        mean = points.mean(axis=0)
        _, _, rows = np.linalg.svd(points - mean, full_matrices=False)
        away = points - mean
        beyond = away - away @ rows[:DIRECTIONS].T @ rows[:DIRECTIONS]
        means.append(mean)
        directions.append(rows[:DIRECTIONS])
        usual.append(np.quantile(np.linalg.norm(beyond, axis=1), 0.99))
    scale = float(np.abs(means).max()) / 127
    np.savez_compressed(
        output,
        means=np.rint(np.array(means) / scale).astype(np.int8),
        mean_scale=np.float32(scale),
        directions=np.rint(np.array(directions) * (127 / np.abs(directions).max())).astype(np.int8),
        usual=np.array(usual, np.float32),
    )
    test = np.stack([upright(image) for image in dataset.test_images[:2000]])
    scores = novelty.outlier_scores(test)[np.arange(len(test)), dataset.test_labels[:2000]]
    print(f"{output}: {output.stat().st_size / 1000:.0f} kB")
    print(f"of 2000 test images {(scores > 1).mean():.2%} score over 1, {(scores > 1.3).mean():.2%} over 1.3")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

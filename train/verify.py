"""Check a SavedModel against predictions made before it was saved; run in a fresh process before it is published.

python -m train.verify SAVEDMODEL EXPECTED.npz     exit status 0 if all signatures agree
"""

import sys
from pathlib import Path

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

TOLERANCE = 1e-5  # between two float32 runs of the same graph, compiled differently
ENCODED_IMAGES = 20  # of them are sent as PNG through the other two signatures


def verify(folder: Path, images: NDArray[np.uint8], probabilities: NDArray[np.float32]) -> None:
    """Args: images uint8 [n, height, width]; probabilities float32 [n, classes]. Raises: ValueError."""
    signatures = tf.saved_model.load(str(folder)).signatures
    answer = signatures["serving_default"](images=tf.constant(images))
    _compare("serving_default", answer["probabilities"], probabilities)
    if not np.array_equal(answer["classes"], probabilities.argmax(axis=1)):
        raise ValueError("serving_default: classes are not the most probable ones")
    encoded = [tf.io.encode_png(image[..., np.newaxis]).numpy() for image in images[:ENCODED_IMAGES]]
    answer = signatures["image_bytes"](image_bytes=tf.constant(encoded))
    _compare("image_bytes", answer["probabilities"], probabilities[:ENCODED_IMAGES])
    features = [tf.train.Feature(bytes_list=tf.train.BytesList(value=[png])) for png in encoded]
    examples = [tf.train.Example(features=tf.train.Features(feature={"image/encoded": f})) for f in features]
    answer = signatures["classify"](inputs=tf.constant([example.SerializeToString() for example in examples]))
    _compare("classify", answer["scores"], probabilities[:ENCODED_IMAGES])


def _compare(signature: str, found: tf.Tensor, expected: NDArray[np.float32]) -> None:
    difference = float(np.abs(found.numpy() - expected).max())
    if not difference <= TOLERANCE:
        raise ValueError(f"{signature}: probabilities differ by {difference:.2g}, more than {TOLERANCE:g}")


def main() -> None:
    folder, expected = sys.argv[1:]
    with np.load(expected, allow_pickle=False) as arrays:
        verify(Path(folder), arrays["images"], arrays["probabilities"])


if __name__ == "__main__":
    main()

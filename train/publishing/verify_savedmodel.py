"""Check a SavedModel against predictions made before it was saved; run in a fresh process before it is published.

python -m inkling.train.publishing.verify_savedmodel SAVEDMODEL EXPECTED.npz     exit status 0 if all signatures agree
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from ..strategy import compute_in_full_float32
from .export import LIGHT_ON_DARK, WHITE, png_of

TOLERANCE = 1e-4  # between two float32 runs of the same graph, compiled differently
ENCODED_IMAGES = 20  # of them are sent as PNG through the other two signatures


def verify(folder: Path, images: NDArray[np.uint8], probabilities: NDArray[np.float32]) -> None:
    """Compare what the SavedModel's signatures give with what the model gave.

    Args:
        folder: the SavedModel's.
        images: uint8 [n, height, width] or [n, height, width, 3].
        probabilities: float32 [n, classes], of the model for these images.

    Raises: ValueError if they differ.
    """
    encoded = [png_of(image) for image in images[:ENCODED_IMAGES]]
    features = [tf.train.Feature(bytes_list=tf.train.BytesList(value=[png])) for png in encoded]
    examples = [tf.train.Example(features=tf.train.Features(feature={"image/encoded": f})) for f in features]
    # A session, as in TensorFlow Serving: tf.saved_model.load restores more than a session does (see `InklingModule`).
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        signatures = tf.compat.v1.saved_model.load(session, ["serve"], str(folder)).signature_def

        def run(signature: str, alias: str, value: Any) -> dict[str, NDArray[Any]]:
            definition = signatures[signature]
            outputs = {name: info.name for name, info in definition.outputs.items()}
            result: dict[str, NDArray[Any]] = session.run(outputs, {definition.inputs[alias].name: value})
            return result

        result = run("serving_default", "images", images)
        _compare("serving_default", result["probabilities"], probabilities)
        if not np.array_equal(result["classes"], result["probabilities"].argmax(axis=1)):
            raise ValueError("serving_default: classes are not the most probable ones")
        if LIGHT_ON_DARK in signatures:
            result = run(LIGHT_ON_DARK, "images", WHITE - images)
            _compare(LIGHT_ON_DARK, result["probabilities"], probabilities)
        result = run("image_bytes", "image_bytes", encoded)
        _compare("image_bytes", result["probabilities"], probabilities[:ENCODED_IMAGES])
        result = run("classify", "inputs", [example.SerializeToString() for example in examples])
        _compare("classify", result["scores"], probabilities[:ENCODED_IMAGES])


def _compare(signature: str, found: NDArray[np.float32], expected: NDArray[np.float32]) -> None:
    difference = float(np.abs(found - expected).max())
    if not difference <= TOLERANCE:
        raise ValueError(f"{signature}: probabilities differ by {difference:.2g}, more than {TOLERANCE:g}")


def main() -> None:
    folder, expected = sys.argv[1:]
    compute_in_full_float32()
    with np.load(expected, allow_pickle=False) as arrays:
        verify(Path(folder), arrays["images"], arrays["probabilities"])


if __name__ == "__main__":
    main()

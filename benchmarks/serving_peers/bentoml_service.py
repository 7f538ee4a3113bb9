"""The digit model behind BentoML: HTTP, images as base64 in JSON, adaptive batches of up to 64.

The folder of the version is in the environment variable DIGIT_MODEL.
"""

import base64
import os

import bentoml
import numpy as np
import tensorflow as tf

SIDE = 28


@bentoml.service(traffic={"timeout": 60, "max_concurrency": 1024}, workers=1)
class Digits:
    """One worker with one model."""

    def __init__(self) -> None:
        self._model = tf.saved_model.load(os.environ["DIGIT_MODEL"])
        self._signature = self._model.signatures["serving_default"]

    @bentoml.api(batchable=True, batch_dim=0, max_batch_size=256, max_latency_ms=10_000)
    def predict(self, images: list[str]) -> list[list[float]]:
        """Probabilities of base64 images."""
        pixels = np.frombuffer(b"".join(base64.b64decode(image) for image in images), np.uint8)
        array = pixels.reshape(-1, SIDE, SIDE)
        probabilities: list[list[float]] = self._signature(images=tf.constant(array))["probabilities"].numpy().tolist()
        return probabilities

"""The digit model behind LitServe: HTTP, images as base64 in JSON, batches of up to 64."""

import argparse
import base64
from typing import Any

import litserve
import numpy as np
import tensorflow as tf

SIDE = 28


class DigitApi(litserve.LitAPI):
    """Decodes requests, computes batches, splits the answers."""

    def __init__(self, folder: str) -> None:
        super().__init__(max_batch_size=64, batch_timeout=0.001)
        self._folder = folder

    def setup(self, device: str) -> None:
        self._model = tf.saved_model.load(self._folder)
        self._signature = self._model.signatures["serving_default"]

    def decode_request(self, request: dict[str, str]) -> np.ndarray:
        return np.frombuffer(base64.b64decode(request["images"]), np.uint8).reshape(-1, SIDE, SIDE)

    def batch(self, inputs: list[np.ndarray]) -> tuple[list[int], np.ndarray]:
        return [len(images) for images in inputs], np.concatenate(inputs)

    def predict(self, batch: tuple[list[int], np.ndarray]) -> tuple[list[int], np.ndarray]:
        sizes, images = batch
        return sizes, self._signature(images=tf.constant(images))["probabilities"].numpy()

    def unbatch(self, output: tuple[list[int], np.ndarray]) -> list[np.ndarray]:
        sizes, probabilities = output
        return np.split(probabilities, np.cumsum(sizes)[:-1])

    def encode_response(self, output: np.ndarray) -> dict[str, Any]:
        return {"probabilities": output.tolist()}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--model", required=True, help="a version's folder")
    arguments = parser.parse_args()
    server = litserve.LitServer(DigitApi(arguments.model), accelerator="cpu", workers_per_device=1, fast_queue=False)
    server.run(host="127.0.0.1", port=arguments.port, generate_client_file=False, log_level="error")

"""The digit model behind MLServer: gRPC of the Open Inference Protocol, raw tensors, batches of up to 64."""

import sys

import numpy as np
import tensorflow as tf
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse


class Digits(MLModel):
    """One SavedModel."""

    async def load(self) -> bool:
        self._loaded = tf.saved_model.load(self.settings.parameters.uri)
        self._signature = self._loaded.signatures["serving_default"]
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        images = NumpyCodec.decode_input(payload.inputs[0]).astype(np.uint8, copy=False)
        probabilities = self._signature(images=tf.constant(images))["probabilities"].numpy()
        return InferenceResponse(
            model_name=self.name, outputs=[NumpyCodec.encode_output("probabilities", probabilities)]
        )


def request_bytes(images: np.ndarray) -> bytes:
    """A ModelInferRequest as it goes over the wire."""
    from mlserver.grpc import dataplane_pb2

    tensor = dataplane_pb2.ModelInferRequest.InferInputTensor(name="images", datatype="UINT8", shape=images.shape)
    request = dataplane_pb2.ModelInferRequest(
        model_name="digits", inputs=[tensor], raw_input_contents=[images.tobytes()]
    )
    return bytes(request.SerializeToString())


if __name__ == "__main__":
    count = int(sys.argv[1])
    pixels = np.frombuffer(sys.stdin.buffer.read(), np.uint8)
    sys.stdout.buffer.write(request_bytes(pixels.reshape(count, 28, 28)))

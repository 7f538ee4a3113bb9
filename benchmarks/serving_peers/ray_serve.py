"""The digit model behind Ray Serve: its gRPC proxy with the PredictionService's own messages, batches of up to 64."""

import argparse
import signal

import numpy as np
import ray
import tensorflow as tf
from ray import serve
from ray.serve.config import HTTPOptions, gRPCOptions
from tensorflow_serving.apis.predict_pb2 import PredictRequest, PredictResponse


class Digits:
    """One replica with one model."""

    def __init__(self, folder: str) -> None:
        self._model = tf.saved_model.load(folder)
        self._signature = self._model.signatures["serving_default"]

    @serve.batch(max_batch_size=64, batch_wait_timeout_s=0.001)
    async def _run(self, batch: list[np.ndarray]) -> list[np.ndarray]:
        probabilities = self._signature(images=tf.constant(np.concatenate(batch)))["probabilities"].numpy()
        return list(np.split(probabilities, np.cumsum([len(images) for images in batch])[:-1]))

    async def Predict(self, request: PredictRequest) -> PredictResponse:
        """The gRPC proxy's entry."""
        probabilities = await self._run(tf.make_ndarray(request.inputs["images"]))
        return PredictResponse(outputs={"probabilities": tf.make_tensor_proto(probabilities)})


def main() -> None:
    """Serve until told to stop."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--model", required=True, help="a version's folder")
    arguments = parser.parse_args()
    ray.init(address="local", num_cpus=4, include_dashboard=False, log_to_driver=False)
    adder = "tensorflow_serving.apis.prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server"
    serve.start(
        http_options=HTTPOptions(port=arguments.port + 1),
        grpc_options=gRPCOptions(port=arguments.port, grpc_servicer_functions=[adder]),
    )
    deployment = serve.deployment(max_ongoing_requests=1024, ray_actor_options={"num_cpus": 1})(Digits)
    serve.run(deployment.bind(arguments.model), name="digits")
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    ray.shutdown()


if __name__ == "__main__":
    main()

"""The server one writes in an afternoon: grpcio's threads, one TensorFlow call for each request."""

import argparse
from concurrent.futures import ThreadPoolExecutor

import grpc
import tensorflow as tf
from tensorflow_serving.apis import prediction_service_pb2_grpc
from tensorflow_serving.apis.predict_pb2 import PredictRequest, PredictResponse


class Servicer(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Predict on one SavedModel."""

    def __init__(self, folder: str) -> None:
        self._model = tf.saved_model.load(folder)
        self._signature = self._model.signatures["serving_default"]

    def Predict(self, request: PredictRequest, context: grpc.ServicerContext) -> PredictResponse:
        inputs = {name: tf.constant(tf.make_ndarray(tensor)) for name, tensor in request.inputs.items()}
        outputs = self._signature(**inputs)
        return PredictResponse(outputs={name: tf.make_tensor_proto(tensor) for name, tensor in outputs.items()})


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--model", required=True, help="a version's folder")
    arguments = parser.parse_args()
    server = grpc.server(ThreadPoolExecutor(32), options=[("grpc.max_receive_message_length", -1)])
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(Servicer(arguments.model), server)
    server.add_insecure_port(f"127.0.0.1:{arguments.port}")
    server.start()
    server.wait_for_termination()


if __name__ == "__main__":
    main()

"""The server one writes in an afternoon: grpcio's threads, one TensorFlow call for each request."""

import argparse
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import tensorflow as tf
from tensorflow_serving.apis import prediction_service_pb2_grpc
from tensorflow_serving.apis.predict_pb2 import PredictRequest, PredictResponse


class Servicer(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Predict on SavedModels, by name; the first one for any other name."""

    def __init__(self, folders: list[Path]) -> None:
        self._models = {folder.parent.name: tf.saved_model.load(str(folder)) for folder in folders}
        self._first = next(iter(self._models.values()))

    def Predict(self, request: PredictRequest, context: grpc.ServicerContext) -> PredictResponse:
        inputs = {name: tf.constant(tf.make_ndarray(tensor)) for name, tensor in request.inputs.items()}
        model = self._models.get(request.model_spec.name, self._first)
        outputs = model.signatures["serving_default"](**inputs)
        return PredictResponse(outputs={name: tf.make_tensor_proto(tensor) for name, tensor in outputs.items()})


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--model", required=True, type=Path, nargs="+", help="a version's folder, NAME/VERSION")
    arguments = parser.parse_args()
    server = grpc.server(ThreadPoolExecutor(32), options=[("grpc.max_receive_message_length", -1)])
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(Servicer(arguments.model), server)
    server.add_insecure_port(f"127.0.0.1:{arguments.port}")
    server.start()
    print("Running", flush=True)
    server.wait_for_termination()


if __name__ == "__main__":
    main()

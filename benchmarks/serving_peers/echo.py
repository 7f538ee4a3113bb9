"""An RPC that computes nothing: reads a PredictRequest, sends zeros. It bounds any gRPC server in Python."""

import argparse
import asyncio

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import prediction_service_pb2_grpc
from tensorflow_serving.apis.predict_pb2 import PredictRequest, PredictResponse


class Servicer(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Answers at once."""

    def __init__(self) -> None:
        self._responses: dict[int, PredictResponse] = {}

    async def Predict(
        self, request: PredictRequest, context: grpc.aio.ServicerContext[PredictRequest, PredictResponse]
    ) -> PredictResponse:
        count = request.inputs["images"].tensor_shape.dim[0].size
        if count not in self._responses:
            zeros = {"probabilities": np.zeros((count, 10), np.float32), "classes": np.zeros(count, np.int64)}
            outputs = {name: tf.make_tensor_proto(array) for name, array in zeros.items()}
            self._responses[count] = PredictResponse(outputs=outputs)
        return self._responses[count]


async def serve(port: int) -> None:
    """Serve until killed."""
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", -1)])
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(Servicer(), server)
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--model", help="not needed")
    asyncio.run(serve(parser.parse_args().port))

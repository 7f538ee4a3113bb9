"""A server that does what a test tells it to: real gRPC on a real port, with any behaviour behind each RPC.

It speaks the client's own messages; `protocol/test_wire.py` shows that those are TensorFlow Serving's, and the tests
that start `python -m serving` that a real server takes them.
"""

import threading
from concurrent import futures

import grpc
import numpy as np

from inkling.client.protocol import rpc, tensors
from inkling.client.protocol import wire_pb2 as wire


class StubServer(grpc.GenericRpcHandler):
    """Answers each RPC by a function of (request, context); keeps what it was sent.

    A behaviour may return a message, or bytes that are none.
    """

    def __init__(self, *, port=0, options=(), credentials=None, threads=16, **behaviours):
        self.behaviours = {"Predict": predict, "GetModelMetadata": metadata, "GetModelStatus": status} | behaviours
        self.requests = []
        self.contexts = []
        self.in_flight = self.most_in_flight = 0
        self._lock = threading.Lock()
        self._server = grpc.server(futures.ThreadPoolExecutor(threads), handlers=[self], options=options)
        address = f"127.0.0.1:{port}"
        if credentials is None:
            self.port = self._server.add_insecure_port(address)
        else:
            self.port = self._server.add_secure_port(address, credentials)
        self.address = f"127.0.0.1:{self.port}"
        self._server.start()

    def service(self, handler_call_details):
        method = {known.path: known for known in rpc.ALL}.get(handler_call_details.method)
        behaviour = self.behaviours.get(handler_call_details.method.rpartition("/")[2])
        if method is None or behaviour is None:
            return None

        def answer(request, context):
            with self._lock:
                self.requests.append(request)
                self.contexts.append(context)
                self.in_flight += 1
                self.most_in_flight = max(self.most_in_flight, self.in_flight)
            try:
                return behaviour(request, context)
            finally:
                with self._lock:
                    self.in_flight -= 1

        def serialize(response):
            return response if isinstance(response, bytes) else response.SerializeToString()

        return grpc.unary_unary_rpc_method_handler(answer, method.request.FromString, serialize)

    def stop(self, grace=None):
        self._server.stop(grace).wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


def predict(request, context):
    """The class of an image is its first pixel modulo 10."""
    images = tensors.to_array(request.inputs["images"])
    classes = images.reshape(len(images), -1)[:, 0].astype(np.int64) % 10 if images.size else np.zeros(0, np.int64)
    probabilities = np.full((len(images), 10), 0.01, np.float32)
    probabilities[np.arange(len(images)), classes] = 0.91
    return predict_response(request, classes=classes, probabilities=probabilities)


def echo(request, context):
    """The outputs are the inputs, byte for byte."""
    response = wire.PredictResponse(model_spec=answered(request))
    for name, tensor in request.inputs.items():
        response.outputs[name].CopyFrom(tensor)
    return response


def predict_response(request, *, version=1, **outputs):
    response = wire.PredictResponse(model_spec=answered(request, version=version))
    for name, array in outputs.items():
        response.outputs[name].CopyFrom(tensors.to_tensor(array))
    return response


def answered(request, *, version=1):
    """The model spec of an answer: the version that was used, and the signature's full name."""
    spec = wire.ModelSpec(
        name=request.model_spec.name, signature_name=request.model_spec.signature_name or "serving_default"
    )
    spec.version.value = request.model_spec.version.value if request.model_spec.HasField("version") else version
    return spec


def metadata_response(request, *, version=1, **signatures):
    """`signatures`: name={"inputs": {alias: (dtype, shape)}, "outputs": {...}}; a shape of None is of unknown rank."""
    found = wire.SignatureDefMap()
    for name, tensors_of in signatures.items():
        signature = found.signature_def[name]
        signature.method_name = "tensorflow/serving/predict"
        for direction, specs in tensors_of.items():
            for alias, (dtype, shape) in specs.items():
                info = getattr(signature, direction)[alias]
                info.dtype = dtype
                if shape is None:
                    info.tensor_shape.unknown_rank = True
                else:
                    info.tensor_shape.dim.extend(wire.TensorShapeProto.Dim(size=size) for size in shape)
    spec = answered(request, version=version)
    spec.signature_name = ""
    response = wire.GetModelMetadataResponse(model_spec=spec)
    entry = response.metadata["signature_def"]
    entry.type_url = "type.googleapis.com/tensorflow.serving.SignatureDefMap"
    entry.value = found.SerializeToString()
    return response


def metadata(request, context):
    """An image classifier's."""
    inputs = {"images": (wire.DT_UINT8, (-1, 28, 28))}
    outputs = {"classes": (wire.DT_INT64, (-1,)), "probabilities": (wire.DT_FLOAT, (-1, 10))}
    return metadata_response(request, serving_default={"inputs": inputs, "outputs": outputs})


def status_response(*versions):
    """`versions`: (number, name of the state, error text)."""
    response = wire.GetModelStatusResponse()
    for number, state, error in versions:
        one = response.model_version_status.add(version=number, state=state)
        if error:
            one.status.error_code, one.status.error_message = wire.UNKNOWN, error
    return response


def status(request, context):
    """Version 1 is there."""
    return status_response((1, "AVAILABLE", ""))


def failing(*codes_and_words, then=predict):
    """Fails with these, one after the other, then does `then`."""
    failures = list(codes_and_words)

    def behave(request, context):
        if failures:
            context.abort(*failures.pop(0))
        return then(request, context)

    return behave

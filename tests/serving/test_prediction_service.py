"""Every inference leases its version, is counted once and may be recorded, whichever door it takes."""

import asyncio
import contextlib
from dataclasses import dataclass, field

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef
from tensorflow_serving.apis.model_pb2 import ModelSpec

from inkling.serving.errors import ServingError, not_found
from inkling.serving.load_shedding import Drain
from inkling.serving.model.inspection import make_signatures
from inkling.serving.model.model import Model, ModelOptions
from inkling.serving.monitoring.events import ServerEvents
from inkling.serving.prediction_service import PredictionService
from tests.serving.conftest import predict_request, server_parts


class Doubler:
    """A runtime that doubles x, float [n]; values below zero are its failure."""

    graph_def = None

    def __init__(self):
        definition = SignatureDef(method_name="tensorflow/serving/predict")
        for infos, name in ((definition.inputs, "x"), (definition.outputs, "y")):
            infos[name].name, infos[name].dtype = f"{name}:0", 1
            infos[name].tensor_shape.dim.add().size = -1
        self.signature_defs = {"serving_default": definition}

    def function(self, inputs, outputs):
        def double(values):
            if (values[0] < 0).any():
                raise ServingError(grpc.StatusCode.OUT_OF_RANGE, "below zero")
            return [values[0] * 2]

        return double

    def close(self):
        pass


class Events(ServerEvents):
    def __init__(self):
        self.finished = []
        self.timed = []
        self.num_examples = []

    def signature_finished(self, *, latency_s, **of):
        assert latency_s > 0
        self.finished.append(of)

    def runtime_finished(self, *, latency_s, api, **of):
        self.timed.append(api)

    def examples(self, *, model_name, num_examples):
        self.num_examples.append(num_examples)


@dataclass
class RequestLog:
    """Keeps what it is given, if it is to be sampled."""

    sampled: bool = True
    logs: list = field(default_factory=list)

    def wants(self):
        return self.sampled

    def write(self, log):
        self.logs.append(log)


class Server:
    """A service of version 7 of the model `m`, in an event loop for each call."""

    def __init__(self):
        self.drain, self.events, self.request_log = Drain(), Events(), RequestLog()
        self.models = []

    def find(self, name, *, version, label):
        if name != "m":
            raise not_found(f"no {name}")
        return self.models[-1]

    def run(self, ask):
        async def main():
            runtime = Doubler()
            signatures = make_signatures(runtime, {})
            self.models.append(Model("m", 7, runtime, signatures, options=ModelOptions(), parts=server_parts()))
            service = PredictionService(
                self, drain=self.drain, events=self.events, request_log=self.request_log, as_content=True
            )
            return await ask(service)

        return asyncio.run(main())

    def predict(self, x, name="m", **options):
        """By messages, as gRPC does."""
        request = predict_request(name, {"x": np.float32(x)}, **options)
        return self.run(lambda service: service.predict(request))

    def predict_arrays(self, x, signature=""):
        """By arrays, as REST does."""

        async def ask(service):
            with service.call("Predict", ModelSpec(name="m", signature_name=signature)) as call:
                return await service.predict_arrays(call, signature, {"x": np.float32(x)})

        return self.run(ask)


@pytest.fixture
def server():
    return Server()


DOORS = pytest.mark.parametrize("door", ["predict", "predict_arrays"])
KEY = {"model_name": "m", "version": 7, "signature_name": "serving_default"}


@DOORS
def test_a_good_request_is_counted_timed_and_sized(server, door):
    getattr(server, door)([1, 2, 3])
    assert server.events.finished == [{**KEY, "code": grpc.StatusCode.OK}]
    assert server.events.timed == ["Predict"] and server.events.num_examples == [3]


@DOORS
def test_a_failure_is_counted_and_not_timed(server, door):
    with pytest.raises(ServingError, match="below zero"):
        getattr(server, door)([-1])
    assert server.events.finished == [{**KEY, "code": grpc.StatusCode.OUT_OF_RANGE}]
    assert not server.events.timed and not server.events.num_examples and not server.request_log.logs


@DOORS
@pytest.mark.parametrize("x", [[1], [-1]], ids=["good", "bad"])
def test_a_lease_ends_with_its_request(server, door, x):
    with contextlib.suppress(ServingError):
        getattr(server, door)(x)
    assert server.models[-1].num_leases == 0 and server.models[-1].idle.is_set()


def test_both_doors_write_the_same_values_to_the_request_log(server):
    server.predict([1, 2])
    server.predict_arrays([1, 2])
    by_message, by_arrays = (log.predict_log for log in server.request_log.logs)
    for log in (by_message, by_arrays):
        assert tf.make_ndarray(log.request.inputs["x"]).tolist() == [1, 2]
        assert tf.make_ndarray(log.response.outputs["y"]).tolist() == [2, 4]
    assert by_message.response == by_arrays.response
    assert [log.log_metadata.model_spec.name for log in server.request_log.logs] == ["m", "m"]


@DOORS
def test_a_request_that_is_not_sampled_is_not_written(server, door):
    server.request_log.sampled = False
    getattr(server, door)([1])
    assert not server.request_log.logs


def test_a_signature_that_a_caller_made_up_is_no_series_of_its_own(server):
    with pytest.raises(ServingError, match='Serving signature key "made-up" not found'):
        server.predict([1], signature="made-up")
    [finished] = server.events.finished
    assert finished["signature_name"] == "unknown"


def test_what_fails_before_it_is_an_inference_is_not_counted_as_one(server):
    with pytest.raises(ServingError, match='Serving signature key "made-up" not found'):
        server.predict_arrays([1], signature="made-up")
    with pytest.raises(ServingError, match="no other"):
        server.predict([1], name="other")
    assert not server.events.finished


@DOORS
def test_a_server_that_drains_refuses_new_requests(server, door):
    server.drain.begin()
    with pytest.raises(ServingError, match="The server is shutting down") as caught:
        getattr(server, door)([1])
    assert caught.value.code == grpc.StatusCode.UNAVAILABLE and not server.events.finished


def test_a_caller_that_goes_is_counted_as_cancelled(server):
    async def ask(service):
        with service.call("Predict", ModelSpec(name="m"), num_examples=1):
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        server.run(ask)
    assert [finished["code"] for finished in server.events.finished] == [grpc.StatusCode.CANCELLED]

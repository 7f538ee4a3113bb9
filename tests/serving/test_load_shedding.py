"""Requests for a queue that is known to be full are refused by their bytes; all others are not."""

import gc

import numpy as np
import pytest
from tensorflow_serving.apis.predict_pb2 import PredictRequest

from inkling.serving.load_shedding import MAX_REMEMBERED, KnownFullQueues, QueueFull
from inkling.serving.names import ModelKey
from inkling.serving.proto.open_inference_pb2 import ModelInferRequest
from tests.serving.conftest import predict_request

RPC = "Predict"


class Queue:
    """One that is full while told so."""

    full = True

    def __init__(self, queues):
        self.id = queues.register(self)

    def refusal(self):
        key = ModelKey(model_name="digits", version=1, signature_name="serving_default")
        return QueueFull("full", key=key, queue_id=self.id) if self.full else None


def predict(name, *, signature="", rows=1, outputs=()):
    inputs = {"x": np.full((rows, 2), rows, np.float32)}
    return predict_request(name, inputs, signature=signature, outputs=outputs).SerializeToString()


@pytest.fixture
def queues():
    return KnownFullQueues()


@pytest.fixture
def queue(queues):
    queue = Queue(queues)
    queues.remember(RPC, predict("digits"), queue.refusal())
    return queue


def test_other_requests_for_a_full_queue_are_refused_until_it_has_room(queues, queue):
    for rows in (1, 300):
        assert queues.check(RPC, predict("digits", rows=rows)).message == "full"
    queue.full = False
    assert queues.check(RPC, predict("digits")) is None
    queue.full = True  # found full by whoever comes to it next, and only then remembered again
    assert queues.check(RPC, predict("digits")) is None


@pytest.mark.parametrize(
    "content",
    [
        predict("digit"),
        predict("digits", signature="other"),
        predict("digits", outputs=["y"]),
        predict("digits") + PredictRequest(model_spec={"name": "other"}).SerializeToString(),
        predict("digits2"),
        b"",
    ],
    ids=["shorter", "signature", "outputs", "second spec", "longer", "empty"],
)
def test_requests_for_other_queues_are_not_refused(queues, queue, content):
    assert queues.check(RPC, content) is None


BROKEN = {
    "empty": b"",
    "cut off after the tag": b"\x0a",
    "cut off": b"\x0a\x80\x01",
    "endless length": b"\x0a" + b"\x80" * 1000,
    "unknown field": b"\x0a\x01a\x22\x00",
    "inputs alone": b"\x12\x00",
    "long name": predict("digits" * 100),
    "many fields": b"\x0a\x01a" + b"\x12\x00" * 100,
}


@pytest.mark.parametrize("case", BROKEN)
def test_bytes_that_are_no_usual_request_are_left_to_the_parser(queues, queue, case):
    queues.remember(RPC, BROKEN[case], queue.refusal())
    assert queues.check(RPC, BROKEN[case]) is None


def test_the_same_bytes_for_another_rpc_are_not_refused(queues, queue):
    assert queues.check("Classify", predict("digits")) is None
    assert queues.check(RPC, predict("digits")) is not None


def model_infer(*, rows=1, identifier="", version="", signature="", outputs=()):
    request = ModelInferRequest(model_name="digits", model_version=version, id=identifier)
    request.inputs.add(name="x", datatype="FP32", shape=[rows])
    request.raw_input_contents.append(bytes(4 * rows))
    if signature:
        request.parameters["signature_name"].string_param = signature
    for name in outputs:
        request.outputs.add(name=name)
    return request.SerializeToString()


def test_requests_of_the_open_inference_protocol_differ_by_all_but_inputs_and_id(queues, queue):
    queues.remember("ModelInfer", model_infer(), queue.refusal())
    assert queues.check("ModelInfer", model_infer(rows=300, identifier="7")).message == "full"
    for others in ({"version": "1"}, {"signature": "other"}, {"outputs": ["y"]}):
        assert queues.check("ModelInfer", model_infer(**others)) is None


def test_a_queue_that_is_gone_is_not_kept(queues):
    queue = Queue(queues)
    queues.remember(RPC, predict("digits"), queue.refusal())
    assert queues.check(RPC, predict("digits")) is not None
    del queue
    gc.collect()
    assert queues.check(RPC, predict("digits")) is None


def test_callers_cannot_make_it_remember_without_end(queues, queue):
    names = [predict(f"digits{number}") for number in range(MAX_REMEMBERED + 1)]
    for content in names:
        queues.remember(RPC, content, queue.refusal())
    assert queues.check(RPC, names[0]) is None
    assert all(queues.check(RPC, content) for content in names[1:])

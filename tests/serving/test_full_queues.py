"""Requests for a queue that is known to be full are refused by their bytes; all others are not."""

import gc

import numpy as np
import pytest
from tensorflow_serving.apis.predict_pb2 import PredictRequest

from inkling.serving.errors import QueueFull
from inkling.serving.load_shedding import MAX_REMEMBERED, FullQueues
from inkling.serving.monitoring.events import Labels
from tests.serving.conftest import predict_request


class Queue:
    """One that is full while told so."""

    full = True

    def refusal(self):
        labels = Labels(model_name="digits", version=1, signature_name="serving_default")
        return QueueFull("full", labels=labels, refusal=self.refusal) if self.full else None


def predict(name, *, signature="", rows=1, outputs=()):
    inputs = {"x": np.full((rows, 2), rows, np.float32)}
    return predict_request(name, inputs, signature=signature, outputs=outputs).SerializeToString()


@pytest.fixture
def queue():
    return Queue()


@pytest.fixture
def queues(queue):
    queues = FullQueues()
    queues.remember(predict("digits"), queue.refusal())
    return queues


def test_other_requests_for_a_full_queue_are_refused_until_it_has_room(queues, queue):
    for rows in (1, 300):
        assert queues.check(predict("digits", rows=rows)).message == "full"
    queue.full = False
    assert queues.check(predict("digits")) is None
    queue.full = True  # found full by whoever comes to it next, and only then remembered again
    assert queues.check(predict("digits")) is None


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
def test_requests_for_other_queues_are_not_refused(queues, content):
    assert queues.check(content) is None


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
    queues.remember(BROKEN[case], queue.refusal())
    assert queues.check(BROKEN[case]) is None


def test_a_queue_that_is_gone_is_not_kept():
    queues, queue = FullQueues(), Queue()
    queues.remember(predict("digits"), queue.refusal())
    assert queues.check(predict("digits")) is not None
    del queue
    gc.collect()
    assert queues.check(predict("digits")) is None


def test_callers_cannot_make_it_remember_without_end(queue):
    queues = FullQueues()
    names = [predict(f"digits{number}") for number in range(MAX_REMEMBERED + 1)]
    for content in names:
        queues.remember(content, queue.refusal())
    assert queues.check(names[0]) is None
    assert all(queues.check(content) for content in names[1:])

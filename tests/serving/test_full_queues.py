"""Requests for a queue that is known to be full are refused by their first bytes; all others are not."""

import numpy as np
import pytest
from tensorflow_serving.apis.predict_pb2 import PredictRequest

from serving.errors import QueueFull
from serving.full_queues import MAX_REMEMBERED, FullQueues
from tests.serving.conftest import predict_request


class Queue:
    """One that is full while told so."""

    full = True

    def refusal(self):
        return QueueFull("full", model_name="digits", refusal=self.refusal) if self.full else None


def predict(name, *, signature="", rows=1):
    request = predict_request(name, {"x": np.full((rows, 2), rows, np.float32)})
    request.model_spec.signature_name = signature
    return request.SerializeToString()


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
        with pytest.raises(QueueFull, match="full"):
            queues.check(predict("digits", rows=rows))
    queue.full = False
    queues.check(predict("digits"))
    queue.full = True  # found full by whoever comes to it next, and only then remembered again
    queues.check(predict("digits"))


@pytest.mark.parametrize(
    "content",
    [predict("digit"), predict("digits", signature="other"), predict("digits2"), PredictRequest().SerializeToString()],
    ids=["shorter", "signature", "longer", "empty"],
)
def test_requests_for_other_queues_are_not_refused(queues, content):
    queues.check(content)


@pytest.mark.parametrize("content", [b"", b"\x0a", b"\x0a\x80\x01", b"\x12\x00"], ids=repr)
def test_bytes_that_are_no_request_are_left_to_the_parser(queues, queue, content):
    queues.remember(content, queue.refusal())
    queues.check(content)


def test_callers_cannot_make_it_remember_without_end(queue):
    queues = FullQueues()
    names = [predict(f"digits{number}") for number in range(MAX_REMEMBERED + 1)]
    for content in names:
        queues.remember(content, queue.refusal())
    with pytest.raises(QueueFull):
        queues.check(names[0])
    queues.check(names[-1])

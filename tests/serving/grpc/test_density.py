"""What a message costs to parse is told from its parts, and a message of too many is refused."""

import os

import pytest
from tensorflow.core.framework.tensor_pb2 import TensorProto
from tensorflow_serving.apis.classification_pb2 import ClassificationRequest
from tensorflow_serving.apis.predict_pb2 import PredictRequest

from inkling.serving import offload
from inkling.serving.errors import ServingError
from inkling.serving.grpc.density import LONG_BYTES, MAX_PARTS, check_density, size_of


def predict(**tensors):
    request = PredictRequest()
    for alias, tensor in tensors.items():
        request.inputs[alias].CopyFrom(tensor)
    return request.SerializeToString()


def test_a_few_long_parts_are_short_work():
    content = predict(x=TensorProto(tensor_content=bytes(500_000)), y=TensorProto(float_val=[1] * 100_000))
    assert size_of(content, PredictRequest.DESCRIPTOR) <= offload.SHORT


@pytest.mark.parametrize(
    "tensor",
    [
        TensorProto(string_val=[b""] * 40_000),
        TensorProto(int_val=[1] * 80_000),
        TensorProto(tensor_shape={"dim": [{"size": 1}] * 20_000}),
        TensorProto(variant_val=[{"tensors": [{}] * 20_000}] * 2),
    ],
    ids=["strings", "integers", "dimensions", "tensors in tensors"],
)
def test_many_parts_are_long_work(tensor):
    assert size_of(predict(x=tensor), PredictRequest.DESCRIPTOR) > offload.SHORT


def test_what_is_short_is_short_work_whatever_is_in_it():
    content = predict(x=TensorProto(string_val=[b""] * 1000))
    assert size_of(content, PredictRequest.DESCRIPTOR) <= offload.SHORT


def examples(number):
    request = ClassificationRequest()
    for _ in range(number):
        request.input.example_list.examples.add()
    return request.SerializeToString()


@pytest.mark.parametrize(
    ("kind", "make"),
    [
        (PredictRequest, lambda: predict(x=TensorProto(string_val=[b""] * (MAX_PARTS + 1)))),
        (PredictRequest, lambda: predict(x=TensorProto(int64_val=[1] * (64 * MAX_PARTS + 64)))),
        (ClassificationRequest, lambda: examples(MAX_PARTS + 1)),
    ],
    ids=["strings", "integers", "examples"],
)
def test_too_many_parts_are_refused(kind, make):
    with pytest.raises(ServingError, match="send numbers as tensor_content"):
        check_density(make(), kind.DESCRIPTOR)


def test_as_many_parts_as_may_be_are_taken():
    check_density(predict(x=TensorProto(string_val=[b""] * (MAX_PARTS - 10))), PredictRequest.DESCRIPTOR)


def test_bytes_that_are_no_message_are_left_to_the_parser():
    for _ in range(3):
        content = os.urandom(1000) * (LONG_BYTES // 1000 + 1)
        size_of(content, PredictRequest.DESCRIPTOR)
        try:
            check_density(content, PredictRequest.DESCRIPTOR)
        except ServingError as error:
            assert "send numbers" in error.message
    for end in range(40):
        size_of(predict(x=TensorProto(string_val=[b"x"] * 40_000))[:-end], PredictRequest.DESCRIPTOR)

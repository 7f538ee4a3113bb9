"""Large batches: the parts they are sent in, and that one version computes them all."""

import threading

import grpc
import numpy as np
import pytest

from inkling.client import InvalidInput, InvalidResponse, ServerError
from inkling.client.protocol.tensors import to_tensor
from tests.client.stub_server import echo, predict, predict_response
from tests.patience import PATIENCE_S


def test_a_large_batch_goes_in_parts_and_comes_back_in_order(start, make_client):
    server = start(Predict=in_reverse(5))
    images = np.random.default_rng(0).integers(0, 256, (5000, 28, 28), np.uint8)
    prediction = make_client(server, max_rows=1000, split_bytes=1 << 30, max_in_flight=5).predict(images)
    assert prediction.classes.tolist() == (images[:, 0, 0] % 10).tolist()
    assert [len(request.inputs["images"].tensor_content) // 784 for request in server.requests] == [1000] * 5
    assert server.most_in_flight == 5


def in_reverse(count):
    """Holds `count` requests, and answers the last one first."""
    turn, arrived, answered_ones = threading.Condition(), [], []

    def behave(request, context):
        with turn:
            arrived.append(request)
            place = len(arrived)
            turn.notify_all()
            assert turn.wait_for(lambda: len(arrived) == count == place + len(answered_ones), timeout=PATIENCE_S)
            answered_ones.append(place)
            turn.notify_all()
        return predict(request, context)

    return behave


def test_parts_are_as_large_as_the_limits_allow(start, make_client):
    server = start()
    client = make_client(server, split_bytes=10 * 784, max_rows=100)
    client.predict(np.zeros((25, 28, 28), np.uint8))
    assert sorted(request.inputs["images"].tensor_shape.dim[0].size for request in server.requests) == [8, 8, 9]
    client.predict(np.zeros((10, 28, 28), np.uint8))
    assert len(server.requests) == 4


def test_no_more_parts_are_under_way_than_allowed(start, make_client):
    server = start()
    make_client(server, max_rows=1, max_in_flight=2).predict(np.zeros((40, 28, 28), np.uint8))
    assert len(server.requests) == 40 and server.most_in_flight <= 2


def test_the_servers_own_limit_is_learnt(start, make_client):
    def behave(request, context):
        size = request.inputs["images"].tensor_shape.dim[0].size
        if size > 64:
            context.abort(
                grpc.StatusCode.INVALID_ARGUMENT, f"Task size {size} is larger than maximum input batch size 64"
            )
        return predict(request, context)

    server = start(Predict=behave)
    client = make_client(server)
    images = np.random.default_rng(0).integers(0, 256, (100, 28, 28), np.uint8)
    assert client.predict(images).classes.tolist() == (images[:, 0, 0] % 10).tolist()
    assert client.predict(np.concatenate([images] * 20)).classes.shape == (2000,)
    sizes = [request.inputs["images"].tensor_shape.dim[0].size for request in server.requests]
    assert sizes[0] == 100 and max(sizes[1:]) <= 64


def test_one_answer_comes_from_one_version(start, make_client):
    """A new version appears while the parts of a batch are under way."""
    count = iter(range(100))

    def behave(request, context):
        pinned = request.model_spec.version.value if request.model_spec.HasField("version") else None
        version = pinned or (2 if next(count) >= 2 else 1)
        rows = request.inputs["images"].tensor_shape.dim[0].size
        answer = predict_response(
            request, classes=np.full(rows, version), probabilities=np.full((rows, 10), 0.1, np.float32)
        )
        answer.model_spec.version.value = version
        return answer

    server = start(Predict=behave)
    prediction = make_client(server, max_rows=10, max_in_flight=1).predict(np.zeros((40, 28, 28), np.uint8))
    assert prediction.version == 2 and prediction.classes.tolist() == [2] * 40
    assert [request.model_spec.version.value for request in server.requests] == [0, 0, 0, 0, 2, 2]


def test_so_it_does_when_the_newer_version_is_taken_back(start, make_client):
    count = iter(range(100))

    def behave(request, context):
        pinned = request.model_spec.version.value if request.model_spec.HasField("version") else None
        if pinned == 2:
            context.abort(grpc.StatusCode.NOT_FOUND, "Servable not found for request: Specific(mnist, 2)")
        answer = predict(request, context)
        answer.model_spec.version.value = pinned or (1 if next(count) >= 2 else 2)
        return answer

    images = np.random.default_rng(0).integers(0, 256, (40, 28, 28), np.uint8)
    prediction = make_client(start(Predict=behave), max_rows=10, max_in_flight=1).predict(images)
    assert prediction.version == 1 and prediction.classes.tolist() == (images[:, 0, 0] % 10).tolist()


def test_one_failing_part_fails_the_call_and_names_its_rows(start, make_client):
    def behave(request, context):
        if 7 in request.inputs["images"].tensor_content:
            context.abort(grpc.StatusCode.INTERNAL, "seven")
        return predict(request, context)

    images = np.zeros((40, 28, 28), np.uint8)
    images[25] = 7
    with pytest.raises(ServerError, match=r"model mnist \(rows 20 to 29\) at 127.0.0.1:\d+: seven \(INTERNAL\)"):
        make_client(start(Predict=behave), max_rows=10).predict(images)


def test_run_splits_what_is_called_a_batch(start, make_client):
    server = start(Predict=echo)
    client = make_client(server, max_rows=3)
    inputs = {"x": np.arange(10.0), "names": [str(number) for number in range(10)]}
    outputs = client.run("m", inputs, batched=True)
    assert outputs["x"].tolist() == list(range(10)) and outputs["names"].tolist() == [b"%d" % n for n in range(10)]
    assert len(server.requests) == 4
    assert client.run("m", inputs)["x"].tolist() == list(range(10)) and len(server.requests) == 5
    with pytest.raises(InvalidInput, match=r"inputs x \[2\], y \[3\] are not a batch; expected the same first"):
        client.run("m", {"x": np.zeros(2), "y": np.zeros(3)}, batched=True)


@pytest.mark.parametrize("dtype", ["qint8", "bfloat16", "string", "int64"])
def test_tensors_keep_their_type_in_the_parts_of_a_batch(start, make_client, dtype):
    given = to_tensor(
        ["a", "b", "c"] if dtype == "string" else np.array([1, 2, 3], np.float32 if dtype == "bfloat16" else np.int8),
        dtype,
    )
    server = start(Predict=echo)
    outputs = make_client(server, max_rows=1).run("m", {"x": given}, batched=True)
    assert {request.inputs["x"].dtype for request in server.requests} == {given.dtype} and len(server.requests) == 3
    assert outputs["x"].tolist() == ([b"a", b"b", b"c"] if dtype == "string" else [1, 2, 3])


def test_outputs_that_are_no_batch_are_not_joined(start, make_client):
    server = start(Predict=lambda request, context: predict_response(request, mean=np.float32(1)))
    with pytest.raises(InvalidResponse, match=r"output 'mean' is not a batch.*call run\(\) with batched=False"):
        make_client(server, max_rows=2).run("m", {"x": np.zeros(4)}, batched=True)

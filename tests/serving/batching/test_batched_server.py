"""A server that batches: many callers at once, each with the result that it would get alone."""

import grpc
import numpy as np
import pytest

from tests.patience import PATIENCE_S
from tests.server_process import ServerProcess
from tests.serving.conftest import predict_request

pytestmark = pytest.mark.process


def concurrently(predictions, requests):
    """The answers to all `requests`, sent at once; errors in place of answers."""
    futures = [predictions.Predict.future(request, timeout=PATIENCE_S) for request in requests]
    return [future.exception() or future.result() for future in futures]


def test_many_callers_get_what_each_would_get_alone(predictions):
    requests = [predict_request("several", {"x": np.full((1, 2), n, np.float32)}) for n in range(200)]
    answers = concurrently(predictions, requests)
    assert [list(answer.outputs["y"].float_val) for answer in answers] == [[2.0 * n, 2.0 * n] for n in range(200)]


def test_signatures_whose_rows_depend_on_each_other_are_not_batched(predictions):
    requests = [predict_request("several", {"x": np.full(2, n, np.float32)}, signature="minus_mean") for n in range(50)]
    assert all(list(answer.outputs["y"].float_val) == [0.0, 0.0] for answer in concurrently(predictions, requests))


def test_signatures_that_keep_state_are_not_batched(predictions):
    request = predict_request("several", {"x": np.zeros(1, np.int32)}, signature="counter")
    # Two that run at once may both read what the later one made of the counter, but each adds to it.
    [before], _, [after] = (concurrently(predictions, [request] * count) for count in (1, 50, 1))
    assert after.outputs["count"].int_val[0] - before.outputs["count"].int_val[0] == 51


def test_a_bad_index_among_good_ones_fails_alone(predictions):
    indices = [n % 4 if n % 5 else 99 for n in range(60)]
    requests = [predict_request("several", {"index": np.array([n], np.int32)}, signature="pick") for n in indices]
    for index, answer in zip(indices, concurrently(predictions, requests), strict=True):
        if index == 99:
            assert answer.code() == grpc.StatusCode.INVALID_ARGUMENT
        else:
            assert list(answer.outputs["value"].int_val) == [10 * (index + 1)]


def test_a_server_with_a_parameters_file_batches_by_it(repository, tmp_path):
    file = tmp_path / "batching.txt"
    file.write_text(
        "max_batch_size { value: 4 } batch_timeout_micros { value: 2000 } num_batch_threads { value: 2 }\n"
        "max_enqueued_batches { value: 100 } allowed_batch_sizes: 2 allowed_batch_sizes: 4"
    )
    flags = ["--model_name=half_plus_two", f"--model_base_path={repository / 'half_plus_two'}"]
    with (
        ServerProcess(*flags, "--enable_batching", f"--batching_parameters_file={file}") as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        from tensorflow_serving.apis import prediction_service_pb2_grpc

        predictions = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        requests = [predict_request("half_plus_two", {"x": np.full(1, n, np.float32)}) for n in range(40)]
        answers = concurrently(predictions, requests)
        assert [answer.outputs["y"].float_val[0] for answer in answers] == [n / 2 + 2 for n in range(40)]
        scalar = predictions.Predict.future(
            predict_request("half_plus_two", {"x": np.ones(5, np.float32)}), timeout=PATIENCE_S
        )
        assert scalar.exception().details() == "Task size 5 is larger than maximum input batch size 4"

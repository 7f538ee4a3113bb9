"""Batching: what is run together, what is refused, and that nobody's answer changes by it."""

import asyncio
import threading

import grpc
import numpy as np
import pytest

from serving.batching import Batcher, Labels
from serving.config_files import BatchingParameters
from serving.errors import ServingError, invalid_argument
from serving.observer import Observer
from serving.workers import Workers
from tests.server_process import ServerProcess
from tests.serving.conftest import predict_request

LABELS = Labels("model", 1, "serving_default")


class Doubler:
    """A runtime that doubles rows, remembers the sizes of its runs, and can be held up."""

    def __init__(self):
        self.sizes = []
        self.inputs = []
        self.open = threading.Event()
        self.open.set()

    def __call__(self, arrays):
        self.open.wait(10)
        self.sizes.append(len(arrays[0]))
        self.inputs.append(arrays[0])
        if (arrays[0] == -1).any():
            raise invalid_argument("minus one")
        return [arrays[0] * 2]


@pytest.fixture
def workers():
    workers = Workers(1, name="test")
    yield workers
    workers.stop()


def rows(*values):
    return np.array(values, np.float32)


async def held_up(batcher, runtime, requests):
    """Send `requests` while a first one keeps the only worker busy; returns their answers or errors."""
    runtime.open.clear()
    first = asyncio.create_task(batcher.run([rows(0)], 1))
    while not batcher._running:
        await asyncio.sleep(0)
    tasks = [asyncio.create_task(batcher.run([request], len(request))) for request in requests]
    await asyncio.sleep(0.05)
    runtime.open.set()
    await first
    return await asyncio.gather(*tasks, return_exceptions=True)


def run_held_up(workers, requests, parameters, **options):
    runtime = Doubler()

    async def main():
        batcher = Batcher(runtime, parameters, workers, labels=LABELS, observer=Observer(), **options)
        return await held_up(batcher, runtime, requests)

    return runtime, asyncio.run(main())


def test_what_waits_is_run_together_and_each_gets_its_own_rows(workers):
    runtime, answers = run_held_up(workers, [rows(1), rows(2, 3), rows(4)], BatchingParameters(), max_tasks=9)
    assert runtime.sizes == [1, 4]
    assert [answer[0].tolist() for answer in answers] == [[2], [4, 6], [8]]


def test_a_batch_is_padded_to_an_allowed_size_with_rows_that_are_there(workers):
    parameters = BatchingParameters(max_batch_size=8, allowed_batch_sizes=(4, 8))
    runtime, answers = run_held_up(workers, [rows(1, 2), rows(3, 4, 5)], parameters)
    assert runtime.sizes == [4, 8]
    assert set(runtime.inputs[1].tolist()) == {1, 2, 3, 4, 5}
    assert [answer[0].tolist() for answer in answers] == [[2, 4], [6, 8, 10]]


def test_one_bad_request_does_not_spoil_its_neighbours(workers):
    runtime, answers = run_held_up(workers, [rows(1), rows(-1), rows(2)], BatchingParameters(), max_tasks=9)
    assert runtime.sizes == [1, 3, 1, 1, 1]
    assert answers[0][0].tolist() == [2] and answers[2][0].tolist() == [4]
    assert isinstance(answers[1], ServingError) and answers[1].message == "minus one"


def test_rows_of_different_shapes_are_run_apart(workers):
    requests = [np.ones((1, 2), np.float32), np.ones((1, 3), np.float32), np.ones((1, 2), np.float32)]
    runtime, answers = run_held_up(workers, requests, BatchingParameters(), max_tasks=9)
    assert runtime.sizes == [1, 2, 1]
    assert [answer[0].shape for answer in answers] == [(1, 2), (1, 3), (1, 2)]


def test_rows_of_different_shapes_are_padded_when_asked(workers):
    requests = [np.full((1, 2), 5, np.float32), np.full((1, 3), 7, np.float32)]
    parameters = BatchingParameters(pad_variable_length_inputs=True)
    runtime, _ = run_held_up(workers, requests, parameters)
    assert runtime.inputs[1].tolist() == [[5, 5, 5], [7, 7, 7]]


def test_large_requests_are_split_when_asked(workers):
    parameters = BatchingParameters(max_batch_size=8, enable_large_batch_splitting=True, max_execution_batch_size=4)
    runtime, answers = run_held_up(workers, [rows(*range(10))], parameters)
    assert runtime.sizes == [1, 4, 4, 2]
    assert answers[0][0].tolist() == [2 * value for value in range(10)]


def test_larger_than_a_batch_is_refused(workers):
    _, answers = run_held_up(workers, [rows(*range(65))], BatchingParameters(max_batch_size=64))
    assert answers[0].code == grpc.StatusCode.INVALID_ARGUMENT
    assert answers[0].message == "Task size 65 is larger than maximum input batch size 64"


def test_a_full_queue_refuses_in_the_words_of_tensorflow_serving(workers):
    parameters = BatchingParameters(max_batch_size=2, max_enqueued_batches=2)
    _, answers = run_held_up(workers, [rows(1, 1), rows(2, 2), rows(3)], parameters)
    assert [answer[0].tolist() for answer in answers[:2]] == [[2, 2], [4, 4]]
    assert answers[2].code == grpc.StatusCode.UNAVAILABLE
    assert answers[2].message == (
        "The batch scheduling queue to which this task was submitted is full; currently 2 batches enqueued and "
        "max_enqueued_batches is 2"
    )


def test_a_full_queue_with_splitting_tells_its_capacity(workers):
    parameters = BatchingParameters(
        max_batch_size=4, max_enqueued_batches=1, enable_large_batch_splitting=True, max_execution_batch_size=2
    )
    _, answers = run_held_up(workers, [rows(1), rows(1, 2, 3)], parameters)
    assert answers[1].code == grpc.StatusCode.UNAVAILABLE
    assert "task size is 3 but scheduling capacity is only 1 (num_enqueued_batches=1" in answers[1].message


def test_without_parameters_the_number_of_waiting_requests_is_bounded(workers):
    _, answers = run_held_up(workers, [rows(1), rows(2), rows(3)], BatchingParameters(), max_tasks=2)
    assert answers[2].code == grpc.StatusCode.UNAVAILABLE
    assert "currently 2 requests enqueued and max_queued_requests is 2" in answers[2].message


def test_a_request_whose_caller_has_gone_is_not_computed(workers):
    runtime = Doubler()

    async def main():
        batcher = Batcher(runtime, BatchingParameters(), workers, labels=LABELS, observer=Observer(), max_tasks=9)
        runtime.open.clear()
        first = asyncio.create_task(batcher.run([rows(0)], 1))
        gone = asyncio.create_task(batcher.run([rows(7)], 1))
        while not batcher._running:
            await asyncio.sleep(0)
        late = asyncio.create_task(batcher.run([rows(8)], 1))
        await asyncio.sleep(0.02)
        late.cancel()
        runtime.open.set()
        await asyncio.gather(first, gone, late, return_exceptions=True)
        await batcher.run([rows(9)], 1)

    asyncio.run(main())
    assert 8 not in np.concatenate(runtime.inputs)


def test_an_open_batch_waits_for_its_timeout_and_no_longer(workers):
    runtime = Doubler()

    async def main():
        parameters = BatchingParameters(max_batch_size=4, batch_timeout_s=0.2)
        batcher = Batcher(runtime, parameters, workers, labels=LABELS, observer=Observer())
        first = asyncio.create_task(batcher.run([rows(1)], 1))
        await asyncio.sleep(0.05)
        assert not runtime.sizes
        second = asyncio.create_task(batcher.run([rows(2)], 1))
        await asyncio.gather(first, second)
        full = [asyncio.create_task(batcher.run([rows(1)], 1)) for _ in range(4)]
        await asyncio.wait_for(asyncio.gather(*full), 10)

    asyncio.run(main())
    assert runtime.sizes == [2, 4]


@pytest.mark.parametrize(
    "fields, text",
    [
        ({"allowed_batch_sizes": (2, 4), "max_batch_size": 8}, "last entry was 4; expected 8"),
        ({"allowed_batch_sizes": (4, 2)}, "allowed_batch_sizes entries must be monotonically increasing"),
        ({"num_batch_threads": 0}, "num_batch_threads must be positive; was 0"),
    ],
)
def test_unusable_parameters_are_refused(fields, text):
    with pytest.raises(ServingError, match=text):
        BatchingParameters(**fields)


def concurrently(predictions, requests):
    """The answers to all `requests`, sent at once; errors in place of answers."""
    futures = [predictions.Predict.future(request, timeout=60) for request in requests]
    return [future.exception() or future.result() for future in futures]


def test_many_callers_get_what_each_would_get_alone(predictions):
    requests = [predict_request("several", {"x": np.full((1, 2), n, np.float32)}) for n in range(200)]
    answers = concurrently(predictions, requests)
    assert [list(answer.outputs["y"].float_val) for answer in answers] == [[2.0 * n, 2.0 * n] for n in range(200)]


def test_signatures_whose_rows_depend_on_each_other_are_not_batched(predictions):
    requests = [predict_request("several", {"x": np.full(2, n, np.float32)}, signature="minus_mean") for n in range(50)]
    assert all(list(answer.outputs["y"].float_val) == [0.0, 0.0] for answer in concurrently(predictions, requests))


def test_signatures_that_keep_state_are_not_batched(predictions):
    requests = [predict_request("several", {"x": np.zeros(1, np.int32)}, signature="counter") for _ in range(50)]
    counts = [answer.outputs["count"].int_val[0] for answer in concurrently(predictions, requests)]
    assert len(set(counts)) == 50


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
        scalar = predictions.Predict.future(predict_request("half_plus_two", {"x": np.ones(5, np.float32)}), timeout=20)
        assert scalar.exception().details() == "Task size 5 is larger than maximum input batch size 4"

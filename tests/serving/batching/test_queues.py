"""Batching: what is run together, what is refused, and that nobody's answer changes by it."""

import asyncio
import threading
import time

import grpc
import numpy as np
import pytest

from inkling.serving.batching.parameters import BatchingParameters
from inkling.serving.batching.queues import LARGE_REQUEST, GreedyQueue, ParameterisedQueue
from inkling.serving.batching.scheduler import QueueContext, Waiting
from inkling.serving.batching.threads import RuntimeThreads
from inkling.serving.errors import ServingError, invalid_argument
from inkling.serving.load_shedding import KnownFullQueues
from inkling.serving.monitoring.events import ServerEvents
from inkling.serving.names import ModelKey
from tests.patience import PATIENCE_S, wait_until

KEY = ModelKey(model_name="model", version=1, signature_name="serving_default")


class Doubler:
    """A runtime that doubles rows, remembers the sizes of its runs, and can be held up.

    It fails on runs with a -1 or a -2, and with a `width` gives outputs as wide as the run's largest value.
    """

    def __init__(self, *, width=False):
        self.width = width
        self.sizes = []
        self.inputs = []
        self.open = threading.Event()
        self.open.set()

    def __call__(self, arrays):
        self.open.wait(PATIENCE_S)
        self.sizes.append(len(arrays[0]))
        self.inputs.append(arrays[0])
        if (arrays[0] == -1).any():
            raise invalid_argument("minus one")
        if (arrays[0] == -2).any():
            raise ValueError("minus two")
        if self.width:
            return [np.zeros((len(arrays[0]), int(arrays[0].max())))]
        return [arrays[0] * 2]


@pytest.fixture(scope="module")
def threads():
    return RuntimeThreads(1, name="test")


def make_queue(function, parameters, threads, *, events=None, waiting=None, **options):
    """A greedy queue if `parameters` is None; on a running event loop."""
    context = QueueContext(
        threads=threads,
        key=KEY,
        events=events or ServerEvents(),
        shedding=KnownFullQueues(),
        waiting=waiting or Waiting(),
    )
    if parameters is None:
        return GreedyQueue(function, context, **options)
    return ParameterisedQueue(function, parameters, context, **options)


def rows(*values):
    return np.array(values, np.float32)


async def held_up(batcher, runtime, requests):
    """Send `requests` while a first one keeps the only thread busy; returns their answers or errors."""
    runtime.open.clear()
    first = asyncio.create_task(batcher.run([rows(0)], 1))
    while not batcher.is_running:
        await asyncio.sleep(0)
    tasks = [asyncio.create_task(batcher.run([request], len(request))) for request in requests]
    await asyncio.sleep(0.05)
    runtime.open.set()
    await first
    return await asyncio.gather(*tasks, return_exceptions=True)


def run_held_up(threads, requests, parameters, *, runtime=None, **options):
    runtime = runtime or Doubler()

    async def main():
        batcher = make_queue(runtime, parameters, threads, **options)
        return await held_up(batcher, runtime, requests)

    return runtime, asyncio.run(main())


def test_what_waits_is_run_together_and_each_gets_its_own_rows(threads):
    runtime, answers = run_held_up(threads, [rows(1), rows(2, 3), rows(4)], None)
    assert runtime.sizes == [1, 4]
    assert [answer[0].tolist() for answer in answers] == [[2], [4, 6], [8]]


def test_a_batch_is_padded_to_an_allowed_size_with_rows_that_are_there(threads):
    parameters = BatchingParameters(max_batch_size=8, allowed_batch_sizes=(4, 8))
    runtime, answers = run_held_up(threads, [rows(1, 2), rows(3, 4, 5)], parameters)
    assert runtime.sizes == [4, 8]
    assert set(runtime.inputs[1].tolist()) == {1, 2, 3, 4, 5}
    assert [answer[0].tolist() for answer in answers] == [[2, 4], [6, 8, 10]]


def test_one_bad_request_does_not_spoil_its_neighbours(threads):
    runtime, answers = run_held_up(threads, [rows(1), rows(-1), rows(2)], None)
    assert runtime.sizes == [1, 3, 1, 1, 1]
    assert answers[0][0].tolist() == [2] and answers[2][0].tolist() == [4]
    assert isinstance(answers[1], ServingError) and answers[1].message == "minus one"


def test_a_runtime_that_fails_in_its_own_way_spoils_nobodys_answer_either(threads):
    runtime, answers = run_held_up(threads, [rows(1), rows(-2), rows(2)], None)
    assert answers[0][0].tolist() == [2] and answers[2][0].tolist() == [4]
    assert (answers[1].code, answers[1].message) == (grpc.StatusCode.INTERNAL, "ValueError: minus two")


def test_whatever_fails_around_a_run_the_queue_goes_on(threads):
    class Failing(ServerEvents):
        def batch_executed(self, *, num_rows, **of):
            if num_rows == 2:
                raise MemoryError("no room")

    _, answers = run_held_up(
        threads, [rows(1), rows(1, 2), rows(3)], BatchingParameters(max_batch_size=2), events=Failing()
    )
    assert answers[0][0].tolist() == [2] and answers[2][0].tolist() == [6]
    assert (answers[1].code, answers[1].message) == (grpc.StatusCode.INTERNAL, "MemoryError: no room")


def test_a_large_request_is_run_in_parts_and_others_get_their_turn_between_them(threads):
    large = np.arange(2 * LARGE_REQUEST + 100, dtype=np.float32)
    runtime, answers = run_held_up(threads, [large, rows(7)], None)
    assert runtime.sizes == [1, LARGE_REQUEST, 1, LARGE_REQUEST, 100]
    np.testing.assert_array_equal(answers[0][0], large * 2)
    assert answers[1][0].tolist() == [14]


def test_a_large_request_waits_as_one(threads):
    large = np.zeros(4 * LARGE_REQUEST, np.float32)
    _, answers = run_held_up(threads, [large, large, rows(1)], None, max_waiting=2)
    assert [len(answer[0]) for answer in answers[:2]] == [len(large)] * 2
    assert "currently 2 requests enqueued" in answers[2].message


@pytest.mark.parametrize(
    ("runtime", "options"), [(Doubler(width=True), {}), (Doubler(), {"rows_independent": False})], ids=["width", "rows"]
)
def test_a_large_request_is_run_whole_where_parts_would_not_make_it(threads, runtime, options):
    large = np.arange(LARGE_REQUEST + 1, dtype=np.float32)
    _, answers = run_held_up(threads, [large], None, runtime=runtime, **options)
    assert len(answers[0][0]) == runtime.sizes[-1] == len(large)


def test_the_queues_of_a_signature_have_one_limit(threads):
    runtime, waiting = Doubler(), Waiting()

    async def main():
        one, other = [make_queue(runtime, None, threads, waiting=waiting, max_waiting=1) for _ in range(2)]
        waits = asyncio.create_task(one.run([rows(1)], 1))
        await asyncio.sleep(0)
        with pytest.raises(ServingError, match="currently 1 requests enqueued"):
            await other.run([rows(2)], 1)
        await waits
        assert (await other.run([rows(2)], 1))[0].tolist() == [4]

    asyncio.run(main())


def test_rows_of_different_shapes_are_run_apart(threads):
    requests = [np.ones((1, 2), np.float32), np.ones((1, 3), np.float32), np.ones((1, 2), np.float32)]
    runtime, answers = run_held_up(threads, requests, None)
    assert runtime.sizes == [1, 2, 1]
    assert [answer[0].shape for answer in answers] == [(1, 2), (1, 3), (1, 2)]


def test_rows_of_different_shapes_are_padded_when_asked(threads):
    requests = [np.full((1, 2), 5, np.float32), np.full((1, 3), 7, np.float32)]
    parameters = BatchingParameters(pad_variable_length_inputs=True)
    runtime, _ = run_held_up(threads, requests, parameters)
    assert runtime.inputs[1].tolist() == [[5, 5, 5], [7, 7, 7]]


@pytest.mark.parametrize("pad", [False, True])
def test_what_would_be_too_much_together_is_run_apart(threads, pad):
    wide = np.broadcast_to(np.float32([1]), (1, 20 << 20))  # 80 MB when it is run
    tall = np.broadcast_to(np.float32([1]), (8, 1 << 20) if pad else wide.shape)
    runtime, answers = run_held_up(
        threads, [wide, tall, tall, tall], BatchingParameters(pad_variable_length_inputs=pad)
    )
    assert [answer[0].shape for answer in answers] == [wide.shape, *[tall.shape] * 3]
    assert runtime.sizes == ([1, 1, 24] if pad else [1, 3, 1])


def test_strings_without_a_value_are_padded_with_empty_ones(threads):
    requests = [np.array([[]], object), np.array([[b"ab"]], object)]
    runtime, _ = run_held_up(threads, requests, BatchingParameters(pad_variable_length_inputs=True))
    assert runtime.inputs[1].tolist() == [[b""], [b"ab"]]


def test_large_requests_are_split_when_asked(threads):
    parameters = BatchingParameters(max_batch_size=8, enable_large_batch_splitting=True, max_execution_batch_size=4)
    runtime, answers = run_held_up(threads, [rows(*range(10))], parameters)
    assert runtime.sizes == [1, 4, 4, 2]
    assert answers[0][0].tolist() == [2 * value for value in range(10)]


def test_larger_than_a_batch_is_refused(threads):
    _, answers = run_held_up(threads, [rows(*range(65))], BatchingParameters(max_batch_size=64))
    assert answers[0].code == grpc.StatusCode.INVALID_ARGUMENT
    assert answers[0].message == "Task size 65 is larger than maximum input batch size 64"


def test_a_full_queue_refuses_in_the_words_of_tensorflow_serving(threads):
    parameters = BatchingParameters(max_batch_size=2, max_enqueued_batches=2)
    _, answers = run_held_up(threads, [rows(1, 1), rows(2, 2), rows(3)], parameters)
    assert [answer[0].tolist() for answer in answers[:2]] == [[2, 2], [4, 4]]
    assert answers[2].code == grpc.StatusCode.UNAVAILABLE
    assert answers[2].message == (
        "The batch scheduling queue to which this task was submitted is full; currently 2 batches enqueued and "
        "max_enqueued_batches is 2"
    )


def test_a_full_queue_with_splitting_tells_its_capacity(threads):
    parameters = BatchingParameters(
        max_batch_size=4, max_enqueued_batches=1, enable_large_batch_splitting=True, max_execution_batch_size=2
    )
    _, answers = run_held_up(threads, [rows(1), rows(1, 2, 3)], parameters)
    assert answers[1].code == grpc.StatusCode.UNAVAILABLE
    assert "task size is 3 but scheduling capacity is only 1 (num_enqueued_batches=1" in answers[1].message


def test_without_parameters_the_number_of_waiting_requests_is_bounded(threads):
    _, answers = run_held_up(threads, [rows(1), rows(2), rows(3)], None, max_waiting=2)
    assert answers[2].code == grpc.StatusCode.UNAVAILABLE
    assert "currently 2 requests enqueued and max_queued_requests is 2" in answers[2].message


def test_a_request_whose_caller_has_gone_is_not_computed(threads):
    runtime = Doubler()

    async def main():
        batcher = make_queue(runtime, None, threads)
        runtime.open.clear()
        first = asyncio.create_task(batcher.run([rows(0)], 1))
        gone = asyncio.create_task(batcher.run([rows(7)], 1))
        while not batcher.is_running:
            await asyncio.sleep(0)
        late = asyncio.create_task(batcher.run([rows(8)], 1))
        await asyncio.sleep(0.02)
        late.cancel()
        runtime.open.set()
        await asyncio.gather(first, gone, late, return_exceptions=True)
        await batcher.run([rows(9)], 1)

    asyncio.run(main())
    assert 8 not in np.concatenate(runtime.inputs)


def test_a_run_that_takes_long_does_not_keep_others_waiting():
    held = threading.Event()

    def function(arrays):
        if arrays[0][0] == 0:
            held.wait(PATIENCE_S)
        return [arrays[0]]

    async def main():
        batcher = make_queue(function, None, RuntimeThreads(1, spare=1, name="test"))
        first = asyncio.create_task(batcher.run([rows(0)], 1))
        while not batcher.is_running:
            await asyncio.sleep(0)
        [answer] = await batcher.run([rows(1)], 1)
        assert not first.done()
        held.set()
        await first
        return answer

    assert asyncio.run(main()).tolist() == [1]


def test_threads_end_when_they_are_closed():
    threads, done = RuntimeThreads(2, name="closing"), threading.Event()
    threads.submit(done.set)
    threads.close()
    assert done.wait(PATIENCE_S)
    wait_until(lambda: not any(thread.name.startswith("closing") for thread in threading.enumerate()))


def test_an_open_batch_waits_for_its_timeout_and_no_longer(threads):
    timeout_s = 0.2

    def make_batcher(runtime, timeout_s):
        parameters = BatchingParameters(max_batch_size=4, batch_timeout_s=timeout_s)
        return make_queue(runtime, parameters, threads)

    async def two_that_come_apart():
        runtime, began = Doubler(), time.perf_counter()
        batcher = make_batcher(runtime, timeout_s)
        first = asyncio.create_task(batcher.run([rows(1)], 1))
        await asyncio.sleep(0.05)
        second = asyncio.create_task(batcher.run([rows(2)], 1))
        await asyncio.sleep(0)  # it is in the queue
        in_time = time.perf_counter() - began < timeout_s
        await asyncio.gather(first, second)
        assert time.perf_counter() - began >= timeout_s
        return runtime.sizes if in_time else None

    async def main():
        while (sizes := await two_that_come_apart()) is None:
            pass  # the machine was busy elsewhere, and the second came after the batch's time
        assert sizes == [2]
        runtime = Doubler()
        batcher = make_batcher(runtime, 10 * PATIENCE_S)
        full = [asyncio.create_task(batcher.run([rows(1)], 1)) for _ in range(4)]
        await asyncio.wait_for(asyncio.gather(*full), PATIENCE_S)
        assert runtime.sizes == [4]

    asyncio.run(main())


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

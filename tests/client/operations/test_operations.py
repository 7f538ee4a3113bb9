"""The operations by themselves, driven effect by effect: no server, no channel."""

import time

import numpy as np
import pytest

from inkling.client.errors import DeadlineExceeded, InvalidInput, ServerUnavailable
from inkling.client.operations import Operations
from inkling.client.operations.effects import Pause, SendAll
from inkling.client.protocol import wire_pb2 as wire
from inkling.client.protocol.rpc import GET_MODEL_STATUS, PREDICT, Call
from inkling.client.settings import Settings
from tests.client.stub_server import predict, status_response


def finish(operation, outcome):
    """The result of an operation, when it is sent `outcome`."""
    with pytest.raises(StopIteration) as stopped:
        operation.send(outcome)
    return stopped.value.value


def test_a_prediction_is_one_call():
    operation = Operations(Settings()).predict(np.full((1, 28, 28), 3, np.uint8), timeout_s=5)
    before = time.monotonic()
    call = next(operation)
    after = time.monotonic()
    assert isinstance(call, Call) and call.rpc is PREDICT and call.model == "mnist"
    assert call.request.inputs["images"].dtype == wire.DT_UINT8
    assert before + 5 <= call.deadline <= after + 5
    assert finish(operation, predict(call.request, None)).classes.tolist() == [3]


def test_a_batch_is_calls_to_be_made_at_once():
    operations = Operations(Settings(max_rows=2, max_in_flight=3))
    operation = operations.predict(np.zeros((5, 28, 28), np.uint8))
    batch = next(operation)
    assert isinstance(batch, SendAll) and batch.max_in_flight == 3
    calls = [batch.call(number) for number in range(batch.count)]
    assert [call.model for call in calls] == [f"mnist (rows {rows})" for rows in ("0 to 0", "1 to 2", "3 to 4")]
    assert len(finish(operation, [predict(call.request, None) for call in calls])) == 5


def test_a_failure_reaches_the_caller_unless_it_can_be_mended():
    operations = Operations(Settings())
    operation = operations.predict(np.zeros((100, 28, 28), np.uint8))
    next(operation)
    smaller = operation.throw(InvalidInput("Task size 100 is larger than maximum input batch size 64"))
    assert [smaller.call(number).rows for number in range(smaller.count)] == [slice(0, 50), slice(50, 100)]
    with pytest.raises(ServerUnavailable, match="gone"):
        operation.throw(ServerUnavailable("gone"))
    operation = operations.predict(np.zeros((100, 28, 28), np.uint8))
    assert next(operation).count == 2  # the limit was learnt


def test_waiting_is_asking_and_pausing_ever_longer():
    operation = Operations(Settings()).wait_until_ready(None, version=None, timeout_s=60)
    call, pauses = next(operation), []
    for _ in range(8):
        assert call.rpc is GET_MODEL_STATUS and call.wait_for_ready
        pause = operation.send(status_response((1, "LOADING", "")))
        assert isinstance(pause, Pause)
        pauses.append(pause.seconds)
        call = operation.send(None)
    assert pauses == sorted(pauses) and pauses[0] == 0.05 and pauses[-1] == 1.0
    assert finish(operation, status_response((1, "AVAILABLE", ""))).available == (1,)


def test_waiting_goes_on_to_its_deadline_and_no_further():
    operation = Operations(Settings()).wait_until_ready(None, version=None, timeout_s=0.4)
    start, pauses = time.monotonic(), []
    with pytest.raises(DeadlineExceeded, match="not ready after 0.4 s: version 1: LOADING"):
        next(operation)
        while True:
            pauses.append(operation.send(status_response((1, "LOADING", ""))).seconds)
            time.sleep(pauses[-1])
            operation.send(None)
    assert time.monotonic() - start >= 0.4 and sum(pauses) <= 0.4


@pytest.mark.parametrize("timeout_s", [0, -1, float("inf"), float("nan")])
def test_a_timeout_is_above_zero_and_finite(timeout_s):
    with pytest.raises(InvalidInput, match="expected more than 0, and 1,000,000,000 at most"):
        next(Operations(Settings()).wait_until_ready(None, version=None, timeout_s=timeout_s))
    with pytest.raises(InvalidInput, match="expected more than 0, and 1,000,000,000 at most"):
        next(Operations(Settings()).status(None, version=None, timeout_s=timeout_s))

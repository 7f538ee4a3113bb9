"""Deadlines: whose they are and what they cover."""

import asyncio
import threading
import time

import numpy as np
import pytest

from inkling.client import AsyncClient, Client, DeadlineExceeded
from inkling.client.aio import MANY_CALLS
from tests.client.both import IMAGES, call
from tests.client.stub_server import StubServer, predict
from tests.patience import PATIENCE_S


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_a_slow_server_meets_the_deadline(kind):
    release = threading.Event()

    def slow(request, context):
        assert context.time_remaining() < 1
        release.wait(PATIENCE_S)
        return predict(request, context)

    with StubServer(Predict=slow) as server:
        with pytest.raises(DeadlineExceeded, match="longer timeout_s") as caught:
            call(kind, server.address, lambda client: client.predict(IMAGES, timeout_s=0.2))
        release.set()
    assert isinstance(caught.value, TimeoutError) and caught.value.address == server.address


def test_the_deadline_covers_all_parts_of_a_batch():
    def slow(request, context):
        time.sleep(0.1)
        return predict(request, context)

    with StubServer(Predict=slow) as server, Client(server.address, max_rows=1, max_in_flight=1) as client:
        with pytest.raises(DeadlineExceeded, match="covers all parts of a batch|all parts of a batch share it"):
            client.predict(np.zeros((100, 28, 28), np.uint8), timeout_s=0.55)
        assert len(server.requests) < 20


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_a_part_whose_time_passed_before_its_turn_was_not_sent(kind):
    """The token's function takes the time that is left before a call is sent."""
    deadline = time.monotonic() + 1.0

    def slow_token():
        time.sleep(max(0, deadline - time.monotonic()) if server.requests else 0)
        return "token"

    def ask(client):
        return client.predict(np.zeros((3, 28, 28), np.uint8), timeout_s=0.9)

    settings = {"token": slow_token, "token_over_plaintext": True, "max_rows": 1, "max_in_flight": 1}
    with StubServer() as server:
        with pytest.raises(DeadlineExceeded, match="rows . to .*before its turn came|all parts of a batch share it"):
            call(kind, server.address, ask, **settings)
        assert len(server.requests) < 3


def test_a_deadline_among_many_calls_says_that_it_may_have_waited():
    release = threading.Event()

    def slow(request, context):
        release.wait(PATIENCE_S)
        return predict(request, context)

    async def ask_many():
        async with AsyncClient(server.address) as client:
            calls = [client.predict(IMAGES, timeout_s=1) for _ in range(MANY_CALLS + 20)]
            found = await asyncio.gather(*calls, return_exceptions=True)
            with pytest.raises(DeadlineExceeded) as alone:
                await client.predict(IMAGES, timeout_s=0.2)
            return found, alone.value

    with StubServer(Predict=slow, threads=2) as server:
        found, alone = asyncio.run(ask_many())
        release.set()
    assert {type(error) for error in found} == {DeadlineExceeded}
    assert any("other calls of this client were under way, so it may have waited" in str(error) for error in found)
    assert "may have waited" not in str(alone)


def test_without_one_of_the_call_each_part_has_the_clients_deadline():
    deadlines = []

    def slow(request, context):
        deadlines.append(time.monotonic() + context.time_remaining())
        time.sleep(0.1)
        return predict(request, context)

    with (
        StubServer(Predict=slow) as server,
        Client(server.address, timeout_s=30, max_rows=1, max_in_flight=1) as client,
    ):
        assert len(client.predict(np.zeros((15, 28, 28), np.uint8))) == 15
    assert deadlines[-1] - deadlines[0] > 0.5  # one for all would be the same each time


def test_every_call_has_a_deadline_of_the_clients():
    remaining = []

    def behave(request, context):
        remaining.append(context.time_remaining())
        return predict(request, context)

    with StubServer(Predict=behave) as server, Client(server.address, timeout_s=3000) as client:
        client.predict(IMAGES)
        client.predict(IMAGES, timeout_s=7000)
    assert remaining == [pytest.approx(3000, abs=900), pytest.approx(7000, abs=900)]

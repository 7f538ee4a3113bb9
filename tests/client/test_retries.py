"""Retries: what is sent again, how often, and what ends it."""

import time

import grpc
import numpy as np
import pytest

from inkling.client import Client, DeadlineExceeded, Retry, ServerUnavailable
from tests.client.both import FAST, IMAGES, UNAVAILABLE
from tests.client.stub_server import StubServer, failing


def unavailable(count):
    return [(UNAVAILABLE, "busy")] * count


def test_a_call_that_is_unavailable_twice_succeeds():
    with StubServer(Predict=failing(*unavailable(2))) as server, Client(server.address, retry=FAST) as client:
        assert len(client.predict(IMAGES)) == 2
        assert len(server.requests) == 3


def test_so_does_each_part_of_a_batch_over_the_size_that_grpc_retries_by_itself():
    images = np.zeros((2000, 28, 28), np.uint8)
    with (
        StubServer(Predict=failing(*unavailable(2))) as server,
        Client(server.address, retry=FAST, max_rows=1000) as client,
    ):
        assert len(client.predict(images)) == 2000
        assert {len(request.inputs["images"].tensor_content) for request in server.requests} == {784_000}
        assert len(server.requests) == 4


def test_retries_end_after_the_attempts_allowed():
    with StubServer(Predict=failing(*unavailable(9))) as server, Client(server.address, retry=FAST) as client:
        with pytest.raises(ServerUnavailable, match="busy"):
            client.predict(IMAGES)
        assert len(server.requests) == 4


def test_without_retries_there_is_one_attempt():
    with (
        StubServer(Predict=failing(*unavailable(1))) as server,
        Client(server.address, retry=Retry(attempts=1)) as client,
    ):
        with pytest.raises(ServerUnavailable):
            client.predict(IMAGES)
        assert len(server.requests) == 1


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code not in (UNAVAILABLE, grpc.StatusCode.OK)])
def test_nothing_else_is_retried(code):
    with StubServer(Predict=failing((code, "no"))) as server, Client(server.address, retry=FAST) as client:
        with pytest.raises(Exception, match="no"):
            client.predict(IMAGES)
        assert len(server.requests) == 1


def test_the_budget_ends_retries_during_an_outage():
    """Each failed attempt costs a token, and below half of them nothing is retried."""
    settings = Retry(initial_backoff_s=0.01, max_backoff_s=0.02, budget_tokens=10, tokens_per_success=0.1)
    with StubServer(Predict=failing(*unavailable(1000))) as server, Client(server.address, retry=settings) as client:
        for _ in range(20):
            with pytest.raises(ServerUnavailable):
                client.predict(IMAGES)
        assert 20 < len(server.requests) <= 20 + 5


def test_retries_never_go_past_the_deadline():
    slow = Retry(attempts=5, initial_backoff_s=6000, max_backoff_s=6000)
    with StubServer(Predict=failing(*unavailable(9))) as server, Client(server.address, retry=slow) as client:
        start = time.monotonic()
        with pytest.raises((DeadlineExceeded, ServerUnavailable)):
            client.predict(IMAGES, timeout_s=0.5)
        assert time.monotonic() - start < 600  # a retry would have come much later

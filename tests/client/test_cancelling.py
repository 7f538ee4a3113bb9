"""Calls that are cancelled: by their task, by `close()`, by the server, by another part that failed."""

import asyncio
import threading

import grpc
import numpy as np
import pytest

from inkling.client import AsyncClient, Client, InklingError
from tests.client.both import IMAGES
from tests.client.interceptors import AsyncStamp
from tests.client.stub_server import StubServer, failing, predict
from tests.patience import PATIENCE_S


@pytest.fixture
def held():
    """A server that holds each request to its end, and what is set when it has one."""
    arrived, release = threading.Event(), threading.Event()

    def behave(request, context):
        arrived.set()
        release.wait(PATIENCE_S)
        return predict(request, context)

    with StubServer(Predict=behave) as server:
        yield server, arrived
        release.set()


def test_a_cancelled_task_cancels_its_call():
    arrived, cancelled = threading.Event(), threading.Event()

    def behave(request, context):
        context.add_callback(cancelled.set)
        arrived.set()
        cancelled.wait(PATIENCE_S)
        return predict(request, context)

    async def ask(address):
        async with AsyncClient(address) as client:
            task = asyncio.create_task(client.predict(IMAGES, timeout_s=60))
            await asyncio.to_thread(arrived.wait, 30)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await asyncio.to_thread(cancelled.wait, 30)

    with StubServer(Predict=behave) as server:
        asyncio.run(ask(server.address))


@pytest.mark.parametrize("rows", [1, 4], ids=["one call", "parts of a batch"])
def test_closing_a_client_ends_its_calls_with_a_word(held, rows):
    server, arrived = held
    client = Client(server.address, max_rows=1)
    closer = threading.Thread(target=lambda: arrived.wait(PATIENCE_S) and client.close())
    closer.start()
    with pytest.raises(InklingError, match="the client was closed; make a new one"):
        client.predict(np.zeros((rows, 28, 28), np.uint8), timeout_s=60)
    closer.join()
    with pytest.raises(InklingError, match="the client was closed"):
        client.predict(IMAGES)


@pytest.mark.parametrize("rows", [1, 4], ids=["one call", "parts of a batch"])
@pytest.mark.parametrize("stamped", [False, True], ids=["plain", "with an interceptor"])
def test_closing_an_async_client_does_so_too_and_cancels_no_task(held, rows, stamped):
    server, arrived = held

    async def ask():
        client = AsyncClient(server.address, max_rows=1, interceptors=[AsyncStamp()] if stamped else [])
        task = asyncio.create_task(client.predict(np.zeros((rows, 28, 28), np.uint8), timeout_s=60))
        await asyncio.to_thread(arrived.wait, 30)
        await client.close()
        with pytest.raises(InklingError, match="the client was closed; make a new one"):
            await task
        with pytest.raises(InklingError, match="the client was closed"):
            await client.predict(IMAGES)

    asyncio.run(ask())


def test_a_call_that_another_cancels_is_not_the_servers_failure():
    with (
        StubServer(Predict=failing((grpc.StatusCode.CANCELLED, "gone"))) as server,
        Client(server.address) as client,
        pytest.raises(InklingError, match="gone .CANCELLED.; the server, or something on the way to it"),
    ):
        client.predict(IMAGES)


def test_the_first_failure_cancels_the_other_parts():
    under_way, cancelled = threading.Event(), threading.Event()

    def behave(request, context):
        if 1 in request.inputs["images"].tensor_content:
            under_way.wait(PATIENCE_S)
            context.abort(grpc.StatusCode.INTERNAL, "one")
        context.add_callback(cancelled.set)
        under_way.set()
        cancelled.wait(PATIENCE_S)
        return predict(request, context)

    images = np.zeros((2, 28, 28), np.uint8)
    images[1] = 1
    with StubServer(Predict=behave) as server, Client(server.address, max_rows=1) as client:
        with pytest.raises(Exception, match="one"):
            client.predict(images)
        assert cancelled.wait(PATIENCE_S)

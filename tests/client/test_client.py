"""`Client` and `AsyncClient` as objects: the same methods, closed once, shared by threads and tasks."""

import asyncio
import copy
import inspect
import pickle
import threading

import numpy as np
import pytest

from inkling.client import AsyncClient, Client, InklingError
from tests.client.both import SIX_IMAGES


def test_both_clients_have_the_same_methods():
    for name, method in inspect.getmembers(Client, inspect.isfunction):
        if not name.startswith("_"):
            assert inspect.signature(getattr(AsyncClient, name)) == inspect.signature(method), name
            assert inspect.iscoroutinefunction(getattr(AsyncClient, name)), name


def test_a_closed_client_says_so(start, make_client):
    client = make_client(start())
    client.predict(SIX_IMAGES)
    client.close()
    with pytest.raises(InklingError, match="closed"):
        client.predict(SIX_IMAGES)
    with pytest.raises(InklingError, match="closed"):
        client.predict(np.zeros((5000, 28, 28), np.uint8))


def test_one_client_serves_many_threads(start):
    with Client(start().address) as client:
        found = [None] * 16

        def ask(number):
            image = np.full((28, 28), number, np.uint8)
            found[number] = {int(client.predict(image).classes[0]) for _ in range(20)}

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == [{number % 10} for number in range(16)]


def test_one_async_client_serves_many_tasks(start):
    async def ask_all():
        async with AsyncClient(start().address) as client:
            images = [np.full((28, 28), number, np.uint8) for number in range(100)]
            return await asyncio.gather(*(client.predict(image) for image in images))

    predictions = asyncio.run(ask_all())
    assert [int(prediction.classes[0]) for prediction in predictions] == [number % 10 for number in range(100)]


@pytest.mark.parametrize("kind", [Client, AsyncClient])
@pytest.mark.parametrize("send", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_client_is_neither_pickled_nor_copied(kind, send):
    with pytest.raises(TypeError, match=rf"{kind.__name__}\('localhost:8500'\) cannot be pickled or copied: it holds"):
        send(kind())


def test_an_async_client_in_a_second_event_loop_says_so(start):
    client = AsyncClient(start().address)

    async def ask():
        return await client.predict(SIX_IMAGES)

    async def ask_and_close():
        await client.predict(SIX_IMAGES)
        await client.close()

    first = asyncio.new_event_loop()
    assert len(first.run_until_complete(ask())) == 6
    for outside in (ask, client.close):
        with pytest.raises(
            InklingError, match="belongs to the event loop of its first call.*make a client in each loop"
        ):
            asyncio.run(outside())
    first.run_until_complete(ask_and_close())
    first.close()

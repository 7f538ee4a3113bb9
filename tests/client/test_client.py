"""`Client` and `AsyncClient` as objects: the same methods, closed once, shared by threads and tasks."""

import asyncio
import inspect
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

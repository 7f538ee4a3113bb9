"""Changes of the models come one after another, and one that never ends gives way."""

import asyncio

import grpc
import pytest
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from inkling.serving.errors import ServingError
from inkling.serving.load_shedding import Drain
from inkling.serving.model_service import ModelService
from inkling.serving.monitoring.metrics import Metrics


class Manager:
    """Takes note of each change; one to the model `endless` lasts until it is cancelled."""

    def __init__(self):
        self.servables = {}
        self.begun, self.done = [], []

    async def configure(self, configs):
        [config] = configs
        self.begun.append(config.name)
        await asyncio.sleep(0)
        if config.name == "endless":
            await asyncio.Event().wait()
        self.done.append(config.name)


def change_to(name):
    config = ModelServerConfig()
    config.model_config_list.config.add(name=name, base_path=f"/{name}", model_platform="tensorflow")
    return config


def apply(*names):
    """What came of changes to these models that were all asked for at once, and the manager's notes."""

    async def main():
        manager = Manager()
        service = ModelService(manager, drain=Drain(), metrics=Metrics())
        changes = [service.apply_config(change_to(name), can_wait=True) for name in names]
        return await asyncio.gather(*changes, return_exceptions=True), manager

    return asyncio.run(main())


def test_changes_are_made_in_turn():
    results, manager = apply("a", "b", "c")
    assert results == [None] * 3 and manager.begun == manager.done == ["a", "b", "c"]


def test_a_change_that_does_not_end_gives_way_to_the_next_one(monkeypatch):
    monkeypatch.setattr("inkling.serving.model_service.TURN_S", 0.05)
    results, manager = apply("a", "endless", "b", "c")
    assert manager.begun == ["a", "endless", "b", "c"] and manager.done == ["a", "b", "c"]
    assert results[0] is results[2] is results[3] is None
    assert isinstance(results[1], ServingError) and results[1].code == grpc.StatusCode.ABORTED


def test_a_caller_that_goes_away_leaves_no_change_half_done():
    async def main():
        manager = Manager()
        service = ModelService(manager, drain=Drain(), metrics=Metrics())
        change = asyncio.create_task(service.apply_config(change_to("a"), can_wait=True))
        await asyncio.sleep(0)
        change.cancel()
        with pytest.raises(asyncio.CancelledError):
            await change
        await service.apply_config(change_to("b"), can_wait=True)
        assert manager.done == ["a", "b"]

    asyncio.run(main())

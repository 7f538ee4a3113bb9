"""The manager's rules, on its own event loop and small models: what is loaded, what serves, what goes."""

import asyncio
import contextlib
import shutil
import threading

import grpc
import numpy as np
import pytest
from google.protobuf import text_format
from tensorflow_serving.config.model_server_config_pb2 import ModelConfig

from inkling.serving.errors import ServingError
from inkling.serving.flags import ServerConfig
from inkling.serving.lifecycle import loader
from inkling.serving.lifecycle.base_path import BasePath
from inkling.serving.lifecycle.loader import LoadOptions
from inkling.serving.lifecycle.manager import Manager, ManagerOptions
from inkling.serving.lifecycle.servables import AVAILABLE, END, UNLOADING
from inkling.serving.model.model import Lease
from tests.patience import PATIENCE_S
from tests.serving import saved_models
from tests.serving.conftest import server_parts


@pytest.fixture(scope="module")
def versions(tmp_path_factory):
    """A folder with the versions 1, 2 and 3, which multiply by their number."""
    folder = tmp_path_factory.mktemp("versions")
    for number in (1, 2, 3):
        saved_models.write_scale(folder / str(number), float(number))
    return folder


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "scale"
    folder.mkdir()
    return folder


@pytest.fixture
def publish(versions, folder):
    def put(number, target=folder):
        shutil.copytree(versions / str(number), target / f".{number}")
        (target / f".{number}").rename(target / str(number))

    return put


def config(folder, text=""):
    return text_format.Parse(text, ModelConfig(name="scale", base_path=str(folder)))


def make_manager(**options):
    load = LoadOptions.of(ServerConfig(), None)
    return Manager(ManagerOptions(load=load, **options), parts=server_parts())


@contextlib.contextmanager
def hanging(monkeypatch, target, name, path):
    """While it lasts, what `name` of `target` does for a path that begins with `path` hangs."""
    go_on, works = threading.Event(), getattr(target, name)

    def hang(self_or_path, *arguments, **options):
        if str(getattr(self_or_path, "path", self_or_path)).startswith(str(path)):
            go_on.wait()
        return works(self_or_path, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(target, name, hang)
        try:
            yield go_on
        finally:
            go_on.set()


async def ask(manager, **which):
    """The version that responds, and its response to 1."""
    model = manager.find("scale", **which)
    outputs = await model.predict(model.signature(""), {"x": np.ones(1, np.float32)})
    return model.version, outputs["y"].tolist()


def states(manager):
    return {number: version.state for number, version in manager.servables["scale"].versions.items()}


async def poll(manager):
    """Look until what is there has stopped changing: a version is not loaded while it may still be written."""
    await manager.poll_once()
    while any(servable.listing.is_settling for servable in manager.servables.values()):
        await manager.poll_once()


async def wait_for(manager, condition):
    async with asyncio.timeout(PATIENCE_S), manager.changed:
        await manager.changed.wait_for(condition)


def refused(manager, **which):
    with pytest.raises(ServingError) as caught:
        manager.find("scale", **which)
    return caught.value.code, caught.value.message


def test_the_newest_version_is_loaded(folder, publish):
    publish(1)
    publish(2)

    async def main():
        manager = make_manager()
        await manager.configure([config(folder)])
        assert await ask(manager) == (2, [2.0]) and states(manager) == {2: AVAILABLE}
        assert refused(manager, version=1) == (
            grpc.StatusCode.NOT_FOUND,
            "Servable not found for request: Specific(scale, 1)",
        )

    asyncio.run(main())


def test_a_model_that_is_not_there_is_not_found_by_any_name_for_it(folder):
    async def main():
        manager = make_manager()
        await manager.configure([config(folder)])
        assert refused(manager) == (grpc.StatusCode.NOT_FOUND, "Servable not found for request: Latest(scale)")
        assert refused(manager, label="stable") == (
            grpc.StatusCode.INVALID_ARGUMENT,
            "Unrecognized servable version label: stable",
        )

    asyncio.run(main())


def test_an_old_version_goes_once_the_new_one_serves_and_its_last_lease_ends(folder, publish):
    publish(1)

    async def main():
        manager = make_manager()
        await manager.configure([config(folder)])
        with Lease(manager.find("scale")) as held:
            publish(2)
            await poll(manager)
            await wait_for(manager, lambda: states(manager)[1] == UNLOADING)
            assert await ask(manager) == (2, [2.0])
            outputs = await held.predict(held.signature(""), {"x": np.ones(1, np.float32)})
            assert outputs["y"].tolist() == [1.0] and states(manager)[1] == UNLOADING
        await wait_for(manager, lambda: states(manager)[1] == END)
        assert states(manager) == {1: END, 2: AVAILABLE}

    asyncio.run(main())


def test_a_version_that_does_not_load_leaves_the_one_that_works(folder, publish, caplog):
    publish(1)
    publish(2)
    (folder / "2" / "saved_model.pb").write_bytes(b"no model")

    async def main():
        manager = make_manager(max_retries=0)
        await manager.configure([config(folder)])
        assert await ask(manager) == (1, [1.0])
        broken = manager.servables["scale"].versions[2]
        assert broken.state == END and broken.error is not None and broken.attempts == 1
        await poll(manager)
        assert broken.attempts == 1 and manager.next_retry() is None

    asyncio.run(main())
    assert "loading {name: scale version: 2} failed (attempt 1 of 1)" in caplog.text


def test_a_version_that_failed_is_loaded_again_when_its_files_change(folder, publish):
    publish(1)
    content = (folder / "1" / "saved_model.pb").read_bytes()
    (folder / "1" / "saved_model.pb").write_bytes(b"no model")

    async def main():
        manager = make_manager(retry_interval_s=3600)
        await manager.configure([config(folder)])
        assert not manager.servables["scale"].available() and manager.next_retry() is not None
        (folder / "1" / "saved_model.pb").write_bytes(content)
        await manager.configure([config(folder)])
        assert await ask(manager) == (1, [1.0]) and manager.next_retry() is None

    asyncio.run(main())


def test_the_former_base_path_serves_until_the_new_one_does(folder, publish, tmp_path):
    publish(1)
    other = tmp_path / "other"
    other.mkdir()

    async def main():
        manager = make_manager()
        await manager.configure([config(folder)])
        await manager.configure([config(other)])
        assert await ask(manager) == (1, [1.0])
        publish(3, other)
        await manager.configure([config(other)])
        assert await ask(manager) == (3, [3.0])
        assert refused(manager, version=1)[0] == grpc.StatusCode.NOT_FOUND

    asyncio.run(main())


def test_a_model_that_is_taken_away_is_remembered_until_it_comes_again(folder, publish):
    publish(1)

    async def main():
        manager = make_manager()
        await manager.configure([config(folder)])
        assert manager.versions("other") == {}
        await manager.configure([])
        assert refused(manager)[0] == grpc.StatusCode.NOT_FOUND
        await wait_for(manager, lambda: manager.versions("scale")[1].state == END)
        publish(2)
        await manager.configure([config(folder)])
        assert states(manager) == {1: END, 2: AVAILABLE}

    asyncio.run(main())


def test_only_so_many_models_that_were_taken_away_are_remembered(monkeypatch, folder, publish):
    monkeypatch.setattr("inkling.serving.lifecycle.manager.MAX_REMOVED", 2)
    publish(1)

    async def main():
        manager = make_manager()
        for number in range(4):
            await manager.configure([ModelConfig(name=f"m{number}", base_path=str(folder))])
        await manager.configure([])
        assert [bool(manager.versions(f"m{number}")) for number in range(4)] == [False, False, True, True]

    asyncio.run(main())


def test_the_versions_of_a_former_base_path_are_told_about_too(folder, publish, tmp_path):
    publish(1)
    other = tmp_path / "other"
    other.mkdir()

    async def main():
        manager = make_manager()
        await manager.configure([config(folder)])
        await manager.configure([config(other)])
        assert manager.versions("scale")[1].state == AVAILABLE
        publish(3, other)
        await manager.configure([config(other)])
        await wait_for(manager, lambda: manager.versions("scale")[1].state == END)
        assert manager.versions("scale").keys() == {1, 3}

    asyncio.run(main())


def test_a_look_that_hangs_holds_no_other_model(folder, publish, tmp_path, monkeypatch, caplog):
    publish(1)
    stuck = tmp_path / "stuck"
    stuck.mkdir()

    async def main():
        manager = make_manager(look_patience_s=0.2)
        both = [config(folder), ModelConfig(name="stuck", base_path=str(stuck))]
        with hanging(monkeypatch, BasePath, "look", stuck) as go_on:
            await manager.configure(both)
            assert await ask(manager) == (1, [1.0])
            polling = asyncio.create_task(manager.poll_forever(0.05))
            publish(2)
            await wait_for(manager, lambda: states(manager).get(2) == AVAILABLE)
            await manager.configure(both)  # and again, without waiting for what is known to hang
            publish(3, stuck)
            go_on.set()
            await wait_for(manager, lambda: bool(manager.servables["stuck"].available()))
            polling.cancel()

    asyncio.run(main())
    assert caplog.text.count(f"looking for versions of stuck in {stuck} takes more than 0.2 s") == 1


def test_a_load_that_hangs_holds_no_other_model(folder, publish, tmp_path, monkeypatch):
    monkeypatch.setattr("inkling.serving.lifecycle.transitions.PLACE_S", 0.2)
    publish(1)
    stuck = tmp_path / "a_first_one_that_hangs"
    stuck.mkdir()
    publish(1, stuck)

    async def main():
        manager = make_manager()
        with hanging(monkeypatch, loader, "load", stuck):
            loading = asyncio.create_task(
                manager.configure([ModelConfig(name="stuck", base_path=str(stuck)), config(folder)])
            )
            await asyncio.sleep(0)  # until both are configured
            await wait_for(manager, lambda: bool(manager.servables["scale"].available()))
            assert await ask(manager) == (1, [1.0]) and not loading.done()
        await loading
        assert manager.servables["stuck"].available()

    asyncio.run(main())


def test_a_base_path_that_is_empty_for_a_moment_takes_nothing_out_of_service(folder, publish, caplog):
    publish(1)

    async def main():
        manager = make_manager()
        await manager.configure([config(folder)])
        (folder / "1").rename(folder.with_name("aside"))
        await poll(manager)
        await poll(manager)
        assert await ask(manager) == (1, [1.0])
        folder.with_name("aside").rename(folder / "1")
        await poll(manager)
        assert await ask(manager) == (1, [1.0]) and states(manager) == {1: AVAILABLE}

    asyncio.run(main())
    assert caplog.text.count("the versions of scale are gone; what is loaded serves for another 30 s") == 1


def test_versions_go_with_their_folders(folder, publish):
    publish(1)

    async def main():
        manager = make_manager(empty_grace_s=0.0)
        await manager.configure([config(folder)])
        shutil.rmtree(folder / "1")
        await poll(manager)
        await wait_for(manager, lambda: states(manager).get(1) == END)
        assert refused(manager)[0] == grpc.StatusCode.NOT_FOUND

    asyncio.run(main())


def test_a_base_path_that_is_away_takes_nothing_out_of_service(folder, publish):
    publish(1)

    async def main():
        manager = make_manager()
        await manager.configure([config(folder)])
        folder.rename(folder.with_name("away"))
        await poll(manager)
        assert await ask(manager) == (1, [1.0])

    asyncio.run(main())


ALL = "model_version_policy { all {} } "


def labels(**versions):
    return "".join(f'version_labels {{ key: "{label}" value: {number} }} ' for label, number in versions.items())


def test_labels_move_all_together_or_not_at_all(folder, publish):
    publish(1)
    publish(2)

    async def main():
        manager = make_manager()
        await manager.configure([config(folder, ALL + labels(stable=1))])
        assert await ask(manager, label="stable") == (1, [1.0])
        with pytest.raises(ServingError, match="Request to assign label to version 9 of model scale, which is not"):
            await manager.configure([config(folder, ALL + labels(stable=2, canary=9))])
        assert await ask(manager, label="stable") == (1, [1.0])
        await manager.configure([config(folder, ALL + labels(stable=2))])
        assert await ask(manager, label="stable") == (2, [2.0])

    asyncio.run(main())


def test_a_label_may_wait_for_its_version_where_flags_allow_it(folder, publish):
    publish(1)

    async def main():
        manager = make_manager(labels_for_unavailable=True)
        await manager.configure([config(folder, ALL + labels(stable=2))])
        assert refused(manager, label="stable")[0] == grpc.StatusCode.NOT_FOUND
        publish(2)
        await manager.configure([config(folder, ALL + labels(stable=2))])
        assert await ask(manager, label="stable") == (2, [2.0])

    asyncio.run(main())


def test_only_so_many_versions_that_ended_are_kept(folder, publish, monkeypatch):
    monkeypatch.setattr("inkling.serving.lifecycle.manager.MAX_ENDED", 1)

    async def main():
        manager = make_manager()
        for number in (1, 2, 3):
            publish(number)
            await manager.configure([config(folder)])
            await wait_for(manager, lambda number=number: states(manager).get(number - 1, END) == END)
        await poll(manager)
        assert states(manager) == {2: END, 3: AVAILABLE}

    asyncio.run(main())

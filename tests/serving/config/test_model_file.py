"""The model config file is polled: what has changed is applied, what fails is tried again."""

import asyncio

import pytest

from inkling.serving.config.model_file import ModelConfigFile
from inkling.serving.errors import ServingError, failed_precondition


def text(name):
    return f'model_config_list {{ config {{ name: "{name}" base_path: "/m" model_platform: "tensorflow" }} }}'


class Server:
    """Notes what it is asked to apply, and refuses `refuses`."""

    def __init__(self):
        self.asked = []
        self.refuses = set()

    async def apply(self, models):
        [name] = [config.name for config in models.model_config_list.config]
        self.asked.append(name)
        if name in self.refuses:
            raise failed_precondition(f"no {name}")


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "models.config"
    path.write_text(text("a"))
    return path


@pytest.fixture
def server():
    return Server()


def poll(file, server, times=1):
    for _ in range(times):
        asyncio.run(file.poll_once(server.apply))


def test_a_file_that_changes_during_the_first_load_is_applied(path, server):
    file = ModelConfigFile(str(path))
    path.write_text(text("b"))
    assert [config.name for config in file.models.model_config_list.config] == ["a"]
    poll(file, server, times=3)
    assert server.asked == ["b"]


def test_a_file_that_is_just_being_written_takes_no_model_away(path, server):
    file = ModelConfigFile(str(path))
    path.write_text("")
    models = []

    async def note(config):
        models.append(config.WhichOneof("config"))

    asyncio.run(file.poll_once(note))
    assert models == [None]  # of which the server takes no notice: see test_lifecycle
    path.write_text(text("b"))
    poll(file, server, times=3)
    assert server.asked == ["b"]


def test_what_fails_is_tried_again_and_logged_once(path, server, caplog):
    file = ModelConfigFile(str(path))
    server.refuses.add("b")
    path.write_text(text("b"))
    poll(file, server, times=3)
    server.refuses.clear()
    poll(file, server, times=3)
    assert server.asked == ["b"] * 4
    assert caplog.text.count("is not applied: no b") == 1


def test_going_back_from_what_failed_halfway_is_a_change(path, server):
    file = ModelConfigFile(str(path))
    server.refuses.add("b")
    path.write_text(text("b"))
    poll(file, server)
    path.write_text(text("a"))
    poll(file, server, times=2)
    assert server.asked == ["b", "a"]


@pytest.mark.parametrize("content", [b"nonsense", b"\xff\xfe", None], ids=["nonsense", "no text", "no file"])
def test_a_file_that_cannot_be_read_is_named_once_and_changes_nothing(content, path, server, caplog):
    file = ModelConfigFile(str(path))
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    poll(file, server, times=3)
    assert server.asked == [] and caplog.text.count("is not applied: ") == 1
    with pytest.raises(ServingError, match=str(path)):
        ModelConfigFile(str(path))

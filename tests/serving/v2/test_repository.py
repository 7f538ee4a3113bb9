"""The model repository extension: an index for all, loading and unloading where a flag allows it."""

import json
import shutil

import grpc
import numpy as np
import pytest

from tests.patience import wait_until
from tests.server_process import ServerProcess
from tests.serving import saved_models
from tests.serving.v2.conftest import ask_grpc, ask_http, infer_request, send

pytestmark = pytest.mark.process


def index(server, **request):
    status, _, body = ask_http(server, "/v2/repository/index", request)
    assert status == 200
    return {(entry["name"], entry["version"]): entry["state"] for entry in json.loads(body)}


def control(server, model, action, body=b""):
    status, _, answer = ask_http(server, f"/v2/repository/models/{model}/{action}", body)
    return status, json.loads(answer)["error"] if answer else ""


def doubled(channel, model):
    response = send(channel, infer_request(model, {"x": np.float32([1])}))
    return np.frombuffer(response.raw_output_contents[0], np.float32).tolist()


@pytest.fixture
def folder(repository, tmp_path):
    """Two models in ./models; `scale` has two versions."""
    shutil.copytree(repository / "scale", tmp_path / "models" / "scale")
    shutil.copytree(repository / "table", tmp_path / "models" / "table")
    return tmp_path / "models"


@pytest.fixture
def controlled(folder):
    with ServerProcess("--allow_model_control", "--file_system_poll_wait_seconds=0", cwd=folder.parent) as server:
        yield server


@pytest.fixture
def controlled_channel(controlled):
    with grpc.insecure_channel(controlled.address) as channel:
        yield channel


def test_the_index_has_every_version(server, channel):
    states = index(server)
    assert states["scale", "1"] == states["scale", "2"] == states["table", "1"] == "READY"
    response = ask_grpc(channel, "RepositoryIndex")
    assert {(model.name, model.version): model.state for model in response.models} == states
    assert index(server, ready=True) == states


def test_models_come_and_go(controlled, controlled_channel):
    assert control(controlled, "scale", "unload") == (200, "")
    assert index(controlled) == {("scale", ""): "UNAVAILABLE", ("table", "1"): "READY"}
    assert index(controlled, ready=True) == {("table", "1"): "READY"}
    assert not ask_grpc(controlled_channel, "ModelReady", name="scale").ready
    assert ask_grpc(controlled_channel, "ServerReady").ready
    with pytest.raises(grpc.RpcError) as caught:
        doubled(controlled_channel, "scale")
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    ask_grpc(controlled_channel, "RepositoryModelLoad", model_name="scale")
    assert doubled(controlled_channel, "scale") == [2.0]


def test_a_load_finds_what_is_new(controlled, controlled_channel, folder):
    saved_models.write_scale(folder / "scale" / "3", 3.0)
    assert control(controlled, "scale", "load") == (200, "")
    assert doubled(controlled_channel, "scale") == [3.0]
    saved_models.write_scale(folder / "fourfold" / "1", 4.0)
    assert index(controlled)["fourfold", ""] == "UNAVAILABLE"
    assert control(controlled, "fourfold", "load") == (200, "")
    assert doubled(controlled_channel, "fourfold") == [4.0]


def test_what_does_not_load_leaves_the_others_alone(controlled, controlled_channel, folder):
    (folder / "broken" / "1").mkdir(parents=True)
    (folder / "broken" / "1" / "saved_model.pb").write_bytes(b"no model")
    (folder / "broken" / "1" / "variables").mkdir()
    status, error = control(controlled, "broken", "load")
    assert status == 400 and error.startswith("failed to load 'broken', version 1")
    assert ask_grpc(controlled_channel, "ServerReady").ready
    assert doubled(controlled_channel, "scale") == [2.0]


@pytest.mark.parametrize("action", ["load", "unload"])
def test_unknown_models_are_not_found(controlled, action):
    for name in ("nothing", "..", "%2e%2e%2fmodels", ""):
        status, error = control(controlled, name, action)
        assert status == 404, error


def test_a_model_is_loaded_as_it_is(controlled):
    status, error = control(controlled, "scale", "load", {"parameters": {"config": "{}"}})
    assert status == 400 and "parameter 'config' is not supported" in error
    assert control(controlled, "scale", "unload", {"parameters": {"unload_dependents": True}}) == (200, "")


def test_without_the_flag_nothing_can_be_changed(channel):
    for rpc in ("RepositoryModelLoad", "RepositoryModelUnload"):
        with pytest.raises(grpc.RpcError) as caught:
            ask_grpc(channel, rpc, model_name="scale")
        assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
        assert "--allow_model_control" in caught.value.details()


def test_a_repository_cannot_be_chosen(channel):
    with pytest.raises(grpc.RpcError, match="'repository_name' is 'other'"):
        ask_grpc(channel, "RepositoryIndex", repository_name="other")


def test_the_config_file_has_the_last_word(folder, tmp_path):
    file = tmp_path / "models.config"
    entry = f'config {{ name: "scale" base_path: "{folder / "scale"}" model_platform: "tensorflow" }}'
    file.write_text(f"model_config_list {{ {entry} }}")
    flags = [f"--model_config_file={file}", "--model_config_file_poll_wait_seconds=1", "--allow_model_control"]
    with ServerProcess(*flags) as server:
        assert control(server, "scale", "unload") == (200, "")
        assert index(server) == {("scale", ""): "UNAVAILABLE"}
        file.write_text(f"model_config_list {{ {entry} }}\n")
        wait_until(lambda: index(server).get(("scale", "2")) == "READY", server.log_text)

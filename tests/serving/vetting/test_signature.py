"""Signed, unsigned, changed and foreign versions: which are loaded, and that the one before goes on."""

import os
import re
import shutil
from pathlib import Path

import grpc
import numpy as np
import pytest
from tensorflow_serving.apis import get_model_status_pb2, model_service_pb2_grpc, prediction_service_pb2_grpc

model_signing = pytest.importorskip(
    "model_signing", reason="model-signing is not installed: pip install 'inkling-serving[sign]'"
)
from model_signing import hashing, signing  # noqa: E402

from inkling.serving import cli  # noqa: E402
from inkling.serving.errors import ServingError  # noqa: E402
from inkling.serving.flags import ServerConfig  # noqa: E402
from inkling.serving.lifecycle import loader  # noqa: E402
from inkling.serving.lifecycle.loader import LoadOptions  # noqa: E402
from inkling.serving.vetting.signature import FILE, check_signature  # noqa: E402
from tests.patience import PATIENCE_S, wait_until  # noqa: E402
from tests.server_process import ROOT, ServerProcess  # noqa: E402
from tests.serving import saved_models  # noqa: E402
from tests.serving.conftest import predict_request  # noqa: E402
from tests.signing_keys import write_key_pair  # noqa: E402


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """Paths of key pairs: ours and a stranger's."""
    folder = tmp_path_factory.mktemp("keys")
    return {name: write_key_pair(folder, name) for name in ("ours", "stranger")}


def sign(folder, key):
    every_file = hashing.Config().set_ignored_paths(paths=[FILE])
    signing.Config().set_hashing_config(every_file).use_elliptic_key_signer(private_key=key).sign(folder, folder / FILE)


def write_signed(folder, factor, key):
    saved_models.write_scale(folder, factor)
    sign(folder, key)
    return folder


@pytest.fixture(scope="module")
def signed(tmp_path_factory, keys):
    return write_signed(tmp_path_factory.mktemp("models") / "scale" / "1", 2.0, keys["ours"][0])


def load(folder, public):
    options = LoadOptions.of(ServerConfig(verify_models=str(public), enable_model_warmup=False), None)
    return loader.load(str(folder), options)


def test_a_signed_version_is_loaded_under_whatever_number_it_is(signed, keys, tmp_path):
    shutil.copytree(signed, tmp_path / "7")
    (tmp_path / "link").symlink_to(tmp_path / "7")
    for folder in (signed, tmp_path / "7", tmp_path / "link"):
        load(folder, keys["ours"][1]).runtime.close()


def change_a_file(folder):
    with open(folder / "saved_model.pb", "ab") as file:
        file.write(b"\0")


def add_a_file(folder):
    (folder / "assets.extra").mkdir(exist_ok=True)
    (folder / "assets.extra" / "tf_serving_warmup_requests").write_bytes(b"")


def take_a_file_away(folder):
    next((folder / "variables").iterdir()).unlink()


def link_a_file(folder):
    shutil.copy(folder / "saved_model.pb", folder.parent / "elsewhere.pb")
    (folder / "saved_model.pb").unlink()
    (folder / "saved_model.pb").symlink_to(folder.parent / "elsewhere.pb")


def unsign(folder):
    (folder / FILE).unlink()


def scribble(folder):
    (folder / FILE).write_text("{}")


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (unsign, "it has no model.sig, the signature that --verify_models asks for"),
        (
            change_a_file,
            "its signature does not hold for the key of --verify_models: Signature mismatch: .*saved_model.pb",
        ),
        (add_a_file, "Extra files found in model .*tf_serving_warmup_requests"),
        (take_a_file_away, "Missing files in model"),
        (link_a_file, "is no regular file|does not hold"),
        (scribble, "its signature does not hold"),
    ],
)
def test_what_is_not_as_it_was_signed_is_refused(signed, keys, tmp_path, change, text):
    folder = tmp_path / "models" / "1"
    shutil.copytree(signed, folder)
    change(folder)
    with pytest.raises(ServingError, match=text) as caught:
        load(folder, keys["ours"][1])
    assert caught.value.code in (grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.INVALID_ARGUMENT)


def test_a_stranger_s_signature_is_refused(keys, tmp_path):
    folder = write_signed(tmp_path / "1", 2.0, keys["stranger"][0])
    with pytest.raises(ServingError, match="its signature does not hold for the key"):
        load(folder, keys["ours"][1])


def test_versions_in_a_store_are_refused_rather_than_trusted(keys):
    with pytest.raises(ServingError, match="checks signatures of local folders"):
        check_signature("gs://models/scale/1", str(keys["ours"][1]))


REFUSED = [
    ("ours", unsign, "it has no model.sig"),
    ("ours", change_a_file, "Hash mismatch for .*saved_model.pb"),
    ("stranger", lambda folder: None, "its signature does not hold for the key of --verify_models"),
]


@pytest.mark.parametrize("content", [None, "no key"], ids=["no file", "no key"])
def test_a_key_that_is_none_ends_the_start(content, tmp_path, capsys):
    if content:
        (tmp_path / "key").write_text(content)
    assert cli.main([f"--verify_models={tmp_path / 'key'}", "--model_base_path=/m"]) == 255
    assert "is no public key: " in capsys.readouterr().err


@pytest.mark.process
def test_the_version_before_serves_on_when_a_new_one_is_not_as_it_must_be(signed, keys, tmp_path):
    base = tmp_path / "scale"
    shutil.copytree(signed, base / "1")
    libraries = {str(Path(module.__file__).parents[1]) for module in (model_signing,)}
    environment = {"PYTHONPATH": os.pathsep.join([str(ROOT), *libraries])}
    flags = [f"--verify_models={keys['ours'][1]}", "--max_num_load_retries=0", "--drain_seconds=1"]
    with (
        ServerProcess("--model_name=scale", f"--model_base_path={base}", *flags, environment=environment) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        for version, (key, change, text) in enumerate(REFUSED, 2):
            write_signed(tmp_path / "coming", 5.0, keys[key][0])
            change(tmp_path / "coming")
            os.rename(tmp_path / "coming", base / str(version))
            wait_until(lambda version=version: error_of(channel, version), server.log_text)
            assert re.search(f"/{version} is not loaded: .*{text}", error_of(channel, version))
            assert predict(channel) == [6.0]
        write_signed(tmp_path / "next", 5.0, keys["ours"][0])
        os.rename(tmp_path / "next", base / "9")
        wait_until(lambda: predict(channel) == [15.0], server.log_text)


def predict(channel):
    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    response = stub.Predict(predict_request("scale", {"x": np.float32([3])}), timeout=PATIENCE_S)
    return list(response.outputs["y"].float_val)


def error_of(channel, version):
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = "scale"
    found = model_service_pb2_grpc.ModelServiceStub(channel).GetModelStatus(request, timeout=PATIENCE_S)
    return "".join(each.status.error_message for each in found.model_version_status if each.version == version)

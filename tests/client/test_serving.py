"""The client and `python -m serving`, each in its own process, with models of many kinds."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from inkling.client import (
    AsyncClient,
    Client,
    InvalidInput,
    ModelNotFound,
    ServedModel,
    SignatureNotFound,
    VersionNotFound,
)
from inkling.client.protocol.tensors import to_tensor
from tests.patience import PATIENCE_S
from tests.server_process import ServerProcess

pytestmark = pytest.mark.process

ROOT = Path(__file__).parents[2]


class Kinds(tf.Module):
    """A model with a signature for each kind of tensor: each gives its input back, or nearly."""

    @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32, name="x")])
    def double(self, x):
        return {"y": 2 * x}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="text")])
    def upper(self, text):
        return {"text": tf.strings.upper(text), "length": tf.strings.length(text)}

    @tf.function(
        input_signature=[
            tf.TensorSpec([], tf.float64, name="scalar"),
            tf.TensorSpec(None, tf.int32, name="any_rank"),
            tf.TensorSpec([None], tf.bool, name="flags"),
            tf.TensorSpec([None], tf.bfloat16, name="brain"),
            tf.TensorSpec([None], tf.half, name="half"),
            tf.TensorSpec([None], tf.complex64, name="complex"),
            tf.TensorSpec([None], tf.uint64, name="unsigned"),
        ]
    )
    def same(self, scalar, any_rank, flags, brain, half, complex, unsigned):
        inputs = {"scalar": scalar, "any_rank": any_rank, "flags": flags, "brain": brain}
        inputs |= {"half": half, "complex": complex, "unsigned": unsigned}
        return {name: tf.identity(value) for name, value in inputs.items()}


@pytest.fixture(scope="module")
def models(tmp_path_factory, digit_models):
    """A model config with the digit model and one of many kinds, as a path; the second one has versions 1 and 2."""
    root = tmp_path_factory.mktemp("models")
    kinds = Kinds()
    signatures = {"serving_default": kinds.double, "upper": kinds.upper, "same": kinds.same}
    for version in "12":
        tf.saved_model.save(kinds, str(root / "kinds" / version), signatures=signatures)
    config = root / "models.config"
    config.write_text(
        "model_config_list {"
        f' config {{ name: "mnist" base_path: "{digit_models / "mnist"}" model_platform: "tensorflow" }}'
        f' config {{ name: "kinds" base_path: "{root / "kinds"}" model_platform: "tensorflow"'
        "   model_version_policy { all {} } version_labels { key: 'stable' value: 1 } }"
        "}"
    )
    return root


@pytest.fixture(scope="module")
def server(models):
    with ServerProcess(f"--model_config_file={models / 'models.config'}") as server:
        yield server


@pytest.fixture(scope="module")
def client(server):
    with Client(server.address, timeout_s=60) as client:
        yield client


@pytest.fixture(scope="module")
def digits():
    with np.load(ROOT / "train" / "mnist" / "mnist.npz") as arrays:
        return arrays["x_test"][:2000], arrays["y_test"][:2000]


def test_handwriting_is_read(client, digits):
    images, labels = digits
    prediction = client.predict(images)
    assert (prediction.classes == labels).mean() > 0.96
    np.testing.assert_allclose(prediction.probabilities.sum(axis=1), 1, atol=1e-4)
    assert prediction.model_name == "mnist" and prediction.version == 1


def test_the_async_client_gives_the_same(server, client, digits):
    async def ask():
        async with AsyncClient(server.address, timeout_s=60) as other:
            return await asyncio.gather(*(other.predict(image) for image in digits[0][:32]))

    found = np.concatenate([prediction.probabilities for prediction in asyncio.run(ask())])
    np.testing.assert_allclose(found, client.predict(digits[0][:32]).probabilities, atol=1e-4)


def test_a_picture_is_read(client, digits):
    images, labels = digits
    number = int(np.flatnonzero(client.predict(images).confidence > 0.999)[0])
    reading = client.read(images[number])
    assert reading.text == str(labels[number]) and reading.model_version == 1


def test_classify_names_the_classes(client, digits, tmp_path):
    Image.fromarray(digits[0][0]).save(tmp_path / "digit.png")
    (found,) = client.classify({"image/encoded": (tmp_path / "digit.png").read_bytes()})
    assert found.best.name == str(digits[1][0]) and len(found.classes) == 10


def test_the_image_bytes_signature_takes_files(client, digits, tmp_path):
    Image.fromarray(digits[0][0]).save(tmp_path / "digit.png")
    outputs = client.run(
        "mnist", {"image_bytes": [(tmp_path / "digit.png").read_bytes()]}, signature="image_bytes", outputs=["classes"]
    )
    assert set(outputs) == {"classes"} and outputs["classes"].tolist() == [digits[1][0]]


def test_every_dtype_goes_there_and_back(client):
    inputs = {
        "scalar": np.float64(2.5),
        "any_rank": np.arange(6, dtype=np.int32).reshape(1, 2, 3),
        "flags": np.array([True, False]),
        "brain": to_tensor([0.5, -2.0], "bfloat16"),
        "half": np.array([0.5], np.float16),
        "complex": np.array([1 + 2j], np.complex64),
        "unsigned": np.array([2**64 - 1], np.uint64),
    }
    outputs = client.run("kinds", inputs, signature="same")
    assert outputs["brain"].astype(np.float32).tolist() == [0.5, -2.0] and outputs["brain"].dtype.name == "bfloat16"
    for name in set(inputs) - {"brain"}:
        np.testing.assert_array_equal(outputs[name], inputs[name])
        assert outputs[name].dtype == np.asarray(inputs[name]).dtype


def test_strings_go_there_and_back(client):
    outputs = client.run("kinds", {"text": ["ab", "", "c\0d"]}, signature="upper")
    assert outputs["text"].tolist() == [b"AB", b"", b"C\0D"] and outputs["length"].tolist() == [2, 0, 3]


def test_an_empty_batch_gives_an_empty_batch(client):
    assert client.run("kinds", {"x": np.zeros((0, 2), np.float32)})["y"].shape == (0, 2)


def test_versions_and_labels(client):
    x = np.ones((1, 2), np.float32)
    assert client.run("kinds", {"x": x}).version == 2
    assert client.run("kinds", {"x": x}, version=1).version == 1
    assert client.run("kinds", {"x": x}, label="stable").version == 1
    with pytest.raises(VersionNotFound, match="inkling status"):
        client.run("kinds", {"x": x}, version=9)
    with pytest.raises(VersionNotFound, match="Unrecognized servable version label: canary"):
        client.run("kinds", {"x": x}, label="canary")


def test_a_large_batch_is_split_and_joined(client):
    x = np.random.default_rng(0).random((5000, 2), np.float32)
    np.testing.assert_allclose(client.run("kinds", {"x": x}, batched=True)["y"], 2 * x)


def test_status_and_metadata(client):
    assert client.status("kinds").available == (2, 1)
    signatures = client.metadata("kinds").signatures
    assert str(signatures["serving_default"].inputs["x"]) == "float32 [-1, 2]"
    assert str(signatures["same"].inputs["any_rank"]) == "int32 [...]"
    assert str(signatures["same"].inputs["brain"]) == "bfloat16 [-1]"


def test_the_servers_refusals_are_errors_of_the_tree(client):
    with pytest.raises(ModelNotFound, match=r"Latest\(nobody\)"):
        client.run("nobody", {"x": np.ones((1, 2), np.float32)})
    with pytest.raises(SignatureNotFound):
        client.run("kinds", {"x": np.ones((1, 2), np.float32)}, signature="nothing")
    with pytest.raises(InvalidInput) as caught:
        client.run("kinds", {"x": np.ones((1, 2), np.int32)})
    assert caught.value.status is not None
    with pytest.raises(InvalidInput):
        client.run("kinds", {"z": np.ones((1, 2), np.float32)})


def test_checks_name_the_mistake_before_the_server_does(client):
    with pytest.raises(InvalidInput, match=r"input 'x' has shape \[1, 3\], expected \[-1, 2\]") as caught:
        client.run("kinds", {"x": np.ones((1, 3), np.float32)}, check=True)
    assert caught.value.status is None


def test_a_reload_changes_what_is_served(models, digit_models):
    with (
        ServerProcess("--model_name=mnist", f"--model_base_path={digit_models / 'mnist'}") as server,
        Client(server.address, timeout_s=60) as client,
    ):
        assert client.health() == "SERVING"
        client.reload(
            [
                ServedModel(name="mnist", base_path=str(digit_models / "mnist")),
                ServedModel(name="kinds", base_path=str(models / "kinds"), versions=(1,)),
            ]
        )
        assert client.status("kinds").available == (1,)
        client.reload([ServedModel(name="kinds", base_path=str(models / "kinds"), all_versions=True)])
        client.wait_until_ready("kinds", version=2)
        with pytest.raises(ModelNotFound):
            client.predict(np.zeros((28, 28), np.uint8))
        with pytest.raises(Exception, match="relative"):
            client.reload([ServedModel(name="x", base_path="relative")])


def test_the_command_line_reads_digits(server, digits, tmp_path):
    images, labels = digits
    np.save(tmp_path / "images.npy", images[:3])
    environment = {**os.environ, "INKLING_SERVER": server.address}
    command = [sys.executable, "-m", "client"]
    options = {"cwd": ROOT, "env": environment, "capture_output": True, "text": True, "timeout": PATIENCE_S}
    done = subprocess.run([*command, "predict", str(tmp_path / "images.npy"), "--json"], check=True, **options)
    assert json.loads(done.stdout)["classes"] == labels[:3].tolist()
    done = subprocess.run([*command, "wait"], check=True, **options)
    assert "AVAILABLE" in done.stdout
    done = subprocess.run([*command, "bench", "--duration", "1", "--warmup", "0.2", "--json"], check=True, **options)
    assert json.loads(done.stdout)["errors"] == {}

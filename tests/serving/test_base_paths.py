"""Base paths may be URIs, and no name that a caller sends leads out of them."""

import asyncio
import http.client
import posixpath
import shutil

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2, prediction_service_pb2_grpc
from tensorflow_serving.config.model_server_config_pb2 import ModelConfig

from inkling.serving.flags import ServerConfig
from inkling.serving.lifecycle.loader import LoadOptions
from inkling.serving.lifecycle.manager import Manager, ManagerOptions
from tests.patience import PATIENCE_S
from tests.server_process import ServerProcess
from tests.serving.conftest import predict_request, server_parts

pytestmark = pytest.mark.process

X = {"x": np.array([1.0], np.float32)}


def test_a_base_path_may_be_a_uri(repository, tmp_path):
    shutil.copytree(repository / "scale" / "1", tmp_path / "scale" / "1")
    with (
        ServerProcess("--model_name=scale", f"--model_base_path=file://{tmp_path}/scale") as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        predict = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict
        assert predict(predict_request("scale", X), timeout=PATIENCE_S).model_spec.version.value == 1
        shutil.copytree(repository / "scale" / "2", tmp_path / "scale" / "2")
        server.wait_for_log(f"loading scale version 2 from file://{tmp_path}/scale/2")
        server.wait_for_log("unloaded scale version 1")
        assert predict(predict_request("scale", X), timeout=PATIENCE_S).model_spec.version.value == 2


def copy_tree(source, target):
    """Copy a local folder to where TensorFlow's file systems reach."""
    for folder, _, names in tf.io.gfile.walk(str(source)):
        below = posixpath.join(target, posixpath.relpath(folder, str(source)).removeprefix("."))
        tf.io.gfile.makedirs(below)
        for name in names:
            tf.io.gfile.copy(posixpath.join(folder, name), posixpath.join(below, name))


def test_versions_come_from_a_file_system_that_is_no_disk(repository):
    async def answers():
        load = LoadOptions.of(ServerConfig(), None)
        manager = Manager(ManagerOptions(load=load), parts=server_parts())
        config = ModelConfig(name="scale", base_path="ram://models/scale")
        copied = []
        for number in (1, 2):
            copy_tree(repository / "scale" / str(number), f"ram://models/scale/{number}")
            await manager.configure([config])
            model = manager.find("scale")
            outputs = await model.predict(model.signature(""), X, ())
            copied.append((model.version, outputs["y"].tolist()))
        return copied

    assert asyncio.run(answers()) == [(1, [1.0]), (2, [2.0])]


NAMES = ["..", "../half_plus_two", "half_plus_two/../half_plus_two", "half_plus_two/", "/etc", "%2e%2e", "scale\0", "."]


@pytest.mark.parametrize("name", NAMES, ids=repr)
def test_a_model_name_is_no_path(name, predictions, model_service):
    metadata = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    metadata.model_spec.name = name
    status = get_model_status_pb2.GetModelStatusRequest()
    status.model_spec.name = name
    for call, request in (
        (predictions.Predict, predict_request(name, X)),
        (predictions.GetModelMetadata, metadata),
        (model_service.GetModelStatus, status),
    ):
        with pytest.raises(grpc.RpcError) as caught:
            call(request, timeout=PATIENCE_S)
        assert caught.value.code() == grpc.StatusCode.NOT_FOUND


def test_an_absolute_path_is_no_model_name(repository, predictions):
    with pytest.raises(grpc.RpcError) as caught:
        predictions.Predict(predict_request(str(repository / "scale"), X), timeout=PATIENCE_S)
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize("label", ["../1", "/etc", "stable/../stable", "stable\0", "1"], ids=repr)
def test_a_label_is_no_path(label, predictions):
    with pytest.raises(grpc.RpcError) as caught:
        predictions.Predict(predict_request("scale", X, label=label), timeout=PATIENCE_S)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "Unrecognized servable version label" in caught.value.details()


@pytest.mark.parametrize(
    "method, path, status",
    [
        ("POST", "/v1/models/..%2fhalf_plus_two:predict", 404),
        ("POST", "/v1/models/%2e%2e:predict", 404),
        ("POST", "/v1/models/%2e%2e%2f%2e%2e%2fetc%2fpasswd:predict", 404),
        ("POST", "/v1/models/%2fetc:predict", 404),
        ("POST", "/v1/models/half_plus_two%00:predict", 404),
        ("POST", "/v1/models/%252e%252e:predict", 404),
        ("POST", "/v1/models/scale/labels/..%2f1:predict", 400),
        ("POST", "/v1/models/scale/versions/..%2f1:predict", 400),
        ("POST", "/v1/models/scale/versions/../../scale:predict", 400),
        ("GET", "/v1/models/..", 404),
        ("GET", "/v1/models/..%2f..%2fetc", 404),
        ("GET", "/v1/models/scale%00/metadata", 404),
        ("GET", "/v1/models/../../etc/passwd", 400),
        ("GET", "/v1/../../etc/passwd", 400),
        ("GET", "/../../etc/passwd", 404),
        ("GET", "/%2e%2e/%2e%2e/etc/passwd", 404),
    ],
)
def test_no_path_leads_out_of_the_api(method, path, status, server):
    connection = http.client.HTTPConnection("127.0.0.1", server.rest_port, timeout=PATIENCE_S)
    try:
        connection.request(method, path, b'{"instances": [1.0]}' if method == "POST" else None)
        response = connection.getresponse()
        assert response.status == status and b"root:" not in response.read()
    finally:
        connection.close()

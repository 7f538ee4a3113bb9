"""--prefer_tflite_model serves `model.tflite` where a version has one."""

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_service_pb2_grpc

from tests.server_process import ServerProcess
from tests.serving import saved_models
from tests.serving.conftest import predict_request


@pytest.fixture(scope="module")
def lite_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lite")
    module = saved_models.Scale(3.0)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([module.scale.get_concrete_function()], module)
    (folder / "1").mkdir()
    (folder / "1" / "model.tflite").write_bytes(converter.convert())
    return folder


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_a_tflite_model_answers_like_any_other(lite_folder):
    flags = ["--model_name=scale", f"--model_base_path={lite_folder}", "--use_tflite_model=true"]
    with ServerProcess(*flags) as server, grpc.insecure_channel(server.address) as channel:
        predict = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict
        for size in (1, 4):
            inputs = {"x": np.arange(size, dtype=np.float32)}
            outputs = predict(predict_request("scale", inputs), timeout=20).outputs
            assert list(outputs["y"].float_val) == [3.0 * n for n in range(size)]
        with pytest.raises(grpc.RpcError) as caught:
            predict(predict_request("scale", {"x": np.zeros(1, np.int32)}), timeout=20)
        assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT


def test_without_the_flag_such_a_version_is_not_whole(lite_folder):
    with ServerProcess("--model_name=scale", f"--model_base_path={lite_folder}", ready=False) as server:
        server.wait_for_log("it has no saved_model.pb")

"""--prefer_tflite_model serves `model.tflite` where a version has one."""

import grpc
import numpy as np
import pytest
import tensorflow as tf
from flatbuffers import flexbuffers
from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef
from tensorflow.lite.python import schema_py_generated
from tensorflow.lite.tools import flatbuffer_utils
from tensorflow_serving.apis import prediction_service_pb2_grpc

from inkling.serving.model.tflite import LiteModel
from tests.patience import PATIENCE_S
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


@pytest.mark.process
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_a_tflite_model_answers_like_any_other(lite_folder):
    flags = ["--model_name=scale", f"--model_base_path={lite_folder}", "--use_tflite_model=true"]
    with ServerProcess(*flags) as server, grpc.insecure_channel(server.address) as channel:
        predict = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict
        for size in (1, 4):
            inputs = {"x": np.arange(size, dtype=np.float32)}
            outputs = predict(predict_request("scale", inputs), timeout=PATIENCE_S).outputs
            assert list(outputs["y"].float_val) == [3.0 * n for n in range(size)]
        for wrong in (np.zeros(1, np.int32), np.zeros((1, 2), np.float32)):
            with pytest.raises(grpc.RpcError) as caught:
                predict(predict_request("scale", {"x": wrong}), timeout=PATIENCE_S)
            assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT


class Shapes(tf.Module):
    @tf.function(
        input_signature=[
            tf.TensorSpec(shape, tf.float32, name=name)
            for name, shape in (("open", [None, 8, 2]), ("fixed", [1, 8]), ("scalar", []))
        ]
    )
    def shapes(self, open, fixed, scalar):
        return {"y": tf.reduce_sum(open, axis=[1, 2]) * scalar, "z": 2 * fixed}


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_a_tflite_models_signature_tells_the_shapes_that_it_takes(tmp_path):
    module = Shapes()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([module.shapes.get_concrete_function()], module)
    (tmp_path / "model.tflite").write_bytes(converter.convert())
    definition = LiteModel(str(tmp_path / "model.tflite"), interpreters=1).signature_defs["serving_default"]
    shapes = {
        alias: tf.TensorShape(info.tensor_shape)
        for infos in (definition.inputs, definition.outputs)
        for alias, info in infos.items()
    }
    assert shapes["open"].as_list() == [None, 8, 2] and shapes["y"].as_list() == [None]
    assert shapes["fixed"].as_list() == [None, 8] and shapes["z"].as_list() == [None, 8]  # it is resized to what comes
    assert shapes["scalar"].rank is None  # the file does not tell


class Columns(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([1, 1], tf.float32, name="x")])
    def double(self, x):
        return {"y": 2 * x}


@pytest.mark.process
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_a_tflite_model_of_one_column_takes_a_list(tmp_path):
    module = Columns()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([module.double.get_concrete_function()], module)
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "model.tflite").write_bytes(converter.convert())
    flags = ["--model_name=columns", f"--model_base_path={tmp_path}", "--prefer_tflite_model"]
    with ServerProcess(*flags) as server, grpc.insecure_channel(server.address) as channel:
        predict = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict
        for values in ([1], [1, 2, 3]):
            outputs = predict(
                predict_request("columns", {"x": np.array(values, np.float32)}), timeout=PATIENCE_S
            ).outputs
            assert list(outputs["y"].float_val) == [2 * value for value in values]


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize("stored", [True, False], ids=["in the metadata", "none"])
def test_older_tflite_models_have_signatures_in_their_metadata_or_none(lite_folder, tmp_path, stored):
    model = flatbuffer_utils.read_model(str(lite_folder / "1" / "model.tflite"))
    model.signatureDefs = None
    subgraph = model.subgraphs[0]
    names = [subgraph.tensors[index].name.decode() for index in (subgraph.inputs[0], subgraph.outputs[0])]
    if stored:
        definition = SignatureDef(method_name="tensorflow/serving/predict")
        for infos, alias, name in ((definition.inputs, "in", names[0]), (definition.outputs, "out", names[1])):
            infos[alias].name, infos[alias].dtype = name, 1
            infos[alias].tensor_shape.unknown_rank = True
        builder = flexbuffers.Builder()
        with builder.Map():
            builder.Key("serving_default")
            builder.String(definition.SerializeToString().decode("ascii"))
        model.buffers.append(schema_py_generated.BufferT())
        model.buffers[-1].data = np.frombuffer(bytes(builder.Finish()), np.uint8)
        entry = schema_py_generated.MetadataT()
        entry.name, entry.buffer = "signature_defs_metadata", len(model.buffers) - 1
        model.metadata = [*(model.metadata or []), entry]
    (tmp_path / "1").mkdir()
    flatbuffer_utils.write_model(model, str(tmp_path / "1" / "model.tflite"))
    lite = LiteModel(str(tmp_path / "1" / "model.tflite"), interpreters=1)
    definition = lite.signature_defs["serving_default"]
    expected = ({"in"}, {"out"}) if stored else tuple({name.partition(":")[0]} for name in names)
    assert (set(definition.inputs), set(definition.outputs)) == expected
    info_in, info_out = next(iter(definition.inputs.values())), next(iter(definition.outputs.values()))
    run = lite.function([info_in.name], [info_out.name])
    np.testing.assert_array_equal(run([np.array([1, 2], np.float32)])[0], [3, 6])


@pytest.mark.process
def test_without_the_flag_such_a_version_is_not_whole(lite_folder):
    with ServerProcess("--model_name=scale", f"--model_base_path={lite_folder}", ready=False) as server:
        server.wait_for_log("it has no saved_model.pb")

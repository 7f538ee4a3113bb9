"""The client's messages are TensorFlow Serving's, byte for byte, and live beside them in one process."""

import ast
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import descriptor_pb2, wrappers_pb2
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow.core.protobuf import error_codes_pb2, meta_graph_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)
from tensorflow_serving.config import file_system_storage_path_source_pb2, model_server_config_pb2

from inkling.client.protocol import inference_messages, model_messages, rpc, tensors
from inkling.client.protocol import wire_pb2 as wire
from inkling.client.results import ServedModel

ROOT = Path(__file__).parents[3]
UPSTREAM = {
    upstream.DESCRIPTOR.name: upstream
    for upstream in (
        predict_pb2.PredictRequest,
        predict_pb2.PredictResponse,
        classification_pb2.ClassificationRequest,
        classification_pb2.ClassificationResponse,
        get_model_metadata_pb2.GetModelMetadataRequest,
        get_model_metadata_pb2.GetModelMetadataResponse,
        get_model_metadata_pb2.SignatureDefMap,
        get_model_status_pb2.GetModelStatusRequest,
        get_model_status_pb2.GetModelStatusResponse,
        model_management_pb2.ReloadConfigRequest,
        model_management_pb2.ReloadConfigResponse,
        model_server_config_pb2.ModelServerConfig,
        file_system_storage_path_source_pb2.FileSystemStoragePathSourceConfig,
        tensor_pb2.TensorProto,
        meta_graph_pb2.SignatureDef,
    )
}


def fields_of(message):
    """(number, type, repeated, name of the message or enum) of each field by name."""
    return {
        field.name: (
            field.number,
            field.type,
            field.is_repeated,
            (field.message_type or field.enum_type).name if field.message_type or field.enum_type else "",
        )
        for field in message.fields
    }


def check_same_fields(ours, upstream, seen):
    if ours.full_name in seen:
        return
    seen.add(ours.full_name)
    theirs = fields_of(upstream)
    for name, field in fields_of(ours).items():
        assert theirs.get(name) == field, f"{ours.full_name}.{name}"
    for field in ours.fields:
        other = upstream.fields_by_name[field.name]
        assert (field.containing_oneof and field.containing_oneof.name) == (
            other.containing_oneof and other.containing_oneof.name
        )
        if field.message_type:
            check_same_fields(field.message_type, other.message_type, seen)
        if field.enum_type:
            numbers = {value.name: value.number for value in other.enum_type.values}
            assert all(numbers[value.name] == value.number for value in field.enum_type.values)


@pytest.mark.parametrize("name", UPSTREAM)
def test_fields_have_upstream_names_numbers_and_types(name):
    check_same_fields(wire.DESCRIPTOR.message_types_by_name[name], UPSTREAM[name].DESCRIPTOR, set())


def test_every_dtype_and_status_code_is_upstream_s():
    ours = {name: number for name, number in wire.DataType.items()}
    assert ours == {name: number for name, number in types_pb2.DataType.items() if not name.endswith("_REF")}
    codes = {name: number for name, number in error_codes_pb2.Code.items() if not name.startswith("DO_NOT")}
    assert dict(wire.Code.items()) == codes


def test_paths_are_those_of_the_upstream_stubs():
    class Recorder:
        def unary_unary(self, path, **_):
            paths.append(path)

        unary_stream = stream_stream = unary_unary

    paths = []
    prediction_service_pb2_grpc.PredictionServiceStub(Recorder())
    model_service_pb2_grpc.ModelServiceStub(Recorder())
    assert {method.path for method in rpc.ALL} - set(paths) == {"/grpc.health.v1.Health/Check"}


def assert_same_bytes(ours, upstream_class):
    """Ours reads as upstream's and upstream's as ours, and both write the same."""
    data = ours.SerializeToString(deterministic=True)
    theirs = upstream_class.FromString(data)
    assert theirs.SerializeToString(deterministic=True) == data
    assert type(ours).FromString(theirs.SerializeToString()) == ours
    return theirs


def test_a_predict_request_is_what_upstream_makes():
    images = np.arange(2 * 28 * 28, dtype=np.uint8).reshape(2, 28, 28)
    spec = model_messages.model_spec("mnist", version=3, signature="serving_default")
    ours = inference_messages.predict_request(spec, {"images": images, "text": ["a", b"b\0"]}, ["classes"])
    theirs = predict_pb2.PredictRequest(output_filter=["classes"])
    theirs.model_spec.name = "mnist"
    theirs.model_spec.version.CopyFrom(wrappers_pb2.Int64Value(value=3))
    theirs.model_spec.signature_name = "serving_default"
    theirs.inputs["images"].CopyFrom(tf.make_tensor_proto(images))
    theirs.inputs["text"].CopyFrom(tf.make_tensor_proto(np.array(["a", b"b\0"], dtype=object)))
    assert ours.SerializeToString(deterministic=True) == theirs.SerializeToString(deterministic=True)


@pytest.mark.parametrize(
    "array",
    [
        np.arange(2 * 28 * 28, dtype=np.uint8).reshape(2, 28, 28),
        np.arange(6, dtype=">f4").reshape(2, 3),
        np.asfortranarray(np.arange(6, dtype=np.int64).reshape(2, 3)),
        np.array(2.5),
        np.zeros((0, 4), np.float16),
        np.array([True, False]),
        np.array(["a", "b"]),
        np.zeros(inference_messages.SMALL + 1, np.uint8),
    ],
    ids=["images", "big endian", "columns first", "scalar", "empty", "bool", "strings", "large"],
)
def test_upstream_reads_a_request_for_one_array(array):
    spec = model_messages.model_spec("mnist", label="stable")
    for values in (array, np.flip(array)):  # all but the content of the second one is known
        theirs = assert_same_bytes(inference_messages.predict_request(spec, {"x": values}), predict_pb2.PredictRequest)
        assert (theirs.model_spec.name, theirs.model_spec.version_label) == ("mnist", "stable")
        assert list(theirs.inputs) == ["x"]
        found = tf.make_ndarray(theirs.inputs["x"])
        expected = np.char.encode(values).astype(object) if values.dtype.kind == "U" else values
        assert found.dtype == expected.dtype.newbyteorder("=")
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("context", [None, {"lang": "de"}], ids=["examples alone", "with context"])
def test_a_classify_request_holds_tf_examples(context):
    features = {"bytes": b"\x89PNG\0", "text": "ä", "list": ["a", b"b"], "int": 7, "bool": True, "floats": [0.5, 2.0]}
    request = inference_messages.classify_request(model_messages.model_spec("m", label="stable"), [features], context)
    theirs = assert_same_bytes(request, classification_pb2.ClassificationRequest)
    examples = theirs.input.example_list_with_context if context else theirs.input.example_list
    feature = tf.train.Example.FromString(examples.examples[0].SerializeToString()).features.feature
    assert feature["bytes"].bytes_list.value == [b"\x89PNG\0"]
    assert feature["text"].bytes_list.value == ["ä".encode()]
    assert feature["list"].bytes_list.value == [b"a", b"b"]
    assert feature["int"].int64_list.value == [7]
    assert feature["bool"].int64_list.value == [1]
    assert feature["floats"].float_list.value == [0.5, 2.0]


def test_a_reload_request_is_a_model_server_config():
    models = [
        ServedModel(name="a", base_path="/models/a", latest=2, labels={"stable": 3, "canary": 4}),
        ServedModel(name="b", base_path="/models/b", versions=(1, 5)),
        ServedModel(name="c", base_path="/models/c", all_versions=True),
    ]
    theirs = assert_same_bytes(
        model_messages.reload_request(models, ["metric"]), model_management_pb2.ReloadConfigRequest
    )
    first, second, third = theirs.config.model_config_list.config
    assert first.model_version_policy.latest.num_versions == 2 and dict(first.version_labels) == models[0].labels
    assert second.model_version_policy.specific.versions == [1, 5]
    assert third.model_version_policy.WhichOneof("policy_choice") == "all"
    assert {config.model_platform for config in (first, second, third)} == {"tensorflow"}


def test_metadata_is_read_from_upstream_s_any():
    theirs = get_model_metadata_pb2.GetModelMetadataResponse()
    theirs.model_spec.name, theirs.model_spec.version.value = "m", 4
    signatures = get_model_metadata_pb2.SignatureDefMap()
    signature = signatures.signature_def["serving_default"]
    signature.method_name = "tensorflow/serving/predict"
    signature.inputs["x"].dtype = types_pb2.DT_BFLOAT16
    signature.inputs["x"].tensor_shape.unknown_rank = True
    signature.outputs["y"].dtype = types_pb2.DT_STRING
    signature.outputs["y"].tensor_shape.dim.add(size=-1)
    signature.outputs["z"].dtype = types_pb2.DT_FLOAT  # without a shape: any
    signature.defaults["x"].CopyFrom(tf.make_tensor_proto(1.0))
    theirs.metadata["signature_def"].Pack(signatures)
    found = model_messages.metadata_of(wire.GetModelMetadataResponse.FromString(theirs.SerializeToString()))
    assert (found.model_name, found.version) == ("m", 4)
    assert str(found.signatures["serving_default"].inputs["x"]) == "bfloat16 [...]"
    assert str(found.signatures["serving_default"].outputs["y"]) == "string [-1]"
    assert found.signatures["serving_default"].outputs["z"].shape is None
    assert found.signatures["serving_default"].optional == {"x"}


shapes = st.lists(st.integers(0, 4), max_size=4).map(tuple)


@settings(max_examples=200, deadline=None)
@given(
    dtype=st.sampled_from(["f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?", "c8", "c16"]).map(
        np.dtype
    ),
    shape=shapes,
    seed=st.integers(0, 2**32 - 1),
)
def test_any_array_reads_the_same_on_both_sides(dtype, shape, seed):
    content = np.random.default_rng(seed).integers(0, 256, math.prod(shape) * dtype.itemsize, np.uint8)
    values = (content & 1 if dtype == "?" else content).view(dtype).reshape(shape)
    ours = tensors.to_tensor(values)
    upstream = tensor_pb2.TensorProto.FromString(ours.SerializeToString())
    np.testing.assert_array_equal(tf.make_ndarray(upstream), values)
    theirs = wire.TensorProto.FromString(tf.make_tensor_proto(values).SerializeToString())
    np.testing.assert_array_equal(tensors.to_array(theirs), values)


@pytest.mark.parametrize("value", [1.5, [1, 2], 2**40, True, [], [[]], 1j, "a", ["a", b"b\0"], [[1.5], [2]]], ids=repr)
def test_python_s_values_become_the_tensors_that_tensorflow_makes(value):
    theirs = tf.make_ndarray(tf.make_tensor_proto(value))
    ours = tensors.to_array(tensors.to_tensor(value))
    assert ours.dtype == theirs.dtype
    np.testing.assert_array_equal(ours, theirs)


def descriptor(path):
    found = descriptor_pb2.FileDescriptorSet.FromString(path.read_bytes())
    file = next(file for file in found.file if file.name.endswith("wire.proto"))
    messages_left = list(file.message_type)
    while messages_left:  # protoc writes JSON's names into a set, and not into code
        message = messages_left.pop()
        messages_left.extend(message.nested_type)
        for field in message.field:
            field.ClearField("json_name")
    return file


def declared(path):
    """The attributes of every class in a stub file; their types are spelled in each protoc's own way."""
    classes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ClassDef)]
    return [
        (node.name, [ast.unparse(one.target) for one in node.body if isinstance(one, ast.AnnAssign)])
        for node in classes
    ]


@pytest.mark.process
def test_the_generated_files_are_current(tmp_path):
    command = [sys.executable, "-m", "grpc_tools.protoc", f"--proto_path={ROOT}", f"--python_out={tmp_path}"]
    command += [f"--pyi_out={tmp_path}", f"--descriptor_set_out={tmp_path / 'set'}", "client/protocol/wire.proto"]
    subprocess.run(command, check=True, cwd=ROOT)
    checked_in = descriptor_pb2.FileDescriptorProto.FromString(wire.DESCRIPTOR.serialized_pb)
    assert descriptor(tmp_path / "set") == checked_in, "wire.proto was changed: run `make proto`"
    generated, ours = (folder / "client/protocol/wire_pb2.pyi" for folder in (tmp_path, ROOT))
    assert declared(generated) == declared(ours), "wire.proto was changed: run `make proto`"


def test_the_generated_code_runs_with_the_oldest_protobuf_allowed():
    text = (ROOT / "client/protocol/wire_pb2.py").read_text()
    assert "# Protobuf Python Version: 6.31.1\n" in text
    assert "protobuf>=6.31.1,<8" in (ROOT / "client/pyproject.toml").read_text()

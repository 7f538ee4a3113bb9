"""inference.GRPCInferenceService of a real server on real SavedModels."""

import grpc
import numpy as np
import pytest
import tensorflow as tf
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from inkling.serving.proto import open_inference_pb2 as messages
from inkling.serving.v2.contents import from_raw
from inkling.serving.v2.datatypes import DTYPES
from tests.patience import PATIENCE_S
from tests.serving import saved_models
from tests.serving.conftest import predict_request
from tests.serving.v2.conftest import SERVICE, as_strings, ask_grpc, infer_request, send

pytestmark = pytest.mark.process

# What tritonclient 2.73 writes for `infer("scale", x=[3, 0.5], request_id="7", outputs=["y"])`.
OTHERS_REQUEST = b"\n\x05scale\x1a\x017*\x0c\n\x01x\x12\x04FP32\x1a\x01\x022\x03\n\x01y:\x08\x00\x00@@\x00\x00\x00?"


def arrays(response):
    """The outputs of a response by name."""
    return {
        output.name: from_raw(output.name, tuple(output.shape), DTYPES[output.datatype], raw)
        for output, raw in zip(response.outputs, response.raw_output_contents, strict=True)
    }


def bits(array):
    """All that there is to compare of an array."""
    array = np.asarray(array)
    return array.shape, array.dtype, array.tolist() if array.dtype == np.object_ else array.tobytes()


def refusal(channel, request):
    with pytest.raises(grpc.RpcError) as caught:
        send(channel, request)
    return caught.value.code().name, caught.value.details()


def request_of(*inputs, raw=(), **fields):
    request = messages.ModelInferRequest(model_name="scale", raw_input_contents=raw, **fields)
    request.inputs.extend(inputs)
    return request


def tensor(shape=(1,), datatype="FP32", name="x", **contents):
    made = messages.ModelInferRequest.InferInputTensor(name=name, datatype=datatype, shape=shape)
    if contents:
        made.contents.MergeFrom(messages.InferTensorContents(**contents))
    return made


def test_the_server_tells_of_itself(channel):
    assert ask_grpc(channel, "ServerLive").live
    assert ask_grpc(channel, "ServerReady").ready
    metadata = ask_grpc(channel, "ServerMetadata")
    assert metadata.name == "inkling-serving"
    assert list(metadata.extensions) == ["binary_tensor_data", "model_repository"]


@pytest.mark.parametrize(
    ("name", "version", "is_ready"),
    [("scale", "", True), ("scale", "1", True), ("scale", "stable", True), ("scale", "7", False), ("none", "", False)],
)
def test_a_model_is_ready_or_not(channel, name, version, is_ready):
    assert ask_grpc(channel, "ModelReady", name=name, version=version).ready is is_ready


def test_metadata_has_versions_datatypes_and_shapes(channel):
    metadata = ask_grpc(channel, "ModelMetadata", name="scale")
    assert (metadata.name, list(metadata.versions), metadata.platform) == ("scale", ["1", "2"], "tensorflow_savedmodel")
    [x], [y] = metadata.inputs, metadata.outputs
    assert (x.name, x.datatype, list(x.shape)) == ("x", "FP32", [-1])
    assert (y.name, y.datatype, list(y.shape)) == ("y", "FP32", [-1])


def test_metadata_of_what_is_not_there(channel):
    with pytest.raises(grpc.RpcError) as caught:
        ask_grpc(channel, "ModelMetadata", name="nothing")
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def test_the_bytes_of_others(channel):
    response = send(channel, messages.ModelInferRequest.FromString(OTHERS_REQUEST))
    assert response == messages.ModelInferResponse(
        model_name="scale",
        model_version="2",
        id="7",
        outputs=[{"name": "y", "datatype": "FP32", "shape": [2]}],
        raw_output_contents=[np.float32([6, 1]).tobytes()],
    )


@pytest.mark.parametrize(("choice", "factor"), [({}, 2), ({"version": "1"}, 1), ({"version": "stable"}, 1),
                                                ({"label": "stable"}, 1)])  # fmt: skip
def test_versions_and_labels_choose(channel, choice, factor):
    response = send(channel, infer_request("scale", {"x": np.float32([10])}, **choice))
    assert arrays(response)["y"].tolist() == [10.0 * factor]
    assert response.model_version == str(factor)


@pytest.mark.parametrize(
    ("model", "signature", "inputs"),
    [
        ("several", "", {"x": np.float32([[0.1, 1e-30], [3, 4]])}),
        ("several", "shout", {"text": as_strings(["hé".encode(), b"", b"x\xff"])}),
        ("several", "add_scalars", {"x": np.float32(0.1), "z": np.float32(0.2)}),
        ("table", "", {"words": as_strings([b"one", b"many"])}),
        ("convolution", "", {"images": np.linspace(0, 1, 192, dtype=np.float32).reshape(3, 8, 8, 1)}),
        ("keras", "", {"keras_tensor": np.float32([[0.1, 0.2, 0.3, 0.4]])}),
        ("scale", "", {"x": np.float32([])}),
    ],
    ids=["matrix", "strings", "scalars", "table", "images", "keras", "no rows"],
)
def test_answers_are_those_of_tensorflow_serving_to_the_last_bit(channel, predict, model, signature, inputs):
    response = send(channel, infer_request(model, inputs, signature=signature))
    expected = predict(model, inputs, signature=signature)
    assert {name: bits(array) for name, array in arrays(response).items()} == {
        name: bits(array) for name, array in expected.items()
    }


@pytest.mark.parametrize("dtype", [dtype for dtype in saved_models.DTYPES if not dtype.is_complex], ids=str)
def test_every_datatype_comes_back(channel, dtype):
    value = as_strings([[b"a", b"\xff"]]) if dtype == tf.string else np.array([[0, 1]], dtype.as_numpy_dtype)
    response = send(channel, infer_request("dtypes", {"x": value}, signature=dtype.name))
    assert arrays(response)["y"].tolist() == value.tolist()


@pytest.mark.parametrize(
    ("signature", "sent"),
    [
        ("bool", tensor([1, 2], "BOOL", bool_contents=[True, False])),
        ("int8", tensor([1, 2], "INT8", int_contents=[-128, 127])),
        ("int64", tensor([1, 2], "INT64", int64_contents=[-(2**63), 2**63 - 1])),
        ("uint16", tensor([1, 2], "UINT16", uint_contents=[0, 65535])),
        ("uint64", tensor([1, 2], "UINT64", uint64_contents=[0, 2**64 - 1])),
        ("float32", tensor([1, 2], "FP32", fp32_contents=[0.1, -0.0])),
        ("float64", tensor([1, 2], "FP64", fp64_contents=[0.1, 1e300])),
        ("string", tensor([1, 2], "BYTES", bytes_contents=[b"", b"\xff"])),
    ],
)
def test_elements_may_come_in_typed_lists(channel, signature, sent):
    request = messages.ModelInferRequest(model_name="dtypes", inputs=[sent])
    request.parameters["signature_name"].string_param = signature
    [values] = [list(value) for field, value in sent.contents.ListFields()]
    assert arrays(send(channel, request))["y"].ravel().tolist() == values


def test_outputs_come_as_they_are_asked_for(channel):
    inputs = {"x": np.float32([[1, 2]])}
    everything = send(channel, infer_request("several", inputs))
    assert [output.name for output in everything.outputs] == ["sum", "y"]
    turned = send(channel, infer_request("several", inputs, outputs=["y", "sum"]))
    assert [output.name for output in turned.outputs] == ["y", "sum"]
    assert list(arrays(send(channel, infer_request("several", inputs, outputs=["sum"])))) == ["sum"]


FLOAT = np.float32([1]).tobytes()


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (request_of(tensor(fp32_contents=[1]), raw=[FLOAT]),
         "contents field must not be specified when using raw_input_contents for 'x' for model 'scale'"),
        (request_of(tensor(), raw=[FLOAT, FLOAT]), "expected as many raw_input_contents as inputs"),
        (request_of(tensor(), tensor(name="z"), raw=[FLOAT]), "expected as many raw_input_contents as inputs"),
        (request_of(tensor((2,)), raw=[FLOAT]), "unexpected total byte size 4 for input 'x', expecting 8"),
        (request_of(tensor((-1,)), raw=[FLOAT]), "expected sizes from 0"),
        (request_of(tensor((2**62, 2**62)), raw=[FLOAT]), "which is too large"),
        (request_of(tensor((2**62, 2**62), fp32_contents=[1])), "which is too large"),
        (request_of(tensor((2,), fp32_contents=[1])), "has 1 elements in fp32_contents; expected 2 for shape [2]"),
        (request_of(tensor((1,), int_contents=[1])), "has int_contents; expected fp32_contents"),
        (request_of(tensor((1,), "INT8", int_contents=[300])), "has 300 as element 0, which is outside its range"),
        (request_of(tensor((1,), "FP16", fp32_contents=[1])), "must come in raw_input_contents"),
        (request_of(tensor((1,), "BYTES"), raw=[b"\xff\xff\xff\xff"]), "claims 4294967295 bytes, but 0 are left"),
        (request_of(tensor((1,), "FP8"), raw=[b"1"]), "has datatype 'FP8'; expected one of BOOL"),
        (request_of(tensor(), tensor(), raw=[FLOAT, FLOAT]), "input 'x' is given more than once"),
        (request_of(tensor((1,), "FP64"), raw=[FLOAT * 2]), "Expects arg[0] to be float but double is provided"),
        (request_of(tensor(name="z"), raw=[FLOAT]), "Signature input alias: x"),
        (request_of(), "input size does not match signature"),
        (request_of(tensor(), raw=[FLOAT], outputs=[{"name": "z"}]), "output tensor alias not found in signature: z"),
        (request_of(tensor(), raw=[FLOAT], outputs=[{"name": "y"}, {"name": "y"}]), "duplicate output tensor alias"),
        (request_of(tensor(), raw=[FLOAT], model_version="x"), "Unrecognized servable version label: x"),
        (request_of(tensor(), raw=[FLOAT], model_version="9" * 30), "failed to get model version"),
        (request_of(tensor(), raw=[FLOAT], parameters={"signature_name": {"int64_param": 1}}),
         "parameter 'signature_name' is 1; expected a string"),
        (request_of(tensor(), raw=[FLOAT], model_version="1", parameters={"version_label": {"string_param": "a"}}),
         "are both given"),
    ],
)  # fmt: skip
def test_the_callers_mistakes_are_told(channel, request_, message):
    code, details = refusal(channel, request_)
    assert code == "INVALID_ARGUMENT" and message in details


def test_unknown_models_versions_and_signatures(channel):
    x = {"x": np.float32([1])}
    assert refusal(channel, infer_request("nothing", x))[0] == "NOT_FOUND"
    assert refusal(channel, infer_request("scale", x, version="7")) == (
        "NOT_FOUND",
        "Servable not found for request: Specific(scale, 7)",
    )
    assert refusal(channel, infer_request("scale", x, signature="z"))[0] == "FAILED_PRECONDITION"
    assert refusal(channel, infer_request("", x)) == ("INVALID_ARGUMENT", "ModelSpec has no name specified.")


def test_an_output_without_a_datatype_is_refused(channel, server):
    value = np.complex64([[1, 2]])
    request = messages.ModelInferRequest(model_name="dtypes")
    request.parameters["signature_name"].string_param = "complex64"
    request.inputs.add(name="x", datatype="COMPLEX64", shape=[1, 2])
    request.raw_input_contents.append(value.tobytes())
    assert refusal(channel, request)[0] == "INVALID_ARGUMENT"


def test_other_rpcs_of_triton_are_not_there(channel):
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary(f"/{SERVICE}/ModelStatistics")(b"", timeout=PATIENCE_S)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_large_requests_and_responses_go_both_ways(channel, predictions):
    images = np.random.default_rng(0).random((300, 8, 8, 1), np.float32)
    response = send(channel, infer_request("convolution", {"images": images}))
    expected = predictions.Predict(predict_request("convolution", {"images": images}), timeout=PATIENCE_S)
    assert arrays(response)["y"].tobytes() == tf.make_ndarray(expected.outputs["y"]).tobytes()
    many = as_strings([b"word %d" % number for number in range(50_000)])
    found = arrays(send(channel, infer_request("several", {"text": many}, signature="shout", outputs=["loud"])))
    assert found["loud"].tolist() == [word.upper() for word in many]


def test_reflection_tells_of_the_protocol_by_its_own_names(channel):
    database = ProtoReflectionDescriptorDatabase(channel)
    assert {SERVICE, "tensorflow.serving.PredictionService"} <= set(database.get_services())
    pool = DescriptorPool(database)
    infer = pool.FindServiceByName(SERVICE).methods_by_name["ModelInfer"]
    assert infer.input_type.full_name == "inference.ModelInferRequest"
    assert pool.FindServiceByName("tensorflow.serving.PredictionService").methods_by_name["Predict"]

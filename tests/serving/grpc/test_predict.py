"""Predict over gRPC: what goes in, what comes out, and what is refused."""

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_service_pb2_grpc

from tests.patience import PATIENCE_S
from tests.server_process import ServerProcess
from tests.serving import saved_models
from tests.serving.conftest import predict_request

pytestmark = pytest.mark.process

FLOATS = np.array([[1.0, 2.0], [3.0, 4.0]], np.float32)


def refusal(predictions, request):
    with pytest.raises(grpc.RpcError) as caught:
        predictions.Predict(request, timeout=PATIENCE_S)
    return caught.value.code(), caught.value.details()


def test_the_answer_says_which_version_and_signature_gave_it(predictions):
    spec = predictions.Predict(predict_request("several", {"x": FLOATS}), timeout=PATIENCE_S).model_spec
    assert (spec.name, spec.version.value, spec.signature_name) == ("several", 1, "serving_default")


def test_numbers_come_back_in_typed_lists(predictions):
    outputs = predictions.Predict(predict_request("several", {"x": FLOATS}), timeout=PATIENCE_S).outputs
    assert list(outputs["y"].float_val) == [2.0, 4.0, 6.0, 8.0]
    assert not outputs["y"].tensor_content


@pytest.mark.parametrize("dtype", saved_models.DTYPES, ids=lambda dtype: dtype.name)
@pytest.mark.parametrize("rows", [0, 1, 70])
def test_every_dtype_comes_back_as_it_went(predict, dtype, rows):
    numbers = np.arange(rows * 2).reshape(rows, 2) % 100
    value = numbers.astype(str).astype(object) if dtype == tf.string else numbers.astype(dtype.as_numpy_dtype)
    if dtype == tf.string:
        value = np.array([[text.encode() for text in row] for row in value], object).reshape(rows, 2)
    sent = tf.make_tensor_proto(value, dtype=dtype, shape=(rows, 2))
    back = predict("dtypes", {"x": sent}, signature=dtype.name)["y"]
    assert back.dtype == dtype.as_numpy_dtype and back.shape == (rows, 2)
    np.testing.assert_array_equal(back, value)


def test_typed_lists_are_read_too(predictions):
    request = predict_request("several", {})
    tensor = request.inputs["x"]
    tensor.dtype = 1
    tensor.tensor_shape.dim.add().size = 1
    tensor.tensor_shape.dim.add().size = 2
    tensor.float_val.extend([1.5, 2.5])
    assert list(predictions.Predict(request, timeout=PATIENCE_S).outputs["y"].float_val) == [3.0, 5.0]


def test_one_value_may_stand_for_a_whole_tensor(predictions):
    request = predict_request("several", {})
    tensor = request.inputs["x"]
    tensor.dtype = 1
    tensor.tensor_shape.dim.add().size = 2
    tensor.tensor_shape.dim.add().size = 2
    tensor.float_val.append(1.0)
    assert list(predictions.Predict(request, timeout=PATIENCE_S).outputs["y"].float_val) == [2.0] * 4


def test_output_filter_picks_outputs(predict):
    assert set(predict("several", {"x": FLOATS}, outputs=("sum",))) == {"sum"}
    assert set(predict("several", {"x": FLOATS})) == {"sum", "y"}


def test_named_signatures_take_strings(predict):
    outputs = predict("several", {"text": np.array([b"abc"], object)}, signature="shout")
    assert outputs["loud"].tolist() == [b"ABC"] and outputs["picture_bytes"].tolist() == [b"abc\xff"]


def test_scalars_are_served(predict):
    outputs = predict("several", {"x": np.float32(1), "z": np.float32(2)}, signature="add_scalars")
    assert outputs["y"] == np.float32(3) and outputs["y"].shape == ()


def test_versions_and_labels_choose(predict):
    x = np.array([1.0], np.float32)
    assert predict("scale", {"x": x})["y"] == [2.0]
    assert predict("scale", {"x": x}, version=1)["y"] == [1.0]
    assert predict("scale", {"x": x}, label="stable")["y"] == [1.0]


def test_tf1_models_have_variables_assets_and_initialised_tables(predict):
    np.testing.assert_array_equal(
        predict("half_plus_two", {"x": np.array([[1.0], [2.0]], np.float32)})["y"], [[2.5], [3]]
    )
    assert (
        predict("half_plus_two", {"x": np.zeros((1, 1), np.float32)}, signature="asset")["content"]
        == b"asset-file-contents"
    )
    ids = predict("table", {"words": np.array([b"two", b"none", b"zero"], object)})["ids"]
    assert ids.tolist() == [2, -1, 0]


def test_an_elementwise_model_takes_a_list_for_a_column(predict):
    # The best known example of TensorFlow Serving: the signature says [-1, 1], its tutorial sends [1.0, 2.0, 5.0].
    outputs = predict("half_plus_two", {"x": np.array([1.0, 2.0, 5.0], np.float32)})
    np.testing.assert_array_equal(outputs["y"], np.array([2.5, 3.0, 4.5], np.float32))
    assert predict("half_plus_two", {"x": np.float32(4)})["y"] == 4.0


def test_a_signature_without_shapes_takes_any(predict):
    y = predict("half_plus_three", {"x": np.array([1.0, 2.0, 5.0], np.float32)})["y"]
    assert y.tolist() == [3.5, 4.0, 5.5]
    assert predict("half_plus_three", {"x": np.ones((2, 1, 3), np.float32)})["y"].shape == (2, 1, 3)


def test_an_elementwise_model_takes_what_its_signature_does_not_announce(predict):
    # half_plus_two_tf2_cpu of TensorFlow Serving: the signature says [1].
    assert predict("one_row", {"x": np.array([1.0, 2.0, 5.0], np.float32)})["y"].tolist() == [2.5, 3.0, 4.5]
    assert predict("one_row", {"x": np.zeros((2, 0, 3), np.float32)})["y"].shape == (2, 0, 3)


def test_a_graph_takes_more_rows_and_other_sizes_than_its_signature_announces(predict):
    images = np.random.default_rng(0).random((5, 8, 8, 1), np.float32)
    y = predict("one_row", {"images": images}, signature="convolve")["y"]
    apart = [predict("one_row", {"images": image[None]}, signature="convolve")["y"] for image in images]
    np.testing.assert_allclose(y, np.concatenate(apart), rtol=1e-5)
    assert predict("one_row", {"images": np.ones((2, 11, 6, 1), np.float32)}, signature="convolve")["y"].shape == (2, 4)


def test_a_graph_that_begins_with_a_reshape_takes_an_example_without_its_batch(predict):
    for shape, rows in (((8, 8), 1), ((64,), 1), ((2, 64), 2), ((3, 4, 16), 3), ((1, 2, 8, 8, 1), 2)):
        y = predict("one_row", {"images": np.ones(shape, np.float32)}, signature="reshaped")["y"]
        assert y.shape == (rows, 8, 8, 4)


def test_what_a_kernel_cannot_compute_is_the_callers_mistake(predictions):
    request = predict_request("one_row", {"images": np.ones((2, 8, 8, 3), np.float32)}, signature="convolve")
    assert refusal(predictions, request)[0] == grpc.StatusCode.INVALID_ARGUMENT
    request = predict_request("one_row", {"images": np.ones((3, 5), np.float32)}, signature="reshaped")
    code, text = refusal(predictions, request)
    assert code == grpc.StatusCode.INVALID_ARGUMENT and "Input to reshape is a tensor with 15 values" in text


@pytest.mark.parametrize(
    ("signature", "shape", "expected"),
    [
        ("convolve", (1, 64, 65, 1), "expected [1, 8, 8, 1], got [1, 64, 65, 1]"),
        ("reshaped", (2**20 + 64,), "expected [-1, 8, 8], got [1048640]"),
        ("reshaped", (1,) * 9, "expected [-1, 8, 8], got [1, 1, 1, 1, 1, 1, 1, 1, 1]"),
    ],
    ids=["large rows", "large and of another rank", "many dimensions"],
)
def test_what_is_not_announced_is_no_larger_than_the_memory_allows(predictions, signature, shape, expected):
    request = predict_request("one_row", {"images": np.zeros(shape, np.float32)}, signature=signature)
    code, text = refusal(predictions, request)
    assert code == grpc.StatusCode.INVALID_ARGUMENT and expected in text


def test_inputs_are_not_broadcast_to_what_nobody_sent(predict, predictions):
    x, z = np.ones((300, 1), np.float32), np.ones((1, 300), np.float32)
    assert predict("one_row", {"x": x, "z": z}, signature="add")["y"].shape == (300, 300)
    request = predict_request("one_row", {"x": np.tile(x, (100, 1)), "z": np.tile(z, (1, 100))}, signature="add")
    code, text = refusal(predictions, request)
    assert code == grpc.StatusCode.INVALID_ARGUMENT and "[30000, 1], [1, 30000] together make 900000000 values" in text


def test_a_python_function_fails_without_a_traceback(predict, predictions):
    assert predict("python_function", {"x": np.ones(1, np.float32)})["y"].tolist() == [2.0]
    _, text = refusal(
        predictions, predict_request("python_function", {"x": np.ones(1, np.float32)}, signature="python")
    )
    assert "callback" in text and "Traceback" not in text and "/" not in text


def test_keras_models_are_served_however_they_were_written(predict, repository):
    x = np.arange(8, dtype=np.float32).reshape(2, 4)
    for name, alias in (("keras", "keras_tensor"), ("wrapped_keras", "x")):
        signature = tf.saved_model.load(str(repository / name / "1")).signatures["serving_default"]
        alias = next(iter(signature.structured_input_signature[1]))
        expected = next(iter(signature(**{alias: tf.constant(x)}).values())).numpy()
        found = next(iter(predict(name, {alias: x}).values()))
        np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_state_is_kept_from_request_to_request(predict):
    first, second = (
        int(predict("several", {"x": np.array([7], np.int32)}, signature="counter")["count"][0]) for _ in "ab"
    )
    assert second == first + 1


REFUSALS = {
    "no spec": (lambda r: r.ClearField("model_spec"), "INVALID_ARGUMENT", "Missing ModelSpec"),
    "no name": (lambda r: r.model_spec.ClearField("name"), "INVALID_ARGUMENT", "ModelSpec has no name specified."),
    "unknown model": (
        lambda r: setattr(r.model_spec, "name", "nope"),
        "NOT_FOUND",
        "Servable not found for request: Latest(nope)",
    ),
    "unknown version": (
        lambda r: setattr(r.model_spec.version, "value", 7),
        "NOT_FOUND",
        "Servable not found for request: Specific(several, 7)",
    ),
    "unknown label": (
        lambda r: setattr(r.model_spec, "version_label", "canary"),
        "INVALID_ARGUMENT",
        "Unrecognized servable version label: canary",
    ),
    "unknown signature": (
        lambda r: setattr(r.model_spec, "signature_name", "nope"),
        "FAILED_PRECONDITION",
        'Serving signature key "nope" not found.',
    ),
    "no inputs": (
        lambda r: r.inputs.clear(),
        "INVALID_ARGUMENT",
        "input size does not match signature: 0!=1 len({}) != len({x}). Sent extra: {}. Missing but required: {x}.",
    ),
    "wrong name": (
        lambda r: (r.inputs["z"].CopyFrom(r.inputs["x"]), r.inputs.pop("x")),
        "INVALID_ARGUMENT",
        "Signature input alias: x(feed name: ",
    ),
    "two inputs": (
        lambda r: r.inputs["z"].CopyFrom(r.inputs["x"]),
        "INVALID_ARGUMENT",
        "input size does not match signature: 2!=1",
    ),
    "unknown output": (
        lambda r: r.output_filter.append("z"),
        "INVALID_ARGUMENT",
        "output tensor alias not found in signature: z Outputs expected to be in the set {sum,y}.",
    ),
    "output twice": (
        lambda r: r.output_filter.extend(["y", "y"]),
        "INVALID_ARGUMENT",
        "duplicate output tensor alias: y",
    ),
    "undecodable": (lambda r: setattr(r.inputs["x"], "dtype", 0), "INVALID_ARGUMENT", "tensor parsing error: x"),
    "content too short": (
        lambda r: setattr(r.inputs["x"], "tensor_content", b"123"),
        "INVALID_ARGUMENT",
        "tensor parsing error: x: shape [2, 2] of float takes 16 bytes, but tensor_content has 3",
    ),
    "negative dimension": (
        lambda r: setattr(r.inputs["x"].tensor_shape.dim[0], "size", -2),
        "INVALID_ARGUMENT",
        "tensor parsing error: x",
    ),
    "huge dimension": (
        lambda r: setattr(r.inputs["x"].tensor_shape.dim[0], "size", 2**62),
        "INVALID_ARGUMENT",
        "tensor parsing error: x",
    ),
    "wrong dtype": (
        lambda r: r.inputs["x"].CopyFrom(tf.make_tensor_proto(FLOATS.astype(np.float64))),
        "INVALID_ARGUMENT",
        "Expects arg[0] to be float but double is provided",
    ),
    "wrong rank": (
        lambda r: r.inputs["x"].CopyFrom(tf.make_tensor_proto(FLOATS[0])),
        "INVALID_ARGUMENT",
        "expected [-1, 2], got [2]",
    ),
    "wrong size": (
        lambda r: r.inputs["x"].CopyFrom(tf.make_tensor_proto(np.ones((2, 3), np.float32))),
        "INVALID_ARGUMENT",
        "Matrix size-incompatible: In[0]: [2,3], In[1]: [2,2]",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_a_bad_request_is_refused_in_the_words_of_tensorflow_serving(predictions, case):
    change, code, text = REFUSALS[case]
    request = predict_request("several", {"x": FLOATS})
    change(request)
    found_code, found_text = refusal(predictions, request)
    assert found_code.name == code
    assert text in found_text


def test_a_failure_while_computing_keeps_tensorflows_code_and_text(predictions):
    request = predict_request("several", {"index": np.array([99], np.int32)}, signature="pick")
    code, text = refusal(predictions, request)
    assert code == grpc.StatusCode.INVALID_ARGUMENT and "99 is not in [0, 4)" in text


def test_long_messages_are_cut(predictions):
    request = predict_request("several", {"x": FLOATS}, signature="s" * 3000)
    _, text = refusal(predictions, request)
    assert len(text) == 1024 and text.endswith("...TRUNCATED")
    request.model_spec.signature_name = "🙂" * 3000  # percent-encoded on the way, as twelve bytes each
    _, text = refusal(predictions, request)
    assert len(text.encode()) <= 1024 and text.endswith("🙂...TRUNCATED")


def test_bytes_that_are_no_request_are_the_callers_mistake(channel):
    call = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
    with pytest.raises(grpc.RpcError) as caught:
        call(b"\xff\xff\xff", timeout=PATIENCE_S)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("model", ["convolution", "open_convolution"])
@pytest.mark.parametrize("shape", [(), (8,), (8, 8), (2, 8, 8), (1, 8, 8, 1, 1), (1, 1, 8, 8, 1, 1)], ids=str)
def test_a_convolution_of_the_wrong_rank_does_not_end_the_process(predict, predictions, model, shape):
    request = predict_request(model, {"images": np.zeros(shape, np.float32)})
    code, _ = refusal(predictions, request)
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert predict(model, {"images": np.ones((1, 8, 8, 1), np.float32)})["y"].shape == (1, 4)


def test_an_empty_batch_has_an_empty_answer(predict):
    assert predict("convolution", {"images": np.zeros((0, 8, 8, 1), np.float32)})["y"].shape == (0, 4)
    assert predict("several", {"x": np.zeros((0, 2), np.float32)})["sum"].shape == (0,)
    assert predict("several", {"text": tf.make_tensor_proto([], tf.string, [0])}, signature="shout")["loud"].shape == (
        0,
    )


def test_session_service_is_unimplemented(channel):
    call = channel.unary_unary("/tensorflow.serving.SessionService/SessionRun")
    with pytest.raises(grpc.RpcError) as caught:
        call(b"", timeout=PATIENCE_S)
    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize(("flags", "factor"), [([], 2), (["--saved_model_tags=serve,thrice"], 3)], ids=["serve", "two"])
def test_tags_choose_the_graph(tmp_path, flags, factor):
    saved_models.write_tagged(tmp_path / "1")
    with (
        ServerProcess("--model_name=tagged", f"--model_base_path={tmp_path}", *flags) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        answer = stub.Predict(predict_request("tagged", {"x": np.ones(1, np.float32)}), timeout=PATIENCE_S)
        assert list(answer.outputs["y"].float_val) == [factor]


def test_a_sparse_output_keeps_no_other_signature_from_being_served(tmp_path):
    saved_models.write_sparse(tmp_path / "1")
    with (
        ServerProcess("--model_name=sparse", f"--model_base_path={tmp_path}") as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        refusal(stub, predict_request("sparse", {"x": FLOATS}, signature="sparse"))
        assert (
            len(stub.Predict(predict_request("sparse", {"x": FLOATS}), timeout=PATIENCE_S).outputs["y"].float_val) == 4
        )


@pytest.mark.slow
def test_operations_of_tensorflow_text_are_there_where_it_is_installed(tmp_path):
    pytest.importorskip("tensorflow_text")
    saved_models.write_words(tmp_path / "1")
    with (
        ServerProcess("--model_name=words", f"--model_base_path={tmp_path}") as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        request = predict_request("words", {"text": np.array([b"one two", b"three"], object)})
        answer = stub.Predict(request, timeout=PATIENCE_S).outputs["words"]
        assert list(answer.string_val) == [b"one", b"two", b"three", b""]

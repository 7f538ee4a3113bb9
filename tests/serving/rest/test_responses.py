"""Answers look, blank for blank, as TensorFlow Serving's do."""

import json

import numpy as np
import pytest
from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef
from tensorflow_serving.apis.classification_pb2 import ClassificationResult
from tensorflow_serving.apis.get_model_metadata_pb2 import GetModelMetadataResponse, SignatureDefMap
from tensorflow_serving.apis.get_model_status_pb2 import GetModelStatusResponse, ModelVersionStatus
from tensorflow_serving.apis.regression_pb2 import RegressionResult

from inkling.serving.errors import ServingError
from inkling.serving.rest import responses
from inkling.serving.rest.responses import predictions


def text(outputs, row_form=True):
    return predictions(outputs, row_form=row_form).decode()


def objects(*values):
    array = np.empty(len(values), np.object_)
    array[:] = values
    return array


def test_rows_of_one_output_stand_in_one_line():
    assert text({"y": np.array([3.5, 4.0, 5.5], np.float32)}) == '{\n    "predictions": [3.5, 4.0, 5.5\n    ]\n}'
    assert text({"y": np.array([[1, 2], [3, 4]])}) == '{\n    "predictions": [[1, 2], [3, 4]\n    ]\n}'


def test_rows_of_several_outputs_are_objects():
    outputs = {"p": np.array([[0.25, 0.75], [1, 0]], np.float32), "c": np.array([1, 0])}
    assert text(outputs) == (
        '{\n    "predictions": [\n        {\n            "c": 1,\n            "p": [0.25, 0.75]\n        },\n'
        '        {\n            "c": 0,\n            "p": [1.0, 0.0]\n        }\n    ]\n}'
    )


def test_columns_spread_over_lines():
    assert text({"y": np.array([2.5, 3], np.float32)}, row_form=False) == (
        '{\n    "outputs": [\n        2.5,\n        3.0\n    ]\n}'
    )
    assert text({"y": np.array(5), "x": np.array([[1]])}, row_form=False) == (
        '{\n    "outputs": {\n        "x": [\n            [\n                1\n            ]\n        ],\n'
        '        "y": 5\n    }\n}'
    )


def test_strings_are_text_and_outputs_named_bytes_are_base64():
    words = objects("héllo".encode(), b'a"\\\n\x01')
    assert text({"word": words}) == '{\n    "predictions": ["héllo", "a\\"\\\\\\n\\u0001"\n    ]\n}'
    assert text({"word_bytes": objects(b"hello")}) == (
        '{\n    "predictions": [{\n            "b64": "aGVsbG8="\n        }\n    ]\n}'
    )
    assert json.loads(text({"word_bytes": words.reshape(2, 1)}, row_form=False)) == {
        "outputs": [[{"b64": "aMOpbGxv"}], [{"b64": "YSJcCgE="}]]
    }


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (9000000, "9e+06"),
        (999999, "999999.0"),
        (0.5, "0.5"),
        (0.0003, "0.0003"),
        (0.00003, "3e-05"),
        (555557.5, "555557.5"),
        (0.1, "0.1"),
        (1 / 3, "0.333333343"),
        (16777216, "16777216.0"),
        (-0.0, "-0.0"),
        (float("nan"), "NaN"),
        (float("inf"), "Infinity"),
        (-float("inf"), "-Infinity"),
    ],
)
def test_floats_are_the_shortest_of_six_digits_and_full_precision(number, expected):
    assert text({"y": np.array([number, 1], np.float32)}) == f'{{\n    "predictions": [{expected}, 1.0\n    ]\n}}'


def test_doubles_have_their_own_precision():
    assert text({"y": np.array([0.1, 1 / 3])}) == '{\n    "predictions": [0.1, 0.33333333333333331\n    ]\n}'


@pytest.mark.parametrize(
    "array",
    [
        np.random.default_rng(0).random((7, 3, 2)).astype(np.float32),
        np.random.default_rng(0).normal(0, 1e6, (5, 4)),
        np.arange(24, dtype=np.uint64).reshape(2, 3, 4),
        np.array([[True], [False]]),
        np.array([1, 2.5], np.float16),
        np.zeros((2, 0), np.int32),
        np.zeros((2, 3, 0), np.float32),
        np.zeros((0, 3), np.float32),
    ],
    ids=lambda array: f"{array.dtype}{list(array.shape)}",
)
def test_what_is_written_reads_back_as_the_same_numbers(array):
    def same(values):
        return np.array(values, array.dtype).tolist() == array.tolist()

    assert same(json.loads(text({"y": array}))["predictions"])
    assert same(json.loads(text({"y": array}, row_form=False))["outputs"])
    assert same([row["z"] for row in json.loads(text({"y": array, "z": array}))["predictions"]])


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        ({}, "Cannot convert empty tensor map to JSON"),
        ({"y": np.array(1)}, "Tensor name: y has no shape information "),
        ({"a": np.zeros(2), "b": np.zeros(3)}, "Tensor name: b has inconsistent batch size: 3 expecting: 2"),
        ({"y": np.zeros(2, np.complex64)}, "Failed to write JSON value for tensor type: complex64"),
    ],
)
def test_what_has_no_json_form_is_refused(outputs, message):
    with pytest.raises(ServingError) as raised:
        text(outputs)
    assert raised.value.code.name == "INVALID_ARGUMENT" and raised.value.message == message


def test_classifications_and_regressions_are_results():
    result = ClassificationResult()
    for label, score in (("", 3), ("a", 0.5)):
        result.classifications.add().classes.add(label=label, score=score)
    assert responses.classifications(result) == b'{\n    "results": [[["", 3.0]], [["a", 0.5]]\n    ]\n}'
    numbers = RegressionResult()
    numbers.regressions.add(value=3.5)
    numbers.regressions.add(value=4)
    assert responses.regressions(numbers) == b'{\n    "results": [3.5, 4.0]\n}'
    with pytest.raises(ServingError, match="empty RegressionResults"):
        responses.regressions(RegressionResult())


def test_a_status_names_states_and_codes():
    response = GetModelStatusResponse()
    response.model_version_status.add(version=123, state=ModelVersionStatus.AVAILABLE)
    assert responses.status(response).decode() == (
        '{\n "model_version_status": [\n  {\n   "version": "123",\n   "state": "AVAILABLE"\n  }\n ]\n}\n'
    )
    response.model_version_status[0].status.error_code = 0
    assert json.loads(responses.status(response))["model_version_status"][0]["status"] == {
        "error_code": "OK",
        "error_message": "",
    }


def test_metadata_keeps_protobufs_field_names():
    signature = SignatureDef(method_name="tensorflow/serving/predict")
    signature.inputs["x"].name = "x:0"
    signature.inputs["x"].dtype = 1
    signature.inputs["x"].tensor_shape.dim.add(size=-1)
    response = GetModelMetadataResponse()
    response.model_spec.name = "default"
    response.model_spec.version.value = 123
    signatures = SignatureDefMap(signature_def={"serving_default": signature})
    response.metadata["signature_def"].Pack(signatures)
    assert json.loads(responses.metadata(response)) == {
        "model_spec": {"name": "default", "signature_name": "", "version": "123"},
        "metadata": {
            "signature_def": {
                "signature_def": {
                    "serving_default": {
                        "inputs": {
                            "x": {
                                "name": "x:0",
                                "dtype": "DT_FLOAT",
                                "tensor_shape": {"dim": [{"size": "-1", "name": ""}], "unknown_rank": False},
                            }
                        },
                        "outputs": {},
                        "method_name": "tensorflow/serving/predict",
                        "defaults": {},
                    }
                }
            }
        },
    }


def test_an_error_body_escapes_its_message():
    assert json.loads(responses.error_body('a "b" \n \\ é')) == {"error": 'a "b" \n \\ é'}

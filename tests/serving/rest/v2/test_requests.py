"""Bodies of inference requests: JSON, nested or flat, and binary data behind it."""

import json
import struct

import numpy as np
import pytest

from inkling.serving.errors import ServingError
from inkling.serving.rest.v2 import requests


def converted(inputs, binary=b"", **members):
    text = json.dumps({"inputs": inputs, **members}).encode()
    parsed = requests.parse(text + binary, len(text))
    return requests.tensors(parsed, model_name="m", max_depth=8)


def refusal(inputs, binary=b"", **members):
    with pytest.raises(ServingError) as caught:
        converted(inputs, binary, **members)
    assert caught.value.code.name == "INVALID_ARGUMENT"
    return caught.value.message


def tensor(data, shape, datatype="FP32", name="x"):
    return {"name": name, "shape": shape, "datatype": datatype, "data": data}


def binary(size, shape, datatype="FP32", name="x"):
    return {"name": name, "shape": shape, "datatype": datatype, "parameters": {"binary_data_size": size}}


@pytest.mark.parametrize("data", [[1, 2, 3, 4], [[1, 2], [3, 4]]], ids=["flat", "nested"])
def test_data_may_be_flat_or_nested(data):
    array = converted([tensor(data, [2, 2])])["x"]
    assert array.dtype == np.float32 and array.tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    ("datatype", "data"),
    [
        ("BOOL", [True, False]), ("UINT8", [0, 255]), ("INT8", [-128, 127]), ("INT64", [-(2**63), 2**63 - 1]),
        ("UINT64", [0, 2**64 - 1]), ("FP16", [0.5, -2.0]), ("FP64", [0.1, 1e300]),
    ],
)  # fmt: skip
def test_every_datatype_has_its_elements(datatype, data):
    assert converted([tensor(data, [2], datatype)])["x"].tolist() == data


def test_strings_are_utf_8():
    assert converted([tensor(["é", ""], [2], "BYTES")])["x"].tolist() == ["é".encode(), b""]


def test_a_member_that_is_null_is_one_that_is_not_there():
    nothing = {"id": None, "parameters": None, "outputs": None}
    sent = {
        **tensor([1, 2], [2]),
        "parameters": {"content_type": None, "binary_data_size": None, "classification": None},
    }
    assert converted([sent], **nothing)["x"].tolist() == [1, 2]
    assert converted([{**binary(4, [1]), "data": None}], struct.pack("<f", 3), **nothing)["x"].tolist() == [3]
    for options in ({"parameters": None}, {"parameters": {"binary_data_output": None}}):
        text = json.dumps({"inputs": [], **nothing, "outputs": [{"name": "y", "parameters": None}], **options}).encode()
        parsed = requests.parse(text, None)
        assert (parsed.request_id, parsed.is_binary("y")) == ("", False)


def test_scalars_and_empty_tensors():
    assert converted([tensor([1.5], [])])["x"].shape == ()
    assert converted([tensor([], [0, 3])])["x"].shape == (0, 3)


def test_binary_data_follows_in_the_order_of_the_inputs():
    inputs = [binary(8, [2]), tensor([7], [1], name="y"), binary(5, [1], "BYTES", name="z")]
    arrays = converted(inputs, struct.pack("<2f", 1, 2) + b"\x01\x00\x00\x00a")
    assert {name: array.tolist() for name, array in arrays.items()} == {"x": [1.0, 2.0], "y": [7.0], "z": [b"a"]}


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ([tensor([1, 2, 3], [2, 2])], "data of shape [3]; expected [2, 2], or a flat list of 4"),
        ([tensor([[1, 2, 3], [4, 5, 6]], [3, 2])], "data of shape [2, 3]; expected [3, 2]"),
        ([tensor([1], [-1])], "expected sizes from 0"),
        ([tensor([1], [1.0])], "Unable to parse 'shape'"),
        ([tensor([1], [True])], "Unable to parse 'shape'"),
        ([tensor([1], "1")], "Unable to parse 'shape'"),
        ([tensor([1], [1], "FLOAT")], "datatype 'FLOAT'; expected one of"),
        ([tensor(["a"], [1])], "not of expected type: float"),
        ([tensor([300], [1], "UINT8")], "not of expected type: uint8"),
        ([tensor([1], [1], "BOOL")], "not of expected type: bool"),
        ([tensor([[[[[[[[[1]]]]]]]]], [1])], "nested deeper"),
        ([tensor(1, [1])], "Unable to parse 'data'"),
        ([{"name": "x", "shape": [1], "datatype": "FP32"}], "Unable to parse 'data'"),
        ([{"shape": [1]}], "Unable to parse 'name'"),
        ([tensor([1], [1]), tensor([1], [1])], "input 'x' is given more than once"),
        (["x"], "Unable to parse 'inputs': expected objects, got \"x\""),
        ("x", "Unable to parse 'inputs': expected a list"),
        ([binary(8, [2])], "claims 8 bytes of binary data, but 4 are left"),
        ([binary(-1, [2])], "Unable to parse 'binary_data_size'"),
        ([binary("4", [1])], "Unable to parse 'binary_data_size'"),
        ([binary(4, [1]) | {"data": [1]}], "both 'data' and 'binary_data_size'"),
        ([tensor([1], [1])], "unexpected additional input data for model 'm': 4 bytes"),
        ([tensor([1], [1]) | {"parameters": {"shared_memory_region": "r"}}], "is not supported here"),
        ([tensor([1], [1]) | {"parameters": []}], "Unable to parse 'parameters'"),
    ],
)  # fmt: skip
def test_what_does_not_fit_together_is_refused(inputs, message):
    assert message in refusal(inputs, b"1234")


def test_outputs_say_how_they_are_to_come():
    body = json.dumps(
        {
            "inputs": [],
            "parameters": {"binary_data_output": True},
            "outputs": [{"name": "a"}, {"name": "b", "parameters": {"binary_data": False}}],
        }
    ).encode()
    parsed = requests.parse(body, None)
    assert [parsed.is_binary(name) for name in ("a", "b", "other")] == [True, False, True]


@pytest.mark.parametrize(
    "members",
    [
        {"outputs": ["y"]}, {"outputs": {}}, {"outputs": [{"name": 1}]}, {"id": 7}, {"id": "\ud800"}, {"parameters": 1},
        {"outputs": [{"name": "y", "parameters": {"binary_data": 1}}]}, {"parameters": {"binary_data_output": "yes"}},
        {"outputs": [{"name": "y", "parameters": {"classification": 3}}]},
    ],
    ids=str,
)  # fmt: skip
def test_members_of_the_wrong_type_are_refused(members):
    refusal([], **members)


@pytest.mark.parametrize("text", ["-1", "x", "1e3", "٣", "9" * 30])
def test_the_length_of_the_json_must_be_a_number(text):
    with pytest.raises(ServingError, match="Inference-Header-Content-Length"):
        requests.json_length(text)


def test_the_length_of_the_json_is_within_the_body():
    with pytest.raises(ServingError, match="is 3, but the body has 2 bytes"):
        requests.parse(b"{}", 3)
    assert requests.json_length(None) is None

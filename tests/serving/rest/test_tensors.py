"""The JSON of predict requests becomes the tensors, or the errors, that TensorFlow Serving makes of it."""

import json

import ml_dtypes
import numpy as np
import pytest
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf.meta_graph_pb2 import TensorInfo

from inkling.serving.errors import ServingError
from inkling.serving.rest.rapidjson import parse_object
from inkling.serving.rest.tensors import signature_name, tensors


def infos(**types):
    return {name: TensorInfo(dtype=getattr(types_pb2, f"DT_{kind.upper()}")) for name, kind in types.items()}


def read(body, max_depth=64, **types):
    """The tensors of a short request, of which a long one's are the same, and so are its errors."""

    def convert(**options):
        return tensors(parse_object(body.encode()), infos(**types), max_depth=max_depth, **options)

    try:
        arrays, row_form = convert()
    except ServingError as error:
        with pytest.raises(ServingError) as raised:
            convert(check_shape=lambda name, shape: None)
        assert (raised.value.code, raised.value.message) == (error.code, error.message)
        raise
    same, same_form = convert(check_shape=lambda name, shape: None)
    assert row_form == same_form and arrays.keys() == same.keys()
    for name, array in arrays.items():
        assert (array.dtype, array.shape) == (same[name].dtype, same[name].shape)
        np.testing.assert_array_equal(array, same[name])
    return arrays, row_form


def refusal(body, **types):
    with pytest.raises(ServingError) as raised:
        read(body, **types)
    return raised.value


@pytest.mark.parametrize(
    ("kind", "values", "dtype"),
    [
        ("float", "[1, 2.5, -3e2, 0.1]", np.float32),
        ("double", "[1, 2.5, 9007199254740991, 1e300]", np.float64),
        ("half", "[1, 2.5]", np.float16),
        ("bfloat16", "[1, 2.5]", ml_dtypes.bfloat16),
        ("int8", "[-128, 127]", np.int8),
        ("uint8", "[0, 255]", np.uint8),
        ("int16", "[-32768, 32767]", np.int16),
        ("uint16", "[0, 65535]", np.uint16),
        ("int32", "[-2147483648, 2147483647]", np.int32),
        ("uint32", "[0, 4294967295]", np.uint32),
        ("int64", "[-9223372036854775808, 9223372036854775807]", np.int64),
        ("uint64", "[0, 18446744073709551615]", np.uint64),
        ("bool", "[true, false]", np.bool_),
    ],
)
@pytest.mark.parametrize("key", ["instances", "inputs"])
def test_every_type_is_read_exactly(kind, values, dtype, key):
    arrays, row_form = read(f'{{"{key}": {values}}}', x=kind)
    expected = np.array(json.loads(values), dtype)
    assert arrays["x"].dtype == dtype and arrays["x"].tolist() == expected.tolist()
    assert row_form == (key == "instances")


@pytest.mark.parametrize(
    ("body", "shape"),
    [
        ('{"instances": [[1,2],[3,4],[5,6]]}', (3, 2)),
        ('{"instances": [1]}', (1,)),
        ('{"instances": [[[1],[2]]]}', (1, 2, 1)),
        ('{"instances": [[], []]}', (2, 0)),
        ('{"inputs": 7}', ()),
        ('{"inputs": []}', (0,)),
        ('{"inputs": [[[1,2],[3,4],[5,6]]]}', (1, 3, 2)),
        ('{"inputs": {"x": [[1]]}}', (1, 1)),
        ('{"instances": [{"x": 1}, {"x": 2}]}', (2,)),
        ('{"instances": [{"x": [[1, 2]]}, {"x": [[3, 4]]}]}', (2, 1, 2)),
    ],
)
def test_shapes_follow_the_nesting(body, shape):
    arrays, _ = read(body, x="int32")
    assert arrays["x"].shape == shape and arrays["x"].dtype == np.int32


def test_strings_come_as_text_or_base64():
    body = '{"instances": ["héllo", {"b64": "d29ybGQ="}, {"b64": "d29 y\\nbGQ"}, ""]}'
    arrays, _ = read(body, s="string")
    assert arrays["s"].tolist() == ["héllo".encode(), b"world", b"world", b""]
    assert arrays["s"].dtype == np.object_


def test_a_scalar_string_input_may_be_one_base64_object():
    arrays, _ = read('{"inputs": {"b64": "aGVsbG8="}}', s="string")
    assert arrays["s"].shape == () and arrays["s"].item() == b"hello"


def test_named_rows_give_one_array_for_each_input():
    body = """{"instances": [
        {"i": [[1,2],[3,4]], "s": ["foo", "bar"], "f": [1.0, NaN], "d": [NaN]},
        {"i": [[7,8],[9,0]], "s": ["baz", {"b64": "YmF0"}], "f": [2.0, Infinity], "d": [-Infinity]}]}"""
    arrays, _ = read(body, i="int32", s="string", f="float", d="double")
    assert arrays["i"].tolist() == [[[1, 2], [3, 4]], [[7, 8], [9, 0]]]
    assert arrays["s"].tolist() == [[b"foo", b"bar"], [b"baz", b"bat"]]
    assert np.isnan(arrays["f"][0, 1]) and arrays["f"][1].tolist() == [2.0, np.inf]
    assert np.isnan(arrays["d"][0, 0]) and arrays["d"][1, 0] == -np.inf


def test_column_form_names_its_inputs_and_passes_over_others():
    arrays, row_form = read('{"inputs": {"a": [1, 2, 3], "b": "x", "c": 5}}', a="int64", b="string")
    assert arrays["a"].tolist() == [1, 2, 3] and arrays["b"].item() == b"x" and "c" not in arrays and not row_form


def test_bytes_that_are_no_utf8_reach_the_model_as_they_are():
    body = b'{"instances": ["\xff\xfe"]}'
    arrays, _ = tensors(parse_object(body), infos(s="string"), max_depth=64)
    assert arrays["s"].tolist() == [b"\xff\xfe"]


def test_the_signature_name_is_optional_and_a_string():
    assert signature_name(parse_object(b"{}")) == ""
    assert signature_name(parse_object(b'{"signature_name": "x"}')) == "x"
    with pytest.raises(ServingError, match="'signature_name' key must be a string value."):
        signature_name(parse_object(b'{"signature_name": 5}'))


@pytest.mark.parametrize(
    ("body", "types", "message"),
    [
        ("{}", {"x": "int32"}, "Missing 'inputs' or 'instances' key"),
        ('{"instances": [1]}', {}, "Failed to get input map for signature: DEFAULT"),
        (
            '{"instances": [1], "inputs": [1]}',
            {"x": "int32"},
            'JSON Value: {"instances":[1],"inputs":[1]} '
            "Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist ",
        ),
        (
            '{"instances": 1}',
            {"x": "int32"},
            "JSON Value: {\"instances\":1} Expecting 'instances' to be an list/array",
        ),
        ('{"instances": []}', {"x": "int32"}, "JSON Value: {\"instances\":[]} No values in 'instances' array"),
        (
            '{"instances": [1]}',
            {"x": "int32", "y": "int32"},
            "instances is a plain list, but expecting list of objects as multiple input tensors required as per "
            "tensorinfo_map",
        ),
        (
            '{"inputs": [1]}',
            {"x": "int32", "y": "int32"},
            "inputs is a plain value/list, but expecting an object as multiple input tensors required as per "
            "tensorinfo_map",
        ),
        ('{"inputs": {"x": 1}}', {"x": "int32", "y": "int32"}, "Missing named input: y in 'inputs' object."),
        (
            '{"instances": [1.0]}',
            {"x": "int32"},
            "Failed to process element: 0 of 'instances' list. Error: INVALID_ARGUMENT: "
            "JSON Value: 1.0 Type: Number is not of expected type: int32",
        ),
        (
            '{"instances": [[1,2],["a", "b"]]}',
            {"x": "float"},
            "Failed to process element: 1 of 'instances' list. Error: INVALID_ARGUMENT: "
            'JSON Value: "a" Type: String is not of expected type: float',
        ),
        (
            '{"instances": [[1,2],[3,4],[5,6,7]]}',
            {"x": "int32"},
            "Failed to process element: 2 of 'instances' list. Error: INVALID_ARGUMENT: "
            "Expecting tensor size: 2 but got: 3",
        ),
        (
            '{"instances": [[1,2],[3,4],[[5,6]]]}',
            {"x": "int32"},
            "Failed to process element: 2 of 'instances' list. Error: INVALID_ARGUMENT: "
            "Expecting shape [2] but got: [1,2]",
        ),
        (
            '{"instances": [1, [1]]}',
            {"x": "int32"},
            "Failed to process element: 1 of 'instances' list. Error: INVALID_ARGUMENT: "
            "Expecting shape [] but got: [1]",
        ),
        (
            '{"instances": [{"x": 1, "z": 2}]}',
            {"x": "int32"},
            "Failed to process element: 0 key: z of 'instances' list. Error: INVALID_ARGUMENT: "
            "JSON object: does not have named input: z",
        ),
        (
            '{"instances": [{"x": 1}]}',
            {"y": "int32", "x": "int32"},
            "Failed to process element: 0 of 'instances' list. JSON object: {\"x\":1} keys must be equal to: x,y",
        ),
        ('{"instances": [{"x": 1}, [1]]}', {"x": "int32"}, "Expecting object but got list at item 1 of input list"),
        (
            '{"instances": [[1], {"x": 1}]}',
            {"x": "int32"},
            "Expecting value/list but got object at item 1 of input list",
        ),
        (
            '{"inputs": [[1], 2]}',
            {"x": "int32"},
            "JSON Value: 2 found at incorrect level: 2 in the JSON DOM. Expected at level: 2",
        ),
        ('{"inputs": [1, [2]]}', {"x": "int32"}, "Encountered list at unexpected level: 1 expected < 1"),
        (
            '{"inputs": [[1, 2], [3]]}',
            {"x": "int32"},
            "Encountered list at unexpected size: 1 at level: 1 expected size: 2",
        ),
        ('{"inputs": [{"b64": "a"}]}', {"x": "string"}, "Unable to base64 decode"),
        ('{"inputs": [{"b64": "%%%%"}]}', {"x": "string"}, "Unable to base64 decode"),
        (
            '{"inputs": [{"b64": 5}]}',
            {"x": "string"},
            'JSON Value: {"b64":5} not formatted correctly for base64 data',
        ),
        (
            '{"inputs": [{"b64": "aGVsbG8="}]}',
            {"x": "float"},
            'JSON Value: {"b64":"aGVsbG8="} Type: Object is not of expected type: float',
        ),
        ('{"inputs": [true]}', {"x": "int32"}, "JSON Value: true Type: True is not of expected type: int32"),
        ('{"inputs": [1, true]}', {"x": "float"}, "JSON Value: true Type: True is not of expected type: float"),
        ('{"inputs": [null]}', {"x": "bool"}, "JSON Value: null Type: Null is not of expected type: bool"),
        ('{"inputs": [1]}', {"x": "bool"}, "JSON Value: 1 Type: Number is not of expected type: bool"),
        ('{"inputs": [256]}', {"x": "uint8"}, "JSON Value: 256 Type: Number is not of expected type: uint8"),
        ('{"inputs": [-1]}', {"x": "uint64"}, "JSON Value: -1 Type: Number is not of expected type: uint64"),
        ('{"inputs": [NaN]}', {"x": "int32"}, "JSON Value: NaN Type: Number is not of expected type: int32"),
    ],
)
def test_mistakes_are_named_in_tensorflow_servings_words(body, types, message):
    error = refusal(body, **types)
    assert error.code.name == "INVALID_ARGUMENT" and error.message == message


def test_a_type_without_json_form_is_unimplemented():
    error = refusal('{"inputs": [1]}', x="complex64")
    assert error.code.name == "UNIMPLEMENTED" and error.message == "Conversion of JSON Value: 1 to type: complex64"


@pytest.mark.parametrize("key", ["instances", "inputs"])
@pytest.mark.parametrize(
    ("kind", "digits", "value"),
    [
        ("float", "1435774380", 1435774336.0),
        ("float", "16777217", 16777216.0),
        ("float", "-9223372036854775807", -(2.0**63)),
        ("float", "123456789012345678901234567890", float(np.float32(1.2345678901234568e29))),
        ("float", "3.4028235e38", float(np.finfo(np.float32).max)),
        ("float", "1e39", np.inf),
        ("float", "-1e39", -np.inf),
        ("double", "9007199254740993", 9007199254740992.0),
        ("half", "70000", np.inf),
        ("bfloat16", "1435774380", 1434451968.0),
    ],
)
def test_numbers_are_converted_as_c_converts_them(kind, digits, value, key):
    arrays, _ = read(f'{{"{key}": [{digits}, 0]}}', x=kind)
    assert arrays["x"].tolist() == [value, 0]


def test_lists_deeper_than_the_limit_are_refused():
    body = '{"inputs": ' + "[" * 5 + "1" + "]" * 5 + "}"
    assert read(body, max_depth=5, x="int32")[0]["x"].shape == (1,) * 5
    with pytest.raises(ServingError, match="deeper than --rest_api_max_json_depth"):
        read(body, max_depth=4, x="int32")
    with pytest.raises(ServingError, match="deeper than --rest_api_max_json_depth"):
        read(body.replace("inputs", "instances"), max_depth=4, x="int32")


def test_long_values_are_cut_in_messages():
    error = refusal(json.dumps({"inputs": "x" * 100_000}), x="float")
    assert error.message == f'JSON Value: "{"x" * 255} Type: String is not of expected type: float'
    error = refusal(json.dumps({"inputs": 1, "instances": [1] * 100_000}), x="float")
    shown = ('{"inputs":1,"instances":[' + "1," * 200)[:256]
    assert error.message.startswith(f"JSON Value: {shown} Not formatted correctly")
    error = refusal('{"inputs": "' + "é" * 200 + '"}', x="float")  # 256 bytes end in the middle of one
    assert f'JSON Value: "{"é" * 127} Type: String' in error.message

"""Classify and regress requests in JSON become the examples of the gRPC API."""

import math

import pytest

from inkling.serving.errors import ServingError
from inkling.serving.rest.examples import examples
from inkling.serving.rest.rapidjson import parse_object


def read(body):
    return examples(parse_object(body.encode()))


def test_features_take_their_kind_from_their_values():
    body = '{"examples": [{"f": [1.5, 1e39], "i": [1, true], "s": ["é", {"b64": "aGk="}], "one": 2, "none": []}]}'
    [example] = read(body).example_list.examples
    features = example.features.feature
    assert features["f"].float_list.value == [1.5, math.inf] and features["i"].int64_list.value == [1, 1]
    assert features["s"].bytes_list.value == ["é".encode(), b"hi"] and features["one"].int64_list.value == [2]
    assert features["none"].WhichOneof("kind") is None and "none" in features


def test_a_context_goes_beside_the_examples():
    listed = read('{"context": {"c": "x"}, "examples": [{"a": 1}, {}]}').example_list_with_context
    assert listed.context.features.feature["c"].bytes_list.value == [b"x"] and len(listed.examples) == 2


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("{}", "JSON Value: {} When method is classify, key 'examples' is expected and was not found"),
        ('{"examples": 1}', "Expecting 'examples' value to be an list/array"),
        ('{"examples": []}', "'examples' value is an empty array"),
        ('{"examples": [5]}', "Example must be JSON object but got JSON Number"),
        ('{"examples": [{}], "context": []}', "Example must be JSON object but got JSON Array"),
        ('{"examples": [{"a": null}]}', "Feature: a has element with unexpected JSON type: Null"),
        ('{"examples": [{"a": [[1]]}]}', "Feature: a has element with unexpected JSON type: Array"),
        ('{"examples": [{"a": {"x": 1}}]}', "Feature: a has element with unexpected JSON type: Object"),
        ('{"examples": [{"a": [1.5, 2]}]}', "Unexpected element type in feature: a expecting type: float"),
        ('{"examples": [{"a": [1, "x"]}]}', "Unexpected element type in feature: a expecting type: int64"),
        ('{"examples": [{"a": 9223372036854775808}]}', "Feature: a has uint64 element. Only int64 is supported."),
        ('{"examples": [{"a": {"b64": "?"}}]}', "Unable to base64 decode"),
    ],
)
def test_mistakes_are_named(body, message):
    with pytest.raises(ServingError) as raised:
        read(body)
    assert raised.value.code.name == "INVALID_ARGUMENT" and raised.value.message.endswith(message)

"""What is not JSON is refused with RapidJSON's reason and the byte where it stops being JSON."""

import math

import pytest

from inkling.serving.errors import ServingError
from inkling.serving.rest.rapidjson import parse_object


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "JSON Parse error: The document is empty"),
        (b"  ", "JSON Parse error: The document is empty. at offset: 2"),
        (b"instances = [1, 2]", "JSON Parse error: Invalid value. at offset: 0"),
        (b'{"a": }', "JSON Parse error: Invalid value. at offset: 6"),
        (b"{a: 1}", "JSON Parse error: Missing a name for object member. at offset: 1"),
        (b'{"a" 1}', "JSON Parse error: Missing a colon after a name of object member. at offset: 5"),
        (b'{"a": 1 "b"}', "JSON Parse error: Missing a comma or } after an object member. at offset: 8"),
        (b'{"a": [1 2]}', "JSON Parse error: Missing a comma or ] after an array element. at offset: 9"),
        (b'{"a": "x}', "JSON Parse error: Missing a closing quotation mark in string. at offset: 9"),
        (b'{"a": "\\x"}', "JSON Parse error: Invalid escape character in string. at offset: 7"),
        (b'{"a": 1} x', "JSON Parse error: The document root must not be followed by other values. at offset: 9"),
        ('{"é": }'.encode(), "JSON Parse error: Invalid value. at offset: 7"),
        (b'{"a": 1e400}', "JSON Parse error: Number too big to be stored in double."),
        (b'{"a": ' + b"1" * 5000 + b"}", "JSON Parse error: Number too big to be stored in double."),
        (b"[1]", "JSON Value: [\n    1\n] Is not object"),
        (b'"x"', 'JSON Value: "x" Is not object'),
        (b"null", "JSON Value: null Is not object"),
        (b"2.5", "JSON Value: 2.5 Is not object"),
        (b"[" * 100_000, "JSON Parse error: lists and objects are nested too deeply"),
        (b'{"a": ' * 100_000, "JSON Parse error: lists and objects are nested too deeply"),
    ],
    ids=lambda value: repr(value[:24]),
)
def test_broken_json_is_named(body, message):
    with pytest.raises(ServingError) as raised:
        parse_object(body)
    assert raised.value.code.name == "INVALID_ARGUMENT" and raised.value.message == message


def test_the_tokens_beyond_json_are_read():
    document = parse_object(b'\xef\xbb\xbf{"a": [NaN, Infinity, -Infinity, 1.5]}')
    nan, *others = document.members["a"]
    assert math.isnan(nan) and others == [math.inf, -math.inf, 1.5]


def test_a_document_knows_whether_it_can_hold_booleans():
    assert not parse_object(b'{"a": [1, 2]}').may_hold_booleans
    assert parse_object(b'{"a": [1, true]}').may_hold_booleans

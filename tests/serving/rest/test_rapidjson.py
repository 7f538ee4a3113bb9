"""What is not JSON is refused with RapidJSON's reason and the byte where it stops being JSON."""

import json
import math

import pytest

from inkling.serving.errors import ServingError
from inkling.serving.rest.rapidjson import parse_object


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "JSON Parse error: The document is empty"),
        (b"  ", "JSON Parse error: The document is empty. at offset: 2"),
        (b" \0{}", "JSON Parse error: The document is empty. at offset: 1"),
        (b"instances = [1, 2]", "JSON Parse error: Invalid value. at offset: 0"),
        (b'{"a": }', "JSON Parse error: Invalid value. at offset: 6"),
        (b"{a: 1}", "JSON Parse error: Missing a name for object member. at offset: 1"),
        (b'{"a" 1}', "JSON Parse error: Missing a colon after a name of object member. at offset: 5"),
        (b'{"a": 1 "b"}', "JSON Parse error: Missing a comma or } after an object member. at offset: 8"),
        (b'{"a": [1 2]}', "JSON Parse error: Missing a comma or ] after an array element. at offset: 9"),
        (b'{"a": "x}', "JSON Parse error: Missing a closing quotation mark in string. at offset: 9"),
        (b'{"a": "\\x"}', "JSON Parse error: Invalid escape character in string. at offset: 7"),
        (b'{"a": "\\', "JSON Parse error: Invalid escape character in string. at offset: 7"),
        (b'{"a": "\\u12x4"}', "JSON Parse error: Incorrect hex digit after \\u escape in string. at offset: 7"),
        (b'{"a": "\\u00e9', "JSON Parse error: Missing a closing quotation mark in string. at offset: 13"),
        (b'{"a": "\\ud83d"}', "JSON Parse error: The surrogate pair in string is invalid. at offset: 7"),
        (b'{"a": "\\ud83d\\u00e9"}', "JSON Parse error: The surrogate pair in string is invalid. at offset: 7"),
        (b'{"a": "\\ud83d\\ude00\\ude00"}', "JSON Parse error: The surrogate pair in string is invalid. at offset: 19"),
        (b'{"a": "x\ny"}', "JSON Parse error: Invalid encoding in string. at offset: 8"),
        (b'{"a": "x\0y"}', "JSON Parse error: Missing a closing quotation mark in string. at offset: 8"),
        ('{"é": }'.encode(), "JSON Parse error: Invalid value. at offset: 7"),
        (b'{"a": [1,]}', "JSON Parse error: Invalid value. at offset: 9"),
        (b'{"a": [turn]}', "JSON Parse error: Invalid value. at offset: 8"),
        (b'{"a": [-x]}', "JSON Parse error: Invalid value. at offset: 8"),
        (b'{"a": [-Infinit]}', "JSON Parse error: Invalid value. at offset: 15"),
        (b'{"a": [1.]}', "JSON Parse error: Miss fraction part in number. at offset: 9"),
        (b'{"a": [1.5e+]}', "JSON Parse error: Miss exponent in number. at offset: 12"),
        (b'{"a": [1.5.]}', "JSON Parse error: Missing a comma or ] after an array element. at offset: 10"),
        (b'{"a": [01]}', "JSON Parse error: Missing a comma or ] after an array element. at offset: 8"),
        (b'{"a": 1e400}', "JSON Parse error: Number too big to be stored in double. at offset: 6"),
        (b'{"a": ' + b"1" * 5000 + b"}", "JSON Parse error: Number too big to be stored in double. at offset: 6"),
        (b"[1]", "JSON Value: [1] Is not object"),
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
    document = parse_object(b'{"a": [Inf, -Inf, Infinity, NaN, -NaN], "Inf": "Inf \\" -Inf"}')
    *infinities, nan, minus_nan = document.members["a"]
    assert infinities == [math.inf, -math.inf, math.inf] and math.isnan(nan) and math.isnan(minus_nan)
    assert document.members["Inf"] == 'Inf " -Inf'


@pytest.mark.parametrize("rest", [b"x", b" }", b"\0", b'{"a": 2}', b"\xff", b'"\\ud83d"'], ids=repr)
def test_what_follows_the_document_is_not_looked_at(rest):
    assert parse_object(b' {"a": [1.0]} ' + rest).members == {"a": [1.0]}


@pytest.mark.parametrize(
    ("body", "members"),
    [
        ('{"a": [1.0], "a": [2.0]}', {"a": [1.0]}),
        ('{"a": {"x": 1, "y": "a:b", "x": 2}}', {"a": {"x": 1, "y": "a:b"}}),
        ('{"a": [[{"x": NaN}, {"x": 1, "\\u0078": 2}]], "a": 3}', {"a": [[{"x": math.nan}, {"x": 1}]]}),
    ],
    ids=["at the top", "below, with a colon in a text", "in the dialect"],
)
def test_of_two_equal_keys_the_first_one_counts(body, members):
    assert repr(parse_object(body.encode()).members) == repr(members)


def test_colons_in_texts_are_no_keys():
    members = {"a": ["http://x", ':"', '\\":', {"b": "::", "c": [{"d": ":"}]}], "e": {"f": {"g": ["12:30"]}}}
    assert parse_object(json.dumps(members).encode()).members == members


@pytest.mark.parametrize(
    ("digits", "value"),
    [
        ("18446744073709551615", 2**64 - 1),
        ("-9223372036854775808", -(2**63)),
        ("18446744073709551616", 2.0**64),
        ("-9223372036854775809", -(2.0**63)),
        ("1" * 300, float("1" * 300)),
    ],
    ids=["largest", "smallest", "one more", "one less", "300 digits"],
)
@pytest.mark.parametrize("token", ["null", "NaN"], ids=["in JSON", "in the dialect"])
def test_integers_beyond_64_bits_are_doubles(digits, value, token):
    [found, _] = parse_object(f'{{"a": [{digits}, {token}]}}'.encode()).members["a"]
    assert found == value and type(found) is type(value)


def test_a_document_knows_whether_it_can_hold_booleans():
    assert not parse_object(b'{"a": [1, 2]}').may_hold_booleans
    assert parse_object(b'{"a": [1, true]}').may_hold_booleans

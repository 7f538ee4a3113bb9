"""A long body that is parsed in pieces is the document that it would be as a whole."""

import json
import math
import random

import pytest

from inkling.serving.errors import ServingError
from inkling.serving.rest.long_json import parse_long_object
from inkling.serving.rest.rapidjson import parse_object


def parse(body):
    return parse_long_object(body, piece_bytes=24)


DOCUMENTS = {
    "flat": {"instances": list(range(100))},
    "rows": {"signature_name": "a", "instances": [[i, i + 0.5] for i in range(50)]},
    "long rows": {"instances": [[[i] * 30 for i in range(5)], [[i] * 30 for i in range(5)]]},
    "long between short": {"instances": [1, [2] * 30, 3, [4] * 30, [5] * 30, 6]},
    "columns": {"inputs": {"x": [[1] * 30, [2] * 30], "y": "z" * 50, "w": {"v": [3] * 40}}},
    "named rows": {"instances": [{"x": [i] * 12, "y": {"b64": "QUJD"}} for i in range(9)]},
    "strings": {"instances": ['a,"[]{}\\', "\\\\", '\\"', "é[" * 9, ""] * 9},
    "empty": {"instances": [], "": [[]] * 30, "x": {}},
    "blanks": {"instances": ["   " * 20]},
    "deep": {"instances": [[[[[[[[[[[[1] * 30]]]]]]]]]]]},
    "keys": {"[" * 20: [1] * 30, '"': 2, "k" * 90: {"a": [None, True, False] * 9}},
}


@pytest.mark.parametrize("value", DOCUMENTS.values(), ids=DOCUMENTS)
@pytest.mark.parametrize("style", [{}, {"indent": 3}, {"separators": (",", ":")}], ids=["plain", "wide", "narrow"])
def test_every_document_is_whole(value, style):
    body = json.dumps(value, **style).encode()
    document = parse(body)
    assert document.members == value
    assert document.may_hold_booleans == parse_object(body).may_hold_booleans


@pytest.mark.parametrize("value", [["x" * 9_000_000], [{"b64": "x" * 9_000_000}]], ids=["string", "bytes"])
def test_a_picture_may_be_long(value):
    body = json.dumps({"signature_name": "image_bytes", "instances": value, "id": "x" * 5_000_000}).encode()
    assert parse_long_object(body).members["instances"] == value


def test_documents_at_random_are_whole():
    chance = random.Random(0)

    def draw(depth):
        kind = chance.randrange(6 if depth else 4)
        if kind == 4:
            return [draw(depth - 1) for _ in range(chance.randrange(20))]
        if kind == 5:
            return {
                chance.choice('ab"[,]\\') * chance.randrange(9): draw(depth - 1) for _ in range(chance.randrange(6))
            }
        return chance.choice([1, 2.5, "x" * chance.randrange(30), ',]"\\', None, True])

    for _ in range(300):
        value = {"instances": [draw(4) for _ in range(20)], "other": draw(3)}
        assert parse(json.dumps(value).encode()).members == value


def test_the_dialect_is_read_in_pieces_too():
    body = b'{"instances": [' + b"1, " * 20 + b"NaN, " * 3 + b"-Infinity" + b", 2" * 20 + b"]}"
    values = parse(body).members["instances"]
    assert len(values) == 44 and math.isnan(values[20]) and values[23] == -math.inf


BROKEN = {
    "no value": b'{"instances": [' + b"1," * 40 + b",1]}",
    "no last value": b'{"instances": [' + b"1," * 40 + b"]}",
    "no first value": b'{"instances": [,' + b"1," * 40 + b"1]}",
    "no comma": b'{"instances": [' + b"1," * 40 + b"1 2" + b",1" * 40 + b"]}",
    "no comma before a long one": b'{"instances": [1 [' + b"1," * 40 + b"1]]}",
    "no comma after a long one": b'{"instances": [[' + b"1," * 40 + b"1] 1]}",
    "two commas after a long one": b'{"instances": [[' + b"1," * 40 + b"1],,1]}",
    "a comma after the last, a long one": b'{"instances": [[' + b"1," * 40 + b"1],]}",
    "a comma before the first, a long one": b'{"instances": [,[' + b"1," * 40 + b"1]]}",
    "no end": b'{"instances": [' + b"1," * 40 + b"1",
    "no end of the object": b'{"instances": [' + b"1," * 40 + b"1]",
    "another bracket": b'{"instances": [' + b"1," * 40 + b"1}}",
    "another bracket within": b'{"instances": [[' + b"1," * 10 + b"1}," + b"1," * 40 + b"1]}",
    "no end of a string": b'{"instances": [' + b'"x",' * 20 + b'"x]}',
    "no colon": b'{"instances" [' + b"1," * 40 + b"1]}",
    "no key": b'{[' + b"1," * 40 + b"1]}",
    "a list": b"[" + b"1," * 40 + b"1]",
    "numbers": b"1," * 40,
    "a string": b'"' + b"x" * 100 + b'"',
    "a word": b"x" * 100,
    "a member that is no value": b'{"a": x, "instances": [' + b"1," * 40 + b"1]}",
}  # fmt: skip


@pytest.mark.parametrize("body", BROKEN.values(), ids=BROKEN)
def test_what_is_broken_is_refused(body):
    with pytest.raises(ServingError):
        parse_object(body)
    with pytest.raises(ServingError):
        parse(body)


def test_an_offset_is_that_in_the_whole_body():
    body = b'{"instances": [' + b"1," * 40 + b"x" + b",1" * 40 + b"]}"
    for read in (parse_object, parse):
        with pytest.raises(ServingError, match=f"at offset: {body.index(b'x')}$"):
            read(body)


def test_an_object_of_very_many_members_is_refused():
    body = json.dumps({str(i): 1 for i in range(500_000)}).encode()
    with pytest.raises(ServingError, match="too many members"):
        parse_long_object(body)

"""JSON as TensorFlow Serving reads and writes it: RapidJSON's dialect, its error texts, its pretty printer.

The dialect is JSON plus the tokens NaN, Infinity and -Infinity. `parse_object` reads a request's body; `number_texts`,
`string_text` and `nest` are what responses.py builds bodies from.
"""

import functools
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from math import inf, isinf, prod
from typing import Any

import numpy as np
import orjson

from ..errors import ServingError, invalid_argument

MAX_SHOWN = 4096  # characters of a caller's JSON that an error message repeats
FLOAT_MAX = float(np.finfo(np.float32).max)
FAR = 1 << 20  # characters: beyond, a comma's mistake is not traced back to its list or object

REASONS = {  # Python's words -> RapidJSON's (rapidjson/error/en.h)
    "Expecting value": "Invalid value.",
    "Expecting property name enclosed in double quotes": "Missing a name for object member.",
    "Illegal trailing comma before end of object": "Missing a name for object member.",
    "Illegal trailing comma before end of array": "Invalid value.",
    "Expecting ':' delimiter": "Missing a colon after a name of object member.",
    "Unterminated string starting at": "Missing a closing quotation mark in string.",
    "Invalid control character at": "Invalid encoding in string.",
    "Invalid \\escape": "Invalid escape character in string.",
    "Invalid \\uXXXX escape": "Incorrect hex digit after \\u escape in string.",
    "Extra data": "The document root must not be followed by other values.",
}
BRACKET = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}]', re.DOTALL)
CONTROL = re.compile(r'["\\\x00-\x1f]')
ESCAPES = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


@dataclass(frozen=True, slots=True)
class Document:
    """A request's JSON object, and whether it can hold `true` or `false` at all."""

    members: dict[str, Any]
    may_hold_booleans: bool


def parse_object(body: bytes) -> Document:
    """The JSON object that `body` is.

    Raises: ServingError, with RapidJSON's reason and the byte it stumbled over.
    """
    if not body:
        raise invalid_argument("JSON Parse error: The document is empty")
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        value = _parse_dialect(body)
    if not isinstance(value, dict):
        raise format_error(value, "Is not object")
    return Document(value, may_hold_booleans=b"true" in body or b"false" in body)


def _parse_dialect(body: bytes) -> Any:
    """What orjson refuses: the dialect's extra tokens, bytes that are not UTF-8 (passed on as they are), and errors."""
    text = body.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape")
    try:
        return json.loads(text, parse_float=_finite)
    except json.JSONDecodeError as error:
        raise _parse_error(text, error) from None
    except RecursionError:
        raise invalid_argument("JSON Parse error: lists and objects are nested too deeply") from None
    except ValueError:
        # Of thousands of digits; Python would also refuse such an integer.
        raise invalid_argument("JSON Parse error: Number too big to be stored in double.") from None


def _finite(digits: str) -> float:
    number = float(digits)
    if isinf(number):
        raise ValueError(digits)
    return number


def _parse_error(text: str, error: json.JSONDecodeError) -> ServingError:
    if not text.strip(" \t\r\n"):
        return invalid_argument(f"JSON Parse error: The document is empty. at offset: {len(text)}")
    if error.msg == "Expecting ',' delimiter":
        reason = _comma_reason(text, error.pos)
    else:
        reason = next((words for start, words in REASONS.items() if error.msg.startswith(start)), "Invalid value.")
    position = len(text) if error.msg.startswith("Unterminated string") else _skip_blanks(text, error.pos)
    offset = len(text[:position].encode("utf-8", "surrogateescape"))
    return invalid_argument(f"JSON Parse error: {reason} at offset: {offset}")


def _skip_blanks(text: str, position: int) -> int:
    while position < len(text) and text[position] in " \t\r\n":
        position += 1
    return position


def _comma_reason(text: str, position: int) -> str:
    closers = []
    if position <= FAR:
        for token in BRACKET.findall(text[:position]):
            if token in "[{":
                closers.append("}" if token == "{" else "]")
            elif token in "]}" and closers:
                closers.pop()
    if closers and closers[-1] == "}":
        return "Missing a comma or } after an object member."
    return "Missing a comma or ] after an array element."


def format_error(value: Any, what: str) -> ServingError:
    """`JSON Value: <value> <what>`."""
    return invalid_argument(f"JSON Value: {value_text(value)} {what}")


def value_text(value: Any) -> str:
    """`value` as an error message shows it: pretty-printed, and cut where it grows long."""
    if isinstance(value, float):
        dtype = np.float64 if FLOAT_MAX < abs(value) < inf else np.float32
        return number_texts(np.array([value], dtype))[0]
    if isinstance(value, str):
        return string_text(value[:MAX_SHOWN]) + ("...TRUNCATED" if len(value) > MAX_SHOWN else "")
    pieces = []
    length = 0
    for piece in json.JSONEncoder(indent=4, ensure_ascii=False).iterencode(value):
        pieces.append(piece[:MAX_SHOWN])
        length += len(piece)
        if length > MAX_SHOWN:
            return "".join(pieces)[:MAX_SHOWN] + "...TRUNCATED"
    return "".join(pieces)


def type_name(value: Any) -> str:
    """The name of `value`'s JSON type in error messages."""
    if value is None or isinstance(value, bool):
        return {None: "Null", False: "False", True: "True"}[value]
    names: dict[type, str] = {dict: "Object", list: "Array", str: "String", int: "Number", float: "Number"}
    return names[type(value)]


def string_text(text: str) -> str:
    """`text` as a JSON string; only what must be escaped is."""
    if CONTROL.search(text):
        text = CONTROL.sub(_escape, text)
    return f'"{text}"'


def _escape(match: re.Match[str]) -> str:
    character = match.group()
    return ESCAPES.get(character) or f"\\u{ord(character):04X}"


def number_texts(numbers: np.ndarray) -> list[str]:
    """One text for each of `numbers` (float32 or float64, any shape): the shortest of `%g` and full precision that
    reads back as the same number, whole ones with `.0`."""
    values = numbers.ravel().tolist()
    if not values:
        return []
    precision = 9 if numbers.dtype == np.float32 else 17
    template = "%g " * len(values)
    short = (template % tuple(values)).split()
    exact = np.array(short, numbers.dtype) == numbers.ravel()
    if exact.all():
        texts = short
    else:
        full = (f"%.{precision}g " * len(values) % tuple(values)).split()
        texts = [brief if same else long for brief, same, long in zip(short, exact.tolist(), full, strict=True)]
    if not np.isfinite(numbers).all():
        return [_with_point(text) if text[-1].isdigit() else _non_finite(text) for text in texts]
    return [_with_point(text) for text in texts]


def _with_point(text: str) -> str:
    return text if "." in text or "e" in text else f"{text}.0"


def _non_finite(text: str) -> str:
    return {"inf": "Infinity", "-inf": "-Infinity"}.get(text, "NaN")


def nest(texts: list[str], shape: Sequence[int], *, depth: int | None) -> list[str]:
    """`texts`, one for each element, joined to the JSON arrays of a tensor of this `shape`; one text in all.

    Args:
        depth: how many objects and arrays are open around the tensor, which sets the indentation; None for arrays in
            one line.
    """
    for axis in reversed(range(len(shape))):
        size = shape[axis]
        opening, separator, closing = _punctuation(None if depth is None else depth + axis)
        if size == 0:
            texts = ["[]"] * prod(shape[:axis])
            continue
        elements = iter(texts)
        texts = [f"{opening}{separator.join(islice(elements, size))}{closing}" for _ in range(len(texts) // size)]
    return texts


@functools.cache
def _punctuation(depth: int | None) -> tuple[str, str, str]:
    if depth is None:
        return "[", ", ", "]"
    inner, outer = indent(depth + 1), indent(depth)
    return f"[\n{inner}", f",\n{inner}", f"\n{outer}]"


def indent(depth: int) -> str:
    """The blanks before a line inside `depth` open objects and arrays."""
    return "    " * depth

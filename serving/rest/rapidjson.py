"""JSON as TensorFlow Serving reads and writes it: RapidJSON's dialect, its error texts, its pretty printer.

The dialect is JSON plus the tokens NaN, Inf and Infinity, with or without a minus; what follows the document is not
looked at, and of two equal keys the first one counts. `parse_object` reads a request's body; `number_texts`,
`string_text` and `nest` are what responses.py builds bodies from.
"""

import functools
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from math import inf, isinf, prod
from typing import Any

import numpy as np
import orjson

from ..errors import ServingError, invalid_argument
from .parse_errors import STRING, error_at, half_pair, parse_error, skip_blanks

MAX_SHOWN_BYTES = 256  # of a caller's JSON that an error message repeats
FLOAT_MAX = float(np.finfo(np.float32).max)
NAMES = re.compile(STRING.encode() + rb"\s*(:?)", re.DOTALL)
EXTRA_TOKEN = re.compile(r"Inf(?!inity)|-NaN")  # that Python does not know either
TOKEN = re.compile(rf"{STRING}|-?(?:Inf(?:inity)?|NaN)", re.DOTALL)
LONG_INTEGER = re.compile(r"\d{19}")
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
    if _repeats_keys(body, value):
        value = _parse_dialect(body, pairs_hook=_first_of_equal_keys)
    if not isinstance(value, dict):
        raise format_error(value, "Is not object")
    return Document(value, may_hold_booleans=b"true" in body or b"false" in body)


def _repeats_keys(body: bytes, value: Any) -> bool:
    """Whether an object in `body`, which was read as `value`, has a key twice: a dict keeps the last one's value."""
    most = body.count(b":")
    num_members = _num_members(value, most)
    return num_members < most and NAMES.findall(body).count(b":") > num_members


def _num_members(value: Any, most: int) -> int:
    """The members of all objects in `value`, which are not more than `most`: counted until there are as many."""
    count = 0
    level: Iterable[Any] = [value]
    while count < most:
        containers = [each for each in level if type(each) is dict or type(each) is list]
        if not containers:
            break
        objects = [each for each in containers if type(each) is dict]
        count += sum(map(len, objects))
        lists = (each for each in containers if type(each) is list)
        level = chain(chain.from_iterable(map(dict.values, objects)), chain.from_iterable(lists))
    return count


def _first_of_equal_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members: dict[str, Any] = {}
    for name, value in pairs:
        members.setdefault(name, value)
    return members


def _parse_dialect(body: bytes, *, pairs_hook: Any = None) -> Any:
    """What orjson refuses: the dialect's extra tokens, bytes that are not UTF-8 (passed on as they are), and errors."""
    text = body.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape")
    readable, constants = _without_extra_tokens(text)
    decoder = json.JSONDecoder(
        parse_float=_finite,
        parse_int=_integer if LONG_INTEGER.search(text) else None,
        parse_constant=constants,
        object_pairs_hook=pairs_hook,
    )
    start = skip_blanks(text, 0)
    if text[start : start + 1] in ("", "\0"):
        raise error_at(text, start, "The document is empty.")
    try:
        value, end = decoder.raw_decode(readable, start)
    except json.JSONDecodeError as error:
        raise parse_error(text, error) from None
    except RecursionError:
        raise invalid_argument("JSON Parse error: lists and objects are nested too deeply") from None
    except _TooBig as error:
        raise error_at(text, text.find(error.digits), "Number too big to be stored in double.") from None
    if (half := half_pair(text, end)) is not None:
        raise half
    return value


class _TooBig(ValueError):
    """A number beyond all doubles."""

    def __init__(self, digits: str) -> None:
        super().__init__(digits)
        self.digits = digits


def _without_extra_tokens(text: str) -> tuple[str, Any]:
    """`text` with NaN in place of the tokens that Python does not know, and what reads its constants in their order."""
    if not EXTRA_TOKEN.search(text):
        return text, None
    values: list[float] = []

    def replace(match: re.Match[str]) -> str:
        token = match.group()
        if token[0] == '"' or token.endswith("inity"):
            return token
        values.append(float(token))
        return "NaN".ljust(len(token))  # so that errors are where they were

    readable = TOKEN.sub(replace, text)
    in_order: Iterator[float] = iter(values)
    return readable, lambda name: next(in_order) if name == "NaN" else float(name)


def _finite(digits: str) -> float:
    number = float(digits)
    if isinf(number):
        raise _TooBig(digits)
    return number


def _integer(digits: str) -> int | float:
    """An integer of 64 bits, or else a double."""
    number = _finite(digits)
    return int(digits) if abs(number) <= 1 << 64 and -(1 << 63) <= int(digits) < 1 << 64 else number


def format_error(value: Any, what: str) -> ServingError:
    """`JSON Value: <value> <what>`."""
    return invalid_argument(f"JSON Value: {value_text(value)} {what}")


def value_text(value: Any) -> str:
    """`value` as an error message shows it: in one line, and cut where it grows long."""
    if isinstance(value, float):
        dtype = np.float64 if FLOAT_MAX < abs(value) < inf else np.float32
        return number_texts(np.array([value], dtype))[0]
    pieces = []
    num_bytes = 0
    for piece in json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).iterencode(value):
        shown = piece[:MAX_SHOWN_BYTES].encode("utf-8", "surrogatepass")
        pieces.append(shown)
        num_bytes += len(shown)
        if num_bytes >= MAX_SHOWN_BYTES:
            break
    return b"".join(pieces)[:MAX_SHOWN_BYTES].decode("utf-8", "ignore")


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

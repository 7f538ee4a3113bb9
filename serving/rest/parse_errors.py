"""Where a request's JSON breaks off, in RapidJSON's words and with its offset.

Python's own parser finds the mistake. What it calls it, and where it points at, is brought to what RapidJSON would say:
`parse_error` gives what TensorFlow Serving answers.
"""

import json
import re
from os.path import commonprefix

from ..errors import ServingError, invalid_argument

FAR = 1 << 20  # characters: beyond, a comma's mistake is not traced back to its list or object
BLANKS = re.compile("[ \t\r\n]*")

NO_CLOSING_QUOTE = "Missing a closing quotation mark in string."
BAD_ESCAPE = "Invalid escape character in string."
BAD_HEX = "Incorrect hex digit after \\u escape in string."
HALF_A_PAIR = "The surrogate pair in string is invalid."
INVALID_VALUE = "Invalid value."
REASONS = {  # Python's words -> RapidJSON's (rapidjson/error/en.h), for what is not in a string
    "Expecting value": INVALID_VALUE,
    "Expecting property name enclosed in double quotes": "Missing a name for object member.",
    "Illegal trailing comma before end of object": "Missing a name for object member.",
    "Illegal trailing comma before end of array": INVALID_VALUE,
    "Expecting ':' delimiter": "Missing a colon after a name of object member.",
}
STRING = r'"[^"\\]*(?:\\.[^"\\]*)*"'
HEX = re.compile("[0-9a-fA-F]{4}")
EXPONENT = re.compile("[eE][+-]?")
NUMBER = re.compile(r"-?\d+(\.\d+)?([eE][+-]?\d+)?\Z")
LONGEST_NUMBER = 1000  # characters: beyond, one that breaks off is not told from a missing comma
NUMBER_WORDS = ("NaN", "Infinity")
WHOLE_PAIRS = re.compile(  # as far as escaped surrogates come in pairs
    r"(?:[^\\]++|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\(?!u[dD][89a-fA-F]).)*+", re.DOTALL
)
BRACKET = re.compile(rf"{STRING}|[\[\]{{}}]", re.DOTALL)


def parse_error(text: str, error: json.JSONDecodeError) -> ServingError:
    """The error in RapidJSON's words, and where RapidJSON stops."""
    if (half := half_pair(text, len(text) if _is_unclosed(text, error) else error.pos)) is not None:
        return half
    reason = next((words for start, words in REASONS.items() if error.msg.startswith(start)), None)
    if error.msg == "Expecting ',' delimiter":
        return _comma_error(text, skip_blanks(text, error.pos))
    if reason is None:
        return _string_error(text, error)
    position = skip_blanks(text, error.pos + error.msg.startswith("Illegal trailing comma"))
    return error_at(text, _end_of_word(text, position) if reason == INVALID_VALUE else position, reason)


def half_pair(text: str, end: int) -> ServingError | None:
    """The error of an escaped surrogate without the other one before `end`; None if there is none."""
    paired = WHOLE_PAIRS.match(text, 0, end)
    position = paired.end() if paired is not None else end
    if not text.startswith(("\\ud", "\\uD"), position, end):
        return None
    is_followed = text.startswith("\\u", position + 6)
    is_hex = HEX.match(text, position + 8) is not None
    return error_at(text, position, BAD_HEX if is_followed and not is_hex else HALF_A_PAIR)


def _string_error(text: str, error: json.JSONDecodeError) -> ServingError:
    if error.msg.startswith("Invalid control character"):
        is_nul = text[error.pos] == "\0"
        return error_at(text, error.pos, NO_CLOSING_QUOTE if is_nul else "Invalid encoding in string.")
    if _is_unclosed(text, error):
        num_backslashes = len(text) - len(text.rstrip("\\"))
        is_escape = num_backslashes % 2 == 1
        return error_at(text, len(text) - is_escape, BAD_ESCAPE if is_escape else NO_CLOSING_QUOTE)
    if error.msg.startswith("Invalid \\u"):
        return error_at(text, error.pos - 1, BAD_HEX)
    return error_at(text, error.pos, BAD_ESCAPE)


def _is_unclosed(text: str, error: json.JSONDecodeError) -> bool:
    """Whether a string runs to the end of `text`; Python calls it a bad escape if it ends with one."""
    ends_escaped = error.msg.startswith("Invalid \\u") and HEX.match(text, error.pos + 1) is not None
    return error.msg.startswith("Unterminated string") or ends_escaped


def _end_of_word(text: str, position: int) -> int:
    """Where RapidJSON stops in what begins like a value at `position`."""
    is_negative = text.startswith("-", position)
    position += is_negative
    words = NUMBER_WORDS if is_negative else (*NUMBER_WORDS, "null", "true", "false")
    begins = (commonprefix([word, text[position : position + len(word)]]) for word in words)
    return position + len(max(begins, key=len))


def _comma_error(text: str, position: int) -> ServingError:
    """The error of what is neither comma nor bracket at `position`: a number may have broken off there."""
    if text.startswith("Inf", position - 3) and text.startswith("i", position):
        return error_at(text, _end_of_word(text, position - 3), INVALID_VALUE)
    number = NUMBER.search(text[max(0, position - LONGEST_NUMBER) : position])
    if number and text.startswith(".", position) and not number[1] and not number[2]:
        return error_at(text, position + 1, "Miss fraction part in number.")
    if number and not number[2] and (exponent := EXPONENT.match(text, position)):
        return error_at(text, exponent.end(), "Miss exponent in number.")
    return error_at(text, position, _comma_reason(text, position))


def error_at(text: str, position: int, reason: str) -> ServingError:
    """The error of `text` at a character's `position`, which is told in bytes."""
    offset = len(text[:position].encode("utf-8", "surrogateescape"))
    return invalid_argument(f"JSON Parse error: {reason} at offset: {offset}")


def skip_blanks(text: str, position: int) -> int:
    """The first place from `position` on that is not blank."""
    blanks = BLANKS.match(text, position)
    return blanks.end() if blanks is not None else position


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

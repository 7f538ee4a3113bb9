"""Long JSON bodies, parsed a piece at a time.

Parsing is one step during which Python lets no other thread run, and the event loop is a thread too: a million values
hold it up for a tenth of a second. So a long body is cut at commas between the elements of its long lists, for which
each bracket and quotation mark is looked at, and the pieces are parsed one by one. What is left of the body, with a
mark in the place of each long list, says what they belong to.
"""

import re
import secrets
from collections.abc import Iterator
from typing import Any

from ..errors import ServingError, invalid_argument
from .pieces import release
from .rapidjson import Document, format_error, parse_object

PIECE_BYTES = 1 << 16
WINDOW_BYTES = 1 << 17
MAX_LEVELS = 8  # long lists and objects in each other that are cut; each is gone through once more
MAX_LEFT_BYTES = 1 << 22  # of an object without what is long in it, unless that is strings: a picture may be long
MAX_LEFT_PARTS = 1 << 16
# A bracket or quotation mark; or a list of numbers, or of such lists, as a whole, which saves looking at each of its
# brackets. Bounded, since no other thread runs while Python looks for it.
PLAIN = rb'[^\[\]{}"]{0,4096}+'
TOKEN = re.compile(rb'\[(?:%b\[%b\]){0,64}+%b\]|[\[\]{}"]' % (PLAIN, PLAIN, PLAIN))
OFFSET = re.compile(r" at offset: (\d+)\Z")
NEXT = re.compile(rb"[ \t\r\n]*([,\]])")
WRAP = b'{"":[', b"]}"  # what a piece of a list is parsed in


def parse_long_object(body: bytes, *, piece_bytes: int = PIECE_BYTES) -> Document:
    """What `parse_object` makes of `body`, of which about `piece_bytes` are parsed at once.

    Raises: ServingError; where more than one thing is wrong it may be about another one.
    """
    if len(body) <= piece_bytes:
        return parse_object(body)
    first = _next_token(body, 0)
    if first is None or first[0][0] not in b"[{":
        return parse_object(body if first is not None and first[0] == b'"' else body[:piece_bytes])
    parser = _Parser(body, piece_bytes)
    if first[0][0] == ord("["):
        raise format_error(parser.list_at(first.start(), MAX_LEVELS), "Is not object")
    members = parser.object_at(first.start(), MAX_LEVELS, head=body[: first.start()], with_tail=True)
    return Document(members, may_hold_booleans=parser.may_hold_booleans)


def _next_token(body: bytes, position: int) -> re.Match[bytes] | None:
    """The first one from `position` on, looked for in windows: no other thread runs meanwhile."""
    for start in range(position, len(body), WINDOW_BYTES):
        if (match := TOKEN.search(body, start, start + WINDOW_BYTES)) is not None:
            return match
    return None


class _Parser:
    """Parses lists and objects of one body, each from its opening bracket."""

    def __init__(self, body: bytes, piece_bytes: int) -> None:
        self.may_hold_booleans = False
        self._body = body
        self._piece_bytes = piece_bytes
        self._mark = secrets.token_hex(8)  # a caller cannot know it

    def list_at(self, start: int, levels: int) -> list[Any]:
        values: list[Any] = []
        try:
            for begin, end, is_long in self._segments(start):
                if is_long:
                    values.append(self._long_value(begin, end, levels - 1))
                else:
                    values += self._piece(begin, end)
        except ServingError:
            release(values)
            raise
        return values

    def object_at(self, start: int, levels: int, *, head: bytes = b"", with_tail: bool = False) -> dict[str, Any]:
        """The object that begins at `start`, behind `head`; `with_tail` takes what follows it for part of the text."""
        left, end = [head, b"{"], start + 1
        long_values: list[Any] = []
        for begin, end, is_long in self._segments(start):
            if is_long:
                left.append(f'"{self._mark}{len(long_values)}"'.encode())
                long_values.append(self._long_value(begin, end, levels - 1))
            else:
                left.append(self._body[begin:end])
        left.append(self._body[end : end + self._piece_bytes] if with_tail else b"}")
        text = b"".join(left)
        if len(text) > MAX_LEFT_BYTES and text.count(b",") + text.count(b":") > MAX_LEFT_PARTS:
            raise invalid_argument(f"JSON Parse error: an object has too many members at offset: {start}")
        document = parse_object(text)
        self.may_hold_booleans |= document.may_hold_booleans
        return {name: self._unmarked(value, long_values) for name, value in document.members.items()}

    def _unmarked(self, value: Any, long_values: list[Any]) -> Any:
        if isinstance(value, str) and value.startswith(self._mark):
            return long_values[int(value.removeprefix(self._mark))]
        return value

    def _long_value(self, begin: int, end: int, levels: int) -> Any:
        if levels == 0:
            return self._piece(begin, end)[0]
        return self.list_at(begin, levels) if self._body[begin] == ord("[") else self.object_at(begin, levels)

    def _piece(self, begin: int, end: int) -> list[Any]:
        """The values between `begin` and `end`, with commas between them."""
        try:
            document = parse_object(WRAP[0] + self._body[begin:end] + WRAP[1])
        except ServingError as error:
            raise self._moved(error, begin - len(WRAP[0])) from error
        self.may_hold_booleans |= document.may_hold_booleans
        values: list[Any] = document.members[""]
        return values

    def _moved(self, error: ServingError, by: int) -> ServingError:
        """`error` with its offset in the whole body."""
        return invalid_argument(OFFSET.sub(lambda found: f" at offset: {int(found[1]) + by}", error.message))

    def _segments(self, start: int) -> Iterator[tuple[int, int, bool]]:
        """What lies between the brackets of the list or object at `start`.

        Yields: where a segment begins and ends, and whether it is one long list or object. Of a list the comma between
            two segments belongs to none; of an object every byte but those of the brackets belongs to one.
        """
        body, is_list = self._body, self._body[start] == ord("[")
        depth, begin, gap, opened, is_behind_comma = 1, start + 1, start + 1, (start, start), False
        position = start + 1
        while (match := _next_token(body, position)) is not None:
            at, token = match.start(), match[0]
            position = at + 1
            if depth == 1 and is_list:
                while (comma := self._comma(begin, gap, at)) >= 0:
                    yield self._values(begin, comma)
                    begin, is_behind_comma = comma + 1, True
            if len(token) > 1 and (depth > 1 or len(token) <= self._piece_bytes):
                position = match.end()
            elif token == b'"':
                position = self._string_end(position)
            elif token[0] in b"[{":
                opened = (at, gap) if depth == 1 else opened
                depth += 1
            else:
                depth -= 1
                if depth == 0:
                    if body[begin:at].strip() or is_behind_comma or not is_list:
                        yield self._values(begin, at) if is_list else (begin, at, False)
                    self._check_close(start, at)
                    return
                if depth == 1 and position - opened[0] > self._piece_bytes:
                    if not is_list:
                        yield begin, opened[0], False
                    elif body[begin : opened[0]].strip():
                        yield self._values(begin, self._comma_before(*opened))
                    yield opened[0], position, True
                    begin = self._behind(position) if is_list else position
                    is_behind_comma, position = begin > position and is_list, begin
            if depth == 1:
                gap = position
        raise self._no_comma(len(body))

    def _comma(self, begin: int, gap: int, at: int) -> int:
        """Where to end the segment from `begin`, in the text without brackets and strings from `gap` to `at`; or -1."""
        if at - begin <= self._piece_bytes:
            return -1
        gap = max(gap, begin)
        last = self._body.rfind(b",", gap, min(at, begin + self._piece_bytes))
        return last if last >= 0 else self._body.find(b",", gap, at)

    def _comma_before(self, opened: int, gap: int) -> int:
        comma = self._body.rfind(b",", gap, opened)
        if comma < 0 or self._body[comma + 1 : opened].strip():
            raise self._no_comma(opened)
        return comma

    def _behind(self, position: int) -> int:
        """Where the next element begins after a long one that ends at `position`, or `position` if it was the last."""
        match = NEXT.match(self._body, position)
        if match is None:
            raise self._no_comma(position)
        return match.end() if match[1] == b"," else position

    def _values(self, begin: int, end: int) -> tuple[int, int, bool]:
        if not self._body[begin:end].strip():
            raise invalid_argument(f"JSON Parse error: Invalid value. at offset: {end}")
        return begin, end, False

    def _check_close(self, start: int, at: int) -> None:
        if self._body[start] + 2 != self._body[at]:  # brackets stand two apart in ASCII
            raise self._no_comma(at)

    def _no_comma(self, at: int) -> ServingError:
        return invalid_argument(f"JSON Parse error: Missing a comma or ] after an array element. at offset: {at}")

    def _string_end(self, position: int) -> int:
        """Behind the quotation mark that ends the string whose text begins at `position`."""
        begin = position
        while (at := self._body.find(b'"', position)) >= 0:
            text = self._body[begin:at]
            if (len(text) - len(text.rstrip(b"\\"))) % 2 == 0:
                return at + 1
            begin = position = at + 1
        raise invalid_argument(
            f"JSON Parse error: Missing a closing quotation mark in string. at offset: {len(self._body)}"
        )

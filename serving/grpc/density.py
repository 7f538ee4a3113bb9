"""How many parts a message has, before it is parsed: that, and not its length, is what it costs.

A megabyte of one tensor's content takes no time, but the same megabyte may be half a million empty strings, and parsing
is one step during which Python lets no other thread run. So long messages are gone through first, from field to field,
which other threads can interrupt; what is within a field is skipped, unless it is a message of its own.
"""

from collections.abc import Mapping
from contextlib import suppress
from functools import cache

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from ..errors import invalid_argument
from ..offload import SHORT

LONG_BYTES = 1 << 20  # shorter messages are parsed in milliseconds, whatever is in them
MAX_PARTS = 1 << 20
FEW_PARTS = 256
BYTES_A_PART = 16  # of a message with many parts
COPIED_BYTES = 256  # of one with few, which are copied at once
PACKED_BYTES = 64  # of a list of numbers of different lengths, for one part
MAX_DEPTH = 100  # protobuf's own: what is deeper it does not parse
VARINT, FIXED64, DELIMITED, FIXED32 = 0, 1, 2, 5
MAX_VARINT_BYTES = 10
PACKED_TYPES = frozenset(
    {
        FieldDescriptor.TYPE_BOOL,
        FieldDescriptor.TYPE_ENUM,
        FieldDescriptor.TYPE_INT32,
        FieldDescriptor.TYPE_INT64,
        FieldDescriptor.TYPE_UINT32,
        FieldDescriptor.TYPE_UINT64,
    }
)


class TooManyParts(Exception):
    """A message has more parts than were to be counted."""


def size_of(content: bytes, message: Descriptor) -> int:
    """The size of a serialized `message` in the sense of offload.py."""
    if len(content) > BYTES_A_PART * SHORT:
        with suppress(TooManyParts, IndexError):
            _count(content, 0, len(content), message, FEW_PARTS, MAX_DEPTH)
            return len(content) // COPIED_BYTES
    return len(content) // BYTES_A_PART


def check_density(content: bytes, message: Descriptor) -> None:
    """Refuse a serialized `message` that is long and has too many parts.

    Raises: ServingError INVALID_ARGUMENT.
    """
    if len(content) <= LONG_BYTES:
        return
    try:
        with suppress(IndexError):
            _count(content, 0, len(content), message, MAX_PARTS, MAX_DEPTH)
    except TooManyParts:
        raise invalid_argument(
            f"The request has more than {MAX_PARTS} inputs, strings, features or values of other types than float and "
            f"double; send numbers as tensor_content, and the rest in several requests"
        ) from None


def _count(content: bytes, start: int, end: int, message: Descriptor, left: int, depth: int) -> int:
    """How many parts are left of `left`, after those between `start` and `end`.

    Written for speed: a part costs half a microsecond, and a hostile message has hundreds of thousands.

    Raises: TooManyParts; IndexError where the message ends too early, which parsing will find too.
    """
    nested, packed = _fields(message)
    while start < end:
        if left <= 0:
            raise TooManyParts
        left -= 1
        tag = content[start]
        start += 1
        if tag >= 0x80:
            tag, start = _varint(content, start - 1)
        kind = tag & 7
        if kind == DELIMITED:
            length = content[start]
            start += 1
            if length >= 0x80:
                length, start = _varint(content, start - 1)
            stop = start + length
            if (inner := nested.get(tag >> 3)) is not None and depth:
                left = _count(content, start, min(stop, end), inner, left, depth - 1)
            elif tag >> 3 in packed:
                left -= length // PACKED_BYTES
                if left < 0:
                    raise TooManyParts
            start = stop
        elif kind == VARINT:
            _, start = _varint(content, start)
        else:
            start += {FIXED64: 8, FIXED32: 4}.get(kind, 0)  # a group has its fields between two tags
    return left


def _varint(content: bytes, start: int) -> tuple[int, int]:
    """The number at `start`, and where it ends.

    Raises: IndexError if there is none.
    """
    value = shift = 0
    for position in range(start, start + MAX_VARINT_BYTES):
        byte = content[position]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position + 1
        shift += 7
    raise IndexError(start)  # longer than a number may be


@cache
def _fields(message: Descriptor) -> tuple[Mapping[int, Descriptor], frozenset[int]]:
    """The fields that are messages, and those that are packed numbers, by their own numbers."""
    nested = {field.number: field.message_type for field in message.fields if field.message_type is not None}
    return nested, frozenset(field.number for field in message.fields if field.type in PACKED_TYPES)

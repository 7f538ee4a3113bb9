"""What belongs together on a page: fields, the table that they make, and the numbers written in them.

A field is what stands between two tabs of a line: the cell of a form or table, or one of several columns. Fields of
different lines that lie below each other are a column; a table has a cell for each line and column, empty where nothing
stands. A number is a word of digits that has one meaning: "1,234" has two (a thousand and more in London, one and a bit
in Berlin), and a number with a doubtful digit has who knows how many.
"""

import csv
import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal

from .marks import ReadDigit, ReadSign
from .page import Box

PLAIN = re.compile(r"\d+")
# Three digits behind a point or comma may be thousands, unless there is nothing, or too much, before it.
DECIMAL = re.compile(r"(\d+)[.,](\d{1,2}|\d{4,})|(0|\d{4,})[.,](\d+)")
GROUPED = re.compile(
    r"(\d{1,3}(?:,\d{3})+)\.(\d+)|(\d{1,3}(?:\.\d{3})+),(\d+)|(\d{1,3}(?:,\d{3}){2,}|\d{1,3}(?:\.\d{3}){2,})"
)
UNCLEAR = re.compile(r"[1-9]\d{0,2}[.,]\d{3}")
NUMBER_LIKE = re.compile(r"[\d.,?]*\d[\d.,?]*")
UNITS = "$€%"


@dataclass(frozen=True, slots=True)
class Field:
    """A part of a line: a cell, or one of several columns."""

    text: str  # with spaces between its words; "?" for what is no digit
    box: Box  # in the picture
    line: int  # from 0, among the lines that were read
    confident: bool  # whether nothing in it is marked


@dataclass(frozen=True, slots=True)
class Number:
    """A number on a page."""

    text: str
    value: Decimal | None  # None where it may have another meaning, or a digit of it is doubtful
    unit: str  # "$", "€", "%" or ""
    box: Box
    line: int  # as of a field


@dataclass(frozen=True, slots=True)
class Table:
    """A page's fields by line and column."""

    rows: tuple[tuple[Field | None, ...], ...]  # all of one length; None where nothing stands
    has_header: bool  # whether the first row is of words, and no other is

    @property
    def texts(self) -> list[list[str]]:
        """The cells' texts; "" where nothing stands."""
        return [[cell.text if cell else "" for cell in row] for row in self.rows]

    @property
    def confident(self) -> bool:
        """Whether no cell has a mark."""
        return all(cell is None or cell.confident for row in self.rows for cell in row)

    def to_csv(self) -> str:
        """The cells as comma-separated values (RFC 4180), a line of the table on a line."""
        buffer = io.StringIO()
        csv.writer(buffer).writerows(self.texts)
        return buffer.getvalue()


@dataclass(frozen=True, slots=True, eq=False)
class _Column:
    """Fields below each other."""

    left: int
    right: int
    fields: list[Field]

    @property
    def lines(self) -> set[int]:
        return {each.line for each in self.fields}


def parts_of(marks: Sequence[ReadDigit | ReadSign], line: int, *, ends: str) -> list[Field]:
    """Part a line.

    Args:
        marks: its digits and signs, from left to right.
        line: its number.
        ends: what ends a part: a tab, or a tab and a space.
    """
    parts: list[list[ReadDigit | ReadSign]] = []
    for mark in marks:
        if not parts or (mark.before and mark.before in ends):
            parts.append([])
        parts[-1].append(mark)
    return [
        Field(
            "".join(mark.before + mark.text for mark in part).strip(),
            around([mark.box for mark in part]),
            line,
            not any(mark.doubtful for mark in part),
        )
        for part in parts
    ]


def table_of(fields: Sequence[Field], *, across: Sequence[tuple[int, int]]) -> Table:
    """Put fields into the cells of a table.

    Args:
        across: for each field, from where to where it lies in the reading direction.
    """
    columns = _columns(fields, across)
    lines = sorted({each.line for each in fields})
    rows = tuple(tuple(_cell(column, line) for column in columns) for line in lines)
    words = [all(cell is None or _is_words(cell) for cell in row) for row in rows]
    return Table(rows, len(words) > 1 and words[0] and not any(words[1:]))


def _columns(fields: Sequence[Field], across: Sequence[tuple[int, int]]) -> list[_Column]:
    """The fields in columns, from left to right: the narrowest first, as a wide one may lie below two columns."""
    columns: list[_Column] = []
    for each, (left, right) in sorted(zip(fields, across, strict=True), key=lambda item: item[1][1] - item[1][0]):
        touched = [column for column in columns if min(column.right, right) > max(column.left, left)]
        together = [*touched, _Column(left, right, [each])]
        if len(set.union(*(column.lines for column in together))) == sum(len(column.lines) for column in together):
            columns = [column for column in columns if column not in touched] + [_as_one(together)]
        else:  # they are columns of their own, since a line has fields in two of them
            free = [column for column in touched if each.line not in column.lines]
            (free or touched)[0].fields.append(each)
    return sorted(columns, key=lambda column: column.left)


def _as_one(columns: Sequence[_Column]) -> _Column:
    fields = [each for column in columns for each in column.fields]
    return _Column(min(column.left for column in columns), max(column.right for column in columns), fields)


def _cell(column: _Column, line: int) -> Field | None:
    found = sorted((each for each in column.fields if each.line == line), key=lambda each: each.box.left)
    if len(found) < 2:
        return found[0] if found else None
    return Field(
        " ".join(each.text for each in found),
        around([each.box for each in found]),
        line,
        all(each.confident for each in found),
    )


def _is_words(cell: Field) -> bool:
    """Whether most of it is no digit."""
    marks = cell.text.replace(" ", "")
    return marks.count("?") > len(marks) / 2


def around(boxes: Iterable[Box]) -> Box:
    """The smallest box around some."""
    all_boxes = list(boxes)
    return Box(
        min(box.left for box in all_boxes),
        min(box.top for box in all_boxes),
        max(box.right for box in all_boxes),
        max(box.bottom for box in all_boxes),
    )


def numbers_among(words: Iterable[Field]) -> list[Number]:
    """The numbers among words; dates, times and sums are none."""
    return [number for number in map(_number, words) if number is not None]


def _number(word: Field) -> Number | None:
    bare, unit = _without_unit(word.text)
    digits = bare.removeprefix("-").removeprefix("+")
    value, unclear = _value(digits), "?" in digits or bool(UNCLEAR.fullmatch(digits))
    if not NUMBER_LIKE.fullmatch(digits) or (value is None and not unclear):
        return None
    if value is not None:
        value = -value if bare.startswith("-") else value
    return Number(word.text, value if word.confident and not unclear else None, unit, word.box, word.line)


def _without_unit(word: str) -> tuple[str, str]:
    """A word's number and its unit."""
    for unit in UNITS:
        if word.startswith(unit) or word.endswith(unit):
            return word.strip(unit), unit
    return word, ""


def _value(text: str) -> Decimal | None:
    """What digits, points and commas mean; None if that is not clear, or if they are no number."""
    if PLAIN.fullmatch(text):
        return Decimal(text)
    for form in (GROUPED, DECIMAL):
        match = form.fullmatch(text)
        if match:
            parts = [re.sub(r"\D", "", part) for part in match.groups() if part is not None]
            return Decimal(".".join(parts))
    return None

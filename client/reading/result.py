"""What a picture says: `Reading`, made of a page (`page.py`) and the classifier's probabilities for its images.

The path through each line is `best_path`'s, what is marked on it `marks`', the spaces are `spacing`'s; what has no
place on a path is left out, with the reason.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .best_path import Choice, best_path
from .draw import Colour, LabelledBox, draw_boxes, notebook_html
from .fields import Field, Number, Table, numbers_among, parts_of, table_of
from .marks import (
    CUT_WHY,
    NO_DIGIT,
    RING_WHY,
    ReadDigit,
    ReadSign,
    all_ones,
    doubtful_cuts,
    judged,
    letter_logit,
    rings,
    without_words,
)
from .page import Box, Candidate, LeftOut, Page, PageLine
from .sense import doubted, without_sense
from .sign_votes import with_sign_votes
from .spacing import parted
from .votes import votes_on_page

__all__ = ["NO_DIGIT", "Field", "Number", "ReadDigit", "ReadSign", "Reading", "Table"]

# Of the line's height: so high a blot is mentioned; so high or so wide a one may be a digit or a sign.
SMALL_BLOT, LARGE_BLOT, WIDE_BLOT = 0.15, 0.3, 0.3

SURE_COLOUR: Colour = (23, 128, 61)
DOUBTFUL_COLOUR: Colour = (202, 112, 0)
NO_DIGIT_COLOUR: Colour = (200, 30, 45)


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """A picture's digits in reading order."""

    digits: tuple[ReadDigit, ...]
    picture: NDArray[np.uint8]  # uint8 [height, width, 3] RGB, upright
    model_version: int | None = None
    signs: tuple[ReadSign, ...] = ()
    left_out: tuple[LeftOut, ...] = ()  # what may be writing, and was not read
    quarters: int = 0  # right angles by which the picture was turned clockwise to be read
    notes: tuple[str, ...] = ()  # why the page as a whole reads badly

    @classmethod
    def of(cls, page: Page, probabilities: NDArray[np.floating[Any]], *, model_version: int | None = None) -> "Reading":
        """Choose the best reading of a page, given what the classifier says of its images.

        Args:
            probabilities: float [n, 10], of each of `page.images`.
            model_version: of the classifier, to be remembered.

        Raises:
            ValueError: the probabilities are not [n, 10], or not finite.
        """
        expected = (len(page.images), 10)
        if probabilities.shape != expected:
            raise ValueError(
                f"probabilities have shape {list(probabilities.shape)}, expected {list(expected)}: ten classes for "
                "each of page.images; is the model one that reads digits?"
            )
        if not np.isfinite(probabilities).all():
            raise ValueError(
                "some probabilities are NaN or infinite; were the model's weights finite when it was exported?"
            )
        votes = votes_on_page(page, probabilities)
        marks: list[tuple[ReadDigit, float]] = []
        signs: list[ReadSign] = []
        left_out = list(page.left_out)
        for number, found in enumerate(page.lines):
            line = with_sign_votes(found, votes)
            chosen = best_path(line, votes.together, votes.scores, strangers=votes.strangers, known=votes.known)
            left_out += _blots(line, chosen)
            if all(choice.candidate.sign for choice in chosen):
                left_out += [_lone_sign(choice) for choice in chosen]
                continue
            why = dict.fromkeys(doubtful_cuts(line, chosen, votes), CUT_WHY) | dict.fromkeys(rings(chosen), RING_WHY)
            for place, (choice, before) in enumerate(zip(chosen, parted(line, chosen), strict=True)):
                candidate = choice.candidate
                if candidate.sign:
                    sign = ReadSign(candidate.sign, candidate.box, number, before, place)
                    signs.append(doubted(sign, f"a {sign.text}, or a {candidate.like}" if candidate.like else ""))
                    continue
                digit = replace(judged(choice, page, votes, line=number), before=before, place=place)
                if candidate.number in why and not digit.doubtful:
                    digit = replace(digit, doubtful=True, why=why[candidate.number])
                marks.append((digit, letter_logit(choice, line, float(votes.strangers[candidate.number]))))
        digits = all_ones(without_words(marks))
        signs = _with_sense(digits, signs)
        return cls(tuple(digits), page.picture, model_version, tuple(signs), tuple(left_out), page.quarters)

    @property
    def lines(self) -> tuple[tuple[ReadDigit, ...], ...]:
        """The digits, line by line; no line is empty."""
        numbers = sorted({digit.line for digit in self.digits})
        return tuple(tuple(digit for digit in self.digits if digit.line == number) for number in numbers)

    @property
    def text(self) -> str:
        """Such as "4071\\n2.50 17"; "" if there is nothing to read."""
        return "\n".join(self._line_texts())

    def _line_texts(self) -> list[str]:
        return [
            "".join(each.before + each.text for each in _in_order(line, self.signs)).lstrip() for line in self.lines
        ]

    @property
    def fields(self) -> tuple[Field, ...]:
        """The cells and columns of each line, row by row: what stands between two tabs."""
        return tuple(self._parts("\t"))

    @property
    def numbers(self) -> tuple[Number, ...]:
        """The words that are numbers, with their values; a value in doubt is None."""
        return tuple(numbers_among(self._parts("\t ")))

    @property
    def columns(self) -> tuple[str, ...]:
        """The fields that lie below each other, a column after the other, with a line for each field."""
        table = self.table()
        return tuple("\n".join(cell.text for cell in column if cell) for column in zip(*table.rows, strict=True))

    def table(self) -> Table:
        """The fields by line and column, by printed rules where there are some, else by how they are aligned."""
        fields = self.fields
        return table_of(fields, across=[self._across(each.box) for each in fields])

    def _across(self, box: Box) -> tuple[int, int]:
        """From where to where it lies in the reading direction."""
        height, width = self.picture.shape[:2]
        return (
            (box.left, box.right),
            (height - box.bottom, height - box.top),
            (width - box.right, width - box.left),
            (box.top, box.bottom),
        )[self.quarters % 4]

    def _parts(self, ends: str) -> list[Field]:
        return [
            part
            for number, line in enumerate(self.lines)
            for part in parts_of(_in_order(line, self.signs), number, ends=ends)
        ]

    @property
    def confident(self) -> bool:
        """Whether something was read, nothing is marked, and nothing was left out that may be a digit."""
        doubtful = any(digit.doubtful or not digit.is_digit for digit in self.digits)
        marked = bool(self.notes) or doubtful or any(sign.doubtful for sign in self.signs)
        return bool(self.digits) and not marked and not any(each.may_be_digit for each in self.left_out)

    def marks(self) -> list[str]:
        """Why the page reads badly, and why digits are marked, a sentence for each."""
        found = list(self.notes)
        for number, line in enumerate(self.lines, 1):
            for place, digit in enumerate(line, 1):
                if digit.why:
                    found.append(f"line {number}, digit {place} ({digit.text}): {digit.why}")
            found += [
                f"line {number}, sign {sign.text}: {sign.why}"
                for sign in self.signs
                if sign.why and sign.line == line[0].line
            ]
        return found + [
            f"left out at {each.box.left}, {each.box.top}: {each.why}" for each in self.left_out if each.may_be_digit
        ]

    def __str__(self) -> str:
        return "\n".join([self.text or "(nothing to read)", *self.marks()])

    def to_json(self) -> dict[str, Any]:
        """Everything but the pixels, for `json.dumps`."""
        height, width = self.picture.shape[:2]
        return {
            "text": self.text,
            "confident": self.confident,
            "model_version": self.model_version,
            "width": width,
            "height": height,
            "lines": [
                {
                    "text": text,
                    "digits": [_digit_json(digit) for digit in line],
                    "signs": [_sign_json(sign) for sign in self.signs if sign.line == line[0].line],
                }
                for text, line in zip(self._line_texts(), self.lines, strict=True)
            ],
            "left_out": [
                {"box": _box_json(each.box), "why": each.why, "may_be_digit": each.may_be_digit}
                for each in self.left_out
            ],
            "turned_degrees": 90 * self.quarters,
            "notes": list(self.notes),
        }

    def draw(self) -> Image.Image:
        """The picture with a box around each digit and its label above: green, amber if doubtful, red if no digit.

        Signs have a box if they are doubtful.
        """
        boxes = [LabelledBox(digit.box, digit.text, _colour(digit)) for digit in self.digits]
        boxes += [LabelledBox(sign.box, sign.text, DOUBTFUL_COLOUR) for sign in self.signs if sign.doubtful]
        return draw_boxes(self.picture, boxes)

    def _repr_html_(self) -> str:
        """The drawn picture and the text, as notebooks show them."""
        return notebook_html(self.draw(), str(self))


def _in_order(line: Sequence[ReadDigit], signs: Sequence[ReadSign]) -> list[ReadDigit | ReadSign]:
    """A line's digits and signs, from left to right."""
    return sorted([*line, *(sign for sign in signs if sign.line == line[0].line)], key=lambda each: each.place)


def _with_sense(digits: Sequence[ReadDigit], signs: Sequence[ReadSign]) -> list[ReadSign]:
    """The signs, those marked that make no sense where they stand."""
    result = []
    for number in sorted({sign.line for sign in signs}):
        line = _in_order([digit for digit in digits if digit.line == number], signs)
        why = without_sense(line)
        own = [sign for sign in signs if sign.line == number]
        result += [doubted(sign, sign.why or why.get(sign.place, "")) for sign in own]
    return result


def _blots(line: PageLine, chosen: Sequence[Choice]) -> list[LeftOut]:
    """The segments that the path leaves out."""
    read = {place for choice in chosen for place in range(choice.candidate.start, choice.candidate.stop)}
    return [
        LeftOut(each.box, "too small for a digit of its line", _is_large_blot(each))
        for each in line.candidates
        if each.stop - each.start == 1 and each.start not in read and each.height >= SMALL_BLOT
    ]


def _is_large_blot(candidate: Candidate) -> bool:
    """Whether it may be a digit, or a sign."""
    left, right = candidate.extent
    return candidate.height >= LARGE_BLOT or right - left >= WIDE_BLOT


def _lone_sign(choice: Choice) -> LeftOut:
    return LeftOut(choice.candidate.box, f"like a {choice.candidate.sign}, without a digit beside it", True)


def _colour(digit: ReadDigit) -> Colour:
    if not digit.is_digit:
        return NO_DIGIT_COLOUR
    return DOUBTFUL_COLOUR if digit.doubtful else SURE_COLOUR


def _digit_json(digit: ReadDigit) -> dict[str, Any]:
    return {
        "label": digit.label,
        "probability": round(digit.probability, 6),
        "probabilities": [round(p, 6) for p in digit.probabilities],
        "box": _box_json(digit.box),
        "doubtful": digit.doubtful,
        "is_digit": digit.is_digit,
        "why": digit.why,
    }


def _sign_json(sign: ReadSign) -> dict[str, Any]:
    return {
        "text": sign.text,
        "box": _box_json(sign.box),
        "place": sign.place,
        "doubtful": sign.doubtful,
        "why": sign.why,
    }


def _box_json(box: Box) -> list[int]:
    return [box.left, box.top, box.right, box.bottom]

"""What a picture says: `Reading`, made of a page (`page.py`) and the classifier's probabilities for its images.

A digit that is hard to tell is written and marked as doubtful; a shape that is not a digit is written as "?". The marks
come from five symptoms, each with its own words in `ReadDigit.why`: a low probability, the two views of the digit (as
written, and upright) read differently, another way to cut the line that is nearly as good, proportions that the digit
does not have, and a shape unlike all that people write for it. They cannot tell everything: the classifier knows ten
classes and no others, and a letter that looks like a digit is read as that digit.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .best_path import Choice, aspect_z_score, best_path
from .draw import Colour, LabelledBox, draw_boxes, notebook_html
from .novelty import outlier_scores
from .page import VIEWS, Box, Candidate, LeftOut, Page, PageLine
from .strangers import stranger_logits

NO_DIGIT = "?"

# On pages made of MNIST's training digits (docs/reading.md): of the digits read rightly 1 in 100 is under the first
# limit and 1 in 1000 under the second; of those read wrongly more than half are under the first.
DOUBTFUL_BELOW, NO_DIGIT_BELOW = 0.85, 0.45
# Outlier scores: over those of 995 and of 999 in 1000 training images. These limits and the following were set by hand,
# by looking at what was marked on such pages, and at letters, scribbles and blots.
DOUBTFUL_SCORE, NO_DIGIT_SCORE = 1.12, 1.35
DOUBTFUL_LOGIT, NO_DIGIT_LOGIT = 3.0, 5.5  # of a stranger (`strangers`): 13 and 2 in 1000 of MNIST's digits are over
LIKE_A_LETTER = 3.5  # logit of a stranger from which a mark may be a letter: 1 in 100 of MNIST's digits is over
LETTERS, STRANGE_WORD = 2, 1 / 3  # so many of a word's marks, and this share of them: then the others are letters, too
DOUBTFUL_ASPECT, NO_DIGIT_ASPECT = 2.8, 3.6  # standard deviations from the class's usual proportions
LEAST_MARGIN = 0.15  # nats to the next best way to cut the line
WIDEST = 2.0  # a digit's width over its height
FULLEST, NARROW = 0.85, 0.6  # share of its box that is ink; width over height of a 1, which may be as full as it likes
# Of the line's height: so high a blot is mentioned; so high or so wide a one may be a digit or a sign.
SMALL_BLOT, LARGE_BLOT, WIDE_BLOT = 0.15, 0.45, 0.35
WORD_GAP, COLUMN_GAP, WIDER = (
    0.62,
    2.2,
    1.8,
)  # of the line's height, between words and columns; times the line's usual gap
ONE_DIGIT_CELL = 3.2  # of the line's height: wider cells are for whole numbers
WALL_OFF = 0.1  # of the line's height, by which a digit may reach over its cell's edge
WIDE = 0.7  # width over height of the average digit, nearly: over it the reason says "wide"

SURE_COLOUR: Colour = (23, 128, 61)
DOUBTFUL_COLOUR: Colour = (202, 112, 0)
NO_DIGIT_COLOUR: Colour = (200, 30, 45)


@dataclass(frozen=True, slots=True, eq=False)
class ReadDigit:
    """One digit of a reading."""

    label: str
    probability: float  # of the label, 0 to 1
    probabilities: tuple[float, ...]  # of the ten classes
    box: Box  # in the upright picture
    image: NDArray[np.uint8]  # uint8 [28, 28], as written: the first of the views whose mean `probabilities` is
    line: int
    doubtful: bool  # hard to tell; still written in the text
    is_digit: bool  # if not, the text has "?" in its place
    why: str  # the reason for either mark; "" without
    before: str = ""  # what parts it from what stands before it in its line: nothing, a space or a tab
    place: int = 0  # in its line, among its digits and signs

    @property
    def text(self) -> str:
        """The label, or "?"."""
        return self.label if self.is_digit else NO_DIGIT


@dataclass(frozen=True, slots=True)
class ReadSign:
    """One sign of a reading: a point, comma, dash, slash, colon, plus, equals or per cent sign, or a bracket."""

    text: str
    box: Box  # in the picture
    line: int
    before: str = ""  # as of a digit
    place: int = 0  # as of a digit


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """A picture's digits in reading order."""

    digits: tuple[ReadDigit, ...]
    picture: NDArray[np.uint8]  # uint8 [height, width, 3] RGB, upright
    model_version: int | None = None
    signs: tuple[ReadSign, ...] = ()
    left_out: tuple[LeftOut, ...] = ()  # what may be writing, and was not read
    quarters: int = 0  # right angles by which the picture was turned clockwise to be read

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
        views = probabilities.astype(np.float64).reshape(-1, VIEWS, 10)
        together = views.mean(axis=1)
        upright_views = page.images[VIEWS - 1 :: VIEWS]
        scores = outlier_scores(upright_views).astype(np.float64)
        strangers = stranger_logits(upright_views).astype(np.float64)
        marks: list[tuple[ReadDigit, float]] = []
        signs: list[ReadSign] = []
        left_out = list(page.left_out)
        for number, line in enumerate(page.lines):
            chosen = best_path(line, together, scores, strangers=strangers)
            left_out += _blots(line, chosen)
            if all(choice.candidate.sign for choice in chosen):
                left_out += [_lone_sign(choice) for choice in chosen]
                continue
            for place, (choice, before) in enumerate(zip(chosen, _parted(line, chosen), strict=True)):
                candidate = choice.candidate
                if candidate.sign:
                    signs.append(ReadSign(candidate.sign, candidate.box, number, before, place))
                    continue
                row = candidate.number
                digit = _read(choice, page, views[row], scores[row], float(strangers[row]), line=number)
                marks.append((replace(digit, before=before, place=place), float(strangers[row])))
        digits = _without_words(marks)
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
    def confident(self) -> bool:
        """Whether something was read, nothing is marked, and nothing was left out that may be a digit."""
        marked = any(digit.doubtful or not digit.is_digit for digit in self.digits)
        return bool(self.digits) and not marked and not any(each.may_be_digit for each in self.left_out)

    def marks(self) -> list[str]:
        """Why digits are marked, a sentence for each."""
        found = []
        for number, line in enumerate(self.lines, 1):
            for place, digit in enumerate(line, 1):
                if digit.why:
                    found.append(f"line {number}, digit {place} ({digit.text}): {digit.why}")
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
        }

    def draw(self) -> Image.Image:
        """The picture with a box around each digit and its label above: green, amber if doubtful, red if no digit."""
        return draw_boxes(self.picture, [LabelledBox(digit.box, digit.text, _colour(digit)) for digit in self.digits])

    def _repr_html_(self) -> str:
        """The drawn picture and the text, as notebooks show them."""
        return notebook_html(self.draw(), str(self))


def _read(
    choice: Choice,
    page: Page,
    views: NDArray[np.float64],
    scores: NDArray[np.float64],
    stranger: float,
    *,
    line: int,
) -> ReadDigit:
    """One digit of the path.

    Args:
        views: float64 [VIEWS, 10], its probabilities.
        scores: float64 [10], its outlier scores.
        stranger: the logit of its being no digit.
    """
    candidate = choice.candidate
    probabilities = views.mean(axis=0)
    label = int(np.argmax(probabilities))
    no_digit = _why_no_digit(candidate, probabilities, float(scores[label]), stranger)
    doubt = no_digit or _why_doubtful(choice, views, float(scores[label]), stranger)
    return ReadDigit(
        label=str(label),
        probability=float(probabilities[label]),
        probabilities=tuple(map(float, probabilities)),
        box=candidate.box,
        image=page.images[candidate.number * VIEWS],
        line=line,
        doubtful=bool(doubt),
        is_digit=not no_digit,
        why=doubt,
    )


def _in_order(line: Sequence[ReadDigit], signs: Sequence[ReadSign]) -> list[ReadDigit | ReadSign]:
    """A line's digits and signs, from left to right."""
    return sorted([*line, *(sign for sign in signs if sign.line == line[0].line)], key=lambda each: each.place)


def _without_words(marks: Sequence[tuple[ReadDigit, float]]) -> list[ReadDigit]:
    """The digits, those marked that stand in a word: where a third of the marks are like letters, all are letters.

    Args:
        marks: each digit with its logit of being none.
    """
    words = _words(marks)
    clear = [word[0][0].line for word in words if not any(digit.doubtful for digit, _ in word)]
    result: list[ReadDigit] = []
    for word in words:
        is_word = _is_word(word, beside_number=word[0][0].line in clear)
        result += [_letter(digit) if is_word and digit.is_digit else digit for digit, _ in word]
    return result


def _is_word(word: list[tuple[ReadDigit, float]], *, beside_number: bool) -> bool:
    """Whether enough of it is like letters; beside a number that is clear a single one is enough."""
    letters = sum(logit > LIKE_A_LETTER or not digit.is_digit for digit, logit in word)
    surely = beside_number and any(logit > NO_DIGIT_LOGIT for _, logit in word)
    return surely or letters >= max(LETTERS, STRANGE_WORD * len(word))


def _words(marks: Sequence[tuple[ReadDigit, float]]) -> list[list[tuple[ReadDigit, float]]]:
    """Runs of digits with no gap between them; a line's end ends a run."""
    words: list[list[tuple[ReadDigit, float]]] = []
    for mark in marks:
        if words and words[-1][-1][0].line == mark[0].line and not mark[0].before:
            words[-1].append(mark)
        else:
            words.append([mark])
    return words


def _letter(digit: ReadDigit) -> ReadDigit:
    return replace(digit, is_digit=False, doubtful=True, why="no digit: in a word with letters")


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


def _parted(line: PageLine, chosen: Sequence[Choice]) -> list[str]:
    """What parts each from the one before it: a tab between columns and cells, a space between words, or nothing."""
    ends = [choice.candidate.extent for choice in chosen]
    gaps = [right[0] - left[1] for left, right in itertools.pairwise(ends)]
    usual = float(np.median(gaps)) if len(gaps) > 1 else np.inf  # of one gap nobody can say whether it is wide
    boxes = _one_digit_a_cell(line.walls, ends)
    parted = [""]
    for (left, right), gap in zip(itertools.pairwise(ends), gaps, strict=True):
        if any(left[1] <= wall + WALL_OFF and wall - WALL_OFF <= right[0] for wall in line.walls):
            parted.append("" if boxes else "\t")
        elif gap > COLUMN_GAP and (gap > WIDER * usual or usual == np.inf):
            parted.append("\t")
        else:
            parted.append(" " if gap > WORD_GAP and gap > WIDER * usual else "")
    return parted


def _one_digit_a_cell(walls: Sequence[float], ends: Sequence[tuple[float, float]]) -> bool:
    """Whether the cells are boxes for single digits, which make one number, and no columns of numbers."""
    middles = [(left + right) / 2 for left, right in ends]
    counts, _ = np.histogram(middles, bins=list(walls)) if len(walls) > 1 else (np.zeros(0), None)
    return (
        len(walls) > 1
        and float(np.median(np.diff(walls))) < ONE_DIGIT_CELL
        and float(np.median(counts[counts > 0])) == 1
    )


def _why_no_digit(candidate: Candidate, probabilities: NDArray[np.float64], score: float, stranger: float) -> str:
    label = int(np.argmax(probabilities))
    if candidate.aspect > WIDEST:
        return f"no digit: {candidate.aspect:.1f} times as wide as high"
    if candidate.solidity > FULLEST and candidate.aspect > NARROW:
        return "no digit: a filled spot"
    if abs(aspect_z_score(candidate, label)) > NO_DIGIT_ASPECT:
        return f"no digit: a {label} would not be {candidate.aspect:.1f} times as wide as high"
    if probabilities[label] < NO_DIGIT_BELOW:
        return f"no digit: like nothing in particular, at most {label} ({probabilities[label]:.2f})"
    if score > NO_DIGIT_SCORE:
        return f"no digit: nobody writes a {label} like that"
    if stranger > NO_DIGIT_LOGIT:
        return "no digit: more like a letter, a sign or a drawing"
    return ""


def _why_doubtful(choice: Choice, views: NDArray[np.float64], score: float, stranger: float) -> str:
    probabilities = views.mean(axis=0)
    first, second = (int(i) for i in np.argsort(-probabilities)[:2])
    if probabilities[first] < DOUBTFUL_BELOW or len(set(views.argmax(axis=1).tolist())) > 1:
        return f"looks like {first} or {second} ({probabilities[first]:.2f} / {probabilities[second]:.2f})"
    if abs(aspect_z_score(choice.candidate, first)) > DOUBTFUL_ASPECT:
        return f"unusually {'wide' if choice.candidate.aspect > WIDE else 'narrow'} for a {first}"
    if score > DOUBTFUL_SCORE:
        return f"an unusual {first}"
    if stranger > DOUBTFUL_LOGIT:
        return f"a {first}, or no digit"
    if choice.candidate.like:
        return f"a {first}, or a {choice.candidate.like}"
    if choice.margin < LEAST_MARGIN:
        return "touches its neighbour, and could be cut otherwise"
    return ""


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
    return {"text": sign.text, "box": _box_json(sign.box), "place": sign.place}


def _box_json(box: Box) -> list[int]:
    return [box.left, box.top, box.right, box.bottom]

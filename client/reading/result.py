"""What a picture says: `Reading`, made of a page (`page.py`) and the classifier's probabilities for its images.

A digit that is hard to tell is written and marked as doubtful; a shape that is not a digit is written as "?". The marks
come from five signs, each with its own words in `ReadDigit.why`: a low probability, the two views of the digit (as
written, and upright) read differently, another way to cut the line that is nearly as good, proportions that the digit
does not have, and a shape unlike all that people write for it. They cannot tell everything: the classifier knows ten
classes and no others, and a letter that looks like a digit is read as that digit.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .best_path import Choice, aspect_z_score, best_path
from .draw import Colour, LabelledBox, draw_boxes, notebook_html
from .novelty import outlier_scores
from .page import VIEWS, Box, Candidate, Page

NO_DIGIT = "?"

# On pages made of MNIST's training digits (docs/reading.md): of the digits read rightly 1 in 100 is under the first
# limit and 1 in 1000 under the second; of those read wrongly more than half are under the first.
DOUBTFUL_BELOW, NO_DIGIT_BELOW = 0.85, 0.45
# Outlier scores: over those of 995 and of 999 in 1000 training images. These limits and the following were set by hand,
# by looking at what was marked on such pages, and at letters, scribbles and blots.
DOUBTFUL_SCORE, NO_DIGIT_SCORE = 1.12, 1.35
DOUBTFUL_ASPECT, NO_DIGIT_ASPECT = 2.8, 3.6  # standard deviations from the class's usual proportions
LEAST_MARGIN = 0.15  # nats to the next best way to cut the line
WIDEST = 2.0  # a digit's width over its height
FULLEST, NARROW = 0.85, 0.6  # share of its box that is ink; width over height of a 1, which may be as full as it likes
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

    @property
    def text(self) -> str:
        """The label, or "?"."""
        return self.label if self.is_digit else NO_DIGIT


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """A picture's digits in reading order."""

    digits: tuple[ReadDigit, ...]
    picture: NDArray[np.uint8]  # uint8 [height, width, 3] RGB, upright
    model_version: int | None = None

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
        scores = outlier_scores(page.images[VIEWS - 1 :: VIEWS]).astype(np.float64)  # of the upright views
        digits = [
            _read(choice, page, views[row], scores[row], line=number)
            for number, line in enumerate(page.lines)
            for choice in best_path(line, together, scores)
            for row in (choice.candidate.number,)
        ]
        return cls(tuple(digits), page.picture, model_version)

    @property
    def lines(self) -> tuple[tuple[ReadDigit, ...], ...]:
        """The digits, line by line; no line is empty."""
        numbers = sorted({digit.line for digit in self.digits})
        return tuple(tuple(digit for digit in self.digits if digit.line == number) for number in numbers)

    @property
    def text(self) -> str:
        """Such as "4071\\n23"; "" if there is nothing to read."""
        return "\n".join("".join(digit.text for digit in line) for line in self.lines)

    @property
    def confident(self) -> bool:
        """Whether something was read and nothing is marked."""
        return bool(self.digits) and not any(digit.doubtful or not digit.is_digit for digit in self.digits)

    def marks(self) -> list[str]:
        """Why digits are marked, a sentence for each."""
        found = []
        for number, line in enumerate(self.lines, 1):
            for place, digit in enumerate(line, 1):
                if digit.why:
                    found.append(f"line {number}, digit {place} ({digit.text}): {digit.why}")
        return found

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
                {"text": "".join(digit.text for digit in line), "digits": [_digit_json(digit) for digit in line]}
                for line in self.lines
            ],
        }

    def draw(self) -> Image.Image:
        """The picture with a box around each digit and its label above: green, amber if doubtful, red if no digit."""
        return draw_boxes(self.picture, [LabelledBox(digit.box, digit.text, _colour(digit)) for digit in self.digits])

    def _repr_html_(self) -> str:
        """The drawn picture and the text, as notebooks show them."""
        return notebook_html(self.draw(), str(self))


def read_page(page: Page, predict: Callable[[NDArray[np.uint8]], NDArray[np.floating[Any]]]) -> Reading:
    """Read a page with any classifier.

    Args:
        predict: takes uint8 [n, 28, 28], digits in MNIST's form; returns their probabilities, float [n, 10]. Not called
            if there is nothing on the page.

    Raises:
        ValueError: the probabilities are not [n, 10], or not finite.
    """
    probabilities = predict(page.images) if len(page.images) else np.empty((0, 10), np.float32)
    return Reading.of(page, probabilities)


def _read(
    choice: Choice, page: Page, views: NDArray[np.float64], scores: NDArray[np.float64], *, line: int
) -> ReadDigit:
    """One digit of the path; `views` [VIEWS, 10] are its probabilities, `scores` [10] its outlier scores."""
    candidate = choice.candidate
    probabilities = views.mean(axis=0)
    label = int(np.argmax(probabilities))
    no_digit = _why_no_digit(candidate, probabilities, float(scores[label]))
    doubt = no_digit or _why_doubtful(choice, views, float(scores[label]))
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


def _why_no_digit(candidate: Candidate, probabilities: NDArray[np.float64], score: float) -> str:
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
    return ""


def _why_doubtful(choice: Choice, views: NDArray[np.float64], score: float) -> str:
    probabilities = views.mean(axis=0)
    first, second = (int(i) for i in np.argsort(-probabilities)[:2])
    if probabilities[first] < DOUBTFUL_BELOW or len(set(views.argmax(axis=1).tolist())) > 1:
        return f"looks like {first} or {second} ({probabilities[first]:.2f} / {probabilities[second]:.2f})"
    if abs(aspect_z_score(choice.candidate, first)) > DOUBTFUL_ASPECT:
        return f"unusually {'wide' if choice.candidate.aspect > WIDE else 'narrow'} for a {first}"
    if score > DOUBTFUL_SCORE:
        return f"an unusual {first}"
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
        "box": [digit.box.left, digit.box.top, digit.box.right, digit.box.bottom],
        "doubtful": digit.doubtful,
        "is_digit": digit.is_digit,
        "why": digit.why,
    }

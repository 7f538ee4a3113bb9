"""Reads a page with a classifier that is asked elsewhere: what to ask it next, and the reading at the end.

One round of questions is enough for a page that lies as it should. A page that reads badly is asked about once more,
in all positions, and read anew if it lies on its side or on its head. If it still reads badly, the reading says why.
"""

from collections.abc import Callable, Generator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .marks import CUT_WHY
from .mnist_form import SIDE
from .notes import notes_on
from .page import Page, find_digits
from .result import Reading
from .turn import AS_IT_LIES, best_position, some_marks

Images = NDArray[np.uint8]
Probabilities = NDArray[np.floating[Any]]
Rounds = Generator[Images, Probabilities, Reading]

CLEARLY_WORSE = 0.15  # more of the digits are marked: then the page stays as it lies, whatever its marks are like
READS_BADLY = 0.12  # of the digits are marked: such a page may lie on its side


def reading_rounds(page: Page) -> Rounds:
    """Read a page.

    Yields: uint8 [n, 28, 28], images to ask the classifier about, n at least 1.

    Receives: float [n, 10], their probabilities.

    Returns: the reading.

    Raises:
        ValueError: the probabilities are not [n, 10], or not finite.
    """
    if not len(page.images):
        nothing = Reading.of(page, np.empty((0, 10), np.float32))
        return replace(nothing, notes=notes_on(page, nothing))
    reading = Reading.of(page, (yield page.images))
    if page.picture.shape[:2] == (SIDE, SIDE) or _share_marked(reading) <= READS_BADLY:
        return reading
    marks = some_marks(page)
    position = best_position(marks, (yield marks.images)) if marks.number else AS_IT_LIES
    if position.quarters and not position.mirrored:
        turned = _turned(page, position.quarters)
        if len(turned.images):
            other = Reading.of(turned, (yield turned.images))
            if _share_marked(other) < _share_marked(reading) + CLEARLY_WORSE:
                page, reading = turned, other
    return replace(reading, notes=notes_on(page, reading, mirrored=position.mirrored))


def _turned(page: Page, quarters: int) -> Page:
    return page.turned(quarters) if page.turned else find_digits(page.picture, quarters=quarters)


def advance(rounds: Rounds, answer: Probabilities | None) -> Images | Reading:
    """Give the classifier's answer (None at the beginning); what to ask next, or the reading."""
    try:
        return next(rounds) if answer is None else rounds.send(answer)
    except StopIteration as stop:
        reading: Reading = stop.value
        return reading


def read_page(page: Page, predict: Callable[[Images], Probabilities]) -> Reading:
    """Read a page with any classifier.

    Args:
        predict: takes uint8 [n, 28, 28], digits in MNIST's form; returns their probabilities, float [n, 10]. Not called
            if there is nothing on the page, more than once if the page seems to lie on its side.

    Raises:
        ValueError: the probabilities are not [n, 10], or not finite.
    """
    rounds = reading_rounds(page)
    step = advance(rounds, None)
    while not isinstance(step, Reading):
        step = advance(rounds, predict(step))
    return step


def by_version(reading: Reading, version: int | None) -> Reading:
    """The reading, with the version of the model that was asked."""
    return replace(reading, model_version=version)


def _share_marked(reading: Reading) -> float:
    """Of the digits, and of what may be a digit and was left out; digits that touch say nothing of the way up."""
    doubtful = sum(digit.doubtful and digit.why != CUT_WHY for digit in reading.digits)
    left_out = sum(each.may_be_digit for each in reading.left_out)
    return (doubtful + left_out) / max(len(reading.digits) + left_out, 1)

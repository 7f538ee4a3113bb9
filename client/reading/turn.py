"""Finds out which way up a page is, and whether it is mirrored: the way in which its marks are most like digits.

A digit in MNIST's form, turned by a right angle, is the form of the turned digit. So a few marks of a page that reads
badly are asked about in all positions, and only a page that proves to lie on its side or its head is read anew.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .best_path import ASPECT_LEVEL, ASPECT_MEAN, ASPECT_SPREAD, LEAST_PROBABILITY, Costs
from .mnist_form import SIDE, upright
from .page import VIEWS, Page
from .votes import votes_on

Images = NDArray[np.uint8]  # uint8 [n, 28, 28]
Floats = NDArray[np.float64]


class Position(NamedTuple):
    """How a page may lie."""

    quarters: int  # right angles by which it is turned clockwise to be read
    mirrored: bool  # left and right of it are changed over first


AS_IT_LIES = Position(0, False)
# The second opinion's share of the vote: more than for reading, as the classifier is often sure of mirrored digits.
OPINION = 0.5
# A mirrored page on its side is rare: a camera mirrors as it is held, a film lies on its head at most.
POSITIONS = (AS_IT_LIES, *(Position(n, False) for n in (1, 2, 3)), Position(0, True), Position(2, True))
MOST_MARKS = 24  # that are asked about: enough for a vote
ENOUGH_WHOLE = 4  # components, beside which parts of others have no say
LEAST_HEIGHT = 0.4  # of the line's: lower marks are signs, or parts
LEAST_MARKS = 4  # of fewer a turn is not told
# Nats of cost, and share of the cost as it lies, that are worth a second reading.
LEAST_GAIN, LEAST_SHARE = 1.0, 0.8
STRANGER, MOST_LOGIT = 0.3, 8.0  # cost of a logit of being no digit; more count as so many
MISPROPORTION, MOST_SQUARED = 0.15, 9.0  # cost of a squared spread from the class's usual proportions; at most so many


class Marks(NamedTuple):
    """Marks of a page, in each of the POSITIONS."""

    images: Images  # uint8 [len(POSITIONS) * VIEWS * n, 28, 28]: for each position, for each mark, its views
    number: int  # of marks


def some_marks(page: Page) -> Marks:
    """Choose marks to vote by: whole components before parts, spread over the page."""
    from .cuts import LIKE_A_CUT  # needs OpenCV, as in `page`

    whole, parts = [], []
    for line in page.lines:
        # Components lie beside each other, or over each other, as on a page on its side.
        ends = [cut in (0.0, LIKE_A_CUT) for cut in (*line.cuts, 0.0)]
        for each in line.candidates:
            if each.sign or each.height < LEAST_HEIGHT:
                continue
            if ends[each.start] and ends[each.stop] and not any(ends[each.start + 1 : each.stop]):
                whole.append(each.number)
            elif each.stop - each.start == 1:
                parts.append(each.number)
    numbers = whole if len(whole) >= ENOUGH_WHOLE else whole + parts
    chosen = numbers[:: max(1, -(-len(numbers) // MOST_MARKS))]
    forms = [_placed(page.images[VIEWS * n], position) for position in POSITIONS for n in chosen]
    views = [view for form in forms for view in (form, upright(form))]
    return Marks(np.stack(views) if views else np.empty((0, SIDE, SIDE), np.uint8), len(chosen))


def _placed(form: Images, position: Position) -> Images:
    return np.ascontiguousarray(np.rot90(form[:, ::-1] if position.mirrored else form, -position.quarters))


def best_position(marks: Marks, probabilities: NDArray[np.floating]) -> Position:
    """Decide by the classifier's word on the marks.

    Args:
        probabilities: float [n, 10], of each of `marks.images`.

    Returns: AS_IT_LIES unless another position is clearly the better one.
    """
    if marks.number < LEAST_MARKS:
        return AS_IT_LIES
    votes = votes_on(marks.images, probabilities, opinion=OPINION)
    each = _costs(votes.together, votes.strangers) + _misproportions(marks.images[::VIEWS], votes.together)
    costs = each.reshape(len(POSITIONS), marks.number).sum(axis=1)
    best = int(np.argmin(costs))
    return POSITIONS[best] if costs[best] < min(costs[0] - LEAST_GAIN, LEAST_SHARE * costs[0]) else AS_IT_LIES


def _misproportions(forms: Images, probabilities: Floats) -> Floats:
    """[n]: what a mark costs by its proportions: on their side, digits are wider than high."""
    inked = forms > ASPECT_LEVEL
    width, height = (np.maximum(inked.any(axis=axis).sum(axis=1), 1) for axis in (1, 2))
    label = probabilities.argmax(axis=1)
    away = (np.log(width / height) - ASPECT_MEAN[label]) / ASPECT_SPREAD[label]
    return np.asarray(MISPROPORTION * np.minimum(np.square(away), MOST_SQUARED), np.float64)


def _costs(probabilities: Floats, strangers: Floats) -> Floats:
    """[n]: what a mark costs as a digit: by the classifier's doubt, and by how like no digit it is.

    Novelty (`novelty`) has no say: many fonts' and hands' digits are as far from MNIST's as MNIST's on their heads are.
    """
    doubt = -np.log(np.maximum(probabilities.max(axis=1), LEAST_PROBABILITY))
    return Costs().doubt * doubt + STRANGER * np.clip(strangers, 0.0, MOST_LOGIT)

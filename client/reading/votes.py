"""What each candidate is taken for: the classifier's word on its two views, and the second opinion beside it."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .best_path import ASPECT_MEAN, ASPECT_SPREAD
from .novelty import outlier_scores
from .page import VIEWS, Candidate, Page
from .second_opinion import TINY, second_opinions

Floats = NDArray[np.float64]

# Of the second opinion's probability, from which a shape is known for a digit's, however unlike MNIST's it is; and the
# outlier score that such a shape has at most: unusual, and not marked.
KNOWN, OF_OTHER_HANDS = 0.97, 1.0
# Probability that each view has, and the second opinion, where all agree; the logit of a stranger up to which they may,
# and the height over the line's from which: what is lower may be a piece, as an upstroke is a bar. The outlier score
# that such a shape has at most: marked, but a digit, as a 1 is whose upstroke begins on the line.
AGREED, AGREED_LOGIT, AGREED_HEIGHT, UNUSUAL = 0.8, 2.0, 0.75, 1.2
# Weight of a class's usual proportions, and the probability up to which they have one; the classifier sees them too:
# between digits that it cannot tell they decide, as between a 7 and a 1 with a flag, which is narrower.
PROPORTIONS, UNDECIDED = 0.3, 0.65
# The second opinion's share of the vote, if it does not know the shape and if it surely does.
OPINION, SURE_OPINION = 0.25, 0.6


@dataclass(frozen=True, slots=True, eq=False)
class Votes:
    """For each of n candidates, by its number."""

    each: Floats  # float64 [n, VIEWS + 1, 10], the classifier's probabilities of each view, and the second opinion's
    together: Floats  # float64 [n, 10], the classifier's mean and the second opinion, weighed
    scores: Floats  # float64 [n, 10], outlier scores (`novelty`) of what the second opinion does not know well
    strangers: Floats  # float64 [n], logits of being no digit (`second_opinion`)
    signs: Floats  # float64 [n, len(second_opinion.SIGNS)], probabilities of the signs
    known: Floats  # float64 [n, 10], the second opinion's probabilities of the digits, among all that it knows


def votes_on(
    images: NDArray[np.uint8],
    probabilities: NDArray[np.floating[Any]],
    *,
    aspects: Floats | None = None,
    heights: Floats | None = None,
    opinion: float = OPINION,
) -> Votes:
    """Put together what is known of each candidate.

    Args:
        images: uint8 [VIEWS * n, 28, 28], the views of each.
        probabilities: float [VIEWS * n, 10], the classifier's.
        aspects: float64 [n], width over height; not considered if left out.
        heights: float64 [n], over the line's; each as high as its line if left out.
        opinion: the second opinion's share of the vote on shapes that it does not know.
    """
    upright_views = images[VIEWS - 1 :: VIEWS]
    opinions = second_opinions(upright_views)
    views = probabilities.astype(np.float64).reshape(-1, VIEWS, 10)
    each = np.concatenate([views, opinions.digits[:, None].astype(np.float64)], axis=1)
    scores = outlier_scores(upright_views).astype(np.float64)
    no_stranger = 1 / (1 + np.exp(np.clip(opinions.strangers, -30, 30)))
    surely = (opinions.digits * no_stranger[:, None]).astype(np.float64)
    scores = np.where(surely > KNOWN, np.minimum(scores, OF_OTHER_HANDS), scores)
    whole = opinions.strangers < AGREED_LOGIT
    if heights is not None:
        whole &= heights > AGREED_HEIGHT
    scores = np.where((each.min(axis=1) > AGREED) & whole[:, None], np.minimum(scores, UNUSUAL), scores)
    share = opinion + (SURE_OPINION - opinion) * surely.max(axis=1, initial=0.0, keepdims=True)
    together = (1 - share) * views.mean(axis=1) + share * each[:, VIEWS]
    if aspects is not None:
        together = with_proportions(together, aspects)
    strangers, signs = opinions.strangers.astype(np.float64), opinions.signs.astype(np.float64)
    return Votes(each, together, scores, strangers, signs, surely)


def votes_on_page(page: Page, probabilities: NDArray[np.floating[Any]]) -> Votes:
    """`votes_on` a page's candidates, with their proportions and heights.

    Args:
        page: as `find_digits` has found it.
        probabilities: float [len(page.images), 10], the classifier's.
    """
    return votes_on(page.images, probabilities, aspects=aspects_of(page), heights=heights_of(page))


def aspects_of(page: Page) -> Floats:
    """[n]: the candidates' widths over their heights, by their numbers."""
    return np.array([candidate.aspect for candidate in _by_number(page)], np.float64)


def heights_of(page: Page) -> Floats:
    """[n]: the candidates' heights over their lines', by their numbers."""
    return np.array([candidate.height for candidate in _by_number(page)], np.float64)


def _by_number(page: Page) -> list[Candidate]:
    return sorted((each for line in page.lines for each in line.candidates), key=lambda each: each.number)


def with_proportions(probabilities: Floats, aspects: Floats) -> Floats:
    """The probabilities; where they are undecided, weighed by how usual a shape's proportions are for each digit.

    Args:
        probabilities: float64 [n, 10].
        aspects: float64 [n], width over height.
    """
    away = (np.log(aspects)[:, None] - ASPECT_MEAN) / ASPECT_SPREAD
    usual = -np.square(away) / 2 - np.log(ASPECT_SPREAD)
    weighed = probabilities * np.exp(PROPORTIONS * (usual - usual.max(axis=1, keepdims=True)))
    weighed /= np.maximum(weighed.sum(axis=1, keepdims=True), TINY)
    undecided = probabilities.max(axis=1, initial=0.0, keepdims=True) < UNDECIDED
    return np.where(undecided, weighed, probabilities)

"""Chooses, among everything that might be a digit in a line, the digits that make the best reading.

A reading is a path through the line's segments from the first to the last. Each candidate on it costs what the
classifier doubts (its negative log probability) and what its shape doubts (how unlike the class's usual proportions and
forms it is); each cut costs by the ink it goes through, each gap inside a digit by being a gap. The cheapest path wins.

`python -m tools.reading_statistics` computes the proportions below anew, and searches the costs.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .page import Candidate, PageLine

Floats = NDArray[np.float64]

# Natural log of width over height, of the box of what is brighter than ASPECT_LEVEL: mean and standard deviation by
# class, over MNIST's 60,000 training images. `python -m tools.reading_statistics` gives the same figures.
ASPECT_LEVEL = 110  # of 255
ASPECT_MEAN = np.array([-0.12, -0.99, -0.08, -0.26, -0.26, -0.08, -0.35, -0.29, -0.30, -0.42])
ASPECT_SPREAD = np.array([0.21, 0.48, 0.24, 0.22, 0.22, 0.28, 0.23, 0.23, 0.23, 0.21])


@dataclass(frozen=True, slots=True)
class Costs:
    """What makes a path dear; only the ratios matter to which is the cheapest.

    `python -m tools.reading_statistics --costs` compares these with what a search finds: nothing clearly better
    (docs/reading.md, "Where the numbers come from").
    """

    doubt: float = 0.85  # of a classifier's nat
    proportions: float = 0.15  # of a squared spread beyond the first
    outlier: float = 2.3  # of an outlier score beyond USUAL_SCORE, squared
    small: float = 18.0  # of the height missing to SMALL, squared
    digit: float = 0.04  # of every digit: fewer are likelier
    cut: float = 0.3  # of a stroke's width of ink cut
    gap: float = 1.15  # of paper between the parts of one digit
    skip: float = 5.0  # of leaving out a blot, of its height
    sign: float = 0.5  # of taking for a sign what looks like one
    stranger: float = 0.15  # of a stranger's logit beyond USUAL_LOGIT


BLOT_HEIGHT = 0.38  # of the line's height: what is larger is read, or marked, but never left out
LEAST_BLOT = 0.3  # of the line's height: leaving out a smaller blot costs as much as leaving out one so high
USUAL_SCORE = 0.7  # outlier score; nearly nine in ten training images are under it
USUAL_LOGIT, MOST_LOGIT = 1.0, 8.0  # of a stranger (`second_opinion`): less is a digit, more costs no more
SMALL, SMALL_ZERO = 0.6, 0.42  # of the line's height: a digit seldom is smaller; many write a small 0
LEAST_PROBABILITY = 1e-6  # less counts as this, so that no candidate costs infinitely much
DEFAULT = Costs()


@dataclass(frozen=True, slots=True)
class Choice:
    """A candidate on the best path."""

    candidate: Candidate
    margin: float  # how much more the cheapest path costs that cuts the line otherwise here; infinite if there is none


@dataclass(frozen=True, slots=True)
class _Edge:
    """From one place between segments to a later one: over a candidate, or past a blot."""

    start: int
    stop: int
    cost: float
    candidate: Candidate | None


def best_path(
    line: PageLine,
    probabilities: Floats,
    scores: Floats,
    costs: Costs = DEFAULT,
    *,
    strangers: Floats | None = None,
    known: Floats | None = None,
) -> list[Choice]:
    """Find the cheapest path through a line.

    Args:
        probabilities: float64 [n, 10], of candidate number i in row i.
        scores: float64 [n, 10], its outlier score as each digit (`novelty.outlier_scores`).
        strangers: float64 [n], its logit of being no digit (`second_opinion`); not considered if left out.
        known: float64 [n, 10], how sure it is that it is this digit; 0 if left out.

    Returns: the candidates on the path, from left to right.
    """
    edges = _edges(line, probabilities, scores, costs, strangers, known)
    end = len(line.cuts)
    forward, arrived = _cheapest(edges, end)
    mirrored = [_Edge(end - edge.stop, end - edge.start, edge.cost, edge.candidate) for edge in edges]
    backward = _cheapest(mirrored, end)[0][::-1]
    through = np.array([forward[edge.start] + edge.cost + backward[edge.stop] for edge in edges])
    chosen: list[Choice] = []
    place = end
    while place > 0:
        edge = arrived[place]
        assert edge is not None  # every segment is a candidate by itself
        if edge.candidate is not None:
            others = [
                through[i]
                for i, other in enumerate(edges)
                if other is not edge and other.start < edge.stop and other.stop > edge.start
            ]
            chosen.append(Choice(edge.candidate, float(min(others, default=np.inf) - forward[end])))
        place = edge.start
    return chosen[::-1]


def candidate_cost(
    candidate: Candidate, line: PageLine, probabilities: Floats, scores: Floats, costs: Costs, *, known: float = 0.0
) -> float:
    """What it costs to take a candidate for its likeliest class; see `Costs`.

    Args:
        probabilities: float64 [10].
        scores: float64 [10].
        known: how sure the second opinion is of that class, 0 to 1: narrow and broad hands have other proportions.
    """
    label = int(np.argmax(probabilities))
    doubt = -float(np.log(max(float(probabilities[label]), LEAST_PROBABILITY)))
    usual = SMALL if label else SMALL_ZERO
    missing = max(usual - candidate.height, 0.0) / usual
    gaps = line.cuts[candidate.start + 1 : candidate.stop].count(0.0)
    return (
        costs.digit
        + costs.doubt * doubt
        + costs.proportions * (1 - known) * max(abs(aspect_z_score(candidate, label)) - 1.0, 0.0) ** 2
        + costs.outlier * max(float(scores[label]) - USUAL_SCORE, 0.0) ** 2
        + costs.small * missing**2
        + costs.cut * line.cuts[candidate.start]
        + costs.gap * gaps
    )


def aspect_z_score(candidate: Candidate, label: int) -> float:
    """How many standard deviations the candidate is wider (or, below 0, narrower) than is usual for the class."""
    return float((np.log(candidate.aspect) - ASPECT_MEAN[label]) / ASPECT_SPREAD[label])


def _edges(
    line: PageLine,
    probabilities: Floats,
    scores: Floats,
    costs: Costs,
    strangers: Floats | None,
    known: Floats | None,
) -> list[_Edge]:
    edges = []
    for candidate in line.candidates:
        if candidate.sign:  # by its shape and place, of which the classifier sees the shape only
            sign = costs.sign + costs.cut * line.cuts[candidate.start]
            edges.append(_Edge(candidate.start, candidate.stop, sign, candidate))
            continue
        row = candidate.number
        sure = float(known[row, int(np.argmax(probabilities[row]))]) if known is not None else 0.0
        cost = candidate_cost(candidate, line, probabilities[row], scores[row], costs, known=sure)
        if strangers is not None:
            cost += costs.stranger * float(np.clip(strangers[row] - USUAL_LOGIT, 0.0, MOST_LOGIT))
        edges.append(_Edge(candidate.start, candidate.stop, cost, candidate))
        if candidate.stop - candidate.start == 1 and candidate.height < BLOT_HEIGHT:
            blot = costs.skip * max(candidate.height, LEAST_BLOT) + costs.cut * line.cuts[candidate.start]
            edges.append(_Edge(candidate.start, candidate.stop, blot, None))
    return edges


def _cheapest(edges: list[_Edge], end: int) -> tuple[Floats, list[_Edge | None]]:
    """For each place [end + 1] the cost of the cheapest path there from the start, and the last edge of that path."""
    cost = np.full(end + 1, np.inf)
    cost[0] = 0.0
    arrived: list[_Edge | None] = [None] * (end + 1)
    for edge in sorted(edges, key=lambda edge: edge.start):
        path = cost[edge.start] + edge.cost
        if path < cost[edge.stop]:
            cost[edge.stop], arrived[edge.stop] = path, edge
    return cost, arrived

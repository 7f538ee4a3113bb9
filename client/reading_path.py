"""Chooses, among everything that might be a digit in a line, the digits that make the best reading.

A reading is a way through the line's slices from the first to the last. Each candidate on it costs what the classifier
doubts (its negative log probability) and what its shape doubts (how unlike the class's usual proportions it is); each
cut costs by the ink it goes through, each gap inside a digit by being a gap. The cheapest way wins.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from client.images import Candidate, PageLine

Floats = NDArray[np.float64]

# Natural log of width over height: mean and spread by class, over MNIST's training images.
ASPECT_MEAN = np.array([-0.12, -0.99, -0.08, -0.26, -0.26, -0.08, -0.35, -0.29, -0.30, -0.42])
ASPECT_SPREAD = np.array([0.21, 0.48, 0.24, 0.22, 0.22, 0.28, 0.23, 0.23, 0.23, 0.21])


@dataclass(frozen=True, slots=True)
class Costs:
    """Found by `python -m benchmarks.reading --tune` on pages made of MNIST's training digits."""

    doubt: float = 1.0  # of a classifier's nat
    proportions: float = 0.12  # of a squared spread beyond the first
    small: float = 6.0  # of a tenth of the line's height missing, squared over ... below SMALL
    digit: float = 0.5  # of every digit: fewer are likelier
    cut: float = 1.0  # of a stroke's width of ink cut
    gap: float = 1.2  # of paper between the parts of one digit
    skip: float = 3.0  # of leaving out a slice as tall as the line's digits


SMALL = 0.6  # of the line's height: a digit seldom is smaller
DEFAULT = Costs()


@dataclass(frozen=True, slots=True)
class Choice:
    """A candidate on the best way."""

    candidate: Candidate
    probabilities: Floats  # [10]
    margin: float  # how much more the best way costs that cuts the line otherwise here


def best_way(line: PageLine, probabilities: Floats, costs: Costs = DEFAULT) -> list[Choice]:
    """The candidates of the cheapest way through `line`, from left to right.

    Args:
        probabilities: [n, 10] for all candidates of the page.
    """
    total = len(line.cuts)
    forward = np.full(total + 1, np.inf)
    forward[0] = 0.0
    arrived: list[tuple[Candidate | None, int]] = [(None, 0)] * (total + 1)
    local = {c: candidate_cost(c, line, probabilities[c.image], costs) for c in line.candidates}
    by_stop: dict[int, list[Candidate]] = {}
    for candidate in line.candidates:
        by_stop.setdefault(candidate.stop, []).append(candidate)
    for stop in range(1, total + 1):
        for candidate in by_stop.get(stop, []):
            way = forward[candidate.start] + local[candidate]
            if way < forward[stop]:
                forward[stop], arrived[stop] = way, (candidate, candidate.start)
            if candidate.stop - candidate.start == 1:  # left out as a blot
                skipped = forward[candidate.start] + costs.skip * max(candidate.height, 0.3)
                if skipped < forward[stop]:
                    forward[stop], arrived[stop] = skipped, (None, candidate.start)
    chosen: list[Choice] = []
    place = total
    while place > 0:
        best, place = arrived[place]
        if best is not None:
            chosen.append(Choice(best, probabilities[best.image], 0.0))
    return chosen[::-1]


def candidate_cost(candidate: Candidate, line: PageLine, probabilities: Floats, costs: Costs) -> float:
    """What it costs to take `candidate` for its likeliest class; see `Costs`."""
    label = int(np.argmax(probabilities))
    doubt = -float(np.log(max(float(probabilities[label]), 1e-6)))
    deviation = abs(np.log(candidate.aspect) - ASPECT_MEAN[label]) / ASPECT_SPREAD[label]
    proportions = max(deviation - 1.0, 0.0) ** 2
    small = max(SMALL - candidate.height, 0.0) ** 2 * 10
    inner = line.cuts[candidate.start + 1 : candidate.stop]
    gaps = sum(1 for cut in inner if cut == 0)
    return (
        costs.digit
        + costs.doubt * doubt
        + costs.proportions * proportions
        + costs.small * small
        + costs.cut * line.cuts[candidate.start]
        + costs.gap * gaps
    )

"""Chooses, among everything that might be a digit in a line, the digits that make the best reading.

A reading is a way through the line's slices from the first to the last. Each candidate on it costs what the classifier
doubts (its negative log probability) and what its shape doubts (how unlike the class's usual proportions and forms it
is); each cut costs by the ink it goes through, each gap inside a digit by being a gap. The cheapest way wins.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .page import Candidate, PageLine

Floats = NDArray[np.float64]

# Natural log of width over height: mean and spread by class, over MNIST's training images.
ASPECT_MEAN = np.array([-0.12, -0.99, -0.08, -0.26, -0.26, -0.08, -0.35, -0.29, -0.30, -0.42])
ASPECT_SPREAD = np.array([0.21, 0.48, 0.24, 0.22, 0.22, 0.28, 0.23, 0.23, 0.23, 0.21])


@dataclass(frozen=True, slots=True)
class Costs:
    """Found by `python -m benchmarks.reading --tune` on pages made of MNIST's training digits."""

    doubt: float = 0.85  # of a classifier's nat
    proportions: float = 0.15  # of a squared spread beyond the first
    strange: float = 2.3  # of strangeness beyond USUAL, squared
    small: float = 18.0  # of the height missing to SMALL, squared
    digit: float = 0.04  # of every digit: fewer are likelier
    cut: float = 0.3  # of a stroke's width of ink cut
    gap: float = 1.15  # of paper between the parts of one digit
    skip: float = 5.0  # of leaving out a blot, of its height


BLOT_HEIGHT = 0.5  # of the line's height: what is larger is read, or marked, but never left out
USUAL = 0.7  # strangeness; half of the training images are under it
SMALL = 0.6  # of the line's height: a digit seldom is smaller
DEFAULT = Costs()


@dataclass(frozen=True, slots=True)
class Choice:
    """A candidate on the best way."""

    candidate: Candidate
    margin: float  # how much more the cheapest way costs that cuts the line otherwise here; infinite if there is none


@dataclass(frozen=True, slots=True)
class _Step:
    """From one place between slices to a later one: over a candidate, or past a blot."""

    start: int
    stop: int
    cost: float
    candidate: Candidate | None


def best_way(line: PageLine, probabilities: Floats, strange: Floats, costs: Costs = DEFAULT) -> list[Choice]:
    """The candidates on the cheapest way through `line`, from left to right.

    Args:
        probabilities: [n, 10], of candidate number i in row i.
        strange: [n, 10], how strange it would be as each digit (`client.reading.novelty`).
    """
    steps = _steps(line, probabilities, strange, costs)
    end = len(line.cuts)
    forward, arrived = _cheapest(steps, end)
    mirrored = [_Step(end - step.stop, end - step.start, step.cost, step.candidate) for step in steps]
    backward = _cheapest(mirrored, end)[0][::-1]
    through = np.array([forward[step.start] + step.cost + backward[step.stop] for step in steps])
    chosen: list[Choice] = []
    place = end
    while place > 0:
        step = arrived[place]
        assert step is not None  # every slice is a candidate by itself
        if step.candidate is not None:
            others = [
                through[i]
                for i, other in enumerate(steps)
                if other is not step and other.start < step.stop and other.stop > step.start
            ]
            chosen.append(Choice(step.candidate, float(min(others, default=np.inf) - forward[end])))
        place = step.start
    return chosen[::-1]


def _steps(line: PageLine, probabilities: Floats, strange: Floats, costs: Costs) -> list[_Step]:
    steps = []
    for candidate in line.candidates:
        row = candidate.number
        cost = candidate_cost(candidate, line, probabilities[row], strange[row], costs)
        steps.append(_Step(candidate.start, candidate.stop, cost, candidate))
        if candidate.stop - candidate.start == 1 and candidate.height < BLOT_HEIGHT:
            blot = costs.skip * max(candidate.height, 0.3) + costs.cut * line.cuts[candidate.start]
            steps.append(_Step(candidate.start, candidate.stop, blot, None))
    return steps


def _cheapest(steps: list[_Step], end: int) -> tuple[Floats, list[_Step | None]]:
    """For each place the cost of the cheapest way there from the start, and its last step."""
    cost = np.full(end + 1, np.inf)
    cost[0] = 0.0
    arrived: list[_Step | None] = [None] * (end + 1)
    for step in sorted(steps, key=lambda step: step.start):
        way = cost[step.start] + step.cost
        if way < cost[step.stop]:
            cost[step.stop], arrived[step.stop] = way, step
    return cost, arrived


def candidate_cost(candidate: Candidate, line: PageLine, probabilities: Floats, strange: Floats, costs: Costs) -> float:
    """What it costs to take `candidate` for its likeliest class; see `Costs`."""
    label = int(np.argmax(probabilities))
    doubt = -float(np.log(max(float(probabilities[label]), 1e-6)))
    missing = max(SMALL - candidate.height, 0.0) / SMALL
    gaps = line.cuts[candidate.start + 1 : candidate.stop].count(0.0)
    return (
        costs.digit
        + costs.doubt * doubt
        + costs.proportions * max(deviation(candidate, label) - 1.0, 0.0) ** 2
        + costs.strange * max(float(strange[label]) - USUAL, 0.0) ** 2
        + costs.small * missing**2
        + costs.cut * line.cuts[candidate.start]
        + costs.gap * gaps
    )


def deviation(candidate: Candidate, label: int) -> float:
    """How many spreads the candidate's proportions are from those usual for the class."""
    return float(abs(np.log(candidate.aspect) - ASPECT_MEAN[label]) / ASPECT_SPREAD[label])

"""The cheapest path through a line, against every path there is."""

import numpy as np
import pytest

from inkling.client.reading.best_path import (
    ASPECT_MEAN,
    ASPECT_SPREAD,
    BLOT_HEIGHT,
    DEFAULT,
    LEAST_BLOT,
    Costs,
    aspect_z_score,
    best_path,
    candidate_cost,
)
from inkling.client.reading.page import PageLine
from tests.client.reading.made_up import candidate, sure_of

NOT_STRANGE = np.zeros((3, 10))


def made_up_line(random):
    """A line of up to five segments, every span of them a candidate, some so low that they may be left out."""
    segments = int(random.integers(1, 6))
    spans = [(a, b) for a in range(segments) for b in range(a + 1, segments + 1)]
    line = PageLine(
        tuple(random.choice([0.0, 0.7, 1.4], size=segments).tolist()),
        tuple(
            candidate(
                a, b, i, aspect=float(random.uniform(0.2, 1.5)), height=float(random.choice([0.3, 0.45, 0.8, 1.0]))
            )
            for i, (a, b) in enumerate(spans)
        ),
    )
    return line, random.dirichlet(np.full(10, 0.2), size=len(spans)), random.uniform(0.4, 1.6, (len(spans), 10))


def all_paths(line, probabilities, scores, costs):
    """Every path as (cost, numbers of its candidates); a blot left out is on none of them but costs."""
    edges = {}
    for each in line.candidates:
        cost = candidate_cost(each, line, probabilities[each.number], scores[each.number], costs)
        edges.setdefault(each.start, []).append((each.stop, cost, (each.number,)))
        if each.stop == each.start + 1 and each.height < BLOT_HEIGHT:
            skipped = costs.skip * max(each.height, LEAST_BLOT) + costs.cut * line.cuts[each.start]
            edges[each.start].append((each.stop, skipped, ()))

    def onward(place):
        if place == len(line.cuts):
            return [(0.0, ())]
        return [
            (cost + rest, numbers + others) for stop, cost, numbers in edges[place] for rest, others in onward(stop)
        ]

    return onward(0)


@pytest.mark.parametrize("seed", range(60))
def test_the_path_is_the_cheapest_of_all_and_the_margin_is_to_the_cheapest_without_the_digit(seed):
    line, probabilities, scores = made_up_line(np.random.default_rng([3, seed]))
    chosen = best_path(line, probabilities, scores)
    paths = all_paths(line, probabilities, scores, Costs())
    least, numbers = min(paths)
    assert tuple(choice.candidate.number for choice in chosen) == numbers
    for choice in chosen:
        without = min((cost for cost, others in paths if choice.candidate.number not in others), default=np.inf)
        assert choice.margin == pytest.approx(without - least)


@pytest.mark.parametrize(
    ("costs", "expected"),
    [
        (Costs(doubt=1, proportions=0, outlier=0, small=0, digit=0, cut=0, gap=0), -np.log(0.5)),
        (Costs(doubt=0, proportions=1, outlier=0, small=0, digit=0, cut=0, gap=0), (2.5 - 1) ** 2),
        (Costs(doubt=0, proportions=0, outlier=1, small=0, digit=0, cut=0, gap=0), (1.2 - 0.7) ** 2),
        (Costs(doubt=0, proportions=0, outlier=0, small=1, digit=0, cut=0, gap=0), 0.5**2),
        (Costs(doubt=0, proportions=0, outlier=0, small=0, digit=1, cut=0, gap=0), 1),
        (Costs(doubt=0, proportions=0, outlier=0, small=0, digit=0, cut=1, gap=0), 0.7),
        (Costs(doubt=0, proportions=0, outlier=0, small=0, digit=0, cut=0, gap=1), 2),
    ],
    ids=["doubt", "proportions", "outlier", "small", "digit", "cut", "gap"],
)
def test_each_cost_is_of_what_it_says(costs, expected):
    aspect = float(np.exp(ASPECT_MEAN[3] + 2.5 * ASPECT_SPREAD[3]))
    line = PageLine((0.7, 0.0, 1.4, 0.0), (candidate(0, 4, 0, aspect=aspect, height=0.3),))
    cost = candidate_cost(line.candidates[0], line, sure_of(3, 0.5), np.full(10, 1.2), costs)
    assert cost == pytest.approx(expected)


def test_the_aspects_z_score_has_a_sign():
    assert aspect_z_score(candidate(0, 1, 0, aspect=1.0), 1) == pytest.approx(0.99 / 0.48)
    assert aspect_z_score(candidate(0, 1, 0, aspect=0.5), 0) == pytest.approx((np.log(0.5) + 0.12) / 0.21)


def test_two_good_halves_win_over_a_poor_whole():
    line = PageLine((0.0, 0.5), (candidate(0, 1, 0), candidate(1, 2, 1), candidate(0, 2, 2, aspect=1.4)))
    chosen = best_path(line, np.stack([sure_of(0), sure_of(7), sure_of(9, 0.6)]), NOT_STRANGE)
    assert [choice.candidate.number for choice in chosen] == [0, 1]


def test_a_good_whole_wins_over_two_halves():
    line = PageLine((0.0, 2.0), (candidate(0, 1, 0, aspect=0.2), candidate(1, 2, 1, aspect=0.2), candidate(0, 2, 2)))
    chosen = best_path(line, np.stack([sure_of(6, 0.5), sure_of(1, 0.9), sure_of(0)]), NOT_STRANGE)
    assert [choice.candidate.number for choice in chosen] == [2]


def test_a_blot_is_left_out():
    line = PageLine((0.0, 0.0), (candidate(0, 1, 0), candidate(1, 2, 1, height=0.25, aspect=1.0)))
    chosen = best_path(line, np.stack([sure_of(7), sure_of(1, 0.4)]), NOT_STRANGE)
    assert [choice.candidate.number for choice in chosen] == [0]


def test_a_zero_may_be_smaller_than_other_digits():
    line, small = PageLine((0.0,), ()), candidate(0, 1, 0, height=0.42)
    zero, six = (candidate_cost(small, line, sure_of(label), np.zeros(10), DEFAULT) for label in (0, 6))
    assert zero < six

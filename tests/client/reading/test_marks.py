"""What a reading marks beyond single digits: marks that were cut, and pages of nothing but strokes."""

from dataclasses import replace

import numpy as np
import pytest

from inkling.client.reading.best_path import Choice
from inkling.client.reading.marks import MANY_ONES, all_ones, doubtful_cuts
from inkling.client.reading.page import VIEWS, Page, PageLine, find_digits
from inkling.client.reading.result import Reading
from inkling.client.reading.rounds import read_page
from inkling.client.reading.second_opinion import SIGNS
from inkling.client.reading.votes import Votes
from tests.client.reading.made_up import candidate, strokes, sure_of

CUT = 0.8  # stroke widths of ink


def chosen_of(*extents):
    return [Choice(replace(candidate(i, i + 1, i), extent=extent), np.inf) for i, extent in enumerate(extents)]


def votes_for(*labels):
    together = np.stack([sure_of(label) for label in labels])
    nothing = np.zeros(together.shape)
    signs = np.zeros((len(labels), len(SIGNS)))
    return Votes(np.repeat(together[:, None], VIEWS + 1, axis=1), together, nothing, nothing[:, 0], signs, nothing)


@pytest.mark.parametrize(
    ("cut", "labels", "extents", "doubtful"),
    [
        (CUT, (1, 1), ((0.0, 0.6), (0.6, 1.2)), {0, 1}),
        (CUT, (4, 7), ((0.0, 0.4), (0.4, 0.8)), {0, 1}),
        (CUT, (4, 3), ((0.0, 0.7), (0.7, 1.4)), set()),
        (0.0, (1, 1), ((0.0, 0.2), (0.4, 0.6)), set()),
    ],
    ids=["two ones of an H", "a narrow mark", "two digits that touch", "paper between"],
)
def test_a_mark_that_was_cut_may_be_a_letter(cut, labels, extents, doubtful):
    chosen = chosen_of(*extents)
    line = PageLine((0.0, cut), tuple(choice.candidate for choice in chosen))
    assert doubtful_cuts(line, chosen, votes_for(*labels)) == doubtful


def ones(count):
    page = Page(
        np.zeros((9, 9, 3), np.uint8), np.zeros((VIEWS, 28, 28), np.uint8), (PageLine((0.0,), (candidate(0, 1, 0),)),)
    )
    digit = replace(Reading.of(page, np.stack([sure_of(1)] * VIEWS)).digits[0], label="1", doubtful=False)
    return [digit] * count


def test_many_ones_and_nothing_else_may_be_a_pattern():
    assert all(digit.doubtful for digit in all_ones(ones(MANY_ONES + 1)))
    assert not any(digit.doubtful for digit in all_ones(ones(MANY_ONES)))
    other = replace(ones(1)[0], label="2")
    assert not any(digit.doubtful for digit in all_ones([*ones(MANY_ONES + 1), other]))


def test_a_letter_of_two_bars_is_marked():
    h = strokes((60, 40, 60, 120), (110, 40, 110, 120), (60, 80, 110, 80))
    reading = read_page(find_digits(h), lambda images: np.tile(sure_of(1), (len(images), 1)))
    assert not reading.confident

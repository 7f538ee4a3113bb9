"""What several votes on a candidate say together."""

import numpy as np
import pytest

from inkling.client.reading.best_path import ASPECT_MEAN
from inkling.client.reading.page import find_digits
from inkling.client.reading.votes import UNUSUAL, aspects_of, heights_of, votes_on, with_proportions
from tests.client.reading.made_up import ONE, OTHER, strokes, sure_of


def between(one, other):
    probabilities = np.zeros(10)
    probabilities[[one, other]] = 0.5
    return probabilities


@pytest.mark.parametrize("label", [1, 7])
def test_proportions_decide_between_digits_that_are_as_likely(label):
    (weighed,) = with_proportions(between(1, 7)[None], np.exp(ASPECT_MEAN[[label]]))
    assert weighed.argmax() == label and weighed.sum() == pytest.approx(1.0)


@pytest.mark.parametrize("probability", [0.7, 0.999])
def test_proportions_have_no_say_where_the_classifier_is_sure(probability):
    sure = sure_of(7, probability)[None]
    np.testing.assert_array_equal(with_proportions(sure, np.exp(ASPECT_MEAN[[1]])), sure)


def test_every_candidate_has_its_aspect_and_its_height():
    page = find_digits(strokes(ONE, OTHER))
    aspects, heights = aspects_of(page), heights_of(page)
    assert aspects.shape == heights.shape == (len(page.images) // 2,)
    for each in (each for line in page.lines for each in line.candidates):
        assert aspects[each.number] == each.aspect and heights[each.number] == each.height


@pytest.fixture(scope="module")
def long_upstroke():
    """A 1 whose upstroke begins on the line, as MNIST's writers have none: its views."""
    page = find_digits(strokes((50, 120, 115, 40), (115, 40, 112, 120), width=8))
    whole = max(page.lines[0].candidates, key=lambda each: each.stop - each.start)
    return page.images[2 * whole.number : 2 * whole.number + 2]


def test_a_shape_that_all_call_the_same_digit_is_unusual_at_most(long_upstroke):
    alone = votes_on(long_upstroke, np.stack([sure_of(7)] * 2)).scores[0, 1]
    agreed = votes_on(long_upstroke, np.stack([sure_of(1)] * 2)).scores[0, 1]
    assert agreed == UNUSUAL < alone


def test_a_low_shape_may_be_a_piece_whatever_all_call_it(long_upstroke):
    low = votes_on(long_upstroke, np.stack([sure_of(1)] * 2), heights=np.array([0.5])).scores[0, 1]
    assert low > UNUSUAL

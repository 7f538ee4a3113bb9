"""What several votes on a candidate say together."""

import numpy as np
import pytest

from inkling.client.reading.best_path import ASPECT_MEAN
from inkling.client.reading.page import find_digits
from inkling.client.reading.votes import aspects_of, with_proportions
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


def test_every_candidate_has_its_aspect():
    page = find_digits(strokes(ONE, OTHER))
    aspects = aspects_of(page)
    assert aspects.shape == (len(page.images) // 2,)
    assert all(aspects[each.number] == each.aspect for line in page.lines for each in line.candidates)

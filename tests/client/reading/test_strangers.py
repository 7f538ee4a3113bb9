"""What is no digit told from what is, on MNIST's test digits and on things that were never digits."""

import numpy as np
import pytest

from inkling.client.reading.result import DOUBTFUL_LOGIT, NO_DIGIT_LOGIT
from inkling.client.reading.strangers import stranger_logits
from tools import strangers


@pytest.fixture(scope="module")
def random():
    return np.random.default_rng(7)


def test_digits_are_seldom_refused(random):
    logits = stranger_logits(strangers.digits("test", 1500, random))
    assert (logits > DOUBTFUL_LOGIT).mean() < 0.02
    assert (logits > NO_DIGIT_LOGIT).mean() < 0.006


def test_most_drawings_are_no_digits(random):
    assert (stranger_logits(strangers.drawings(200, random)) > DOUBTFUL_LOGIT).mean() > 0.5


def test_two_digits_are_not_one(random):
    assert (stranger_logits(strangers.pairs("test", 200, random)) > DOUBTFUL_LOGIT).mean() > 0.9


def test_each_form_has_its_logit():
    forms = np.random.default_rng(0).integers(0, 256, (3, 28, 28), np.uint8)
    together = stranger_logits(forms)
    assert together.shape == (3,) and together.dtype == np.float32
    np.testing.assert_allclose(together, [stranger_logits(forms[i : i + 1])[0] for i in range(3)], rtol=1e-4)

"""The second opinion, on MNIST's test digits, on digits as other hands write them, and on what was never a digit."""

import numpy as np
import pytest

from inkling.client.reading.marks import DOUBTFUL_LOGIT, NO_DIGIT_LOGIT
from inkling.client.reading.second_opinion import AT_ONCE, SIGNS, second_opinions
from tools import second_opinion, segmented_lines


@pytest.fixture(scope="module")
def random():
    return np.random.default_rng(7)


def test_digits_are_seldom_refused(random):
    forms, labels = second_opinion.digits("test", 1500, random)
    opinions = second_opinions(forms)
    assert (opinions.digits.argmax(axis=1) == labels).mean() > 0.97
    assert (opinions.strangers > DOUBTFUL_LOGIT).mean() < 0.03
    assert (opinions.strangers > NO_DIGIT_LOGIT).mean() < 0.005


def test_digits_of_other_hands_are_known(random):
    labels = np.repeat(np.arange(10), 40)
    assert (second_opinions(second_opinion.strokes(40, random)).digits.argmax(axis=1) == labels).mean() > 0.95


def test_most_drawings_are_no_digits(random):
    assert (second_opinions(second_opinion.drawings(200, random)).strangers > DOUBTFUL_LOGIT).mean() > 0.8


def test_a_plus_sign_is_known_by_its_shape(random):
    signs = second_opinions(second_opinion.plus_signs(100, random)).signs
    assert (signs[:, SIGNS.index("+")] > 0.5).mean() > 0.9


def test_two_digits_are_not_one(random):
    assert (second_opinions(second_opinion.pairs("test", 200, random)).strangers > DOUBTFUL_LOGIT).mean() > 0.9


def test_each_form_has_its_opinion_however_many_are_asked_about():
    forms = np.random.default_rng(0).integers(0, 256, (AT_ONCE + 2, 28, 28), np.uint8)
    together = second_opinions(forms)
    assert together.strangers.shape == (AT_ONCE + 2,) and together.strangers.dtype == np.float32
    np.testing.assert_allclose(together.digits.sum(axis=1), 1, rtol=1e-5)
    for i in (0, AT_ONCE - 1, AT_ONCE, AT_ONCE + 1):
        alone = second_opinions(forms[i : i + 1])
        np.testing.assert_allclose(together.strangers[i], alone.strangers[0], rtol=1e-3, atol=1e-3)
        np.testing.assert_allclose(together.digits[i], alone.digits[0], atol=1e-4)


def test_of_no_forms_there_are_no_opinions():
    assert second_opinions(np.empty((0, 28, 28), np.uint8)).digits.shape == (0, 10)


def test_the_network_computes_what_keras_does():
    keras = pytest.importorskip("keras")
    layers = [keras.layers.Conv2D(4, 5, strides=2, activation="relu"), keras.layers.Conv2D(6, 3, strides=1)]
    from inkling.client.reading.second_opinion import _patches

    maps = np.random.default_rng(1).random((2, 28, 28, 1), np.float32)
    model = keras.Sequential([keras.Input((28, 28, 1)), *layers])
    (weights, biases), (more, others) = (layer.get_weights() for layer in layers)
    hidden = np.maximum(_patches(maps, 5, 2) @ weights.reshape(-1, 4) + biases, 0)
    np.testing.assert_allclose(
        _patches(hidden, 3, 1) @ more.reshape(-1, 6) + others, model(maps).numpy(), rtol=1e-4, atol=1e-5
    )


def test_the_stored_network_can_be_fitted_further(random):
    pytest.importorskip("keras")
    forms = random.integers(0, 256, (3, 28, 28), np.uint8)
    model = second_opinion.restored(second_opinion.network(steps=1))
    weights = np.exp(model(second_opinion.inputs(forms)).numpy()[:, :10])
    np.testing.assert_allclose(
        second_opinions(forms).digits, weights / weights.sum(axis=1, keepdims=True), rtol=1e-3, atol=1e-5
    )


def test_digits_in_small_squares_are_known(random):
    forms, labels = second_opinion._square_part(300, random)
    assert (second_opinions(forms).digits.argmax(axis=1) == labels).mean() > 0.9


def test_what_is_cut_out_of_lines_of_strokes_is_known(random):
    forms, labels = segmented_lines.candidates([], 20, random)
    opinions = second_opinions(forms)
    digits = labels < segmented_lines.NONE
    assert (opinions.digits.argmax(axis=1) == labels)[digits].mean() > 0.95
    assert (opinions.strangers[digits] > DOUBTFUL_LOGIT).mean() < 0.05
    assert (opinions.strangers[~digits] > DOUBTFUL_LOGIT).mean() > 0.7

"""The reader's constants, made again by the tools that they say they come from."""

import numpy as np
import pytest

from inkling.client.reading import best_path
from inkling.client.reading.best_path import Costs
from inkling.client.reading.page import PageLine
from tests.client.reading.made_up import candidate, sure_of
from tools import compose_page, digit_subspaces, reading_statistics
from tools.reading_statistics import AskedPage


@pytest.fixture(scope="module")
def training_digits():
    return compose_page.mnist_digits("train")


def test_the_classes_proportions_are_those_of_the_training_digits(training_digits):
    means, spreads = reading_statistics.proportions(*training_digits)
    np.testing.assert_allclose(best_path.ASPECT_MEAN, means, atol=0.00501)
    np.testing.assert_allclose(best_path.ASPECT_SPREAD, spreads, atol=0.00501)


def test_the_log_aspect_is_of_the_box_of_what_is_bright():
    images = np.zeros((2, 28, 28), np.uint8)
    images[0, 4:24, 10:15] = 111
    images[0, :, 0] = 110
    images[1, 7, 3:20:16] = 255
    np.testing.assert_allclose(reading_statistics.log_aspects(images, level=110), np.log([5 / 20, 17 / 1]))


def test_the_stored_subspace_is_the_training_digits(training_digits):
    """One class of the ten: the others are made by the same lines."""
    images, labels = training_digits
    mean, directions, usual = digit_subspaces.class_subspace(images[labels == 6][: digit_subspaces.IMAGES_A_CLASS])
    with np.load(digit_subspaces.FILE) as stored:
        assert usual == pytest.approx(stored["usual"][6], rel=1e-5)
        scale = float(stored["mean_scale"])
        np.testing.assert_allclose(stored["means"][6] * scale, mean, atol=0.51 * scale)
        scale = np.linalg.norm(stored["directions"][6].astype(float), axis=1, keepdims=True)
        alike = np.abs((stored["directions"][6] / scale * directions).sum(axis=1))  # a direction has no sign
    np.testing.assert_allclose(alike, 1, atol=0.01)


@pytest.mark.parametrize("split", ["train", "test"])
def test_pages_are_composed_from_the_split_that_is_asked_for(split):
    page = compose_page.compose([3], compose_page.CLEAN, seed=[5], split=split)
    again = compose_page.compose([3], compose_page.CLEAN, seed=[5], split=split)
    other = compose_page.compose([3], compose_page.CLEAN, seed=[5], split="train" if split == "test" else "test")
    assert page.text == again.text and np.array_equal(page.picture, again.picture)
    assert page.picture.shape != other.picture.shape or not np.array_equal(page.picture, other.picture)
    images, labels = compose_page.mnist_digits(split)
    assert len(images) == len(labels) == {"train": 60_000, "test": 10_000}[split]


def asked(text, probabilities):
    """A page of two segments that are one digit or two."""
    line = PageLine((0.0, 0.0), (candidate(0, 1, 0), candidate(1, 2, 1), candidate(0, 2, 2)))
    return AskedPage(text, (line,), np.stack(probabilities), np.zeros((3, 10)))


def test_the_search_descends_to_costs_that_read_everything():
    """One page is read rightly if a gap costs under 2.09, the other if it costs over 0.33."""
    pages = [
        asked("8", [sure_of(3, 0.3), sure_of(3, 0.3), sure_of(8)]),
        asked("31", [sure_of(3, 0.8), sure_of(1, 0.8), sure_of(8, 0.9)]),
    ]
    for start in (Costs(gap=4.0), Costs(gap=0.2)):
        assert reading_statistics.errors(pages, start) > 0
        found, least = reading_statistics.search(pages, start)
        assert least == reading_statistics.errors(pages, found) == 0
        assert 0.33 < found.gap < 2.09 and found.doubt == start.doubt

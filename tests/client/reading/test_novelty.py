"""Outlier scores: distances from the classes' subspaces."""

import numpy as np
import pytest

from inkling.client.reading import novelty
from inkling.client.reading.mnist_form import upright
from inkling.client.reading.novelty import Subspaces, outlier_scores
from inkling.train import data


@pytest.fixture(scope="module")
def digits():
    dataset = data.load()
    return dataset.test_images, dataset.test_labels


def test_digits_are_not_strange_and_other_shapes_are(digits):
    images, labels = (values[:300] for values in digits)
    known = outlier_scores(np.stack([upright(image) for image in images]))[np.arange(300), labels]
    assert np.median(known) < 0.8 and (known > 1.3).mean() <= 0.01
    noise = np.random.default_rng(0).integers(0, 256, (5, 28, 28)).astype(np.uint8)
    assert (outlier_scores(noise) > 1.2).all()
    assert outlier_scores(noise[:0]).shape == (0, 10)


@pytest.fixture
def plane():
    """One class: a mean and two directions at right angles to each other."""
    random = np.random.default_rng(2)
    directions = np.linalg.qr(random.normal(size=(784, 2)))[0].T.astype(np.float32)
    mean = np.abs(random.normal(size=784)).astype(np.float32) / 28
    return Subspaces(mean[None], directions[None], np.array([0.5], np.float32))


def test_scores_are_distances_from_the_plane(plane):
    """The closed form by Pythagoras against the projection, written out."""
    forms = np.random.default_rng(3).integers(0, 256, (20, 28, 28)).astype(np.uint8)
    away = novelty.features(forms).astype(np.float64) - plane.means[0]
    directions = plane.directions[0].astype(np.float64)
    projected = sum((away @ one)[:, None] * one for one in directions)
    expected = np.linalg.norm(away - projected, axis=1) / 0.5
    np.testing.assert_allclose(outlier_scores(forms, plane)[:, 0], expected, rtol=1e-4)


def test_a_form_on_the_plane_is_no_outlier():
    form = np.random.default_rng(4).integers(0, 256, (1, 28, 28)).astype(np.uint8)
    (point,) = novelty.features(form)
    direction = np.zeros(784, np.float32)
    direction[5] = 1
    within = Subspaces((point - 0.3 * direction)[None], direction[None, None], np.ones(1, np.float32))
    assert outlier_scores(form, within)[0, 0] == pytest.approx(0, abs=1e-3)


def test_features_are_blurred_and_of_unit_length():
    forms = np.zeros((2, 28, 28), np.uint8)
    forms[0, 10, 12] = 255
    dot, empty = novelty.features(forms).reshape(2, 28, 28)
    assert np.linalg.norm(dot) == pytest.approx(1)
    spread = np.outer(novelty.BLUR, novelty.BLUR)
    np.testing.assert_allclose(dot[8:13, 10:15], spread / np.linalg.norm(spread), rtol=1e-5)
    assert np.count_nonzero(dot) == 25 and not empty.any()


def test_the_stored_directions_are_orthonormal_nearly():
    """Eight bits an element round a little; the closed form supposes that this does not matter."""
    for directions in novelty._mnist_subspaces().directions:
        np.testing.assert_allclose(directions @ directions.T, np.eye(8), atol=0.03)

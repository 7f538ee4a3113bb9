import keras
import numpy as np
import pytest

from inkling.train.evaluate import Evaluation, make_predict
from inkling.train.network.model import build_model


def test_the_figures_are_those_of_a_hand_count():
    probabilities = np.array([[0.9, 0.1, 0.0], [0.6, 0.4, 0.0], [0.2, 0.8, 0.0], [0.3, 0.7, 0.0]], np.float32)
    evaluation = Evaluation.of(probabilities, np.array([0, 1, 1, 0]))
    assert evaluation.confusion == [[1, 1, 0], [1, 1, 0], [0, 0, 0]]
    assert evaluation.accuracy == 0.5
    assert evaluation.precision == [0.5, 0.5, None] and evaluation.recall == [0.5, 0.5, None]
    assert evaluation.loss == pytest.approx(-np.log([0.9, 0.4, 0.8, 0.3]).mean())
    # Each confidence in a bin of its own: |0.9 - 1|, |0.6 - 0|, |0.8 - 1|, |0.7 - 0|, a quarter each.
    assert evaluation.expected_calibration_error == pytest.approx((0.1 + 0.6 + 0.2 + 0.7) / 4)


def test_confidences_of_one_bin_are_averaged_before_they_are_compared():
    probabilities = np.tile(np.array([[0.75, 0.25]], np.float32), (4, 1))
    evaluation = Evaluation.of(probabilities, np.array([0, 0, 0, 1]))
    assert evaluation.expected_calibration_error == pytest.approx(0, abs=1e-7)


def test_a_zero_probability_costs_a_finite_loss():
    evaluation = Evaluation.of(np.array([[1.0, 0.0]], np.float32), np.array([1]))
    assert 80 < evaluation.loss < 100


def test_the_table_names_every_class(digits):
    evaluation = Evaluation.of(np.eye(10, dtype=np.float32)[digits.test_labels], digits.test_labels)
    table = evaluation.table(digits.class_names)
    assert "accuracy                    100.00% of 203" in table and len(table.splitlines()) == 15


@pytest.mark.parametrize("count", [1, 203], ids=["fewer than replicas", "no round number"])
@pytest.mark.parametrize("replicas", [1, 2])
def test_each_example_is_predicted_once_and_in_order(request, small_config, digits, count, replicas):
    strategy = request.getfixturevalue({1: "one_replica", 2: "two_replicas"}[replicas])
    with strategy.scope():
        keras.utils.set_random_seed(0)
        model = build_model(small_config, image_size=(28, 28), num_classes=10)
    images = digits.test_images[:count]
    found = make_predict(model, strategy, per_replica_batch_size=40)(images)
    expected = model(images[..., np.newaxis] / np.float32(255), training=False)
    np.testing.assert_allclose(found, expected, atol=1e-6)

"""Batch-norm statistics measured on plain images, whatever the number of replicas."""

import keras
import numpy as np
import pytest

from inkling.train.network.model import build_model
from inkling.train.network.precise_batch_norm import make_recalibrate

pytestmark = pytest.mark.training


@pytest.fixture
def model(small_config, two_replicas):
    with two_replicas.scope():
        model = build_model(small_config, image_size=(28, 28), num_classes=10)
        random = np.random.default_rng(0)
        model.set_weights([value + random.uniform(0, 0.1, value.shape) for value in model.get_weights()])
    return model


def batch_norms(model):
    return [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]


def test_each_layer_gets_the_moments_of_its_own_inputs(model, digits, two_replicas):
    images = digits.test_images  # 203: no round number for two replicas
    make_recalibrate(model, two_replicas)(images, 4000)
    pixels = images[..., np.newaxis] / np.float32(255)
    assert len(batch_norms(model)) == 4
    for layer in batch_norms(model):
        inputs = np.asarray(keras.Model(model.input, layer.input)(pixels, training=False), np.float64)
        np.testing.assert_allclose(layer.moving_mean.numpy(), inputs.mean(axis=(0, 1, 2)), rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(layer.moving_variance.numpy(), inputs.var(axis=(0, 1, 2)), rtol=1e-3, atol=1e-6)


def test_all_replicas_hold_the_same_statistics(model, digits, two_replicas):
    make_recalibrate(model, two_replicas)(digits.test_images, 4000)
    for layer in batch_norms(model):
        one, two = two_replicas.experimental_local_results(layer.moving_mean.value)
        np.testing.assert_array_equal(one.numpy(), two.numpy())


def test_images_sorted_by_class_are_taken_evenly(model, digits, two_replicas):
    apart = digits.test_images[[0, 101]]
    recalibrate = make_recalibrate(model, two_replicas)
    recalibrate(digits.test_images, 2)
    found = batch_norms(model)[0].moving_mean.numpy()
    recalibrate(apart, 2)
    np.testing.assert_array_equal(found, batch_norms(model)[0].moving_mean.numpy())


def test_what_was_measured_before_leaves_no_trace(model, digits, two_replicas):
    recalibrate = make_recalibrate(model, two_replicas)

    def variances(num_images):
        recalibrate(digits.test_images, num_images)
        return np.concatenate([layer.moving_variance.numpy() for layer in batch_norms(model)])

    of_all, of_some, of_all_again = variances(200), variances(20), variances(200)
    assert (of_some != of_all).any()
    np.testing.assert_array_equal(of_all_again, of_all)

import keras
import numpy as np
import pytest
import tensorflow as tf

from inkling.train.network.batch_norm import BatchNormalization, fused_gradients
from tests.train.slopes import slopes_by_definition

SHAPE = (12, 5, 6, 3)


@pytest.fixture
def batch():
    random = np.random.default_rng(0)
    return (random.normal(3, 2, SHAPE).astype(np.float32), random.normal(size=SHAPE).astype(np.float32))


def build(kind, **settings):
    layer = kind(momentum=0.8, **settings)
    layer.build((None, *SHAPE[1:]))
    layer.gamma.assign([0.5, 1.0, 2.0])
    layer.beta.assign([1.0, -1.0, 0.0])
    return layer


def run(layer, x, upstream):
    """Output, moving statistics, and the gradients of sum(output * upstream)."""
    x = tf.convert_to_tensor(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        output = layer(x, training=True)
        value = tf.reduce_sum(tf.cast(output, tf.float32) * upstream)
    gradients = tape.gradient(value, [x, layer.gamma.value, layer.beta.value])
    return [output, *gradients]


def statistics(layer):
    return [layer.moving_mean.numpy(), layer.moving_variance.numpy()]


def test_one_replica_normalises_like_keras(batch):
    ours, keras_layer = build(BatchNormalization), build(keras.layers.BatchNormalization)
    for found, expected in zip(run(ours, *batch), run(keras_layer, *batch), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-4)
    for found, expected in zip(statistics(ours), statistics(keras_layer), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_two_replicas_normalise_like_one_with_the_whole_batch(batch, two_replicas):
    whole = build(BatchNormalization)
    output, x_slope, gamma_slope, beta_slope = run(whole, *batch)
    with two_replicas.scope():
        shared = build(BatchNormalization)
    halves = [tuple(tf.constant(half) for half in pair) for pair in zip(*(np.split(a, 2) for a in batch), strict=True)]
    values = two_replicas.experimental_distribute_values_from_function(
        lambda context: halves[context.replica_id_in_sync_group]
    )
    results = two_replicas.run(tf.function(lambda pair: run(shared, *pair)), args=(values,))
    local = [two_replicas.experimental_local_results(result) for result in results]
    np.testing.assert_allclose(np.concatenate(local[0]), output, atol=2e-5)
    np.testing.assert_allclose(np.concatenate(local[1]), x_slope, atol=2e-5)
    np.testing.assert_allclose(np.sum(local[2], axis=0), gamma_slope, rtol=1e-4)
    np.testing.assert_allclose(np.sum(local[3], axis=0), beta_slope, rtol=1e-4)
    for variable, expected in zip((shared.moving_mean, shared.moving_variance), statistics(whole), strict=True):
        for copy in two_replicas.experimental_local_results(variable.value):
            np.testing.assert_allclose(copy, expected, rtol=1e-5)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_half_precision_keeps_its_statistics_in_float32(batch, policy):
    layer = build(BatchNormalization, dtype=policy)
    output = layer(tf.constant(batch[0]), training=True)
    assert output.dtype == keras.DTypePolicy(policy).compute_dtype
    assert layer.moving_mean.dtype == "float32"
    np.testing.assert_allclose(layer.moving_mean, 0.2 * batch[0].mean(axis=(0, 1, 2)), rtol=2e-3)


def test_weights_move_to_keras_own_layer(batch):
    ours, theirs = build(BatchNormalization), build(keras.layers.BatchNormalization)
    ours(batch[0], training=True)
    theirs.set_weights(ours.get_weights())
    np.testing.assert_allclose(theirs(batch[0], training=False), ours(batch[0], training=False), atol=1e-6)


def test_the_gradient_is_that_of_other_statistics_than_the_batchs_own(batch):
    x, upstream = map(tf.constant, batch)
    moments = tf.nn.moments(x, [0, 1, 2])
    mean, variance = moments[0] + 0.1, moments[1] * 1.2  # as those of all replicas are not quite this batch's
    gamma, epsilon = tf.constant([0.5, 1.0, 2.0]), 1e-3
    found = fused_gradients(upstream, x, gamma, mean=mean, variance=variance, epsilon=epsilon, on_gpu=False)
    for slope, expected in zip(found, slopes_by_definition(*batch, gamma, mean, variance, epsilon), strict=True):
        np.testing.assert_allclose(slope, expected, rtol=1e-4, atol=1e-5)

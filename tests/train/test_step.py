"""Promise 1: the number of replicas does not change the result."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from inkling.train.data.pipeline import training_batches
from inkling.train.loop import check_replicas_agree
from inkling.train.step import TrainState, make_run_steps, replica_loss

pytestmark = pytest.mark.training

STEPS = 12


def make_state(config, dataset, strategy):
    keras.utils.set_random_seed(config.seed)
    with strategy.scope():
        return TrainState(config, image_size=dataset.image_size, num_classes=10, total_steps=40)


def train_steps(config, dataset, strategy, num_steps=STEPS, first_step=0):
    state = make_state(config, dataset, strategy)
    batches = iter(training_batches(config, dataset, strategy, first_step=first_step))
    return state, make_run_steps(config, state, strategy)(batches, num_steps)


def test_the_model_has_the_five_layers_of_the_description(small_config, mnist, one_replica):
    config = dataclasses.replace(small_config, widths=(32, 32, 64, 64), dropout=(0.2, 0.3))
    model = make_state(config, mnist, one_replica).model
    assert model.count_params() == 97_130
    kinds = [type(layer).__name__ for layer in model.layers]
    block = ["Conv2D", "BatchNormalization"]
    tail = ["Flatten", "Dense", "Softmax"]
    assert kinds == ["InputLayer", *([*block, *block, "MaxPooling2D", "Dropout"] * 2), *tail]
    assert [layer.rate for layer in model.layers if "dropout" in layer.name] == [0.2, 0.3]


def test_the_learning_rate_rises_and_falls_along_a_cosine(small_config, digits, one_replica):
    config = dataclasses.replace(small_config, epochs=4, warmup_epochs=1.0, learning_rate=0.01)
    schedule = make_state(config, digits, one_replica).schedule  # 40 steps, 10 of them to warm up
    rates = [float(schedule(step)) for step in (0, 5, 10, 25, 40)]
    np.testing.assert_allclose(rates, [0, 0.005, 0.01, 0.005, 0], atol=1e-8)


def test_replica_losses_sum_to_the_global_mean():
    random = np.random.default_rng(0)
    logits, labels = random.normal(size=(12, 10)).astype(np.float32), random.integers(0, 10, 12)
    shares = [
        replica_loss(tf.constant(labels[half]), tf.constant(logits[half]), global_batch_size=12)
        for half in (slice(0, 6), slice(6, 12))
    ]
    log_probabilities = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(sum(shares), -log_probabilities[np.arange(12), labels].mean(), rtol=1e-5)


def test_label_smoothing_spreads_its_share_evenly():
    logits = np.zeros((1, 4), np.float32)
    logits[0, 1] = 2.0
    found = replica_loss(tf.constant([1]), tf.constant(logits), global_batch_size=1, label_smoothing=0.2)
    log_probabilities = logits[0] - np.log(np.exp(logits[0]).sum())
    np.testing.assert_allclose(found, -(np.array([0.05, 0.85, 0.05, 0.05]) * log_probabilities).sum(), rtol=1e-5)


def test_two_replicas_take_the_same_steps_as_one(small_config, digits, one_replica, two_replicas):
    # Adam turns rounding into steps of the learning rate's size where a gradient is nearly 0: keep those small.
    # A large L2, or nobody would see that each replica counts it whole.
    config = dataclasses.replace(small_config, learning_rate=3e-4, l2=0.02)
    one, one_metrics = train_steps(config, digits, one_replica, 30)
    two, two_metrics = train_steps(config, digits, two_replicas, 30)
    np.testing.assert_allclose(two_metrics.loss, one_metrics.loss, rtol=1e-3)
    for name, value in one.arrays().items():
        if not name.startswith("optimizer"):
            np.testing.assert_allclose(two.arrays()[name], value, rtol=1e-3, atol=2e-3, err_msg=name)
    check_replicas_agree(two, two_replicas)


@pytest.mark.slow
def test_a_step_that_xla_compiled_is_the_same(small_config, digits, one_replica):
    config = dataclasses.replace(small_config, learning_rate=3e-4, deterministic=False)
    plain, plain_metrics = train_steps(config, digits, one_replica)
    compiled, compiled_metrics = train_steps(dataclasses.replace(config, jit_compile=True), digits, one_replica)
    np.testing.assert_allclose(compiled_metrics.loss, plain_metrics.loss, rtol=1e-3)
    assert compiled.step == plain.step == compiled.optimizer.iterations.numpy()


def test_loss_falls(small_config, digits, one_replica):
    _, metrics = train_steps(dataclasses.replace(small_config, widths=(16, 16, 16, 16)), digits, one_replica, 40)
    assert metrics.loss[-5:].mean() < 0.5 * metrics.loss[:5].mean()
    assert metrics.accuracy[-5:].mean() > 0.7


@pytest.mark.parametrize("precision", ["bfloat16", pytest.param("float16", marks=pytest.mark.slow)])
def test_half_precision_trains_on_two_replicas(small_config, digits, two_replicas, precision):
    config = dataclasses.replace(small_config, precision=precision)
    state, metrics = train_steps(config, digits, two_replicas)
    assert np.isfinite(metrics.loss).all()
    assert metrics.loss[-3:].mean() < metrics.loss[:3].mean()
    assert {variable.dtype for variable in state.averaged.weights} == {"float32"}
    check_replicas_agree(state, two_replicas)


@pytest.mark.slow
def test_float16_skips_a_step_that_overflows_on_one_replica_on_both(small_config, digits, two_replicas):
    config = dataclasses.replace(small_config, precision="float16")
    state = make_state(config, digits, two_replicas)
    state.optimizer.dynamic_scale.assign(1e30)  # any gradient overflows
    before = [value.copy() for value in state.model.get_weights() if value.ndim == 4]
    batches = iter(training_batches(config, digits, two_replicas, first_step=0))
    make_run_steps(config, state, two_replicas)(batches, 1)
    after = [value for value in state.model.get_weights() if value.ndim == 4]
    for old, new in zip(before, after, strict=True):
        np.testing.assert_array_equal(new, old)
    assert float(state.optimizer.dynamic_scale.numpy()) == pytest.approx(5e29)
    check_replicas_agree(state, two_replicas)


def test_dropout_follows_the_step_and_differs_between_replicas(small_config, digits, two_replicas, one_replica):
    config = dataclasses.replace(small_config, dropout=(0.5, 0.5))
    first, _ = train_steps(config, digits, one_replica, 3)
    again, _ = train_steps(config, digits, one_replica, 3)
    for name, value in first.arrays().items():
        np.testing.assert_array_equal(again.arrays()[name], value, err_msg=name)
    state, _ = train_steps(config, digits, two_replicas, 1)
    generator = state.model.get_layer("dropout1").seed_generator.state.value
    one, two = (copy.numpy().tolist() for copy in two_replicas.experimental_local_results(generator))
    assert one != two


def test_the_average_is_the_exponential_moving_average(small_config, digits, one_replica):
    config = dataclasses.replace(small_config, average_decay=0.5)
    state = make_state(config, digits, one_replica)
    expected = state.model.get_weights()
    batches = iter(training_batches(config, digits, one_replica, first_step=0))
    run_steps = make_run_steps(config, state, one_replica)
    for step in range(1, 13):
        run_steps(batches, 1)
        decay = min(0.5, (1 + step) / (10 + step))
        current = state.model.get_weights()
        expected = [decay * a + (1 - decay) * b for a, b in zip(expected, current, strict=True)]
    for found, value in zip(state.averaged.get_weights(), expected, strict=True):
        np.testing.assert_allclose(found, value, rtol=1e-4, atol=1e-6)


def test_without_average_the_last_weights_are_the_result(small_config, digits, one_replica):
    state, _ = train_steps(dataclasses.replace(small_config, average_decay=0.0), digits, one_replica, 3)
    for averaged, last in zip(state.averaged.get_weights(), state.model.get_weights(), strict=True):
        np.testing.assert_array_equal(averaged, last)


def test_replicas_that_went_apart_are_found_before_they_are_saved(small_config, digits, two_replicas):
    state = make_state(small_config, digits, two_replicas)
    variable = state.model.get_layer("conv1_norm").moving_mean.value
    two_replicas.experimental_local_results(variable)[1].assign_add(tf.ones_like(variable))
    with pytest.raises(RuntimeError, match="replicas' variables differ before the checkpoint at step 0"):
        check_replicas_agree(state, two_replicas)


def test_a_batch_that_does_not_split_evenly_is_refused(small_config, digits, two_replicas):
    config = dataclasses.replace(small_config, global_batch_size=33)
    with pytest.raises(ValueError, match="33 does not split evenly over 2 replicas; use a multiple of 2.*size 34"):
        training_batches(config, digits, two_replicas, first_step=0)

"""Batch normalisation for training: fused on one replica, synchronised by one small exchange on several.

Keras 3 normalises with a dozen elementwise passes over the activations and synchronises with three all-reduces a layer:
https://github.com/keras-team/keras-core/issues/225, https://github.com/keras-team/keras/pull/18671. On a CPU those
passes cost a quarter of the whole training step; this layer has the same variables, the same results and the same
configuration, so that weights move freely between the two.
"""

import zlib
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from ..strategy import runs_on_gpus

GROUP_KEY = 1_000_000  # of the workers that gather; tf.distribute counts its own groups up from 1


class BatchNormalization(keras.layers.BatchNormalization):
    """`keras.layers.BatchNormalization` over the channels of [n, height, width, channels], faster to train."""

    def call(self, inputs: tf.Tensor, training: bool | None = None, mask: None = None) -> tf.Tensor:
        if not training:
            return super().call(inputs, training=False)
        gamma, beta = tf.convert_to_tensor(self.gamma), tf.convert_to_tensor(self.beta)
        if tf.distribute.get_strategy().num_replicas_in_sync > 1:
            outputs, mean, variance = synchronized_batch_norm(inputs, gamma, beta, self.epsilon, name=self.name)
        else:
            outputs, mean, variance = fused_batch_norm(inputs, gamma, beta, self.epsilon)
        for average, value in ((self.moving_mean, mean), (self.moving_variance, variance)):
            average.assign(average * self.momentum + value * (1.0 - self.momentum))
        return outputs


def fused_batch_norm(
    x: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor, epsilon: float
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Normalise with the statistics of this replica's batch, in one kernel.

    Args:
        x: float32, bfloat16 or float16 [n, height, width, channels].
        gamma: float32 [channels], the scale.
        beta: float32 [channels], the offset.

    Returns: the output, like x; mean and biased variance, float32 [channels], which carry no gradient.
    """
    outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
        x=x,
        scale=gamma,
        offset=beta,
        mean=tf.zeros([0]),
        variance=tf.zeros([0]),
        epsilon=epsilon,
        is_training=True,
    )
    count = _count(x)
    # The kernel estimates the variance of a population (n - 1); the layer normalises with, and keeps, the batch's own.
    biased = variance * (count - 1.0) / count
    return outputs, tf.stop_gradient(mean), tf.stop_gradient(biased)


def synchronized_batch_norm(
    x: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor, epsilon: float, *, name: str
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Normalise with the statistics of all replicas' batches, which must be of one size; in replica context.

    The gradient is the closed form of Ioffe and Szegedy, "Batch normalization", ICML 2015, section 3, with its two sums
    taken over all replicas: one exchange forward, one back.

    Args:
        x: float32, bfloat16 or float16 [n, height, width, channels], this replica's.
        gamma: float32 [channels], the scale.
        beta: float32 [channels], the offset.
        name: the layer's; no other layer of the step has it.

    Returns: the output, like x; mean and biased variance, float32 [channels], which carry no gradient.
    """
    on_gpu = runs_on_gpus(tf.distribute.get_strategy())

    @tf.custom_gradient
    def normalise(
        x: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor
    ) -> tuple[tuple[tf.Tensor, tf.Tensor, tf.Tensor], Callable[..., Any]]:
        _, local_mean, local_variance = fused_batch_norm(x, gamma, beta, epsilon)
        local = tf.stack([local_mean, local_variance, tf.square(local_mean)])
        mean, within, mean_of_squares = tf.unstack(_mean_over_replicas(local, f"{name}/forward"))
        variance = within + tf.maximum(mean_of_squares - tf.square(mean), 0.0)

        def gradients(upstream: tf.Tensor, *_: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            x_gradient, gamma_gradient, beta_gradient = fused_gradients(
                upstream, x, gamma, mean=mean, variance=variance, epsilon=epsilon, on_gpu=on_gpu
            )
            local = tf.stack([gamma_gradient, beta_gradient]) / _count(x)
            # The two means in x_gradient are this replica's own; what is added makes them everybody's.
            excess = local - _mean_over_replicas(local, f"{name}/back")
            scale, offset = tf.unstack(excess * gamma * tf.math.rsqrt(variance + epsilon))
            x_gradient += _apply(x, scale, offset, mean, variance, epsilon)
            return x_gradient, gamma_gradient, beta_gradient

        return (_apply(x, gamma, beta, mean, variance, epsilon), mean, variance), gradients

    outputs, mean, variance = normalise(x, gamma, beta)
    return outputs, tf.stop_gradient(mean), tf.stop_gradient(variance)


def fused_gradients(
    upstream: tf.Tensor,
    x: tf.Tensor,
    gamma: tf.Tensor,
    *,
    mean: tf.Tensor,
    variance: tf.Tensor,
    epsilon: float,
    on_gpu: bool,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """The gradients of x, gamma and beta as one replica sees them, in one kernel.

    Args:
        upstream: the gradient of the output, like x.
        x: float32, bfloat16 or float16 [n, height, width, channels].
        gamma: float32 [channels].
        mean: float32 [channels], which x was normalised with.
        variance: float32 [channels], likewise.

    Returns: the gradients of x, like x, and of gamma and beta, float32 [channels].
    """
    # The kernel takes what its own forward pass would have left for it; cuDNN's leaves the inverse deviation.
    left = tf.math.rsqrt(variance + epsilon) if on_gpu else variance
    x_gradient, gamma_gradient, beta_gradient, *_ = tf.raw_ops.FusedBatchNormGradV3(
        y_backprop=upstream,
        x=x,
        scale=gamma,
        reserve_space_1=mean,
        reserve_space_2=left,
        reserve_space_3=tf.zeros([0]),
        epsilon=epsilon,
        is_training=True,
    )
    return x_gradient, gamma_gradient, beta_gradient


def _apply(
    x: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor, mean: tf.Tensor, variance: tf.Tensor, epsilon: float
) -> tf.Tensor:
    """`gamma * (x - mean) / sqrt(variance + epsilon) + beta`, in one kernel."""
    return tf.raw_ops.FusedBatchNormV3(
        x=x, scale=gamma, offset=beta, mean=mean, variance=variance, epsilon=epsilon, is_training=False
    ).y


def _count(x: tf.Tensor) -> tf.Tensor:
    """How many values each channel of x has."""
    return tf.cast(tf.size(x) // tf.shape(x)[-1], tf.float32)


def _mean_over_replicas(value: tf.Tensor, name: str) -> tf.Tensor:
    """The mean of what all replicas pass in; for small values, whose exchange costs its round trips and not bytes."""
    strategy = tf.distribute.get_strategy()
    if runs_on_gpus(strategy) or len(strategy.extended.worker_devices) > 1:
        return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.MEAN, value)
    # Between workers without GPUs: a ring all-reduce goes round twice, a gather once.
    num_replicas = strategy.num_replicas_in_sync
    gathered = tf.raw_ops.CollectiveGatherV2(
        input=value[tf.newaxis],
        group_size=num_replicas,
        group_key=GROUP_KEY,
        instance_key=zlib.crc32(name.encode()) >> 1,  # an int32, and not hash(), which differs between processes
        ordering_token=[],
    )
    return tf.reduce_mean(tf.ensure_shape(gathered, [num_replicas, *value.shape]), axis=0)

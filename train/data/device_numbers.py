"""The counter-based random numbers of `example_order.py` as TensorFlow operations, for devices; the same bits."""

import numpy as np
import tensorflow as tf

from .example_order import GOLDEN_GAMMA


def uniform_numbers(key: tf.Tensor, epoch: tf.Tensor, index: tf.Tensor, count: int) -> tf.Tensor:
    """`example_order.uniform_numbers` on a device.

    Args:
        key: uint64 [1], `example_key` of the purpose and the seed.
        epoch: int32 [n].
        index: int32 [n].

    Returns: float32 [n, count], uniform in [0, 1).
    """
    key = _splitmix64(key + tf.cast(epoch, tf.uint64) * GOLDEN_GAMMA)
    key = _splitmix64(key + tf.cast(index, tf.uint64) * GOLDEN_GAMMA)
    bits = tf.bitwise.right_shift(_counted(key[:, tf.newaxis], count), tf.constant(40, tf.uint64))
    return tf.cast(tf.cast(bits, tf.int32), tf.float32) * 2**-24


def counted_bits(seed: tf.Tensor, count: int) -> tf.Tensor:
    """uint64 [n, count]: random bits for each of n seeds, uint64 [n, 1]."""
    return _counted(_splitmix64(seed * GOLDEN_GAMMA), count)


def _counted(key: tf.Tensor, count: int) -> tf.Tensor:
    return _splitmix64(key + tf.constant(np.arange(1, count + 1, dtype=np.uint64) * GOLDEN_GAMMA))


def _splitmix64(z: tf.Tensor) -> tf.Tensor:
    z = _mixed(z, 30) * tf.constant(0xBF58476D1CE4E5B9, tf.uint64)
    z = _mixed(z, 27) * tf.constant(0x94D049BB133111EB, tf.uint64)
    return _mixed(z, 31)


def _mixed(z: tf.Tensor, bits: int) -> tf.Tensor:
    return tf.bitwise.bitwise_xor(z, tf.bitwise.right_shift(z, tf.constant(bits, tf.uint64)))

"""From stored pixels to what the network takes: one formula for training, evaluation and the served graph."""

import tensorflow as tf


def to_model_input(images: tf.Tensor) -> tf.Tensor:
    """Scale images to the network's range and give them a channel.

    Args:
        images: uint8 [n, height, width], 0 to 255.

    Returns: float32 [n, height, width, 1], 0 to 1.
    """
    return tf.cast(images, tf.float32)[..., tf.newaxis] / 255.0

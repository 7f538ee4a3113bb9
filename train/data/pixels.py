"""From stored pixels to what the network takes: one formula for training, evaluation and the served graph."""

import tensorflow as tf


def to_model_input(images: tf.Tensor) -> tf.Tensor:
    """Scale images to the network's range, and give grey ones a channel.

    Args:
        images: uint8 [n, height, width], or [n, height, width, 3] in colour; 0 to 255.

    Returns: float32 [n, height, width, 1] or [n, height, width, 3], 0 to 1.
    """
    pixels = tf.cast(images, tf.float32)
    return (pixels if len(pixels.shape) == 4 else pixels[..., tf.newaxis]) / 255.0

import numpy as np
import tensorflow as tf

from inkling.train.data.pixels import to_model_input


def test_pixels_are_scaled_to_one_and_get_a_channel():
    images = np.arange(256, dtype=np.uint8).reshape(4, 8, 8)
    found = to_model_input(tf.constant(images))
    assert found.dtype == tf.float32
    np.testing.assert_array_equal(found, images[..., np.newaxis] / np.float32(255))

"""Tensors from and to protos, where a whole server would not show what matters."""

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.framework.tensor_pb2 import TensorProto

from inkling.serving.errors import ServingError
from inkling.serving.tensors import MAX_FILLED_BYTES, to_array, to_proto


def filled(value, *shape):
    """A message that says `value` once for a whole tensor."""
    proto = tf.make_tensor_proto([value])
    proto.ClearField("tensor_content")
    proto.tensor_shape.CopyFrom(tf.TensorShape(shape).as_proto())
    return proto


@pytest.mark.parametrize("value", [1.5, b"abc", 1 + 2j, True], ids=repr)
def test_one_value_for_a_whole_tensor_takes_the_memory_of_one(value):
    array = to_array("x", filled(value, 1000, 3))
    assert array.shape == (1000, 3) and set(array.strides) == {0}
    back = TensorProto.FromString(to_proto(array, as_content=False).SerializeToString())
    np.testing.assert_array_equal(tf.make_ndarray(back), np.full((1000, 3), value))


@pytest.mark.parametrize(
    ("value", "count"), [(1.0, MAX_FILLED_BYTES // 4 + 1), (b"x" * 1000, MAX_FILLED_BYTES // 1000)]
)
def test_such_a_tensor_may_not_be_too_large_when_it_is_run(value, count):
    with pytest.raises(ServingError, match="send all of them"):
        to_array("x", filled(value, count))

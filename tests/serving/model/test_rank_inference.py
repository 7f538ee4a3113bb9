"""The ranks that a graph accepts for an input of unknown rank, by TensorFlow's shape inference."""

import pytest
import tensorflow as tf

from inkling.serving.model.rank_inference import MAX_RANK, accepted_ranks

v1 = tf.compat.v1
ALL = frozenset(range(MAX_RANK + 1))


def ranks(build):
    """What is accepted of `x`, from which `build` makes `y`."""
    with tf.Graph().as_default() as graph:
        x = v1.placeholder(tf.float32, None, name="x")
        tf.identity(build(x), name="y")
    return accepted_ranks(graph.as_graph_def(), input_name="x:0", dtype=tf.float32.as_datatype_enum, outputs=["y:0"])


def convolution(x):
    return tf.nn.conv2d(x, tf.ones([3, 3, 1, 4]), 1, "SAME")


def in_a_function(python_function):
    return tf.function(python_function, input_signature=[tf.TensorSpec(None, tf.float32)])


@pytest.mark.parametrize(
    "build, expected",
    [
        (lambda x: 2 * x, ALL),
        (lambda x: tf.reduce_sum(x, axis=1), ALL - {0, 1}),
        (lambda x: v1.raw_ops.MatMul(a=x, b=tf.ones([2, 2])), {2}),
        (convolution, {4}),
        (lambda x: convolution(tf.expand_dims(x, -1)), {3}),
        (in_a_function(convolution), {4}),
        (in_a_function(lambda x: in_a_function(convolution)(x)), {4}),
        (lambda x: v1.raw_ops.Reshape(tensor=x, shape=[-1]), ALL),
        (lambda x: tf.expand_dims(x, 2), ALL - {0, 1}),
    ],
    ids=["any", "axis", "matmul", "conv2d", "with a channel", "function", "nested function", "reshape", "dimension"],
)
def test_ranks_are_those_that_every_operation_takes(build, expected):
    assert ranks(build) == expected


def test_where_no_rank_fits_nothing_is_checked(caplog):
    impossible = ranks(
        lambda x: tf.reduce_sum(convolution(x)) + tf.reduce_sum(v1.raw_ops.MatMul(a=x, b=tf.ones([2, 2])))
    )
    assert impossible == ALL
    assert "shape inference refuses x:0 at every rank; it is not checked" in caplog.text

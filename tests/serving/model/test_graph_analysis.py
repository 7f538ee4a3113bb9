"""What is read from a graph: whether running it changes anything, and whether it works value by value."""

import pytest
import tensorflow as tf

from inkling.serving.model.graph_analysis import GraphFacts, analyse, subgraph

v1 = tf.compat.v1


def graph_of(build):
    """The graph in which `build` makes `y` from a placeholder `x`, float [n, 2]."""
    with tf.Graph().as_default() as graph:
        tf.identity(build(v1.placeholder(tf.float32, [None, 2], name="x")), name="y")
    return graph.as_graph_def()


def function_of(python_function):
    """`python_function` called as a function of the graph's library."""
    return tf.function(python_function, input_signature=[tf.TensorSpec([None, 2], tf.float32)])


def resource_plus_one(x):
    variable = v1.get_variable("v", initializer=1.0, use_resource=True)
    return x + v1.assign_add(variable, 1.0)


@pytest.mark.parametrize(
    "build, expected",
    [
        (lambda x: 2 * x + 1, GraphFacts(changing=(), elementwise=True)),
        (lambda x: tf.nn.relu(tf.tanh(x)) / 3, GraphFacts(changing=(), elementwise=True)),
        (lambda x: tf.matmul(x, tf.ones([2, 2])), GraphFacts(changing=(), elementwise=False)),
        (lambda x: x - tf.reduce_mean(x), GraphFacts(changing=(), elementwise=False)),
        (function_of(lambda x: 2 * x), GraphFacts(changing=(), elementwise=True)),
        (function_of(lambda x: tf.reduce_sum(x)), GraphFacts(changing=(), elementwise=False)),
        (function_of(lambda x: function_of(lambda z: tf.cumsum(z))(x)), GraphFacts(changing=(), elementwise=False)),
        (lambda x: x + tf.random.uniform([2]), GraphFacts(changing=("RandomUniform",), elementwise=False)),
        (resource_plus_one, GraphFacts(changing=("AssignAddVariableOp",), elementwise=False)),
    ],
    ids=["affine", "chain", "matmul", "mean", "function", "sum in a function", "nested", "random", "assignment"],
)
def test_a_graph_is_known_by_its_operations(build, expected):
    assert analyse(graph_of(build), ["x:0"], ["y:0"]) == expected


def test_variables_that_are_only_read_change_nothing():
    def affine(x):
        return x * v1.get_variable("scale", initializer=2.0, use_resource=True)

    assert analyse(graph_of(affine), ["x:0"], ["y:0"]).changing == ()


def test_what_lies_beside_the_way_to_the_outputs_does_not_count():
    def beside(x):
        tf.random.normal([2], name="noise")
        return 2 * x

    assert analyse(graph_of(beside), ["x:0"], ["y:0"]) == GraphFacts(changing=(), elementwise=True)
    assert analyse(graph_of(beside), ["x:0"], ["noise:0"]).changing == ("RandomStandardNormal",)


def test_the_way_ends_at_the_inputs():
    def two_steps(x):
        return tf.square(tf.identity(tf.reduce_sum(x), name="middle"))

    assert not analyse(graph_of(two_steps), ["x:0"], ["y:0"]).elementwise
    assert analyse(graph_of(two_steps), ["middle:0"], ["y:0"]).elementwise


def test_a_control_dependency_is_on_the_way():
    def controlled(x):
        with tf.control_dependencies([tf.random.uniform([1])]):
            return tf.identity(x)

    assert analyse(graph_of(controlled), ["x:0"], ["y:0"]).changing == ("RandomUniform",)


def test_an_unknown_operation_is_taken_as_changing():
    graph = graph_of(lambda x: 2 * x)
    graph.node.add(name="new", op="OperationOfTomorrow", input=["x"])
    assert analyse(graph, ["x:0"], ["new:0"]) == GraphFacts(changing=("OperationOfTomorrow",), elementwise=False)


def test_a_subgraph_keeps_the_inputs_and_what_leads_to_the_outputs():
    def with_a_branch(x):
        tf.exp(x, name="elsewhere")
        return tf.square(x, name="square")

    part = subgraph(graph_of(with_a_branch), ["x:0"], ["y:0"])
    assert {node.name for node in part.node} == {"x", "square", "y"}

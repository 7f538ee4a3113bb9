"""Runs end when nobody waits for them any more, and are not limited otherwise."""

import numpy as np
import pytest
import tensorflow as tf

from inkling.serving import deadlines
from inkling.serving.model import session_function
from inkling.serving.model.session_function import SessionFunction, has_loops, limit_ms

HOURS = 10**12  # steps of the loop
FEW = 10


@pytest.fixture(scope="module")
def loop():
    """A session and the names of a loop's input and output."""
    graph = tf.Graph()
    with graph.as_default():
        steps = tf.compat.v1.placeholder(tf.int64, [], name="steps")
        counted = tf.while_loop(lambda i: i < steps, lambda i: [i + 1], [tf.constant(0, tf.int64)])[0]
        result = tf.identity(counted, name="counted")
    with tf.compat.v1.Session(graph=graph) as session:
        yield session, [steps.name], [result.name]


@pytest.fixture(autouse=True)
def somebody_waits_for_ever():
    deadlines.begin(None)
    yield
    deadlines.begin(None)


def test_a_run_ends_when_nobody_waits_any_more(loop):
    function = SessionFunction(*loop, may_last=True)
    deadlines.begin(0.01)
    with pytest.raises(tf.errors.DeadlineExceededError):
        function([np.int64(HOURS)])


def test_the_session_computes_on_after_a_run_was_ended(loop):
    function = SessionFunction(*loop, may_last=True)
    for steps, timeout_s in ((HOURS, 0.01), (FEW, 0.01), (FEW, None), (FEW, 100.0)):
        deadlines.begin(timeout_s)
        if steps == FEW:
            assert function([np.int64(steps)]) == [FEW]
        else:
            with pytest.raises(tf.errors.DeadlineExceededError):
                function([np.int64(steps)])


def test_a_function_that_has_taken_long_once_has_limits_from_then_on(loop, monkeypatch):
    monkeypatch.setattr(session_function, "LONG_RUN_S", 0.0)
    function = SessionFunction(*loop, may_last=False)
    assert function([np.int64(FEW)]) == [FEW]
    deadlines.begin(0.01)
    with pytest.raises(tf.errors.DeadlineExceededError):
        function([np.int64(HOURS)])


@pytest.mark.parametrize(
    ("timeout_s", "limit"),
    [(None, 0), (-3.0, 250), (0.0, 250), (0.25, 250), (0.9, 1000), (1.0, 1000), (1.1, 2000), (30.0, 32000), (1e9, 0)],
)
def test_limits_are_few_and_at_most_twice_what_is_waited(timeout_s, limit):
    assert limit_ms(timeout_s) == limit


def test_loops_are_found_in_functions_too(loop):
    assert has_loops(loop[0].graph.as_graph_def())
    with tf.Graph().as_default() as graph:
        numbers = tf.compat.v1.placeholder(tf.int64, [])
        tf.function(lambda x: tf.while_loop(lambda i: i < x, lambda i: [i + 1], [x * 0]))(numbers)
    assert has_loops(graph.as_graph_def())
    with tf.Graph().as_default() as graph:
        tf.constant(1) + 1
    assert not has_loops(graph.as_graph_def())

"""One function of a graph in a TensorFlow session, which is ended when nobody waits for it any more.

A run cannot be cancelled from outside through Python's session; it can have a time limit (`RunOptions.timeout_in_ms`),
which belongs to a compiled callable and not to one run. So there is a callable for each of a few limits, and a run
takes the one that ends it soonest after its callers have given up. A loop then ends at its next step, another graph
behind the operation that it is in (tensorflow/core/common_runtime/direct_session.cc, `WaitForNotification`).

Compiling takes time, and the callable memory, so limits are for graphs that may need them: those with loops, and those
that have been seen to take long.
"""

import math
import os
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.framework.graph_pb2 import GraphDef
from tensorflow.core.protobuf import config_pb2

from .. import deadlines
from ..arrays import Array
from ..batching.queues import MAX_LONG_RUNS
from ..batching.scheduler import LONG_RUN_S

LOOPS = frozenset({"While", "StatelessWhile", "For", "LoopCond", "RefNextIteration", "NextIteration"})
MIN_LIMIT_S, MAX_LIMIT_S = 0.25, 65536.0
NO_LIMIT = 0

Run = Callable[..., list[Any]]


def has_loops(graph_def: GraphDef) -> bool:
    """Whether a run of this graph may take however long, from a small input too."""
    nodes = (graph_def.node, *(function.node_def for function in graph_def.library.function))
    return any(node.op in LOOPS for each in nodes for node in each)


def with_own_threads(config: config_pb2.ConfigProto) -> config_pb2.ConfigProto:
    """`config` for a graph with loops, which runs on threads that no other session waits for.

    A loop can keep a thread of TensorFlow's for as long as it lasts, and all sessions share as many as there are
    processors. Threads that are not needed sleep.
    """
    own = config_pb2.ConfigProto()
    own.CopyFrom(config)
    own.use_per_session_threads = True
    own.inter_op_parallelism_threads = config.inter_op_parallelism_threads or (os.cpu_count() or 1) + MAX_LONG_RUNS
    return own


class SessionFunction:
    """A thread-safe function that computes tensors of a session's graph from others."""

    def __init__(
        self, session: tf.compat.v1.Session, inputs: Sequence[str], outputs: Sequence[str], *, may_last: bool
    ) -> None:
        """Compile it.

        Args:
            session: the session.
            inputs: names of the tensors to feed.
            outputs: names of the tensors to compute, none of them an input.
            may_last: whether runs need a time limit from the first one on.

        Raises: tf.errors.OpError.
        """
        self._session = session
        self._options = config_pb2.CallableOptions(feed=inputs, fetch=outputs)
        self._may_last = may_last
        self._making = threading.Lock()
        self._runs: dict[int, Run] = {}
        self._run(NO_LIMIT)

    def __call__(self, values: Sequence[Array]) -> list[Array]:
        """The outputs, for `values` in the order of the inputs.

        Raises: tf.errors.OpError; DeadlineExceededError if nobody waits any more, by deadlines.py.
        """
        run = self._run(limit_ms(deadlines.seconds_left()) if self._may_last else NO_LIMIT)
        began = time.perf_counter()
        try:
            return [_as_array(result) for result in run(*values)]
        finally:
            if time.perf_counter() - began > LONG_RUN_S:
                self._may_last = True

    def _run(self, limit: int) -> Run:
        run = self._runs.get(limit)
        if run is not None:
            return run
        with self._making:
            if limit not in self._runs:
                self._options.run_options.timeout_in_ms = limit
                self._runs[limit] = self._session._make_callable_from_options(self._options)
            return self._runs[limit]


def limit_ms(timeout_s: float | None) -> int:
    """The limit of a run that is waited for so long: up to twice that, and one of few; 0 for none."""
    if timeout_s is None or timeout_s > MAX_LIMIT_S:
        return NO_LIMIT
    return int(1000 * 2 ** math.ceil(math.log2(max(timeout_s, MIN_LIMIT_S))))


def _as_array(result: Any) -> Array:
    """`result` as an array: scalars come as Python or NumPy scalars, strings among them as bytes."""
    if isinstance(result, np.ndarray):
        return result
    return np.array(result, object if isinstance(result, bytes) else None)

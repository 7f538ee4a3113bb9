"""Which ranks a graph can take for an input.

TensorFlow ends the process when a convolution runs on an input of the wrong rank (input_checks.py has the link). The
signature may leave the rank open, or announce another one than what comes, and the graph computes all the same. The
graph tells: it is imported with a placeholder of the rank in question in the input's place, and TensorFlow's own shape
inference says whether an operation objects. Functions are followed into, because calls hide shapes.
"""

import logging
from collections.abc import Sequence

import tensorflow as tf
from tensorflow.core.framework.graph_pb2 import GraphDef
from tensorflow.python.framework.function_def_to_graph import function_def_to_graph

from .graph_analysis import subgraph

logger = logging.getLogger(__name__)

MAX_RANK = 8  # TensorFlow's kernels take no more
CALLS = frozenset({"PartitionedCall", "StatefulPartitionedCall"})


def accepted_ranks(graph_def: GraphDef, *, input_name: str, dtype: int, outputs: Sequence[str]) -> frozenset[int]:
    """The ranks of the tensor `input_name` that shape inference accepts; all up to MAX_RANK if it accepts none.

    Args:
        graph_def: the model's graph with its library of functions.
        input_name: the name of a tensor, as `x:0`.
        dtype: the input's dtype, TensorFlow's number.
        outputs: names of the tensors to compute.
    """
    ranks = frozenset(
        rank
        for rank in range(MAX_RANK + 1)
        if accepts(graph_def, input_name=input_name, dtype=dtype, outputs=outputs, rank=rank)
    )
    if not ranks:
        logger.warning("shape inference refuses %s at every rank; it is not checked", input_name)
        return frozenset(range(MAX_RANK + 1))
    return ranks


def accepts(graph_def: GraphDef, *, input_name: str, dtype: int, outputs: Sequence[str], rank: int) -> bool:
    """Whether shape inference accepts `rank` for the tensor `input_name`; the rest is as in `accepted_ranks`."""
    needed = subgraph(graph_def, [input_name], outputs)
    library = {function.signature.name: function for function in graph_def.library.function}
    graph = tf.Graph()
    try:
        with graph.as_default():
            fed = tf.compat.v1.placeholder(dtype, [None] * rank)
            tf.import_graph_def(needed, input_map={input_name: fed}, return_elements=outputs, name="")
            todo = [graph]
            while todo:
                for operation in todo.pop().get_operations():
                    if operation.type in CALLS and operation.get_attr("f").name in library:
                        shapes = [tensor.shape for tensor in operation.inputs]
                        todo.append(function_def_to_graph(library[operation.get_attr("f").name], shapes))
    except (ValueError, TypeError, KeyError, tf.errors.OpError):  # an operation objects to a shape
        return False
    return True

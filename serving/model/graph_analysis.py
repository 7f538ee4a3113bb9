"""What reading a signature's graph tells: whether it keeps state, and whether it works value by value.

Both decide what may be done to a request before it runs: requests are batched only where running changes nothing
(model/row_independence.py), and where no operation cares about shapes, none is looked at (unannounced_shapes.py).
"""

from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass

from tensorflow.core.framework.graph_pb2 import GraphDef
from tensorflow.core.framework.node_def_pb2 import NodeDef
from tensorflow.python.framework import op_def_registry

# Operations that are registered as stateful, because they hold or read a resource, but change nothing when they run.
READ_ONLY_OPS = frozenset(
    {
        "Placeholder",
        "PlaceholderWithDefault",
        "PartitionedCall",
        "StatefulPartitionedCall",
        "StatefulIf",
        "If",
        "While",
        "VarHandleOp",
        "ReadVariableOp",
        "ResourceGather",
        "ResourceGatherNd",
        "VarIsInitializedOp",
        "VariableShape",
        "Variable",
        "VariableV2",
        "HashTable",
        "HashTableV2",
        "MutableHashTable",
        "MutableHashTableV2",
        "MutableHashTableOfTensorsV2",
        "MutableDenseHashTableV2",
        "AnonymousHashTable",
        "LookupTableFind",
        "LookupTableFindV2",
        "LookupTableSize",
        "LookupTableSizeV2",
        "TensorListReserve",
        "EmptyTensorList",
        "Assert",
        "BoostedTreesEnsembleResourceHandleOp",
        "BoostedTreesPredict",
    }
)

# Operations that treat every value alike and on its own, whatever the shape of the tensor.
_ELEMENTWISE = """
Abs Add AddN AddV2 Cast Ceil Const Cos Cosh Div DivNoNan Elu Enter Erf Exp Expm1 Floor FloorDiv Identity
IdentityN Inv LeakyRelu Log Log1p Maximum Minimum Mod Mul MulNoNan Neg NoOp Placeholder PlaceholderWithDefault
Pow ReadVariableOp RealDiv Reciprocal Relu Relu6 Rint Round Rsqrt Selu Sigmoid Sign Sin Sinh Softplus Softsign
Sqrt Square SquaredDifference StopGradient Sub Tan Tanh VarHandleOp Variable VariableV2 PartitionedCall
StatefulPartitionedCall
"""
ELEMENTWISE = frozenset(_ELEMENTWISE.split())


@dataclass(frozen=True, slots=True)
class GraphFacts:
    """What is known about the part of a graph that computes a signature's outputs from its inputs."""

    changing: tuple[str, ...]  # operations that keep state or draw random numbers
    elementwise: bool  # every operation works value by value


def analyse(graph: GraphDef, inputs: Sequence[str], outputs: Sequence[str]) -> GraphFacts:
    """Read what computes `outputs` from `inputs`.

    Args:
        graph: the model's graph with its library of functions.
        inputs: names of tensors, as `x:0`.
        outputs: the same.
    """
    operations = {node.op for node in _nodes(graph, inputs, outputs)}
    functions = {function.signature.name for function in graph.library.function}
    changing = tuple(sorted(op for op in operations - functions - READ_ONLY_OPS if _is_stateful(op)))
    return GraphFacts(changing, operations - functions <= ELEMENTWISE)


def subgraph(graph: GraphDef, inputs: Sequence[str], outputs: Sequence[str]) -> GraphDef:
    """The part of `graph` that computes `outputs` from `inputs`, the nodes of the inputs included."""
    kept = {node.name for node in _main_nodes(graph, inputs, outputs)} | {_node_name(name) for name in inputs}
    part = GraphDef(versions=graph.versions, library=graph.library)
    part.node.extend(node for node in graph.node if node.name in kept)
    return part


def dtype_of(graph: GraphDef, name: str) -> int | None:
    """The dtype, TensorFlow's number, of the tensor `name`, as `x:0`; None where the graph does not tell."""
    node = next((node for node in graph.node if node.name == _node_name(name)), None)
    definition = op_def_registry.get(node.op) if node is not None else None
    if node is None or definition is None:
        return None
    outputs = list(definition.output_arg)
    index = int(name.partition(":")[2] or 0)
    if index >= len(outputs) or any(output.number_attr or output.type_list_attr for output in outputs):
        return None  # outputs that are lists are not counted one by one
    output = outputs[index]
    return int(node.attr[output.type_attr].type if output.type_attr else output.type) or None


def _is_stateful(operation: str) -> bool:
    definition = op_def_registry.get(operation)
    return definition is None or bool(definition.is_stateful)


def _nodes(graph: GraphDef, inputs: Sequence[str], outputs: Sequence[str]) -> Iterator[NodeDef]:
    """The nodes on the way from `inputs` to `outputs`, with those of the functions they call."""
    library = {function.signature.name: function for function in graph.library.function}
    called: list[str] = []
    for node in _main_nodes(graph, inputs, outputs):
        yield node
        called.extend(_calls(node, library))
    entered: set[str] = set()
    while called:
        name = called.pop()
        if name in entered:
            continue
        entered.add(name)
        for node in library[name].node_def:
            yield node
            called.extend(_calls(node, library))


def _main_nodes(graph: GraphDef, inputs: Sequence[str], outputs: Sequence[str]) -> Iterator[NodeDef]:
    """The nodes on the way from `inputs` to `outputs`, without those of the inputs."""
    by_name = {node.name: node for node in graph.node}
    seen = {_node_name(name) for name in inputs}
    todo = [_node_name(name) for name in outputs]
    while todo:
        name = todo.pop()
        if name in seen or name not in by_name:
            continue
        seen.add(name)
        yield by_name[name]
        todo.extend(_node_name(reference) for reference in by_name[name].input)


def _calls(node: NodeDef, library: Container[str]) -> Iterator[str]:
    if node.op in library:
        yield node.op
    for value in node.attr.values():
        for function in (value.func, *value.list.func):
            if function.name in library:
                yield function.name


def _node_name(reference: str) -> str:
    return reference.removeprefix("^").partition(":")[0]

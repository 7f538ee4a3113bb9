"""Look through a graph, before anything of it is run, for operations that do more than compute.

An operation that is unsafe is refused wherever it is, in a function that nobody calls too. Those that a SavedModel is
loaded by are refused where they would run, but on the version's own files: a checkpoint's name, or an asset's, is
followed from the tensors that the loader sets to the operation that takes it.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from tensorflow.core.framework.function_pb2 import FunctionDef
from tensorflow.core.framework.graph_pb2 import GraphDef
from tensorflow.core.framework.node_def_pb2 import NodeDef
from tensorflow.core.protobuf.meta_graph_pb2 import AssetFileDef, MetaGraphDef, SignatureDef

from ..errors import failed_precondition
from ..model.saved_model import INIT_OP_SIGNATURE
from .unsafe_ops import LOADS_FILES, UNSAFE, UNSAFE_ATTRIBUTES, WRITES_CHECKPOINTS, WRITES_FILES

CALLS = ("PartitionedCall", "StatefulPartitionedCall")
PASSES_ON = ("Identity", "PlaceholderWithDefault", "ReadVariableOp")
ASSETS, INITIALISERS = "saved_model_assets", ("saved_model_main_op", "legacy_init_op")  # collections of TensorFlow 1
MAX_NAMED = 5  # operations in an error
ITS_OWN = "is given another file than the version's own"
WRITES_VARIABLE, LEAVES_VARIABLE = "AssignVariableOp", ("ReadVariableOp", "VarIsInitializedOp")


@dataclass(frozen=True, slots=True)
class Offence:
    """An operation that is refused."""

    op: str
    reason: str
    node: str
    function: str  # empty for the graph itself

    def __str__(self) -> str:
        where = f" in function {self.function!r}" if self.function else ""
        return f"{self.op} ({self.reason}) at {self.node!r}{where}"


def check_ops(path: str, meta_graph: MetaGraphDef) -> None:
    """Refuse a graph that does more than compute.

    Args:
        path: the version's folder, for the error.
        meta_graph: the graph, with its signatures and what loads it.

    Raises: ServingError FAILED_PRECONDITION that names the operations, and where they are.
    """
    found = list(dict.fromkeys([*_anywhere(meta_graph.graph_def), *Running(meta_graph).offences()]))
    if not found:
        return
    more = f" and {len(found) - MAX_NAMED} more" if len(found) > MAX_NAMED else ""
    raise failed_precondition(
        f"{path} is not loaded: --allowed_ops=safe refuses {', '.join(map(str, found[:MAX_NAMED]))}{more}; export it "
        f"without them, or let this model have them by --allowed_ops_by_model=NAME=any"
    )


def check_lite(path: str, content: bytes) -> None:
    """Refuse a TensorFlow Lite model with such operations in it, which are there by their names.

    Raises: ServingError FAILED_PRECONDITION.
    """
    names = [*UNSAFE, *UNSAFE_ATTRIBUTES, *WRITES_CHECKPOINTS, *LOADS_FILES]
    found = [name for name in names if f"Flex{name}".encode() in content]
    if found:
        raise failed_precondition(f"{path} is not loaded: --allowed_ops=safe refuses {', '.join(sorted(found))}")


def _anywhere(graph: GraphDef) -> Iterator[Offence]:
    bodies = [("", graph.node), *((each.signature.name, each.node_def) for each in graph.library.function)]
    for function, nodes in bodies:
        for node in nodes:
            if reason := _reason(node):
                yield Offence(node.op, reason, node.name, function)


def _reason(node: NodeDef) -> str:
    """Why `node` is unsafe, wherever it is; empty if it is not."""
    if node.op in UNSAFE_ATTRIBUTES:
        attribute, harmless, reason = UNSAFE_ATTRIBUTES[node.op]
        return reason if attribute in node.attr and node.attr[attribute].s not in harmless else ""
    return UNSAFE.get(node.op, "")


class Running:
    """What a server runs of a graph: signatures, initialisers, and what restores its variables."""

    def __init__(self, meta_graph: MetaGraphDef) -> None:
        self._meta_graph = meta_graph
        graph = meta_graph.graph_def
        self._nodes = {node.name: node for node in graph.node}
        self._functions = {function.signature.name: function for function in graph.library.function}
        self._seen: set[tuple[str, frozenset[str]]] = set()  # functions, with their arguments that are the loader's

    def offences(self) -> Iterator[Offence]:
        """What is run, and is refused for that."""
        saver = self._meta_graph.saver_def
        assets = frozenset(self._assets())
        yield from self._run([saver.restore_op_name], assets | {_node_name(saver.filename_tensor_name)})
        yield from self._run(self._initialisers(), assets | self._given_variables(assets))
        yield from self._run(self._outputs(), frozenset())  # for requests the loader sets nothing

    def _run(self, roots: Iterable[str], given: frozenset[str]) -> Iterator[Offence]:
        yield from self._check(_reachable(self._nodes, roots), self._nodes, given, "")

    def _assets(self) -> Iterator[str]:
        """The names of the tensors that the loader sets to the version's assets."""
        for asset in self._meta_graph.asset_file_def:
            yield _node_name(asset.tensor_info.name)
        if ASSETS in self._meta_graph.collection_def:
            for packed in self._meta_graph.collection_def[ASSETS].any_list.value:
                asset = AssetFileDef()
                packed.Unpack(asset)
                yield _node_name(asset.tensor_info.name)

    def _given_variables(self, given: frozenset[str]) -> frozenset[str]:
        """Variables that hold a given name and can hold no other: TensorFlow 2 keeps an asset's in one."""
        users: dict[str, list[NodeDef]] = {}
        for node in self._nodes.values():
            for reference in node.input:
                users.setdefault(_node_name(reference), []).append(node)
        names = [node.attr["shared_name"].s for node in self._all_nodes() if node.op == "VarHandleOp"]
        return frozenset(
            name
            for name, node in self._nodes.items()
            if node.op == "VarHandleOp"
            and names.count(node.attr["shared_name"].s) == 1
            and all(_keeps(user, name, given) for user in users.get(name, ()))
            and any(user.op == WRITES_VARIABLE for user in users.get(name, ()))
        )

    def _all_nodes(self) -> Iterator[NodeDef]:
        yield from self._nodes.values()
        for function in self._functions.values():
            yield from function.node_def

    def _initialisers(self) -> Iterator[str]:
        if INIT_OP_SIGNATURE in self._meta_graph.signature_def:
            yield from _tensors(self._meta_graph.signature_def[INIT_OP_SIGNATURE])
        for collection in INITIALISERS:
            if collection in self._meta_graph.collection_def:
                yield from self._meta_graph.collection_def[collection].node_list.value

    def _outputs(self) -> Iterator[str]:
        for name, signature in self._meta_graph.signature_def.items():
            if name != INIT_OP_SIGNATURE:
                yield from _tensors(signature)

    def _check(
        self, nodes: Iterable[NodeDef], body: Mapping[str, NodeDef], given: frozenset[str], function: str
    ) -> Iterator[Offence]:
        for node in nodes:
            if node.op in WRITES_CHECKPOINTS:
                yield Offence(node.op, WRITES_FILES, node.name, function)
            if node.op in LOADS_FILES and not _takes_given(node, body, given):
                yield Offence(node.op, ITS_OWN, node.name, function)
            for name in _called(node):
                yield from self._check_function(name, self._passed(node, body, given, name))
            if node.op in self._functions:  # as TensorFlow 1 calls them
                yield from self._check_function(node.op, self._passed(node, body, given, node.op))

    def _passed(self, node: NodeDef, body: Mapping[str, NodeDef], given: frozenset[str], name: str) -> frozenset[str]:
        """The arguments of the function `name` that are the loader's; none if it is called otherwise than directly."""
        if (node.op not in CALLS and node.op != name) or name not in self._functions:
            return frozenset()
        arguments = self._functions[name].signature.input_arg
        references = [reference for reference in node.input if not reference.startswith("^")]
        pairs = zip(arguments, references, strict=False)
        return frozenset(argument.name for argument, reference in pairs if _is_given(reference, body, given))

    def _check_function(self, name: str, given: frozenset[str]) -> Iterator[Offence]:
        function: FunctionDef | None = self._functions.get(name)
        if function is None or (name, given) in self._seen:
            return
        self._seen.add((name, given))
        body = {node.name: node for node in function.node_def}
        yield from self._check(function.node_def, body, given, name)


def _tensors(signature: SignatureDef) -> Iterator[str]:
    """The tensors that the outputs of `signature` are made of."""
    for output in signature.outputs.values():
        sparse = output.coo_sparse
        yield from (output.name, sparse.values_tensor_name, sparse.indices_tensor_name, sparse.dense_shape_tensor_name)
        yield from (component.name for component in output.composite_tensor.components)


def _called(node: NodeDef) -> Iterator[str]:
    """The functions that the attributes of `node` name."""
    for value in node.attr.values():
        if value.HasField("func"):
            yield value.func.name
        yield from (function.name for function in value.list.func)


def _keeps(user: NodeDef, variable: str, given: frozenset[str]) -> bool:
    """Whether `user` leaves in the variable what the loader has put there."""
    if user.op == WRITES_VARIABLE:
        return _node_name(user.input[0]) == variable and _node_name(user.input[1]) in given
    return user.op in LEAVES_VARIABLE


def _takes_given(node: NodeDef, body: Mapping[str, NodeDef], given: frozenset[str]) -> bool:
    place = LOADS_FILES[node.op]
    return len(node.input) > place and _is_given(node.input[place], body, given)


def _is_given(reference: str, body: Mapping[str, NodeDef], given: frozenset[str]) -> bool:
    """Whether the tensor `reference` is a name that the loader has given, passed on unchanged."""
    name, seen = _node_name(reference), set[str]()
    while name not in given:
        node = body.get(name)
        if node is None or name in seen or node.op not in PASSES_ON or not node.input:
            return False
        seen.add(name)
        name = _node_name(node.input[0])
    return True


def _reachable(nodes: Mapping[str, NodeDef], roots: Iterable[str]) -> list[NodeDef]:
    """The nodes that are run for `roots`, which are references to tensors or operations."""
    todo, found = [_node_name(root) for root in roots], dict[str, NodeDef]()
    while todo:
        name = todo.pop()
        if name in nodes and name not in found:
            found[name] = nodes[name]
            todo += map(_node_name, nodes[name].input)
    return list(found.values())


def _node_name(reference: str) -> str:
    return reference.removeprefix("^").partition(":")[0]

"""Look through a graph, before anything of it is run, for operations that do more than compute.

An operation that is unsafe is refused wherever it is, in a function that nobody calls too. Those that a SavedModel is
loaded by are refused where they would run, but on the version's own files: a checkpoint's name, or an asset's, is
followed from the tensors that the loader sets to the operation that takes it.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from tensorflow.core.framework.attr_value_pb2 import AttrValue
from tensorflow.core.framework.graph_pb2 import GraphDef
from tensorflow.core.framework.node_def_pb2 import NodeDef
from tensorflow.core.framework.types_pb2 import DT_RESOURCE, DT_VARIANT
from tensorflow.core.protobuf.meta_graph_pb2 import AssetFileDef, MetaGraphDef, SignatureDef

from ..errors import failed_precondition
from ..model.saved_model import INIT_OP_SIGNATURE
from .unsafe_ops import (
    FORGES_HANDLES,
    LOADS_FILES,
    MAKES_TENSORS,
    UNSAFE,
    UNSAFE_ATTRIBUTES,
    WRITES_CHECKPOINTS,
    WRITES_FILES,
)

CALLS = ("PartitionedCall", "StatefulPartitionedCall")
PASSES_ON = ("Identity", "PlaceholderWithDefault", "ReadVariableOp")
ASSETS, INITIALISERS = "saved_model_assets", ("saved_model_main_op", "legacy_init_op")  # collections of TensorFlow 1
MAX_NAMED = 5  # operations in an error
ITS_OWN = "is given another file than the version's own"
HANDLES = {DT_RESOURCE, DT_VARIANT}
# Nodes that are run: the function's name, they, all nodes there by name, and the tensors there that are the loader's.
Scope = tuple[str, Sequence[NodeDef], Mapping[str, NodeDef], frozenset[str]]
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
        return reason if attribute in node.attr and not harmless.fullmatch(node.attr[attribute].s) else ""
    attribute = MAKES_TENSORS.get(node.op, "")
    if attribute in node.attr and HANDLES & _types(node.attr[attribute]):
        return FORGES_HANDLES
    return UNSAFE.get(node.op, "")


def _types(value: AttrValue) -> set[int]:
    return {value.type, *value.list.type}


class Running:
    """What a server runs of a graph: signatures, initialisers, and what restores its variables."""

    def __init__(self, meta_graph: MetaGraphDef) -> None:
        self._meta_graph = meta_graph
        graph = meta_graph.graph_def
        self._nodes = {node.name: node for node in graph.node}
        self._functions = {function.signature.name: function for function in graph.library.function}
        # By function, the arguments that are the loader's whoever calls it; of those that something calls.
        self._given: dict[str, frozenset[str]] = {}

    def offences(self) -> Iterator[Offence]:
        """What is run, and is refused for that."""
        saver = self._meta_graph.saver_def
        assets = frozenset(self._assets())
        runs: tuple[tuple[Iterable[str], frozenset[str]], ...] = (
            ([saver.restore_op_name], assets | {_tensor(saver.filename_tensor_name)}),
            (self._initialisers(), assets | self._given_variables(assets)),
            (self._outputs(), frozenset[str]()),  # for requests the loader sets nothing
        )
        scopes: list[Scope] = [("", _reachable(self._nodes, roots), self._nodes, given) for roots, given in runs]
        self._follow(scopes)
        scopes += [(name, *self._body(name), given) for name, given in self._given.items()]
        for function, nodes, body, given in scopes:
            for node in nodes:
                yield from _offences(node, body, given, function)

    def _follow(self, todo: Iterable[Scope]) -> None:
        """Find the functions that are called, and which of their arguments are the loader's in all calls."""
        scopes = list(todo)
        while scopes:
            _, nodes, body, given = scopes.pop()
            for node in nodes:
                for name in _called(node, self._functions):
                    passed = self._passed(node, body, given, name)
                    known = self._given.get(name)
                    if known is None or not known <= passed:  # arguments are only ever lost, so this ends
                        self._given[name] = passed if known is None else known & passed
                        scopes.append((name, *self._body(name), self._given[name]))

    def _body(self, name: str) -> tuple[Sequence[NodeDef], Mapping[str, NodeDef]]:
        nodes = self._functions[name].node_def
        return nodes, {node.name: node for node in nodes}

    def _assets(self) -> Iterator[str]:
        """The tensors that the loader sets to the names of the version's assets."""
        for asset in self._meta_graph.asset_file_def:
            yield _tensor(asset.tensor_info.name)
        if ASSETS in self._meta_graph.collection_def:
            for packed in self._meta_graph.collection_def[ASSETS].any_list.value:
                asset = AssetFileDef()
                packed.Unpack(asset)
                yield _tensor(asset.tensor_info.name)

    def _given_variables(self, given: frozenset[str]) -> frozenset[str]:
        """Variables that hold a given name and can hold no other: TensorFlow 2 keeps an asset's in one."""
        users: dict[str, list[NodeDef]] = {}
        for node in self._nodes.values():
            for reference in node.input:
                users.setdefault(_node_name(reference), []).append(node)
        names = [node.attr["shared_name"].s for node in self._all_nodes() if node.op == "VarHandleOp"]
        return frozenset(
            f"{name}:0"
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

    def _passed(self, node: NodeDef, body: Mapping[str, NodeDef], given: frozenset[str], name: str) -> frozenset[str]:
        """The arguments of the function `name` that are the loader's; none if it is called otherwise than directly."""
        arguments = self._functions[name].signature.input_arg
        is_plain = not any(argument.number_attr or argument.type_list_attr for argument in arguments)
        if not is_plain or (node.op not in CALLS and node.op != name):
            return frozenset()
        references = [reference for reference in node.input if not reference.startswith("^")]
        pairs = zip(arguments, references, strict=False)
        return frozenset(_tensor(argument.name) for argument, reference in pairs if _is_given(reference, body, given))


def _offences(node: NodeDef, body: Mapping[str, NodeDef], given: frozenset[str], function: str) -> Iterator[Offence]:
    if node.op in WRITES_CHECKPOINTS:
        yield Offence(node.op, WRITES_FILES, node.name, function)
    if node.op in LOADS_FILES and not _takes_given(node, body, given):
        yield Offence(node.op, ITS_OWN, node.name, function)


def _tensors(signature: SignatureDef) -> Iterator[str]:
    """The tensors that the outputs of `signature` are made of."""
    for output in signature.outputs.values():
        sparse = output.coo_sparse
        yield from (output.name, sparse.values_tensor_name, sparse.indices_tensor_name, sparse.dense_shape_tensor_name)
        yield from (component.name for component in output.composite_tensor.components)


def _called(node: NodeDef, functions: Collection[str]) -> Iterator[str]:
    """Those of `functions` that the attributes of `node` name, or that it is a call of, as TensorFlow 1 writes it."""
    names = [node.op]
    for value in node.attr.values():
        names += [value.func.name, *(function.name for function in value.list.func)]
    yield from (name for name in names if name in functions)


def _keeps(user: NodeDef, variable: str, given: frozenset[str]) -> bool:
    """Whether `user` leaves in the variable what the loader has put there."""
    if user.op == WRITES_VARIABLE:
        return _node_name(user.input[0]) == variable and _tensor(user.input[1]) in given
    return user.op in LEAVES_VARIABLE


def _takes_given(node: NodeDef, body: Mapping[str, NodeDef], given: frozenset[str]) -> bool:
    place = LOADS_FILES[node.op]
    return len(node.input) > place and _is_given(node.input[place], body, given)


def _is_given(reference: str, body: Mapping[str, NodeDef], given: frozenset[str]) -> bool:
    """Whether the tensor `reference` is a name that the loader has given, passed on unchanged."""
    tensor, seen = _tensor(reference), set[str]()
    while tensor not in given:
        node = body.get(_node_name(tensor))
        if node is None or tensor in seen or node.op not in PASSES_ON or not node.input:
            return False
        seen.add(tensor)
        tensor = _tensor(node.input[0])
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


def _tensor(reference: str) -> str:
    """The full name of a tensor, of which the first of a node's may be given by the node's name."""
    return reference if ":" in reference else f"{reference}:0"

"""Load a SavedModel into a TensorFlow session, the way TensorFlow Serving's C++ loader does, and run it.

Why a session, and not `tf.saved_model.load(...).signatures`: it takes TF1 and TF2 exports alike (tags, initialisers,
lookup tables, legacy init ops), its errors are those that clients of the real server know, several threads can run it
at once, and a call costs less (measured with the digit model on 2 cores, one image: 0.41 ms against 0.55 ms).
"""

import gc
import importlib.util
import logging
import posixpath
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import grpc
import tensorflow as tf
from tensorflow.core.framework.graph_pb2 import GraphDef
from tensorflow.core.protobuf import config_pb2, meta_graph_pb2
from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef
from tensorflow.core.protobuf.saved_object_graph_pb2 import SavedObjectGraph
from tensorflow.core.protobuf.trackable_object_graph_pb2 import TrackableObjectGraph
from tensorflow.python.saved_model import loader_impl  # reads saved_model.pb, .pbtxt and the split .cpb

from ..arrays import Array, Function
from ..errors import ServingError, invalid_argument, not_found
from .session_function import SessionFunction, has_loops, with_own_threads
from .version_files import check_file, size_of

logger = logging.getLogger(__name__)

CHECKPOINT_OBJECTS, VALUE = "_CHECKPOINTABLE_OBJECT_GRAPH", "VARIABLE_VALUE"  # names in TensorFlow's checkpoints
INIT_OP_SIGNATURE = "__saved_model_init_op"
OP_LIBRARIES = ("tensorflow_text", "tensorflow_decision_forests")  # whose operations the real binary has linked in
TRACEBACK = "Traceback (most recent call last)"
STATUS_CODES = {code.value[0]: code for code in grpc.StatusCode}


class Runtime(Protocol):
    """A model in memory: `SavedModel` here, `LiteModel` in tflite.py."""

    @property
    def signature_defs(self) -> Mapping[str, SignatureDef]:
        """By name, those that are not for requests included."""

    @property
    def graph_def(self) -> GraphDef | None:
        """What is computed, where that can be looked at."""

    def function(self, inputs: Sequence[str], outputs: Sequence[str]) -> Function:
        """A thread-safe function that computes the tensors `outputs` from `inputs`, all by their names in the model."""

    def close(self) -> None:
        """Free the memory; no function may be called afterwards."""


def serving_error(error: tf.errors.OpError) -> ServingError:
    """A failure of TensorFlow with its own code and text, but for the traceback of a Python function in the graph."""
    text, traceback, _ = error.message.partition(TRACEBACK)
    if traceback:
        logger.error("a Python function in the graph has failed; the real server has no Python: %s", error.message)
    return ServingError(STATUS_CODES.get(error.error_code, grpc.StatusCode.UNKNOWN), text.rstrip())


def _import_graph(meta_graph: meta_graph_pb2.MetaGraphDef) -> tf.Graph:
    with tf.Graph().as_default() as graph:
        tf.import_graph_def(meta_graph.graph_def, name="", producer_op_list=meta_graph.meta_info_def.stripped_op_list)
    return graph


def _import_op_libraries(unknown: tf.errors.NotFoundError) -> None:
    """Have the operations of OP_LIBRARIES registered.

    Raises: ServingError if none is installed.
    """
    found = [name for name in OP_LIBRARIES if importlib.util.find_spec(name)]
    if not found:
        raise not_found(
            f"{unknown.message} For operations of tensorflow-text, say, install that package beside the server."
        ) from unknown
    for name in found:
        importlib.import_module(name)


class SavedModel:
    """One version of a model, restored and initialised in a session of its own."""

    def __init__(
        self,
        path: str,
        *,
        tags: frozenset[str],
        session_config: config_pb2.ConfigProto,
        check: Callable[[meta_graph_pb2.MetaGraphDef], None] = lambda _: None,
    ) -> None:
        """Load the SavedModel in the folder or URI `path`.

        Args:
            path: the folder's.
            tags: of the graph to load.
            session_config: TensorFlow's settings.
            check: raises ServingError for a graph that is not to be loaded.

        Raises: ServingError.
        """
        self._path = path
        try:
            meta_graph = self._meta_graph(tags)
            check(meta_graph)
            try:
                self._graph = _import_graph(meta_graph)
            except tf.errors.NotFoundError as error:
                _import_op_libraries(error)
                self._graph = _import_graph(meta_graph)
            self.graph_def: GraphDef | None = meta_graph.graph_def
            self._has_loops = has_loops(meta_graph.graph_def)
            self.signature_defs: Mapping[str, SignatureDef] = dict(meta_graph.signature_def)
            config = with_own_threads(session_config) if self._has_loops else session_config
            self._session = tf.compat.v1.Session(graph=self._graph, config=config)
        except tf.errors.OpError as error:
            raise serving_error(error) from error
        except (
            OSError,
            ValueError,
            TypeError,
        ) as error:  # files missing or unreadable; unknown operations
            raise invalid_argument(f"{path} cannot be loaded: {error}") from error
        try:
            self._initialise(meta_graph)
        except tf.errors.OpError as error:
            self._session.close()
            raise serving_error(error) from error
        except BaseException:
            self._session.close()
            raise

    def function(self, inputs: Sequence[str], outputs: Sequence[str]) -> Function:
        # A tensor may not be fed and fetched in one run, so those that only pass through do not take part.
        passed = {name: inputs.index(name) for name in outputs if name in inputs}
        computed = [name for name in outputs if name not in passed]
        try:
            run = SessionFunction(self._session, inputs, computed, may_last=self._has_loops)
        except tf.errors.OpError as error:
            raise serving_error(error) from error

        def function(values: Sequence[Array]) -> list[Array]:
            try:
                results = run(values)
            except tf.errors.OpError as error:
                raise serving_error(error) from error
            if not passed:
                return results
            fresh = iter(results)
            return [values[passed[name]] if name in passed else next(fresh) for name in outputs]

        return function

    def close(self) -> None:
        self._session.close()
        del self._session, self._graph
        gc.collect()  # a graph is a web of cycles

    def _meta_graph(self, tags: frozenset[str]) -> meta_graph_pb2.MetaGraphDef:
        saved = loader_impl.parse_saved_model(self._path)
        for meta_graph in saved.meta_graphs:
            if set(meta_graph.meta_info_def.tags) == tags:
                return meta_graph
        available = "; ".join("{ " + ", ".join(sorted(graph.meta_info_def.tags)) + " }" for graph in saved.meta_graphs)
        raise not_found(
            f"Could not find meta graph def matching supplied tags: {{ {', '.join(sorted(tags))} }}. "
            f"{self._path} has: {available}; see --saved_model_tags"
        )

    def _initialise(self, meta_graph: meta_graph_pb2.MetaGraphDef) -> None:
        assets = dict(_assets(self._path, meta_graph))
        saver = meta_graph.saver_def
        prefix = posixpath.join(self._path, "variables", "variables")
        if saver.restore_op_name and size_of(self._path, "variables/variables.index") is not None:
            restore = self._graph.get_operation_by_name(saver.restore_op_name)
            self._session.run(restore, {saver.filename_tensor_name: prefix, **assets})
            self._restore_overlooked(meta_graph)
        for name in _init_operations(meta_graph):
            self._session.run(self._graph.get_operation_by_name(name), assets)

    def _restore_overlooked(self, meta_graph: meta_graph_pb2.MetaGraphDef) -> None:
        """Set the variables that the restore operation leaves out.

        `tf.saved_model.save` of a `tf.Module` that holds a Keras 3 model writes every variable twice: one that the
        signatures read, and one that the restore operation sets (keras.src.backend.tensorflow.core.Variable makes the
        second). `tf.saved_model.load` knows from the object graph that both are one; sessions do not:
        https://github.com/keras-team/keras/issues/20095
        """
        handles = {node.name: node for node in meta_graph.graph_def.node if node.op == "VarHandleOp"}
        if not handles:
            return
        with self._graph.as_default():
            checks = [
                tf.raw_ops.VarIsInitializedOp(resource=self._graph.get_tensor_by_name(f"{name}:0")) for name in handles
            ]
        ready = self._session.run(checks)
        overlooked = [name for name, is_ready in zip(handles, ready, strict=True) if not is_ready]
        read = {reference.partition(":")[0] for node in meta_graph.graph_def.node for reference in node.input}
        if not read & set(overlooked):
            return
        values = _captured_values(self._path, meta_graph)
        found = [name for name in overlooked if name in values]
        if not found:
            return
        logger.warning(
            "%s: %d variables are not set by its restore operation; set from its object graph. TensorFlow Serving's "
            "binary cannot serve this export: export with model.export() or track the tf.Variables themselves",
            self._path,
            len(found),
        )
        with self._graph.as_default():
            for name in found:
                dtype = tf.dtypes.as_dtype(handles[name].attr["dtype"].type)
                value = tf.compat.v1.placeholder(dtype)
                assign = tf.raw_ops.AssignVariableOp(resource=self._graph.get_tensor_by_name(f"{name}:0"), value=value)
                self._session.run(assign, {value: values[name]})


def _assets(path: str, meta_graph: meta_graph_pb2.MetaGraphDef) -> Iterator[tuple[str, str]]:
    """The tensor that takes a file's name, and that name, for each asset."""
    files = list(meta_graph.asset_file_def)
    if not files and "saved_model_assets" in meta_graph.collection_def:
        for packed in meta_graph.collection_def["saved_model_assets"].any_list.value:
            file = meta_graph_pb2.AssetFileDef()
            packed.Unpack(file)
            files.append(file)
    for file in files:
        name = posixpath.join("assets", file.filename)  # of the exporter's choice: maybe a way out of the folder
        check_file(path, name)
        yield file.tensor_info.name, posixpath.join(path, name)


def _init_operations(meta_graph: meta_graph_pb2.MetaGraphDef) -> list[str]:
    """The names of the operations that initialise tables and the like."""
    if INIT_OP_SIGNATURE in meta_graph.signature_def:
        outputs = meta_graph.signature_def[INIT_OP_SIGNATURE].outputs
        return [outputs[INIT_OP_SIGNATURE].name.partition(":")[0]] if INIT_OP_SIGNATURE in outputs else []
    for collection in ("saved_model_main_op", "legacy_init_op"):
        if collection in meta_graph.collection_def:
            return list(meta_graph.collection_def[collection].node_list.value)
    return []


def _captured_values(path: str, meta_graph: meta_graph_pb2.MetaGraphDef) -> dict[str, Any]:
    """The value of each variable that a signature captures, by the name of its handle in the graph.

    From the checkpoint, and not by `tf.saved_model.load`, which would run whatever the exporter has it run.
    """
    reader = tf.train.load_checkpoint(posixpath.join(path, "variables", "variables"))
    if not reader.has_tensor(CHECKPOINT_OBJECTS):  # TensorFlow 1's have no objects
        return {}
    objects = meta_graph.object_graph_def
    keys = _checkpoint_keys(objects, TrackableObjectGraph.FromString(reader.get_tensor(CHECKPOINT_OBJECTS)))
    nodes = {node.name: node for node in meta_graph.graph_def.node}
    values: dict[str, Any] = {}
    for signature in meta_graph.signature_def.values():
        for output in signature.outputs.values():
            call = nodes[output.name.partition(":")[0]]
            captures = objects.concrete_functions[call.attr["f"].func.name].bound_inputs
            references = [reference for reference in call.input if not reference.startswith("^")]
            for reference, captured in zip(references[len(references) - len(captures) :], captures, strict=True):
                if captured in keys:
                    values[reference.partition(":")[0]] = reader.get_tensor(keys[captured])
    return values


def _checkpoint_keys(objects: SavedObjectGraph, checkpoint: TrackableObjectGraph) -> dict[int, str]:
    """By the number of each object that is a variable, the name of its value in the checkpoint, found side by side."""
    keys: dict[int, str] = {}
    todo, seen = [(0, 0)], {0}
    while todo:
        here, there = todo.pop()
        keys.update((here, found.checkpoint_key) for found in checkpoint.nodes[there].attributes if found.name == VALUE)
        numbers = {child.local_name: child.node_id for child in checkpoint.nodes[there].children}
        for child in objects.nodes[here].children:
            if child.local_name in numbers and child.node_id not in seen:
                seen.add(child.node_id)
                todo.append((child.node_id, numbers[child.local_name]))
    return keys

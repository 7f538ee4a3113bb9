"""Which graphs are refused by `--allowed_ops=safe`, what is said of them, and that nothing of them has run."""

import re
import shutil

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.framework import op_def_pb2
from tensorflow.core.framework.types_pb2 import DT_RESOURCE, DT_STRING, DT_VARIANT
from tensorflow.core.protobuf.meta_graph_pb2 import MetaGraphDef
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel as SavedModelProto
from tensorflow.python.client import pywrap_tf_session
from tensorflow.python.saved_model import loader_impl

from inkling.serving.errors import ServingError
from inkling.serving.flags import ServerConfig
from inkling.serving.lifecycle import loader
from inkling.serving.lifecycle.loader import LoadOptions
from inkling.serving.vetting.ops import check_lite, check_ops
from inkling.serving.vetting.unsafe_ops import (
    LOADS_FILES,
    MAKES_TENSORS,
    UNSAFE,
    UNSAFE_ATTRIBUTES,
    WRITES_CHECKPOINTS,
)
from tests.serving import saved_models

# Operations with such a word in their name, or among their inputs and attributes, that open nothing.
REVIEWED = {
    "CTCBeamSearchDecoder": "its paths are through a lattice",
    "Copy": "asks whether a debugger, which has no operation of its own here, wants a copy",
    "CopyHost": "as Copy",
    "ShardedFilename": "makes a name",
    "ShardedFilespec": "makes a name",
    "TensorSliceDataset": "knows whether its strings are names",
    "XlaHostCompute": "computes between two parts of one graph",
    "XlaRecvFromHost": "as XlaHostCompute",
    "XlaSendToHost": "as XlaHostCompute",
    "_CopyFromGpuToHost": "copies within the process",
    "_CopyFromHostToGpu": "as _CopyFromGpuToHost",
    "_XlaCompileMlirPlaceholderProgramKey": "stands for a program that another operation has",
    "_XlaRecvAtHost": "as XlaHostCompute",
    "_XlaRecvAtHostV2": "as XlaHostCompute",
    "_XlaSendFromHost": "as XlaHostCompute",
    "_XlaSendFromHostV2": "as XlaHostCompute",
}
# Of names of files and addresses, of programs within a graph, and of handles that are made of strings.
WORDS = re.compile(
    r"file|path|_dir|directory|address|url|logdir|memory_region|db_uri|descriptor|module|mlir|graph_def|_spec$|"
    r"string_handle|configure|network|shared_names|ToHost|AtHost|FromHost|HostCompute|HostFor",
    re.IGNORECASE,
)


def meta_graph(folder):
    return loader_impl.parse_saved_model(str(folder)).meta_graphs[0]


def version_of(repository, name):
    return next(path for path in (repository / name).iterdir() if path.is_dir())


def refusal(found):
    with pytest.raises(ServingError) as caught:
        check_ops("/models/m/1", found)
    assert caught.value.code is grpc.StatusCode.FAILED_PRECONDITION
    return caught.value.message


@pytest.mark.parametrize("name", ["half_plus_three", "one_row", "table", "dtypes", "several", "convolution", "keras"])
def test_models_that_only_compute_pass(repository, name):
    check_ops(name, meta_graph(version_of(repository, name)))


def test_a_python_function_is_refused(repository):
    found = meta_graph(version_of(repository, "python_function"))
    assert "PyFunc (runs Python or other code by its name) at " in refusal(found)


def test_reading_a_file_is_refused_even_where_it_is_an_asset(repository):
    assert "refuses ReadFile (reads files) at 'ReadFile'" in refusal(
        meta_graph(version_of(repository, "half_plus_two"))
    )


class Reader(tf.Module):
    """Reads the file that a request names, in a function within the signature's."""

    @tf.function
    def read(self, name):
        return tf.io.read_file(name)

    @tf.function(input_signature=[tf.TensorSpec([], tf.string, name="x")])
    def __call__(self, x):
        return {"y": self.read(x)}


class Writer(tf.Module):
    """Writes a file when it is loaded."""

    def __init__(self, file):
        super().__init__()
        self.file = file
        self.table = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer([0], [0.0]), 0.0)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def __call__(self, x):
        with tf.control_dependencies([tf.io.write_file(self.file, "written")]):
            return {"y": tf.identity(x)}


def save(module, folder):
    tf.saved_model.save(module, str(folder), signatures=module.__call__)
    return folder


def load(folder, **flags):
    config = ServerConfig(enable_model_warmup=False, **flags)
    return loader.load(str(folder), LoadOptions.of(config, None), name="m")


def test_an_operation_in_a_function_is_named_with_its_place(tmp_path):
    text = refusal(meta_graph(save(Reader(), tmp_path / "1")))
    assert text.startswith("/models/m/1 is not loaded: --allowed_ops=safe refuses ReadFile (reads files) at 'ReadFile'")
    assert re.search(r"in function '__inference_(read|__call__)_\d+'", text)
    assert text.endswith("let this model have them by --allowed_ops_by_model=NAME=any")


def test_a_model_is_refused_before_anything_of_it_runs(tmp_path):
    folder, file = save(Writer(str(tmp_path / "file")), tmp_path / "1"), tmp_path / "file"
    with pytest.raises(ServingError, match=r"WriteFile \(writes files\)"):
        load(folder, allowed_ops="safe")
    assert not file.exists()
    for flags in ({}, {"allowed_ops": "safe", "allowed_ops_by_model": "other=safe,m=any"}):
        load(folder, **flags).runtime.close()
    with pytest.raises(ServingError, match="WriteFile"):
        load(folder, allowed_ops_by_model="m=safe")


@pytest.mark.parametrize("value", ["m", "m=", "m=all", "=safe"])
def test_an_override_that_cannot_be_read_ends_the_start(value):
    with pytest.raises(ServingError, match=f"has '{value}'; expected NAME=any or NAME=safe"):
        LoadOptions.of(ServerConfig(allowed_ops_by_model=value), None)


class Vocabulary(tf.Module):
    """Looks words up in an asset."""

    def __init__(self, file):
        super().__init__()
        lines, numbers = tf.lookup.TextFileIndex.WHOLE_LINE, tf.lookup.TextFileIndex.LINE_NUMBER
        start = tf.lookup.TextFileInitializer(str(file), tf.string, lines, tf.int64, numbers)
        self.table = tf.lookup.StaticHashTable(start, -1)
        self.factor = tf.Variable(2.0)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="x")])
    def __call__(self, x):
        return {"y": tf.cast(self.table.lookup(x), tf.float32) * self.factor}


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vocabulary")
    (folder / "words.txt").write_text("a\nb\n")
    return save(Vocabulary(folder / "words.txt"), folder / "1")


def test_a_vocabulary_and_a_checkpoint_of_the_version_s_own_pass_and_work(vocabulary):
    loaded = load(vocabulary, allowed_ops="safe")
    signature = loaded.signatures["serving_default"]
    run = loaded.runtime.function([signature.inputs[0].tensor_name], signature.tensor_names(("y",)))
    assert run([np.array([b"b"], object)])[0].tolist() == [2.0]
    loaded.runtime.close()


@pytest.mark.parametrize("way", ["absolute", "above", "link", "link of a folder"])
def test_an_asset_is_a_file_of_the_version_s_own(vocabulary, tmp_path, way):
    folder, secret = tmp_path / "m" / "1", tmp_path / "secret.txt"
    shutil.copytree(vocabulary, folder)
    secret.write_text("b\n")
    saved = SavedModelProto.FromString((folder / "saved_model.pb").read_bytes())
    names = {"absolute": str(secret), "above": "../../../secret.txt", "link of a folder": "there/secret.txt"}
    saved.meta_graphs[0].asset_file_def[0].filename = names.get(way, "words.txt")
    (folder / "saved_model.pb").write_bytes(saved.SerializeToString())
    if way == "link":
        (folder / "assets" / "words.txt").unlink()
        (folder / "assets" / "words.txt").symlink_to(secret)
    (folder / "assets" / "there").symlink_to(tmp_path)
    with pytest.raises(ServingError, match=r"is no regular file in the version's folder, and is not opened"):
        load(folder)


@pytest.mark.parametrize("name", ["variables.index", "variables.data-00000-of-00001"])
def test_variables_are_files_of_the_version_s_own(vocabulary, tmp_path, name):
    folder = tmp_path / "m" / "1"
    shutil.copytree(vocabulary, folder)
    (folder / "variables" / name).rename(tmp_path / name)
    (folder / "variables" / name).symlink_to(tmp_path / name)
    with pytest.raises(ServingError, match=f"{name} is no regular file in the version's folder"):
        load(folder)


def node(found, name):
    return next(each for each in found.graph_def.node if each.name == name)


def constant(found, name, text):
    with tf.Graph().as_default():
        made = tf.constant(text, name=name).op.node_def
    found.graph_def.node.add().CopyFrom(made)


def test_another_file_than_the_version_s_own_is_refused_where_it_would_be_loaded(vocabulary):
    found = meta_graph(vocabulary)
    constant(found, "secret", "/etc/passwd")
    other = MetaGraphDef()
    for change in ("asset", "variable", "checkpoint"):
        other.CopyFrom(found)
        if change == "asset":
            reader = next(
                each for each in other.graph_def.node if each.op == "ReadVariableOp" and "Assign" in str(each)
            )
            reader.op = "Identity"
            reader.input[:] = ["secret"]
        elif change == "variable":
            extra = other.graph_def.node.add(name="again", op="AssignVariableOp")
            extra.input.extend(["Variable", "secret"])
        else:
            restore = node(other, other.saver_def.restore_op_name)
            restore.input[0] = "secret"
        assert "is given another file than the version's own" in refusal(other), change


def test_the_checkpoint_s_name_counts_while_the_checkpoint_is_restored_only(vocabulary):
    """A request sets nothing, so what the name is then is the exporter's choice."""
    found = meta_graph(vocabulary)
    output = found.signature_def["serving_default"].outputs["y"]
    output.name = f"{found.saver_def.restore_op_name}:0"
    assert re.search(r"RestoreV2 \(is given another file than the version's own\) at '\S+' in function", refusal(found))


def test_a_checkpoint_that_requests_would_write_is_refused(vocabulary):
    found = meta_graph(vocabulary)
    found.signature_def["serving_default"].outputs["y"].name = found.saver_def.save_tensor_name
    assert "SaveV2 (writes files)" in refusal(found) and "MergeV2Checkpoints (writes files)" in refusal(found)


def called(found, arguments, calls=()):
    """A function whose arguments a checkpoint could be read by; `calls` are others that it passes them to."""
    function = found.graph_def.library.function.add()
    function.signature.name = f"f{len(found.graph_def.library.function)}"
    for argument in arguments:
        function.signature.input_arg.add(name=argument, type=DT_STRING)
    for name, references in calls:
        call = function.node_def.add(name=f"call_{name}_{len(function.node_def)}", op="PartitionedCall")
        call.attr["f"].func.name = name
        call.input.extend(references)
    return function


def restored_by(found, function, references):
    """Have `function` restore the checkpoint."""
    call = found.graph_def.node.add(name="restore_all", op="PartitionedCall")
    call.attr["f"].func.name = function.signature.name
    call.input.extend(references)
    found.saver_def.restore_op_name, found.saver_def.filename_tensor_name = "restore_all", "checkpoint:0"


def test_the_loader_s_tensor_is_one_of_a_node_s_and_not_another(vocabulary):
    found = MetaGraphDef()
    found.graph_def.node.add(name="restore", op="RestoreV2").input.extend(["names:0", "x", "y"])
    found.saver_def.restore_op_name, found.saver_def.filename_tensor_name = "restore", "names:1"
    assert "RestoreV2" in refusal(found)
    found.saver_def.filename_tensor_name = "names"
    check_ops("m", found)


def test_arguments_that_are_lists_are_not_taken_for_others():
    found = MetaGraphDef()
    reads = called(found, ["several", "name"])
    reads.signature.input_arg[0].number_attr = "N"
    reads.node_def.add(name="restore", op="RestoreV2").input.extend(["name", "x", "y"])
    restored_by(found, reads, ["other", "checkpoint", "secret"])
    assert "RestoreV2 (is given another file" in refusal(found)


def test_a_name_counts_only_where_every_call_gives_it():
    for references, passes in ((["checkpoint", "secret"], True), (["secret", "checkpoint"], False)):
        found = MetaGraphDef()
        reads = called(found, ["a", "b"])
        reads.node_def.add(name="restore", op="RestoreV2").input.extend(["a", "x", "y"])
        calls = [("f1", ["a", "b"]), ("f1", ["a", "a"])]
        restored_by(found, called(found, ["a", "b"], calls), references)
        check_ops("m", found) if passes else refusal(found)


def test_functions_that_call_functions_are_followed_however_deep_and_in_however_many_ways():
    found, names = MetaGraphDef(), [f"a{number}" for number in range(40)]
    reads = called(found, names)
    reads.node_def.add(name="restore", op="RestoreV2").input.extend([names[-1], "x", "y"])
    for depth in range(1500):
        others = ["secret" if number == depth % 39 else name for number, name in enumerate(names)]
        last = called(found, names, [(f"f{depth + 1}", names), (f"f{depth + 1}", others)])
    restored_by(found, last, ["checkpoint"] * 40)
    check_ops("m", found)
    found.graph_def.library.function[700].node_def[1].input[-1] = "secret"
    assert "in function 'f1'" in refusal(found)


def test_handles_are_not_made_of_data(vocabulary):
    """Or a variable that holds a vocabulary's name could be given another one."""
    for op, attribute in MAKES_TENSORS.items():
        found = MetaGraphDef()
        found.graph_def.node.add(name="h", op=op).attr[attribute].type = DT_RESOURCE
        found.graph_def.node.add(name="v", op=op).attr[attribute].list.type.append(DT_VARIANT)
        text = refusal(found)
        assert f"{op} (makes a resource's handle of data) at 'h'" in text and "at 'v'" in text


class Datasets(tf.Module):
    """Counts what a dataset gives, of which a request has the graph."""

    @tf.function(input_signature=[tf.TensorSpec([], tf.string, name="x")])
    def __call__(self, x):
        return {"y": tf.raw_ops.DatasetCardinality(input_dataset=tf.raw_ops.DatasetFromGraph(graph_def=x))}


def test_a_graph_that_comes_as_a_string_is_refused(tmp_path):
    text = refusal(meta_graph(save(Datasets(), tmp_path / "1")))
    assert "DatasetFromGraph (runs a program that cannot be looked through) at 'DatasetFromGraph' in function" in text


@pytest.mark.parametrize("op", ["ImmutableConst", "XlaCallModule", "IteratorFromStringHandleV2", "LMDBReader", "Rpc"])
def test_what_else_does_more_than_compute_is_refused_in_a_function_that_nobody_calls(op):
    found = MetaGraphDef()
    called(found, []).node_def.add(name="n", op=op)
    assert f"{op} ({UNSAFE[op]}) at 'n' in function 'f1'" in refusal(found)


def test_a_graph_that_goes_in_circles_ends(vocabulary):
    found = meta_graph(vocabulary)
    for name, source in (("a", "b"), ("b", "a")):
        found.graph_def.node.add(name=name, op="Identity").input.append(source)
    node(found, found.saver_def.restore_op_name).input[0] = "a"
    assert "RestoreV2" in refusal(found)


@pytest.mark.parametrize(
    ("op", "attribute", "value", "passes"),
    [
        ("PrintV2", "output_stream", "stderr", True),
        ("PrintV2", "output_stream", "file:///tmp/x", False),
        ("DecodeProtoV2", "descriptor_source", "local://", True),
        ("DecodeProtoV2", "descriptor_source", "bytes://\n\0", True),
        ("DecodeProtoV2", "descriptor_source", "/etc/passwd", False),
        ("EncodeProto", "descriptor_source", "/etc/passwd", False),
        ("FixedUnigramCandidateSampler", "vocab_file", "", True),
        ("FixedUnigramCandidateSampler", "vocab_file", "/etc/passwd", False),
    ],
)
def test_what_can_name_a_file_is_refused_where_it_does(op, attribute, value, passes):
    found = MetaGraphDef()
    found.graph_def.node.add(name="p", op=op).attr[attribute].s = value.encode()
    if passes:
        check_ops("m", found)
    else:
        assert f"{op} ({UNSAFE_ATTRIBUTES[op][2]}) at 'p'" in refusal(found)


def test_many_offences_are_counted():
    found = MetaGraphDef()
    for number in range(8):
        found.graph_def.node.add(name=f"r{number}", op="ReadFile")
    assert "at 'r4' and 3 more; export it" in refusal(found)


def test_a_lite_model_may_not_have_them_either():
    check_lite("m", b"... FlexAddV2 ...")
    with pytest.raises(ServingError, match="refuses ReadFile, WriteFile"):
        check_lite("m", b"...\0FlexReadFile\0..FlexWriteFile")


def registered():
    buffer = pywrap_tf_session.TF_GetBuffer(pywrap_tf_session.TF_GetAllOpList())
    return op_def_pb2.OpList.FromString(buffer).op


def test_every_registered_operation_that_names_a_file_or_an_address_was_looked_at():
    known = {*UNSAFE, *UNSAFE_ATTRIBUTES, *WRITES_CHECKPOINTS, *LOADS_FILES, *REVIEWED}
    names = {
        op.name: [word for word in (op.name, *(each.name for each in (*op.input_arg, *op.attr))) if WORDS.search(word)]
        for op in registered()
    }
    assert {name: words for name, words in names.items() if words and name not in known} == {}


def test_the_list_names_operations_that_there_are():
    elsewhere = {"InitializeTRTResource", "SerializeTRTResource", "Rpc", "TryRpc"}  # in other builds
    elsewhere |= {"GcsConfigureBlockCache", "GcsConfigureCredentials", "RemoteFusedGraphExecute", "TRTEngineOp"}
    elsewhere |= {name for name in UNSAFE if name.startswith("SimpleML")}  # of TensorFlow Decision Forests
    assert {*UNSAFE, *UNSAFE_ATTRIBUTES, *MAKES_TENSORS, *WRITES_CHECKPOINTS, *LOADS_FILES} - {
        op.name for op in registered()
    } <= elsewhere


def test_the_repository_s_own_models_are_not_held_up(repository):
    saved_models.write_scale(repository / ".." / "safe_scale" / "1", 3.0)
    load(repository / ".." / "safe_scale" / "1", allowed_ops="safe").runtime.close()

"""The versions of a model on disk: which are there, which are whole, which a policy aspires to.

A version is a folder named by an integer. It is loaded once it is whole: `saved_model.pb` is there, so are all shards
of its variables and its assets, and nothing changed between two looks at it. Only regular files count
(model/version_files.py). Base paths may be URIs, of which TensorFlow's file systems take care.
"""

import posixpath
import re
import time
from collections.abc import Iterable, Mapping

import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.core.protobuf.meta_graph_pb2 import MetaGraphDef
from tensorflow_serving.config.file_system_storage_path_source_pb2 import (
    FileSystemStoragePathSourceConfig,
)

from ..model.version_files import GRAPH_FILES, LITE_FILE, MAX_GRAPH_BYTES, File, files_below

SETTLED_AFTER_S = 2.0  # a folder that nobody touched for this long is taken as it is at first sight
LARGEST_VERSION = 2**63 - 1
VARIABLE_OPERATIONS = frozenset({"VarHandleOp", "VariableV2", "Variable"})

Snapshot = tuple[File, ...]


def list_versions(base_path: str) -> dict[int, str]:
    """The version folders in `base_path`, by number.

    Raises: tf.errors.OpError if the folder cannot be listed.
    """
    versions: dict[int, str] = {}
    for entry in sorted(tf.io.gfile.listdir(base_path)):
        name = entry.rstrip("/")
        if re.fullmatch(r"[0-9]{1,255}", name) and int(name) <= LARGEST_VERSION:
            versions.setdefault(int(name), posixpath.join(base_path, name))
    return versions


def aspired_versions(
    policy: FileSystemStoragePathSourceConfig.ServableVersionPolicy, versions: Iterable[int]
) -> list[int]:
    """Those of `versions` that `policy` asks for, newest first."""
    ordered = sorted(versions, reverse=True)
    choice = policy.WhichOneof("policy_choice")
    if choice == "all":
        return ordered
    if choice == "specific":
        return [version for version in ordered if version in policy.specific.versions]
    return ordered[: max(1, policy.latest.num_versions)]


def snapshot(path: str) -> Snapshot:
    """All files below `path` with size and time of change."""
    return tuple(sorted(files_below(path)))


def has_settled(now: Snapshot, before: Snapshot | None) -> bool:
    """Whether a folder has stopped changing.

    Args:
        now: its files.
        before: its files at the last look; None if there was none.
    """
    if before is not None:
        return now == before
    newest = max((changed for _, _, changed in now), default=0)
    return time.time() - newest / 1e9 > SETTLED_AFTER_S


def missing_file(path: str, files: Snapshot, *, prefer_lite: bool) -> str | None:
    """The first file that a version lacks to be whole; None if it is whole.

    Args:
        path: the version's folder.
        files: what is in it.
        prefer_lite: a TensorFlow Lite model is a whole version by itself.
    """
    sizes = {file.removeprefix(path).lstrip("/"): size for file, size, _ in files}
    if prefer_lite and LITE_FILE in sizes:
        return None
    model_file = next((name for name in GRAPH_FILES if name in sizes), None)
    if model_file is None:
        return "saved_model.pb"
    shards = _missing_shards(sizes)
    if shards is not None or model_file != "saved_model.pb":
        return shards
    if sizes[model_file] > MAX_GRAPH_BYTES:
        return None  # which loading it reports
    return _missing_by_graph(posixpath.join(path, model_file), sizes)


def _missing_shards(sizes: Mapping[str, int]) -> str | None:
    for name in sizes:
        found = re.fullmatch(r"(variables/variables\.data)-(\d{5})-of-(\d{5})", name)
        if found:
            for index in range(int(found[3])):
                shard = f"{found[1]}-{index:05}-of-{found[3]}"
                if shard not in sizes:
                    return shard
            return None if "variables/variables.index" in sizes else "variables/variables.index"
    return "variables/variables.data-*" if "variables/variables.index" in sizes else None


def _missing_by_graph(model_file: str, sizes: Mapping[str, int]) -> str | None:
    """A file that the graph needs and the folder lacks; None if the graph cannot be read, which loading it reports."""
    try:
        with tf.io.gfile.GFile(model_file, "rb") as file:
            saved = saved_model_pb2.SavedModel.FromString(file.read())
    except Exception:
        return None
    for meta_graph in saved.meta_graphs:
        for asset in meta_graph.asset_file_def:
            if f"assets/{asset.filename}" not in sizes:
                return f"assets/{asset.filename}"
        if "variables/variables.index" not in sizes and _has_variables(meta_graph):
            return "variables/variables.index"
    return None


def _has_variables(meta_graph: MetaGraphDef) -> bool:
    return bool(meta_graph.saver_def.restore_op_name) and any(
        node.op in VARIABLE_OPERATIONS for node in meta_graph.graph_def.node
    )

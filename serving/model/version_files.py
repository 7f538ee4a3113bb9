"""The files of a version that may be opened: regular ones below its folder.

A folder of models may be written by others than those who run the server. A named pipe would hold whoever opens it for
ever, a link out of the folder would read what is none of a model's business, and links in circles have no end. None of
these is a version's file; the version's folder itself may be a link. Of base paths that are URIs the store decides.
"""

import os
import posixpath
import stat
from collections.abc import Iterator

import tensorflow as tf

from ..errors import invalid_argument

# A protobuf message is no larger, so neither is a graph; a larger file would only be read to be refused.
MAX_GRAPH_BYTES = 2**31 - 1
GRAPH_FILES = ("saved_model.pb", "saved_model.pbtxt", "saved_model.cpb")
LITE_FILE = "model.tflite"

File = tuple[str, int, int]  # path, bytes, time of change in ns


def files_below(path: str) -> Iterator[File]:
    """All regular files below the version's folder `path`, each once."""
    return _local_files(path) if _is_local(path) else _remote_files(path)


def size_of(path: str, name: str) -> int | None:
    """The size in bytes of the file `name` below the version's folder `path`; None if there is no such regular file."""
    file = posixpath.join(path, name)
    if not _is_local(path):
        return int(tf.io.gfile.stat(file).length) if tf.io.gfile.exists(file) else None
    try:
        found = os.stat(_local(file))
    except OSError:
        return None
    is_ours = stat.S_ISREG(found.st_mode) and _is_inside(_local(file), os.path.realpath(_local(path)))
    return found.st_size if is_ours else None


def check_file(path: str, name: str) -> None:
    """Refuse what is no file of the version's, before somebody opens it; what is not there is for others to miss.

    Args:
        path: the version's folder.
        name: the file's, below it.

    Raises: ServingError INVALID_ARGUMENT.
    """
    is_below = not posixpath.isabs(name) and ".." not in name.split("/")
    is_other = _is_local(path) and size_of(path, name) is None and os.path.lexists(_local(posixpath.join(path, name)))
    if is_other or not is_below:
        raise invalid_argument(f"{path}/{name} is no regular file in the version's folder, and is not opened")


def check_graph_files(path: str) -> None:
    """Refuse a version's graph, or its variables, before somebody opens them.

    Raises: ServingError INVALID_ARGUMENT.
    """
    for name in (*GRAPH_FILES, LITE_FILE):
        check_file(path, name)
        if (size := size_of(path, name)) is not None and size > MAX_GRAPH_BYTES:
            raise invalid_argument(f"{path}/{name} has {size} bytes; a graph has at most {MAX_GRAPH_BYTES}")
    for file, _ in _entries(posixpath.join(path, "variables")) if _is_local(path) else ():
        if (name := posixpath.basename(file)).startswith("variables."):
            check_file(path, f"variables/{name}")


def _is_local(path: str) -> bool:
    return "://" not in path or path.startswith("file://")


def _local(path: str) -> str:
    return path.removeprefix("file://")


def _is_inside(file: str, root: str) -> bool:
    return os.path.realpath(file).startswith(root.rstrip("/") + "/")


def _local_files(path: str) -> Iterator[File]:
    root = os.path.realpath(_local(path))
    seen = {root}
    todo = [path]
    while todo:
        for entry in _entries(todo.pop()):
            file, found = entry
            if stat.S_ISREG(found.st_mode) and _is_inside(_local(file), root):
                yield file, found.st_size, found.st_mtime_ns
            elif stat.S_ISDIR(found.st_mode) and _is_inside(_local(file), root):
                real = os.path.realpath(_local(file))
                if real not in seen:
                    seen.add(real)
                    todo.append(file)


def _entries(folder: str) -> Iterator[tuple[str, os.stat_result]]:
    """What is in `folder`, links followed; without what is gone meanwhile, or cannot be read."""
    try:
        names = sorted(os.listdir(_local(folder)))
    except OSError:
        return
    for name in names:
        file = posixpath.join(folder, name)
        try:
            yield file, os.stat(_local(file))
        except OSError:
            continue


def _remote_files(path: str) -> Iterator[File]:
    for folder, _, names in tf.io.gfile.walk(path):
        for name in names:
            file = posixpath.join(folder, name)
            try:
                found = tf.io.gfile.stat(file)
            except tf.errors.OpError:  # gone since
                continue
            yield file, int(found.length), int(found.mtime_nsec)

"""Runs' folders and models' versions, on a local or shared disk or in an object store.

A run's files appear whole or not at all: on a disk by a rename, in an object store because a write commits when it
closes. A storage that fails is asked again for a minute: an outage of seconds costs a run seconds.
"""

import json
import logging
import os
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pyarrow.fs

from .config import NAME
from .threads import in_thread

logger = logging.getLogger(__name__)

CARD = "model_card.json"  # in a version's folder
MARKER = "saved_model.pb"  # a version of a model without it does not exist
RETRY_S = 60.0  # for how long a storage that fails is asked again
PAUSES_S = (1.0, 2.0, 4.0, 8.0)  # between two tries; the last one again and again
# What another try does not change.
FINAL_ERRORS = (FileNotFoundError, FileExistsError, PermissionError, NotADirectoryError, IsADirectoryError)

T = TypeVar("T")


def open_storage(storage: str) -> tuple[pyarrow.fs.FileSystem, str]:
    """The file system and the path in it that `storage` means: a folder, or a URI that pyarrow or fsspec knows.

    Raises: ValueError if nothing installed knows the URI's scheme.
    """
    if "://" not in storage:
        return pyarrow.fs.LocalFileSystem(), str(Path(storage).absolute())
    try:
        return in_thread(lambda: _from_uri(storage))  # it may ask the store where the bucket lies
    except pyarrow.ArrowInvalid:
        import fsspec  # only for schemes that pyarrow does not know

        try:
            filesystem, path = fsspec.core.url_to_fs(storage)
        except (ValueError, ImportError) as error:
            raise ValueError(f"storage {storage!r} cannot be opened: {error}") from error
        return pyarrow.fs.PyFileSystem(pyarrow.fs.FSSpecHandler(filesystem)), path


def check_writable(place: str, flag: str) -> None:
    """Raise OSError unless a folder can be made at `place`, as far as this machine's disk can tell without making it.

    Args:
        place: a folder or URI.
        flag: that names it, for the message.

    Raises: OSError; ValueError if nothing installed knows the URI's scheme.
    """
    filesystem, path = open_storage(place)
    if not isinstance(filesystem, pyarrow.fs.LocalFileSystem):
        return
    nearest = next(folder for folder in (Path(path), *Path(path).parents) if folder.exists())
    try:
        os.rmdir(tempfile.mkdtemp(prefix=".inkling-", dir=nearest))
    except OSError as error:
        raise OSError(
            f"{flag} {place} cannot be written: {nearest} takes no folder ({error.strerror}); give another"
        ) from error


def _from_uri(uri: str) -> tuple[pyarrow.fs.FileSystem, str]:
    if uri.startswith(("gs://", "gcs://")) and "retry_limit_seconds=" not in uri:
        # Google's client tries for 15 minutes by itself, without a word.
        uri += ("&" if "?" in uri else "?") + f"retry_limit_seconds={int(RETRY_S)}"
    filesystem, path = pyarrow.fs.FileSystem.from_uri(uri)
    return filesystem, str(path)


def persistently(act: Callable[[], T], what: str, *, interruptible: bool = True, retry_s: float = RETRY_S) -> T:
    """What `act` returns; while a storage fails, it is asked again for `retry_s` seconds.

    Args:
        act: may be called several times.
        what: the path, for messages.
        interruptible: call it in a thread, so that a call that hangs in C++ does not keep signals waiting.

    Raises: what `act` raises, of what another try does not change; OSError that names `what` when the time is over.
    """
    deadline = time.monotonic() + retry_s
    for attempt in range(1_000_000):
        try:
            return in_thread(act) if interruptible else act()
        except FINAL_ERRORS:
            raise
        except OSError as error:
            pause = PAUSES_S[min(attempt, len(PAUSES_S) - 1)]
            if time.monotonic() + pause > deadline:
                raise OSError(error.errno, f"{what}: {error} (tried for {retry_s:g} s)") from error
            if not attempt:
                logger.warning("%s: %s; trying again for %g s", what, error, retry_s)
            time.sleep(pause)
    raise AssertionError  # the deadline comes first


def versions_in(filesystem: pyarrow.fs.FileSystem, folder: str) -> dict[int, str]:
    """The paths of a model's versions, by number, in its folder; those without their MARKER too."""
    entries = filesystem.get_file_info(pyarrow.fs.FileSelector(folder, allow_not_found=True))
    return {int(entry.base_name): entry.path for entry in entries if entry.base_name.isdecimal()}


def is_savedmodel(filesystem: pyarrow.fs.FileSystem, folder: str) -> bool:
    """Whether there is a SavedModel in `folder`."""
    return bool(filesystem.get_file_info(f"{folder}/{MARKER}").type == pyarrow.fs.FileType.File)


class RunFolder:
    """`<storage>/<name>/`, wherever `storage` is. Paths below are relative to it."""

    def __init__(self, storage: str, name: str, *, retry_s: float = RETRY_S) -> None:
        """Open the folder of a run; it need not exist.

        Args:
            storage: a folder or URI, which holds one folder for each run.
            name: the run's: letters, digits, '.', '_' and '-'.
            retry_s: for how many seconds a storage that fails is asked again.

        Raises: ValueError.
        """
        if not NAME.fullmatch(name):
            raise ValueError(f"run name {name!r} is not usable: letters, digits, '.', '_' and '-', 100 at most")
        self.storage = storage if "://" in storage else str(Path(storage).absolute())
        self.name = name
        self._retry_s = retry_s
        self.filesystem, self.root = open_storage(storage)
        self.path = f"{self.root}/{name}"
        # Now, not when asked: a submitted Ray job's working directory is gone once it has left Ray.
        self._shown = self._relative_where_below(Path.cwd())

    @property
    def local(self) -> Path | None:
        """The folder as a path of this machine; None in an object store."""
        return Path(self.path) if isinstance(self.filesystem, pyarrow.fs.LocalFileSystem) else None

    def __str__(self) -> str:
        return self._shown

    def _relative_where_below(self, folder: Path) -> str:
        path = f"{self.storage.rstrip('/')}/{self.name}"
        return str(Path(path).relative_to(folder)) if self.local and Path(path).is_relative_to(folder) else path

    def exists(self, path: str = "") -> bool:
        """Whether there is a file or folder at `path`."""
        return self._kind(path) != pyarrow.fs.FileType.NotFound

    def names(self, path: str) -> list[str]:
        """The names in the folder at `path`, sorted; none if there is no such folder."""
        return sorted(info.base_name for info in self._infos(self._at(path)))

    def siblings(self) -> list[str]:
        """The names of the runs in the same storage, sorted."""
        return sorted(info.base_name for info in self._infos(self.root) if info.type == pyarrow.fs.FileType.Directory)

    def read(self, path: str) -> bytes:
        """The file at `path`; raises FileNotFoundError."""

        def read() -> bytes:
            with self.filesystem.open_input_stream(self._at(path)) as stream:
                content: bytes = stream.read()
            return content

        return self._persistently(read, path)

    def read_json(self, path: str) -> dict[str, Any]:
        """The JSON object at `path`; raises FileNotFoundError or ValueError."""
        value = json.loads(self.read(path))
        if not isinstance(value, dict):
            raise ValueError(f"{self}/{path} holds {type(value).__name__}, expected a JSON object")
        return value

    def write(self, path: str, content: bytes) -> None:
        """Put `content` at `path`, whole or not at all, over what was there."""
        self._persistently(lambda: self._write(self._at(path), content), path)

    def _write(self, target: str, content: bytes) -> None:
        self.filesystem.create_dir(target.rpartition("/")[0])
        if self.local is None:
            with self.filesystem.open_output_stream(target) as stream:
                stream.write(content)
            return
        unfinished = f"{target}.{uuid.uuid4().hex}.unfinished"
        try:
            with self.filesystem.open_output_stream(unfinished) as stream:
                stream.write(content)
            self.filesystem.move(unfinished, target)
        finally:
            Path(unfinished).unlink(missing_ok=True)

    def write_json(self, path: str, value: Any) -> None:
        """Put `value` at `path` as JSON."""
        self.write(path, (json.dumps(value, indent=2) + "\n").encode())

    def create_json(self, path: str, value: Any) -> bool:
        """Put `value` at `path` as JSON unless there is something already; returns whether it did.

        On a disk one of several processes succeeds; an object store cannot tell those of the same moment apart.
        """
        if self.exists(path):
            return False
        if self.local is None:
            self.write_json(path, value)
            return True
        whole = f"{path}.{uuid.uuid4().hex}.unfinished"
        try:
            self.write_json(whole, value)
            os.link(self._at(whole), self._at(path))  # unlike a rename it replaces nothing
        except FileExistsError:
            return False
        except OSError:  # a mount without links, such as one of an object store
            self.write_json(path, value)
        finally:
            self.remove(whole)
        return True

    def remove(self, path: str) -> None:
        """Delete the file or folder at `path`, if there is one."""
        kind = self._kind(path)
        if kind == pyarrow.fs.FileType.Directory:
            self._persistently(lambda: self.filesystem.delete_dir(self._at(path)), path)
        elif kind == pyarrow.fs.FileType.File:
            self._persistently(lambda: self.filesystem.delete_file(self._at(path)), path)

    def _kind(self, path: str) -> Any:
        return self._persistently(lambda: self.filesystem.get_file_info(self._at(path)).type, path)

    def _infos(self, folder: str) -> list[Any]:
        selector = pyarrow.fs.FileSelector(folder, allow_not_found=True)
        found: list[Any] = self._persistently(lambda: self.filesystem.get_file_info(selector), folder)
        return found

    def _persistently(self, act: Callable[[], T], path: str) -> T:
        return persistently(act, f"{self}/{path}", interruptible=self.local is None, retry_s=self._retry_s)

    def _at(self, path: str) -> str:
        return f"{self.path}/{path}" if path else self.path

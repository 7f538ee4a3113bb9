"""Folders that pictures come from and tables go to, on a local or shared disk or in a bucket.

A file appears whole or not at all: on a disk by a rename, in a bucket because an object appears when it is complete.
"""

import json
import os
import re
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import pyarrow as pa
import pyarrow.fs

from ..errors import InvalidInput

UNFINISHED = "_unfinished"  # a folder that those who read a set of Parquet files pass over, by its first letter
PAUSES_S = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0)  # between two tries; the last one again and again
LIFETIME_S = 3600.0  # of a file that is being written, at most
GOOGLE_RETRY_S = 60  # Google's client tries for 15 minutes by itself, without a word
CREDENTIALS = re.compile(r"(?<=:)//[^/@]*@")  # s3://KEY:SECRET@bucket
# What another try does not change.
FINAL_ERRORS = (FileNotFoundError, FileExistsError, PermissionError, NotADirectoryError, IsADirectoryError)

T = TypeVar("T")


class FileFacts(NamedTuple):
    """What a file system tells about a file: by these two it is seen that another one has taken its place."""

    path: str  # in its place
    size: int  # bytes
    modified_ns: int  # since 1970


def whole(place: str) -> str:
    """A folder that means the same on every node; a URI as it is."""
    return place if "://" in place else str(Path(place).expanduser().absolute())


def patiently(act: Callable[[], T], *, retried: tuple[type[Exception], ...], patience_s: float) -> T:
    """What `act` returns; while it raises one of `retried` it is asked again, less and less often.

    Raises: what `act` raises, if it is another error or `patience_s` seconds are over.
    """
    deadline = time.monotonic() + patience_s
    attempt = 0
    while True:
        try:
            return act()
        except retried as error:
            pause = PAUSES_S[min(attempt, len(PAUSES_S) - 1)]
            if isinstance(error, FINAL_ERRORS) or time.monotonic() + pause > deadline:
                raise
        time.sleep(pause)
        attempt += 1


class Place:
    """A folder of this machine, or `s3://bucket/folder` and the like. Paths below are relative to it."""

    def __init__(self, name: str) -> None:
        """Find the file system; the folder need not exist.

        Raises: InvalidInput if nothing installed knows the URI.
        """
        self.name = whole(name)
        self.filesystem, self.root = _open(self.name)
        self._is_local = isinstance(self.filesystem, pyarrow.fs.LocalFileSystem)

    def __str__(self) -> str:
        return CREDENTIALS.sub("//", self.name.partition("?")[0].rstrip("/"))

    def files(self) -> list[FileFacts]:
        """All files in the folder and below it, by their paths.

        Raises: InvalidInput if there is no such folder.
        """
        here = self.filesystem.get_file_info(self.root).type
        if here == pyarrow.fs.FileType.File:
            raise InvalidInput(f"{self} is a file; give the folder, or read one picture by `inkling read {self}`")
        if here == pyarrow.fs.FileType.NotFound:
            raise InvalidInput(f"there is no folder {self}; is it written rightly, and does this machine see it?")
        found = self.filesystem.get_file_info(pyarrow.fs.FileSelector(self.root, recursive=True))
        return sorted(self._facts(info) for info in found if info.type == pyarrow.fs.FileType.File)

    def facts(self, path: str) -> FileFacts:
        """About the file at `path`; raises FileNotFoundError."""
        info = self.filesystem.get_file_info(self.at(path))
        if info.type != pyarrow.fs.FileType.File:
            raise FileNotFoundError(f"{path} is not there any more")
        return self._facts(info)

    def _facts(self, info: Any) -> FileFacts:
        return FileFacts(info.path.removeprefix(self.root).lstrip("/"), info.size, info.mtime_ns or 0)

    def names(self, folder: str) -> set[str]:
        """The names in a folder; none if it is not there."""
        selector = pyarrow.fs.FileSelector(self.at(folder), allow_not_found=True)
        return {info.base_name for info in self.filesystem.get_file_info(selector)}

    def has(self, path: str) -> bool:
        """Whether there is a file at `path`."""
        return bool(self.filesystem.get_file_info(self.at(path)).type == pyarrow.fs.FileType.File)

    def read(self, path: str) -> bytes:
        """The file at `path`; raises FileNotFoundError."""
        with self.filesystem.open_input_stream(self.at(path)) as stream:
            content: bytes = stream.read()
        return content

    def read_json(self, path: str) -> Any:
        """The JSON value at `path`; raises FileNotFoundError, or InvalidInput if it is none."""
        try:
            return json.loads(self.read(path))
        except ValueError as error:
            raise InvalidInput(f"{self}/{path} is no JSON: {error}; did somebody write there?") from error

    def write(self, path: str, content: bytes) -> None:
        """Put a file there, whole or not at all, over what was there."""
        target = self.at(path)
        unfinished = self.at(f"{UNFINISHED}/{uuid.uuid4().hex}") if self._is_local else target
        for each in {target, unfinished}:
            self.filesystem.create_dir(each.rpartition("/")[0])
        with self.filesystem.open_output_stream(unfinished) as stream:
            stream.write(content)
        if self._is_local:
            os.replace(unfinished, target)

    def write_json(self, path: str, value: Any) -> None:
        """Put `value` there as JSON."""
        self.write(path, (json.dumps(value, indent=2) + "\n").encode())

    def create_json(self, path: str, value: Any) -> None:
        """Put `value` there as JSON, unless something is there.

        Of several who try, one succeeds on a disk. A bucket cannot tell those of the same moment apart.
        """
        if self.has(path):
            return
        if not self._is_local:
            self.write_json(path, value)
            return
        draft = f"{UNFINISHED}/{uuid.uuid4().hex}.json"
        self.write_json(draft, value)
        try:
            os.link(self.at(draft), self.at(path))  # unlike a rename it replaces nothing
        except FileExistsError:
            pass
        except OSError:  # a mount without links, such as one of a bucket
            self.write_json(path, value)
        finally:
            self.filesystem.delete_file(self.at(draft))

    def remove_unfinished(self) -> None:
        """Remove what writers left that were killed; what is younger than an hour may be a living one's."""
        if not self._is_local:
            return
        folder = Path(self.at(UNFINISHED))
        with suppress(OSError):  # another job's end may be quicker
            for path in folder.iterdir():
                if time.time() - path.stat().st_mtime > LIFETIME_S:
                    path.unlink()
            folder.rmdir()

    def at(self, path: str) -> str:
        """The path as the file system takes it."""
        return f"{self.root}/{path}"


def _open(name: str) -> tuple[Any, str]:
    if "://" not in name:
        return pyarrow.fs.LocalFileSystem(), name
    if name.startswith(("gs://", "gcs://")) and "retry_limit_seconds=" not in name:
        name += f"{'&' if '?' in name else '?'}retry_limit_seconds={GOOGLE_RETRY_S}"
    try:
        filesystem, path = pyarrow.fs.FileSystem.from_uri(name)
    except pa.ArrowInvalid:
        filesystem, path = _by_fsspec(name)
    return filesystem, path.rstrip("/")


def _by_fsspec(name: str) -> tuple[Any, str]:
    import fsspec  # only for schemes that PyArrow does not know

    try:
        filesystem, path = fsspec.core.url_to_fs(name)
    except (ValueError, ImportError) as error:
        raise InvalidInput(f"{name!r} cannot be opened: {error}; expected a folder, s3://… or gs://…") from error
    return pyarrow.fs.PyFileSystem(pyarrow.fs.FSSpecHandler(filesystem)), path

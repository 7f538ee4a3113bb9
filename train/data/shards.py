"""Sets that lie on a disk or in a bucket as shards, and are read from there while a run trains on them.

`python -m train shard` writes them. A set is a folder: `manifest.json`, and for each shard two NumPy arrays,
`<part>-<number>.images.npy` (uint8 [n, height, width], or [n, height, width, 3] in colour) and `.labels.npy` (int64
[n]). The manifest is written last, and has the checksum of every array: without it there is no set, and no array is
trained on that does not match.

Rows are read by `pread` and not by a memory map: a file that is cut short meanwhile is an error with its name where a
map ends the process, and what was read does not count as this process's memory.
"""

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.fs
from numpy.typing import NDArray

from ..storage import open_storage, persistently
from .dataset import Dataset
from .errors import DataError

FORMAT = 1  # of the manifest and the arrays
MANIFEST = "manifest.json"
UNFINISHED = "unfinished"  # folder of a job's notes while it writes a set
WINDOW = 2**18  # examples that an epoch mixes with each other: 205 MB of MNIST, which the system's cache should hold
OPEN_FILES = 256  # at once; a process may commonly have 1,024
PIECE = 2**20  # bytes that are fetched at a time


@dataclass(frozen=True, slots=True)
class ArrayFile:
    """One array of a set."""

    name: str
    rows: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Place:
    """Where a set's files lie: a folder that this machine sees, or a URI whose files are kept on its disk."""

    root: str

    @property
    def is_remote(self) -> bool:
        """Whether files are fetched before they are read."""
        return "://" in self.root

    def uri(self, file: ArrayFile) -> str:
        """Where `file` is fetched from."""
        root, mark, options = self.root.partition("?")
        return f"{root}/{file.name}{mark}{options}"

    def path(self, file: ArrayFile) -> Path:
        """Where `file` is read, on this machine."""
        return cache_folder() / f"{file.sha256}.npy" if self.is_remote else Path(self.root, file.name)


def cache_folder() -> Path:
    """Where the shards of buckets are kept on this machine, by their checksums; TMPDIR moves it."""
    return Path(tempfile.gettempdir(), f"inkling-shards-{os.getuid()}")


class _OpenFile:
    """An array's file, closed when nobody holds it any more."""

    def __init__(self, descriptor: int, head: int) -> None:
        self.descriptor = descriptor
        self.head = head  # bytes before the first row

    def __del__(self) -> None:
        os.close(self.descriptor)


class ShardedRows:
    """The images or the labels of a sharded set: rows by index."""

    def __init__(self, place: Place, files: Sequence[ArrayFile], dtype: str, row_shape: tuple[int, ...]) -> None:
        """Take the arrays of a set in the manifest's order; nothing is read yet.

        Args:
            dtype: of the arrays, as NumPy names it.
            row_shape: of one row.
        """
        self.place, self.files = place, tuple(files)
        self._dtype, self._row_shape = np.dtype(dtype), row_shape
        self._ends = np.cumsum([file.rows for file in files])
        self._begins = self._ends - [file.rows for file in files]

    @property
    def shape(self) -> tuple[int, ...]:
        """[n, ...], as an array's."""
        return len(self), *self._row_shape

    def __len__(self) -> int:
        return int(self._ends[-1])

    @property
    def nbytes(self) -> int:
        """What all rows take, in bytes."""
        return len(self) * int(np.prod(self._row_shape, initial=self._dtype.itemsize))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return self[np.arange(len(self))]

    def __getitem__(self, index: NDArray[np.int64]) -> NDArray[Any]:
        rows = np.empty((len(index), *self._row_shape), self._dtype)
        if not len(index):
            return rows
        content, row_bytes = rows.reshape(-1).view(np.uint8).data, rows[0].nbytes
        shards = np.searchsorted(self._ends, index, side="right")
        # Neighbours are read together.
        apart = np.flatnonzero((np.diff(index) != 1) | (np.diff(shards) != 0)) + 1
        firsts = np.append(0, apart)
        lengths = np.diff(firsts, append=len(index)) * row_bytes
        offsets = (index - self._begins[shards])[firsts] * row_bytes
        opened = {shard: self._open(self.files[shard]) for shard in np.unique(shards).tolist()}
        at = 0
        for shard, offset, length in zip(shards[firsts].tolist(), offsets.tolist(), lengths.tolist(), strict=True):
            file = opened[shard]
            read = os.pread(file.descriptor, length, file.head + offset)
            if len(read) != length:
                raise self._cut_short(self.files[shard])
            content[at : at + length] = read
            at += length
        return rows

    def expect(self, start: int, stop: int) -> None:
        """Have the system read the rows from `start` to `stop` ahead, without waiting for it."""
        if not hasattr(os, "posix_fadvise"):
            return  # macOS
        row_bytes = self.nbytes // len(self)
        first, last = np.searchsorted(self._ends, [start, stop - 1], side="right")
        for shard in range(int(first), int(last) + 1):
            begin, end = int(self._begins[shard]), int(self._ends[shard])
            row, count = max(start, begin) - begin, min(stop, end) - max(start, begin)
            file = self._open(self.files[shard])
            offset = file.head + row * row_bytes
            os.posix_fadvise(file.descriptor, offset, count * row_bytes, os.POSIX_FADV_WILLNEED)

    def _cut_short(self, file: ArrayFile) -> DataError:
        return DataError(
            f"{self.place.path(file)} has been cut short since it was checked; write the set again with "
            "`python -m train shard`"
        )

    def _open(self, file: ArrayFile) -> _OpenFile:
        return _open(self.place, file, self._dtype.str, self._row_shape)


@lru_cache(maxsize=OPEN_FILES)
def _open(place: Place, file: ArrayFile, dtype: str, row_shape: tuple[int, ...]) -> _OpenFile:
    path = place.path(file)
    if place.is_remote and not path.exists():
        _fetch(place, file)
    try:
        with path.open("rb") as stream:
            version = np.lib.format.read_magic(stream)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, by_columns, found = read(stream)
            opened = _OpenFile(os.dup(stream.fileno()), stream.tell())
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as an array ({error}); write the set again") from error
    if by_columns or shape != (file.rows, *row_shape) or found != np.dtype(dtype):
        raise DataError(
            f"{path} holds {found} {list(shape)}, but the manifest says {np.dtype(dtype)} "
            f"{[file.rows, *row_shape]}; write the set again"
        )
    return opened


def load(source: str) -> Dataset | None:
    """The set at a folder or URI if it is one of shards; its test part is read, its training part stays where it is.

    Raises: DataError.
    """
    filesystem, root = open_storage(source)
    on_disk = isinstance(filesystem, pyarrow.fs.LocalFileSystem)
    place = Place(root if on_disk else source.rstrip("/"))
    names = _names(filesystem, root, source)
    if UNFINISHED in names and MANIFEST not in names:
        raise DataError(
            f"{source} is not a whole set: it has no {MANIFEST}, so the job that writes it was stopped or is still at "
            "work; start `python -m train shard` again with the same flags, and it goes on"
        )
    if MANIFEST not in names:
        return None
    manifest = _read_manifest(filesystem, f"{root}/{MANIFEST}", f"{place.root}/{MANIFEST}")
    try:
        return _dataset(place, manifest)
    except (KeyError, TypeError) as error:
        raise DataError(f"{place.root}/{MANIFEST} is damaged ({error!r}); write the set again") from error


def _names(filesystem: pyarrow.fs.FileSystem, root: str, source: str) -> frozenset[str]:
    paths = [f"{root}/{name}" for name in (MANIFEST, UNFINISHED)]
    found = persistently(lambda: filesystem.get_file_info(paths), source, interruptible="://" in source)
    return frozenset(info.base_name for info in found if info.type != pyarrow.fs.FileType.NotFound)


def _read_manifest(filesystem: pyarrow.fs.FileSystem, path: str, shown: str) -> Mapping[str, Any]:
    def read() -> bytes:
        with filesystem.open_input_stream(path) as stream:
            content: bytes = stream.read()
        return content

    try:
        manifest: dict[str, Any] = json.loads(persistently(read, shown))
    except ValueError as error:
        raise DataError(f"{shown} is damaged ({error}); write the set again") from error
    if manifest.get("format") != FORMAT:
        raise DataError(
            f"{shown} has format {manifest.get('format')!r}, and this version of Inkling reads {FORMAT}; write the set "
            "again with it, or train with the version that wrote it"
        )
    return manifest


def _dataset(place: Place, manifest: Mapping[str, Any]) -> Dataset:
    channels = manifest.get("channels", 1)  # of a set that version 0.1 wrote, or one in grey
    shape = (*manifest["image_size"], *([channels] if channels > 1 else []))
    background = manifest["background"]
    images, labels = {}, {}
    for part, shards in manifest["shards"].items():
        images[part] = ShardedRows(place, [ArrayFile(**shard["images"]) for shard in shards], "|u1", shape)
        labels[part] = ShardedRows(place, [ArrayFile(**shard["labels"]) for shard in shards], "<i8", ())
    check((images["test"], labels["test"]))
    copies, originals = manifest["copies"], len(labels["train"]) // (manifest["copies"] + 1)
    notes = [f"{originals:,} training images in {len(images['train'].files):,} shards"]
    if copies:
        augmentation = manifest["augmentation"]
        notes = [f"{notes[0]}, with {copies:,} augmented versions of each (policy {augmentation['policy']})"]
    return Dataset(
        images["train"],
        labels["train"],
        np.asarray(images["test"]),
        np.asarray(labels["test"]),
        tuple(manifest["class_names"]),
        place.root,
        tuple(background) if isinstance(background, list) else background,
        (*manifest["notes"], *notes),
        copies=copies,
        window=WINDOW,
        sha256=hashlib.sha256(json.dumps(manifest["shards"], sort_keys=True).encode()).hexdigest(),
    )


def check_training_part(dataset: Dataset, tell: Callable[[str], None] = lambda text: None) -> None:
    """Compare every array that a run of `dataset` will read with its checksum, if they lie in shards.

    Those of a bucket are fetched to this machine's disk first, unless they are there.

    Raises: DataError that names the array.
    """
    columns = [rows for rows in (dataset.train_images, dataset.train_labels) if isinstance(rows, ShardedRows)]
    if not columns:
        return
    size = sum(rows.nbytes for rows in columns)
    told = f"{len(columns[0].files):,} shards of {dataset.source} ({size / 1e9:,.1f} GB)"
    if columns[0].place.is_remote:
        _check_room(columns)
        tell(f"fetching {told} to {cache_folder()}, but for what is there")
    else:
        tell(f"checking {told}")
    check(columns)


def _check_room(columns: Iterable[ShardedRows]) -> None:
    folder = cache_folder()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    sizes = {file: rows.nbytes / len(rows) * file.rows for rows in columns for file in rows.files}
    missing = int(sum(size for file, size in sizes.items() if not (folder / f"{file.sha256}.npy").exists()))
    free = shutil.disk_usage(folder).free
    if missing > free:
        raise DataError(
            f"{missing / 1e9:,.1f} GB of shards are to be fetched, and {folder} has {free / 1e9:,.1f} GB free; set "
            "TMPDIR to a folder on a larger disk, on every machine that trains"
        )


def is_remote(dataset: Dataset) -> bool:
    """Whether every machine that trains on `dataset` fetches it from a bucket."""
    return isinstance(dataset.train_images, ShardedRows) and dataset.train_images.place.is_remote


def shared_folder(dataset: Dataset) -> str | None:
    """The folder that every machine that trains on `dataset` must see; None if there is none."""
    rows = dataset.train_images
    return rows.place.root if isinstance(rows, ShardedRows) and not rows.place.is_remote else None


def check(columns: Iterable[ShardedRows]) -> None:
    """Compare arrays with their checksums, fetching those of buckets first; raises DataError."""
    found = [(rows.place, file) for rows in columns for file in rows.files]
    with ThreadPoolExecutor(min(16, 2 * (os.cpu_count() or 1))) as threads:
        for _ in threads.map(lambda of: (_fetch if of[0].is_remote else _check_file)(*of), found):
            pass


def _check_file(place: Place, file: ArrayFile) -> None:
    path = place.path(file)
    try:
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error}); write the set again, or put it back") from error
    if digest != file.sha256:
        raise DataError(
            f"{path} does not match its checksum in {MANIFEST}: it has {path.stat().st_size:,} bytes with SHA-256 "
            f"{digest[:12]}…, expected {file.sha256[:12]}…; it was cut short or replaced: write the set again"
        )


def _fetch(place: Place, file: ArrayFile) -> None:
    """Put a bucket's array on this machine's disk, unless it is there; raises DataError if it is not what was written.

    One process fetches it, others that want it wait.
    """
    path = place.path(file)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if _digest(path) == file.sha256:
            return
        unfinished = path.with_suffix(".unfinished")
        uri = place.uri(file)
        try:
            digest = persistently(lambda: _download(uri, unfinished), uri)
        except FileNotFoundError as error:
            raise DataError(f"{uri} is missing, though {MANIFEST} names it; write the set again") from error
        if digest != file.sha256:
            unfinished.unlink()
            raise DataError(
                f"{uri} does not match its checksum in {MANIFEST}: SHA-256 {digest[:12]}…, expected "
                f"{file.sha256[:12]}…; it was cut short or replaced: write the set again"
            )
        os.replace(unfinished, path)


def _digest(path: Path) -> str | None:
    if not path.exists():
        return None
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _download(uri: str, target: Path) -> str:
    """Copy a bucket's file; returns its SHA-256."""
    filesystem, path = open_storage(uri)
    digest = hashlib.sha256()
    with filesystem.open_input_stream(path) as source, target.open("wb") as copy:
        while piece := source.read(PIECE):
            digest.update(piece)
            copy.write(piece)
    return digest.hexdigest()

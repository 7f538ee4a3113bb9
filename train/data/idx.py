"""IDX files, as MNIST is published, and the sets that are published like it: EMNIST, Fashion-MNIST, KMNIST."""

import gzip
import math
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from .errors import LFS, DataError
from .memory import allocate, check_fits

FILES = {
    "x_train": "train-images-idx3-ubyte",
    "y_train": "train-labels-idx1-ubyte",
    "x_test": "t10k-images-idx3-ubyte",
    "y_test": "t10k-labels-idx1-ubyte",
}
DTYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
PIECE = 2**24  # bytes that are read at a time


def find_idx(folder: Path, prefix: str = "") -> dict[str, Path]:
    """The IDX files of a set in `folder`, by array: `train-images-idx3-ubyte`, `train-images.idx3-ubyte`, also `.gz`.

    Args:
        prefix: of the files' names, such as `emnist-letters-`, whose test files are called `test` and not `t10k`.
    """
    found: dict[str, Path] = {}
    for array, name in FILES.items():
        stems = [name, name.replace("-idx", ".idx")]
        stems += [stem.replace("t10k-", "test-") for stem in stems]
        candidates = [folder / f"{prefix}{stem}{suffix}" for stem in stems for suffix in ("", ".gz")]
        if path := next((path for path in candidates if path.is_file()), None):
            found[array] = path
    return found


def read_idx(path: Path, *, on_disk: bool = False) -> NDArray[np.generic]:
    """One IDX file, plain or, if its name ends in `.gz`, compressed.

    The format is described at the end of http://yann.lecun.com/exdb/mnist/.

    Args:
        on_disk: leave the numbers where they are, as a map of the file (of a copy, if it is compressed).

    Returns: an array of the shape and the number type in the file's header, in this machine's byte order.

    Raises: DataError if the file is truncated, too long, of another kind or larger than memory.
    """
    try:
        with path.open("rb") as raw:
            if raw.read(len(LFS)) == LFS:
                raise DataError(f"{path} is a pointer of Git LFS and not the data; fetch those with `git lfs pull`")
            raw.seek(0)
            if path.suffix == ".gz":
                with gzip.open(raw) as stream:
                    return _read(path, stream, on_disk=on_disk)  # type: ignore[arg-type]  # a reader of bytes
            return _map(path, raw) if on_disk else _read(path, raw)
    except (EOFError, OSError, zlib.error) as error:
        raise DataError(f"{path} cannot be read ({error}); fetch it again") from error


def _read(path: Path, stream: BinaryIO, *, on_disk: bool = False) -> NDArray[np.generic]:
    shape, dtype = _header(path, stream)
    size = math.prod(shape) * dtype.itemsize
    if not on_disk:
        check_fits(path, size)
    content = allocate((size,), on_disk=on_disk)
    found = 0
    while piece := stream.read(min(PIECE, size - found)):
        content[found : found + len(piece)] = np.frombuffer(piece, np.uint8)
        found += len(piece)
    if found < size or stream.read(1):
        raise _of_wrong_length(path, shape, size, found)
    return content.view(dtype).reshape(shape).astype(dtype.newbyteorder("="), copy=False)


def _map(path: Path, stream: BinaryIO) -> NDArray[np.generic]:
    shape, dtype = _header(path, stream)
    size, found = math.prod(shape) * dtype.itemsize, path.stat().st_size - stream.tell()
    if found != size:
        raise _of_wrong_length(path, shape, size, min(found, size))
    return np.memmap(path, dtype, "r", stream.tell(), shape) if size else np.empty(shape, dtype)


def _of_wrong_length(path: Path, shape: tuple[int, ...], size: int, found: int) -> DataError:
    head = 4 + 4 * len(shape)
    state, there = ("truncated", str(head + found)) if found < size else ("too long", "more")
    return DataError(
        f"{path} is {state}: {there} bytes, but its header says {list(shape)}, which takes {head + size}; "
        "fetch it again"
    )


def _header(path: Path, stream: BinaryIO) -> tuple[tuple[int, ...], np.dtype[np.generic]]:
    magic = stream.read(4)
    if len(magic) < 4:
        raise DataError(f"{path} is truncated: {len(magic)} bytes, too short for an IDX header; fetch it again")
    rank = magic[3]
    if magic[:2] != b"\0\0" or magic[2] not in DTYPES or not 1 <= rank <= 4:
        raise DataError(
            f"{path} has magic number {int.from_bytes(magic, 'big'):#010x}, expected 0x00000801 (labels) or 0x00000803 "
            "(images): not an IDX file; gzipped files must end in .gz"
        )
    sides = stream.read(4 * rank)
    if len(sides) < 4 * rank:
        raise DataError(f"{path} is truncated: {4 + len(sides)} bytes, too short for its header; fetch it again")
    return tuple(np.frombuffer(sides, ">u4").tolist()), np.dtype(DTYPES[magic[2]])

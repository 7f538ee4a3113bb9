"""Where a set's images are put: into this machine's memory if they fit, or into a file that the system pages."""

import math
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import DataError

PIECE_BYTES = 2**24  # of an array that is worked on at a time, where it may be larger than memory
COPIES = 3  # the set as it is read, as it is checked, and as Ray keeps it for the workers


def check_fits(source: Path | str, size: int) -> None:
    """Raise DataError if `size` bytes of data, with the copies that are made of them, exceed the free memory."""
    free = available_bytes()
    if free is not None and size * COPIES > free:
        raise DataError(
            f"{source} takes {_gb(size)} and, with its copies, {_gb(size * COPIES)} of memory, of which {_gb(free)} "
            "are free; write it as shards with `python -m train shard`, which need no more memory than a few of them, "
            "and train on those"
        )


def allocate(shape: tuple[int, ...], *, on_disk: bool) -> NDArray[np.uint8]:
    """An array to be filled, uint8 of `shape`: in memory, or in a file without a name in TMPDIR.

    Raises: DataError if it does not fit on the disk.
    """
    size = math.prod(shape)
    if not on_disk or not size:
        return np.empty(shape, np.uint8)
    try:
        with tempfile.TemporaryFile() as file:
            if hasattr(os, "posix_fallocate"):  # a full disk would be a SIGBUS when the array is written to
                os.posix_fallocate(file.fileno(), 0, size)
            return np.memmap(file, np.uint8, "w+", shape=shape)
    except OSError as error:
        raise DataError(
            f"{_gb(size)} of images cannot be put into {tempfile.gettempdir()} ({error.strerror}); set TMPDIR to a "
            "folder on a larger disk"
        ) from error


def pieces(array: Any) -> Iterator[slice]:
    """Slices of an array's rows of some megabytes each, one after the other."""
    rows = max(1, PIECE_BYTES // max(1, array[:1].nbytes))
    return (slice(start, start + rows) for start in range(0, len(array), rows))


def taken(array: NDArray[np.uint8], index: NDArray[np.int64], *, on_disk: bool) -> NDArray[np.uint8]:
    """The rows `index` of `array`, a piece at a time."""
    rows = allocate((len(index), *array.shape[1:]), on_disk=on_disk)
    for piece in pieces(rows):
        rows[piece] = array[index[piece]]
    return rows


def transformed(
    array: Any,
    function: Callable[[NDArray[Any]], NDArray[np.uint8]],
    *,
    on_disk: bool,
    row_shape: tuple[int, ...] | None = None,
) -> NDArray[np.uint8]:
    """What `function` makes of an array's rows, a piece at a time: uint8, of `row_shape` each, or of the array's."""
    made = allocate(array.shape if row_shape is None else (len(array), *row_shape), on_disk=on_disk)
    for piece in pieces(array):
        made[piece] = function(array[piece])
    return made


def available_bytes() -> int | None:
    """Memory that this process can still take: the machine's, or its cgroup's if that is less; None if not told."""
    found = [_of_machine(), _of_cgroup()]
    return min((value for value in found if value is not None), default=None)


def _of_machine() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None  # not Linux
    values = dict(line.split(":", 1) for line in lines if ":" in line)
    return int(values["MemAvailable"].split()[0]) * 1024 if "MemAvailable" in values else None


def _of_cgroup() -> int | None:
    folder = Path("/sys/fs/cgroup")  # version 2, as a container sees its own
    try:
        limit, used = (folder / "memory.max").read_text().strip(), (folder / "memory.current").read_text()
    except OSError:
        return None
    return None if limit == "max" else max(0, int(limit) - int(used))


def _gb(size: int) -> str:
    return f"{size / 1e9:,.1f} GB" if size < 1e15 else f"{size:.1e} bytes"

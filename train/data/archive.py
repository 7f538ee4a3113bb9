"""Sets in NumPy's archives: one `.npz` with four arrays, or four with one each, as Kuzushiji-MNIST is published."""

import math
import zipfile
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .errors import DataError
from .memory import check_fits

ARRAYS = ("x_train", "y_train", "x_test", "y_test")
# Other names that sets come with; the first is Inkling's own and Keras', the second MedMNIST's.
NAMES = (
    ARRAYS,
    ("train_images", "train_labels", "test_images", "test_labels"),
    ("X_train", "y_train", "X_test", "y_test"),
)
FILES = ("train-imgs.npz", "train-labels.npz", "test-imgs.npz", "test-labels.npz")


def read_npz(path: Path) -> dict[str, NDArray[np.generic]]:
    """The four arrays of one archive, by Inkling's names for them; raises DataError."""
    held = _read(path)
    for names in NAMES:
        if set(names) <= held.keys():
            return {array: held[name] for array, name in zip(ARRAYS, names, strict=True)}
    missing = set(ARRAYS) - held.keys()
    raise DataError(
        f"{path} lacks {', '.join(sorted(missing))}: it holds {', '.join(held) or 'nothing'}; "
        f"save it with np.savez(path, {', '.join(f'{name}=...' for name in ARRAYS)})"
    )


def find_archives(folder: Path) -> dict[str, Path]:
    """The archives `…train-imgs.npz`, `…train-labels.npz` and so on in `folder`, by array; those that are there."""
    found = {array: sorted(folder.glob(f"*{name}")) for array, name in zip(ARRAYS, FILES, strict=True)}
    return {array: paths[0] for array, paths in found.items() if len(paths) == 1}


def read_archives(files: dict[str, Path]) -> dict[str, NDArray[np.generic]]:
    """The one array of each of four archives; raises DataError."""
    arrays = {}
    for name, path in files.items():
        held = _read(path)
        if len(held) != 1:
            raise DataError(f"{path} holds {', '.join(held) or 'nothing'}, expected one array")
        arrays[name] = next(iter(held.values()))
    return arrays


def _read(path: Path) -> dict[str, NDArray[np.generic]]:
    if path.suffix == ".npy":
        raise DataError(
            f"{path} is a single array; save the four of a set with "
            f"np.savez('set.npz', {', '.join(f'{name}=...' for name in ARRAYS)})"
        )
    try:
        check_fits(path, _unpacked_size(path))
        # Opened here, since np.load leaves a file that it cannot read open.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except DataError:
        raise
    except (OSError, ValueError, EOFError, TypeError, MemoryError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path} is not a readable .npz archive ({error}); save it again with np.savez") from error


def _unpacked_size(path: Path) -> int:
    """Bytes that the archive's arrays take, by their own headers."""
    size = 0
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            if not entry.filename.endswith(".npy"):
                continue
            with archive.open(entry) as stream:
                version = np.lib.format.read_magic(stream)
                read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
                shape, _, dtype = read(stream)
            size += math.prod(shape) * dtype.itemsize
    return size

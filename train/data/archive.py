"""Sets in NumPy's files: an `.npz` with four arrays, or four with one each, as Kuzushiji-MNIST is published, or four
`.npy`. And archives that hold a set in any form, which are unpacked."""

import math
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Iterable
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
# Of a set in one part.
WHOLE_NAMES = (("x", "y"), ("X", "y"), ("images", "labels"), ("data", "labels"), ("data", "target"))
PACKED = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
FILES = ("train-imgs.npz", "train-labels.npz", "test-imgs.npz", "test-labels.npz")


def read_npz(path: Path) -> dict[str, NDArray[np.generic]]:
    """The four arrays of one archive, by Inkling's names for them; without a test part, the two of a set in one part.

    Raises: DataError.
    """
    held = _read(path)
    for names in (*NAMES, *WHOLE_NAMES):
        if set(names) <= held.keys():
            return {array: held[name] for array, name in zip(ARRAYS, names, strict=False)}
    missing = set(ARRAYS) - held.keys()
    raise DataError(
        f"{path} lacks {', '.join(sorted(missing))}: it holds {_some(held)}; "
        f"save it with np.savez(path, {', '.join(f'{name}=...' for name in ARRAYS)})"
    )


def _some(names: Iterable[str]) -> str:
    first = list(names)
    return ", ".join(first[:6]) + (", …" if len(first) > 6 else "") if first else "nothing"


def find_arrays(folder: Path) -> dict[str, Path]:
    """The files `x_train.npy` and so on in `folder`, by array; under the first names that are all there."""
    for names in NAMES:
        paths = [folder / f"{name}.npy" for name in names]
        if all(path.is_file() for path in paths):
            return dict(zip(ARRAYS, paths, strict=True))
    return {}


def read_arrays(files: dict[str, Path], *, on_disk: bool) -> dict[str, NDArray[np.generic]]:
    """The arrays of four `.npy` files, left where they are if `on_disk`; raises DataError."""
    arrays = {}
    for name, path in files.items():
        try:
            mapped = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise DataError(f"{path} is not a readable array ({error}); save it again with np.save") from error
        if not on_disk:
            check_fits(path, mapped.nbytes)
        arrays[name] = mapped if on_disk else np.array(mapped)
    return arrays


def is_packed(path: Path) -> bool:
    """Whether a file is an archive of files, by its name."""
    return path.name.lower().endswith(PACKED)


def unpack(path: Path, folder: Path) -> None:
    """Unpack an archive into `folder`; raises DataError."""
    try:
        _check_room(path, folder)
        if path.suffix.lower() == ".zip":
            shutil.unpack_archive(path, folder)
        else:
            shutil.unpack_archive(path, folder, filter="data")  # nothing outside of it, no links that lead there
    except DataError:
        raise
    except (OSError, EOFError, ValueError, shutil.ReadError, zipfile.BadZipFile, tarfile.TarError, zlib.error) as error:
        raise DataError(f"{path} cannot be unpacked ({error}); fetch it again") from error


def _check_room(path: Path, folder: Path) -> None:
    if path.suffix.lower() == ".zip":
        with zipfile.ZipFile(path) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
    else:
        with tarfile.open(path) as archive:
            size = sum(entry.size for entry in archive)
    if size > (free := shutil.disk_usage(folder).free):
        raise DataError(
            f"{path} holds {size / 1e9:,.1f} GB, and {folder.parent} has {free / 1e9:,.1f} GB free; set TMPDIR to a "
            "folder on a larger disk, or unpack it yourself"
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

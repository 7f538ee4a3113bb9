"""Read a labelled image set, from wherever and in whichever of the usual forms it is.

`load()` reads and checks everything before training starts; what it returns can be trusted from there on.
"""

import dataclasses
import errno
import math
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np
import pyarrow.fs
from numpy.typing import NDArray

from ..config import ReadOptions
from ..storage import open_storage
from .archive import ARRAYS, find_archives, find_arrays, is_packed, read_archives, read_arrays, read_npz, unpack
from .colour import CHANNELS, background_of, in_channels
from .dataset import Dataset
from .errors import ADVICE, LFS, DataError
from .example_order import held_out
from .idx import FILES, find_idx, read_idx
from .image_folder import SUFFIXES, find_parts, is_flat, read_flat, read_parts
from .labels import check_classes, class_numbers
from .memory import pieces, taken
from .parquet import find_parquet, read_parquet
from .pixel_range import judge, to_bytes
from .shards import load as load_shards
from .tables import find_tables, is_table, read_table

MNIST = Path(__file__).parents[1] / "mnist" / "mnist.npz"
SMALLEST_SIDE = 8  # px; two 2x2 poolings must leave something to look at
# A test set is split off once and for all, whatever the run's seed: two runs on one set are measured on one test set.
SPLIT_SEED = 0
PARTS = ("train", "test")
AS_IT_IS = ReadOptions()
READ_OPTIONS = tuple(field.name for field in dataclasses.fields(ReadOptions))


@dataclass(frozen=True, slots=True)
class _Raw:
    """A set as it was found: four arrays, not checked yet."""

    arrays: Mapping[str, NDArray[np.generic]]
    class_names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    are_bytes: bool = False  # read from image files


def load(source: str | Path | None = None, how: ReadOptions = AS_IT_IS, *, on_disk: bool = False) -> Dataset:
    """Read a labelled image set.

    Args:
        source: None for MNIST; a folder of the four IDX files, plain or `.gz`, or such a folder and the beginning of
            the files' names, as `emnist/emnist-letters`; an `.npz` with `x_train`, `y_train`, `x_test`, `y_test`; a
            folder with `train/<class>/<image>` and `test/<class>/<image>`, or with `<class>/<image>` if `how` has a
            `test_size`; tables of text, Parquet; an archive of such a folder; a folder of shards that `train shard`
            wrote; or a URI of one of these, as `s3://bucket/set`.
        on_disk: keep images in files and not in memory, so that a set may be larger than that. Those of an `.npz` and
            of tables of text are read into memory all the same.

    Raises: DataError.
    """
    if source is None:
        source = MNIST
    if "://" in str(source):
        return _load_remote(str(source), how, on_disk=on_disk)
    path = Path(source).expanduser()
    if path.is_dir() and (sharded := load_shards(str(path))):
        return _as_written(sharded, how)
    if path.is_file() and is_packed(path):
        with tempfile.TemporaryDirectory(prefix="inkling-data-") as scratch:
            unpack(path, Path(scratch))
            dataset = load(scratch, how, on_disk=on_disk)
            if not isinstance(dataset.train_images, np.ndarray):
                raise DataError(f"{path} holds shards, which are read where they lie; unpack it, and give the folder")
            return dataclasses.replace(dataset, source=str(path))
    return _checked(_read(path, how, on_disk=on_disk), str(path), how, on_disk=on_disk)


def _as_written(dataset: Dataset, how: ReadOptions) -> Dataset:
    """A set of shards, which is read as it was written."""
    options = [name for name in READ_OPTIONS if getattr(how, name) != getattr(AS_IT_IS, name)]
    if options:
        flags = ", ".join("--" + name.replace("_", "-") for name in options)
        raise DataError(
            f"{dataset.source} is a set of shards, whose pixels and parts were settled when it was written: leave out "
            f"{flags} here, and give it to `python -m train shard`"
        )
    return dataset


def _load_remote(uri: str, how: ReadOptions, *, on_disk: bool) -> Dataset:
    try:
        if sharded := load_shards(uri):
            return _as_written(sharded, how)
        filesystem, path = open_storage(uri)
        if filesystem.get_file_info(path).type == pyarrow.fs.FileType.NotFound:
            raise DataError(f"no data at {uri}; --data takes {TAKEN}")
        with tempfile.TemporaryDirectory(prefix="inkling-data-") as scratch:
            copied = Path(scratch, Path(path).name)
            pyarrow.fs.copy_files(path, str(copied), source_filesystem=filesystem)
            return dataclasses.replace(load(copied, how, on_disk=on_disk), source=uri)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise DataError(
                f"{uri} does not fit into {tempfile.gettempdir()}, where it is copied to; set TMPDIR to a folder on a "
                "larger disk, or write it as shards, which are read from the bucket"
            ) from error
        raise DataError(f"{uri} cannot be read ({error}); check the address and its credentials") from error


def _read(path: Path, how: ReadOptions, *, on_disk: bool) -> _Raw:
    if path.is_file():
        if is_table(path):
            _share(path, how)
        return _with_test(_read_file(path), path, how, on_disk=on_disk)
    if not path.exists():
        if found := find_idx(path.parent, f"{path.name}-"):
            return _read_idx(found, path.parent, f"{path.name}-", on_disk=on_disk)
        if path.parent.is_dir() and (tables := find_tables(path.parent, f"{path.name}-")):
            return _read_tables(tables, path.parent, f"{path.name}-")
        raise DataError(f"no data at {path}; --data takes {TAKEN}")
    if parquet := find_parquet(path):
        if "test" not in parquet:
            _share(path, how)
        raw = _of_files(read_parquet(parquet, channels=how.channels, on_disk=on_disk))
        return _with_test(raw, path, how, on_disk=on_disk)
    if "train" in find_parts(path):
        raw = _of_files(read_parts(path, channels=how.channels, on_disk=on_disk))
        return _with_test(raw, path, how, on_disk=on_disk)
    if len(files := find_archives(path)) == len(ARRAYS):
        return _Raw(read_archives(files))
    if len(files := find_arrays(path)) == len(ARRAYS):
        return _Raw(read_arrays(files, on_disk=on_disk))
    if found := find_idx(path):
        return _read_idx(found, path, "", on_disk=on_disk)
    if prefixes := sorted({file.name.split("train-images")[0] for file in path.glob("*-train-images*idx3-ubyte*")}):
        return _of_prefix(path, prefixes, on_disk=on_disk)
    if tables := find_tables(path):
        return _read_tables(tables, path, tables["train"].name.split("train")[0])
    if is_flat(path):
        _share(path, how)
        images, labels, names, notes = read_flat(path, channels=how.channels, on_disk=on_disk)
        raw = _of_files(({"x_train": images, "y_train": labels}, names, notes))
        return _with_test(raw, path, how, on_disk=on_disk)
    if inner := _only_folder(path):
        return _read(inner, how, on_disk=on_disk)
    _missing(path, FILES["x_train"])


def _only_folder(path: Path) -> Path | None:
    """The folder in `path` if there is nothing else, as archives leave it."""
    entries = [entry for entry in path.iterdir() if not entry.name.startswith((".", "__"))]
    return entries[0] if len(entries) == 1 and entries[0].is_dir() else None


def _read_file(path: Path) -> _Raw:
    with path.open("rb") as file:
        if file.read(len(LFS)) == LFS:
            raise DataError(f"{path} is a pointer of Git LFS and not the data; fetch those with `git lfs pull`")
    if is_table(path):
        images, labels = read_table(path)
        return _Raw({"x_train": images, "y_train": labels})
    if path.suffix.lower() in SUFFIXES:
        raise DataError(f"{path} is a single picture; give the folder that holds a folder of pictures for each class")
    if path.suffix.lower() in ADVICE:
        raise DataError(f"{path} is {ADVICE[path.suffix.lower()]}")
    return _Raw(read_npz(path))


TAKEN = "a folder of IDX files, of images or of Parquet or CSV files, an .npz, a .csv, or a .zip of one of these"


def _share(path: Path, how: ReadOptions) -> float:
    """The share of the images to split off from a set without a test part; raises DataError if nobody said so."""
    if how.test_size is None:
        raise DataError(
            f"{path} has no test set: give --test-size 0.2 to split a fifth of the images off for it, or add one"
        )
    return how.test_size


def _with_test(raw: _Raw, path: Path, how: ReadOptions, *, on_disk: bool) -> _Raw:
    """The set with a test part: its own, or the share `test_size` of it."""
    if "x_test" in raw.arrays:
        unused = () if how.test_size is None else ("it has a test set of its own, so --test-size splits nothing off",)
        return dataclasses.replace(raw, notes=(*raw.notes, *unused))
    share = _share(path, how)
    images, labels = raw.arrays["x_train"], raw.arrays["y_train"]
    if len(images) != len(labels):
        raise DataError(f"{path}: {len(images)} images but {len(labels)} labels; they must pair up")
    number = round(share * len(labels))
    test = held_out(SPLIT_SEED, len(labels), number)
    train = np.setdiff1d(np.arange(len(labels)), test)
    note = f"{number:,} of {len(labels):,} images were split off for the test set (--test-size {share:g})"
    arrays = {
        "x_train": _rows(images, train, on_disk=on_disk), "y_train": labels[train],
        "x_test": _rows(images, test, on_disk=on_disk), "y_test": labels[test],
    }  # fmt: skip
    return dataclasses.replace(raw, arrays=arrays, notes=(*raw.notes, note))


def _rows(images: NDArray[np.generic], index: NDArray[np.int64], *, on_disk: bool) -> NDArray[np.generic]:
    return taken(images.view(np.uint8), index, on_disk=on_disk) if images.dtype == np.uint8 else images[index]


def _read_tables(tables: Mapping[str, Path], folder: Path, prefix: str) -> _Raw:
    arrays: dict[str, NDArray[np.generic]] = {}
    for part, path in tables.items():
        arrays[f"x_{part}"], arrays[f"y_{part}"] = read_table(path)
    return _as_emnist(arrays, folder, prefix) if prefix.startswith("emnist-") else _Raw(arrays)


def _of_files(read: tuple[dict[str, NDArray[np.generic]], tuple[str, ...], list[str]]) -> _Raw:
    arrays, class_names, notes = read
    return _Raw(arrays, class_names, tuple(notes), are_bytes=True)


def _of_prefix(path: Path, prefixes: list[str], *, on_disk: bool) -> _Raw:
    if len(prefixes) > 1:
        choices = ", ".join(f"--data {path / prefix.rstrip('-')}" for prefix in prefixes)
        raise DataError(f"{path} holds {len(prefixes)} sets; choose one: {choices}")
    return _read_idx(find_idx(path, prefixes[0]), path, prefixes[0], on_disk=on_disk)


def _read_idx(found: Mapping[str, Path], folder: Path, prefix: str, *, on_disk: bool) -> _Raw:
    for array, name in FILES.items():
        if array not in found:
            _missing(folder, f"{prefix}{name}")
    arrays = {array: read_idx(path, on_disk=on_disk) for array, path in found.items()}
    return _as_emnist(arrays, folder, prefix) if prefix.startswith("emnist-") else _Raw(arrays)


def _missing(folder: Path, name: str) -> NoReturn:
    raise DataError(
        f"{folder} has no {name} or {name}.gz; a data folder holds the four IDX files "
        f"({', '.join(FILES.values())}) or train/ and test/ with one subfolder of images for each class{_held(folder)}"
    )


def _held(folder: Path) -> str:
    names = sorted(entry.name + "/" * entry.is_dir() for entry in folder.iterdir())
    more = ", …" if len(names) > 4 else ""
    return f"; it holds {', '.join(names[:4])}{more}" if names else "; it is empty"


def _as_emnist(arrays: dict[str, NDArray[np.generic]], folder: Path, prefix: str) -> _Raw:
    """EMNIST as published: images transposed, labels from 0 or from 1, names in a mapping to character codes.

    Cohen, Afshar, Tapson and van Schaik, "EMNIST: an extension of MNIST to handwritten letters", 2017.
    """
    for part in PARTS:
        arrays[f"x_{part}"] = arrays[f"x_{part}"].swapaxes(-1, -2)
    first = min(int(arrays["y_train"].min()), int(arrays["y_test"].min()))
    arrays |= {f"y_{part}": arrays[f"y_{part}"].astype(np.int64) - first for part in PARTS}
    notes = ["images transposed, as EMNIST is published"]
    if first:
        notes.append(f"labels count from {first}: moved to count from 0")
    mapping = folder / f"{prefix}mapping.txt"
    names: tuple[str, ...] = ()
    if mapping.is_file():
        rows = [[int(number) for number in line.split()] for line in mapping.read_text().splitlines() if line.strip()]
        names = tuple("".join(dict.fromkeys(map(chr, codes))) for _, *codes in sorted(rows))
    return _Raw(arrays, names, tuple(notes))


def _checked(raw: _Raw, source: str, how: ReadOptions, *, on_disk: bool) -> Dataset:
    def fail(problem: str) -> NoReturn:
        raise DataError(f"{source}: {problem}")

    found = {part: _checked_images(raw.arrays[f"x_{part}"], f"x_{part}", fail) for part in PARTS}
    given = {part: raw.arrays[f"y_{part}"] for part in PARTS}
    for part in PARTS:
        if len(found[part]) != len(given[part]):
            fail(f"{len(found[part])} {part} images but {len(given[part])} {part} labels; they must pair up")
        if not len(found[part]):
            fail(f"the {part} set is empty")
    if found["train"].shape[1:3] != found["test"].shape[1:3]:
        fail(f"train images are {found['train'].shape[1:3]} but test images {found['test'].shape[1:3]}; resize one")
    labels, class_names, of_labels = class_numbers(given, raw.class_names, fail)
    check_classes(labels, class_names, fail)
    try:
        named = {f"x_{part}": array for part, array in found.items()}
        scale = judge(named, white=how.pixel_max, are_bytes=raw.are_bytes)
    except DataError as error:
        fail(str(error))
    images = {part: to_bytes(array, scale, on_disk=on_disk) for part, array in found.items()}
    images, of_colour = in_channels(images, how.channels, on_disk=on_disk)
    dataset = Dataset(
        images["train"], labels["train"], images["test"], labels["test"], class_names, source,
        background_of(images["train"]), (*raw.notes, *of_labels, *scale.notes, *of_colour),
    )  # fmt: skip
    return _of_polarity(dataset, invert=how.invert, on_disk=on_disk)


def _of_polarity(dataset: Dataset, *, invert: bool, on_disk: bool) -> Dataset:
    if invert:
        turned = dataset.inverted(on_disk=on_disk)
        return dataclasses.replace(turned, notes=(*turned.notes, "black and white were exchanged (--invert)"))
    if not dataset.is_dark_on_light or dataset.channels > 1:  # light rims of photographs are no paper
        return dataset
    note = (
        f"the images are dark on light (the value {dataset.background} along their rims): the model will expect such "
        "images, and take light ink on dark, as MNIST has it, by its signature light_on_dark; --invert trains on that"
    )
    return dataclasses.replace(dataset, notes=(*dataset.notes, note))


def _checked_images(array: NDArray[np.generic], name: str, fail: Callable[[str], NoReturn]) -> NDArray[np.generic]:
    array = _channels_last(array)
    if array.ndim == 4 and array.shape[3] == 1:
        array = array[..., 0]
    if array.ndim != 3 and not (array.ndim == 4 and array.shape[3] == CHANNELS):
        fail(
            f"{name} has shape {array.shape}, expected [n, height, width] or [n, height, width, 1 or 3]"
            f"{_reshaped(array.shape)}"
        )
    if len(array) and min(array.shape[1:3]) < SMALLEST_SIDE:
        fail(f"{name} holds images of {array.shape[1:3]} px, expected at least {SMALLEST_SIDE} x {SMALLEST_SIDE}")
    if array.dtype.kind not in "buif":
        fail(f"{name} is {array.dtype}, expected uint8 or numbers from 0 to 255 or 0 to 1")
    if array.dtype.kind == "f" and not all(np.isfinite(array[piece]).all() for piece in pieces(array)):
        fail(f"{name} has NaN or infinity, first in image {int(np.argwhere(~np.isfinite(array))[0][0])}; repair it")
    return array


def _channels_last(array: NDArray[np.generic]) -> NDArray[np.generic]:
    """[n, channels, height, width], as PyTorch has images, with the channels last; no image is so narrow."""
    is_first = array.ndim == 4 and array.shape[1] in (1, CHANNELS) and array.shape[3] not in (1, CHANNELS)
    return np.moveaxis(array, 1, -1) if is_first else array


def _reshaped(shape: tuple[int, ...]) -> str:
    """Advice for images that are rows of numbers, or transparent."""
    if len(shape) == 4 and shape[3] == 4:
        return ": images[..., :3] leaves out how opaque they are"
    side = math.isqrt(shape[-1])
    if len(shape) != 2 or side * side != shape[-1]:
        return ""
    return f": images.reshape(-1, {side}, {side}) makes images of rows"

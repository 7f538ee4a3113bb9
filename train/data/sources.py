"""Read a labelled image set, from wherever and in whichever of the usual forms it is.

`load()` reads and checks everything before training starts; what it returns can be trusted from there on.
"""

import dataclasses
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
from .archive import ARRAYS, find_archives, read_archives, read_npz
from .colour import CHANNELS, Background, channels_of, shows_colour, with_channels
from .dataset import Dataset
from .errors import DataError
from .idx import FILES, find_idx, read_idx
from .image_folder import find_parts, is_flat, read_flat, read_parts
from .memory import pieces
from .parquet import find_parquet, read_parquet
from .pixel_range import judge, to_bytes
from .shards import load as load_shards

MNIST = Path(__file__).parents[1] / "mnist" / "mnist.npz"
SMALLEST_SIDE = 8  # px; two 2x2 poolings must leave something to look at
MOST_CLASSES = 10_000
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
            `test_size`; a folder of shards that `train shard` wrote; or a URI of one of these, as `s3://bucket/set`.
        on_disk: keep images in files and not in memory, so that a set may be larger than that. Those of an `.npz` are
            read into memory all the same.

    Raises: DataError.
    """
    if source is None:
        source = MNIST
    if "://" in str(source):
        return _load_remote(str(source), how, on_disk=on_disk)
    path = Path(source).expanduser()
    if path.is_dir() and (sharded := load_shards(str(path))):
        return _as_written(sharded, how)
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
            raise DataError(f"no data at {uri}; --data takes a folder of IDX files, an .npz or a folder of images")
        with tempfile.TemporaryDirectory(prefix="inkling-data-") as scratch:
            copied = Path(scratch, Path(path).name)
            pyarrow.fs.copy_files(path, str(copied), source_filesystem=filesystem)
            return dataclasses.replace(load(copied, how, on_disk=on_disk), source=uri)
    except OSError as error:
        raise DataError(f"{uri} cannot be read ({error}); check the address and its credentials") from error


def _read(path: Path, how: ReadOptions, *, on_disk: bool) -> _Raw:
    if path.is_file():
        return _Raw(read_npz(path))
    if not path.exists():
        if found := find_idx(path.parent, f"{path.name}-"):
            return _read_idx(found, path.parent, f"{path.name}-", on_disk=on_disk)
        raise DataError(f"no data at {path}; --data takes a folder of IDX files, an .npz or a folder of images")
    if parquet := find_parquet(path):
        return _of_files(read_parquet(parquet, channels=how.channels, on_disk=on_disk))
    if "train" in find_parts(path):
        return _of_files(read_parts(path, channels=how.channels, on_disk=on_disk))
    if len(files := find_archives(path)) == len(ARRAYS):
        return _Raw(read_archives(files))
    if found := find_idx(path):
        return _read_idx(found, path, "", on_disk=on_disk)
    if prefixes := sorted({file.name.split("train-images")[0] for file in path.glob("*-train-images*idx3-ubyte*")}):
        return _of_prefix(path, prefixes, on_disk=on_disk)
    if not is_flat(path):
        _missing(path, FILES["x_train"])
    if how.test_size is None:
        raise DataError(
            f"{path} holds classes of images, but no test set: give --test-size 0.2 to split a fifth of the images "
            "off for it, or make train/ and test/ with the classes in each"
        )
    return _of_files(read_flat(path, how.test_size, channels=how.channels, on_disk=on_disk))


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
        f"({', '.join(FILES.values())}) or train/ and test/ with one subfolder of images for each class"
    )


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
    labels = {part: _checked_labels(raw.arrays[f"y_{part}"], f"y_{part}", fail) for part in PARTS}
    for part in PARTS:
        if len(found[part]) != len(labels[part]):
            fail(f"{len(found[part])} {part} images but {len(labels[part])} {part} labels; they must pair up")
        if not len(found[part]):
            fail(f"the {part} set is empty")
    if found["train"].shape[1:3] != found["test"].shape[1:3]:
        fail(f"train images are {found['train'].shape[1:3]} but test images {found['test'].shape[1:3]}; resize one")
    class_names = raw.class_names or tuple(map(str, range(int(labels["train"].max()) + 1)))
    _check_classes(labels, class_names, fail)
    try:
        named = {f"x_{part}": array for part, array in found.items()}
        scale = judge(named, white=how.pixel_max, are_bytes=raw.are_bytes)
    except DataError as error:
        fail(str(error))
    images = {part: to_bytes(array, scale, on_disk=on_disk) for part, array in found.items()}
    images, of_colour = _in_channels(images, how.channels, on_disk=on_disk)
    dataset = Dataset(
        images["train"], labels["train"], images["test"], labels["test"], class_names, source,
        _background(images["train"]), (*raw.notes, *scale.notes, *of_colour),
    )  # fmt: skip
    return _of_polarity(dataset, invert=how.invert, on_disk=on_disk)


def _check_classes(
    labels: Mapping[str, NDArray[np.int64]], class_names: tuple[str, ...], fail: Callable[[str], NoReturn]
) -> None:
    counts = np.bincount(labels["train"], minlength=len(class_names))
    if labels["test"].max() >= len(counts):
        fail(f"test label {labels['test'].max()} is out of range: the training labels are 0 to {len(counts) - 1}")
    if len(counts) > len(class_names):
        fail(f"training label {len(counts) - 1} is out of range: the set names {len(class_names)} classes")
    if len(counts) < 2 or not counts.all():
        empty = int(np.argmin(counts)) if len(counts) > 1 else 1
        name = class_names[empty] if empty < len(class_names) else empty
        fail(f"class {name} is empty: no training image has it; add some, or number the labels without gaps")


def _in_channels(
    images: Mapping[str, NDArray[np.uint8]], wanted: int | None, *, on_disk: bool
) -> tuple[dict[str, NDArray[np.uint8]], list[str]]:
    """Both parts in grey or in colour, as `wanted` or else as they are, and what a person must know of it."""
    found = CHANNELS if any(map(shows_colour, images.values())) else 1
    channels = wanted or found
    notes = []
    if channels == CHANNELS and not wanted:
        notes.append("the images are in colour, and the model will take them so; --channels 1 makes them grey")
    elif channels < found:
        notes.append("the images were made grey, which drops their colour (--channels 1)")
    elif not wanted and any(channels_of(array.shape[1:]) > channels for array in images.values()):
        notes.append("red, green and blue are equal everywhere: read as grey; --channels 3 keeps the three")
    return {part: with_channels(array, channels, on_disk=on_disk) for part, array in images.items()}, notes


def _background(images: NDArray[np.uint8]) -> Background:
    """The median of the pixels along the images' rims, where there is paper and hardly ever ink."""
    some = images[:: max(1, len(images) // 10_000)]
    rims = [some[:, 0], some[:, -1], some[:, 1:-1, 0], some[:, 1:-1, -1]]
    if images.ndim == 3:
        return int(np.median(np.concatenate([rim.ravel() for rim in rims])))
    medians = np.median(np.concatenate([rim.reshape(-1, CHANNELS) for rim in rims]), axis=0)
    return tuple(int(median) for median in medians)


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
    """Advice for images that are rows of numbers."""
    side = math.isqrt(shape[-1])
    if len(shape) != 2 or side * side != shape[-1]:
        return ""
    return f": images.reshape(-1, {side}, {side}) makes images of rows"


def _checked_labels(array: NDArray[np.generic], name: str, fail: Callable[[str], NoReturn]) -> NDArray[np.int64]:
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        fail(
            f"{name} has shape {array.shape}, expected [n]: one class number for each image; of one-hot rows take "
            "labels.argmax(axis=1)"
        )
    if array.dtype.kind not in "buif":
        fail(f"{name} is {array.dtype}, expected integers")
    if array.dtype.kind == "f" and not (np.isfinite(array).all() and (array == np.rint(array)).all()):
        fail(f"{name} has NaN or fractions, expected integers")
    labels = array.astype(np.int64)
    if len(labels) and not 0 <= labels.min() <= labels.max() < MOST_CLASSES:
        bad = int(labels.min() if labels.min() < 0 else labels.max())
        fail(f"{name} has label {bad}, which is out of range: labels count from 0, one number for each class")
    return labels

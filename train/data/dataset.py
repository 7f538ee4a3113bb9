"""Labelled images as arrays: the MNIST that ships with Inkling, or a set of the same kind from disk.

`load()` reads and checks everything before training starts; what it returns can be trusted from there on.
"""

import dataclasses
import gzip
import hashlib
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from . import example_order

MNIST = Path(__file__).parents[1] / "mnist" / "mnist.npz"
SMALLEST_SIDE = 8  # px; two 2x2 poolings must leave something to look at
IDX_FILES = {
    "x_train": "train-images-idx3-ubyte",
    "y_train": "train-labels-idx1-ubyte",
    "x_test": "t10k-images-idx3-ubyte",
    "y_test": "t10k-labels-idx1-ubyte",
}
IMAGE_SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}


class DataError(ValueError):
    """The data cannot be trained on; the message says what was found, what was expected and what to do."""


@dataclass(frozen=True, slots=True)
class Dataset:
    """A labelled image set, in its two parts."""

    train_images: NDArray[np.uint8]  # [n, height, width], 0 to 255
    train_labels: NDArray[np.int64]  # [n], 0 to len(class_names) - 1
    test_images: NDArray[np.uint8]  # as the training images
    test_labels: NDArray[np.int64]
    class_names: tuple[str, ...]
    source: str  # what it was read from

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        height, width = self.train_images.shape[1:]
        return height, width

    def checksum(self) -> str:
        """SHA-256 over the four arrays, hexadecimal: equal for equal data, whatever file it came from."""
        digest = hashlib.sha256()
        for array in (self.train_images, self.train_labels, self.test_images, self.test_labels):
            digest.update(str(array.shape).encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()

    def held_out(self, size: int, seed: int) -> NDArray[np.int64]:
        """Which training examples `hold_out` takes away: int64 [size], ascending.

        Raises: DataError if they are all of them.
        """
        if not 0 <= size < len(self.train_labels):
            raise DataError(
                f"validation_size={size} leaves nothing to train on: the training set has "
                f"{len(self.train_labels)} images; use a smaller --validation-size"
            )
        return example_order.held_out(seed, len(self.train_labels), size)

    def hold_out(self, size: int, seed: int) -> tuple["Dataset", NDArray[np.uint8], NDArray[np.int64]]:
        """Take `size` random training examples away, for choices that must not see the test set.

        Returns: the dataset without them; their images, uint8 [size, height, width]; their labels, int64 [size].

        Raises: DataError if nothing would be left.
        """
        held = self.held_out(size, seed)
        kept = np.delete(np.arange(len(self.train_labels)), held)
        rest = dataclasses.replace(self, train_images=self.train_images[kept], train_labels=self.train_labels[kept])
        return rest, self.train_images[held], self.train_labels[held]


def load(path: Path | None = None) -> Dataset:
    """Read a labelled image set.

    Args:
        path: None for MNIST; a folder of the four IDX files, plain or `.gz`; an `.npz` with `x_train`, `y_train`,
            `x_test`, `y_test`; or a folder with `train/<class>/<image>` and `test/<class>/<image>`.

    Raises: DataError.
    """
    if path is None:
        path = MNIST
    if not path.exists():
        raise DataError(f"no data at {path}; --data takes a folder of IDX files, an .npz or a folder of images")
    if path.is_file():
        return _checked(_read_npz(path), str(path))
    if (path / "train").is_dir():
        return _read_image_folder(path)
    return _checked({name: read_idx(_idx_file(path, file)) for name, file in IDX_FILES.items()}, str(path))


def read_idx(path: Path) -> NDArray[np.uint8]:
    """One IDX file of unsigned bytes, as MNIST is published.

    The format is described at the end of http://yann.lecun.com/exdb/mnist/.

    Raises: DataError if the file is truncated, too long or of another kind.
    """
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (EOFError, OSError, zlib.error) as error:
        raise DataError(f"{path} cannot be read ({error}); fetch it again") from error
    if len(content) < 4:
        raise DataError(f"{path} is truncated: {len(content)} bytes, too short for an IDX header; fetch it again")
    magic = int.from_bytes(content[:4], "big")
    rank = content[3]
    if magic >> 8 != 0x08 or not 1 <= rank <= 4:
        raise DataError(
            f"{path} has magic number {magic:#010x}, expected 0x00000801 (labels) or 0x00000803 (images): "
            "not an IDX file of unsigned bytes; gzipped files must end in .gz"
        )
    shape = tuple(np.frombuffer(content[4 : 4 + 4 * rank], ">u4").astype(int).tolist())
    expected = 4 + 4 * rank + int(np.prod(shape))
    if len(shape) != rank or len(content) != expected:
        state = "truncated" if len(content) < expected else "too long"
        raise DataError(
            f"{path} is {state}: {len(content)} bytes, but its header says {list(shape)}, which takes {expected}; "
            "fetch it again"
        )
    return np.frombuffer(content, np.uint8, offset=4 + 4 * rank).reshape(shape)


def _idx_file(folder: Path, name: str) -> Path:
    for candidate in (folder / name, folder / f"{name}.gz"):
        if candidate.is_file():
            return candidate
    raise DataError(
        f"{folder} has no {name} or {name}.gz; a data folder holds the four IDX files "
        f"({', '.join(IDX_FILES.values())}) or train/ and test/ with one subfolder of images for each class"
    )


def _read_npz(path: Path) -> dict[str, NDArray[np.generic]]:
    try:
        # Opened here, since np.load leaves a file that it cannot read open.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            missing = IDX_FILES.keys() - set(archive.files)
            if missing:
                raise DataError(
                    f"{path} lacks {', '.join(sorted(missing))}: it holds {', '.join(archive.files) or 'nothing'}; "
                    f"save it with np.savez(path, {', '.join(f'{name}=...' for name in IDX_FILES)})"
                )
            return {name: archive[name] for name in IDX_FILES}
    except DataError:
        raise
    except (OSError, ValueError, EOFError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path} is not a readable .npz archive ({error}); save it again with np.savez") from error


def _read_image_folder(path: Path) -> Dataset:
    class_names = tuple(sorted(entry.name for entry in (path / "train").iterdir() if entry.is_dir()))
    if len(class_names) < 2:
        raise DataError(f"{path / 'train'} has {len(class_names)} class folders, expected one for each class")
    if not (path / "test").is_dir():
        raise DataError(f"{path} has train/ but no test/; put held-out images in {path / 'test'}/<class>/")
    unknown = sorted(
        entry.name for entry in (path / "test").iterdir() if entry.is_dir() and entry.name not in class_names
    )
    if unknown:
        raise DataError(f"{path / 'test' / unknown[0]} is a class that {path / 'train'} does not have")
    arrays: dict[str, NDArray[np.generic]] = {}
    for part in ("train", "test"):
        images, labels = [], []
        for label, name in enumerate(class_names):
            folder = path / part / name
            files = sorted(folder.iterdir()) if folder.is_dir() else []
            found = [_read_image(file) for file in files if file.suffix.lower() in IMAGE_SUFFIXES]
            images += found
            labels += [label] * len(found)
        sizes = {image.shape for image in images}
        if len(sizes) > 1:
            raise DataError(
                f"the images in {path / part} are of different sizes ({', '.join(map(str, sorted(sizes)[:3]))}, ...); "
                "resize them to one height and width"
            )
        arrays[f"x_{part}"] = np.stack(images) if images else np.empty((0, 0, 0), np.uint8)
        arrays[f"y_{part}"] = np.array(labels, np.int64)
    return _checked(arrays, str(path), class_names)


def _read_image(path: Path) -> NDArray[np.uint8]:
    from PIL import Image, UnidentifiedImageError  # a cluster's nodes, which get arrays, need not have it

    try:
        with Image.open(path) as image:
            if image.mode[0] in "IF":  # Pillow would cut the values off at 255
                raise DataError(f"{path} has more than 8 bits a channel (mode {image.mode}); convert it to 8")
            if image.has_transparency_data and np.asarray(image.convert("RGBA"))[..., 3].min() < 255:
                raise DataError(f"{path} is transparent in places; put it on a background, such as black")
            return np.asarray(image.convert("L"))
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise DataError(f"{path} is not a readable image ({error}); replace or remove it") from error


def _checked(arrays: dict[str, NDArray[np.generic]], source: str, class_names: tuple[str, ...] = ()) -> Dataset:
    def fail(problem: str) -> NoReturn:
        raise DataError(f"{source}: {problem}")

    images = {part: _checked_images(arrays[f"x_{part}"], f"x_{part}", fail) for part in ("train", "test")}
    labels = {part: _checked_labels(arrays[f"y_{part}"], f"y_{part}", fail) for part in ("train", "test")}
    for part in ("train", "test"):
        if len(images[part]) != len(labels[part]):
            fail(f"{len(images[part])} {part} images but {len(labels[part])} {part} labels; they must pair up")
        if not len(images[part]):
            fail(f"the {part} set is empty")
    if images["train"].shape[1:] != images["test"].shape[1:]:
        fail(f"train images are {images['train'].shape[1:]} but test images {images['test'].shape[1:]}; resize one")
    counts = np.bincount(labels["train"], minlength=len(class_names))
    if labels["test"].max() >= len(counts):
        fail(f"test label {labels['test'].max()} is out of range: the training labels are 0 to {len(counts) - 1}")
    if len(counts) < 2 or not counts.all():
        empty = int(np.argmin(counts)) if len(counts) > 1 else 1
        name = class_names[empty] if class_names else empty
        fail(f"class {name} is empty: no training image has it; add some, or number the labels without gaps")
    return Dataset(
        images["train"],
        labels["train"],
        images["test"],
        labels["test"],
        class_names or tuple(map(str, range(len(counts)))),
        source,
    )


def _checked_images(array: NDArray[np.generic], name: str, fail: Callable[[str], NoReturn]) -> NDArray[np.uint8]:
    if array.ndim == 4 and array.shape[3] == 1:
        array = array[..., 0]
    if array.ndim != 3:
        fail(f"{name} has shape {array.shape}, expected [n, height, width] or [n, height, width, 1]")
    if len(array) and min(array.shape[1:]) < SMALLEST_SIDE:
        fail(f"{name} holds images of {array.shape[1:]} px, expected at least {SMALLEST_SIDE} x {SMALLEST_SIDE}")
    if array.dtype == np.uint8:
        return np.ascontiguousarray(array, np.uint8)
    if array.dtype.kind not in "buif":
        fail(f"{name} is {array.dtype}, expected uint8 or numbers from 0 to 255 or 0 to 1")
    values = array.astype(np.float32)
    if not np.isfinite(values).all():
        fail(f"{name} has NaN or infinity, first in image {int(np.argwhere(~np.isfinite(values))[0][0])}; repair it")
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)
    if low < 0 or high > 255:
        fail(f"{name} has values from {low:g} to {high:g}, expected 0 to 255 or 0 to 1")
    return np.rint(values * 255 if array.dtype.kind in "bf" and high <= 1 else values).astype(np.uint8)


def _checked_labels(array: NDArray[np.generic], name: str, fail: Callable[[str], NoReturn]) -> NDArray[np.int64]:
    if array.ndim != 1:
        fail(f"{name} has shape {array.shape}, expected [n]: one class number for each image")
    if array.dtype.kind not in "buif":
        fail(f"{name} is {array.dtype}, expected integers")
    if array.dtype.kind == "f" and not (np.isfinite(array).all() and (array == np.rint(array)).all()):
        fail(f"{name} has NaN or fractions, expected integers")
    labels = array.astype(np.int64)
    if len(labels) and not 0 <= labels.min() <= labels.max() < 10_000:
        bad = int(labels.min() if labels.min() < 0 else labels.max())
        fail(f"{name} has label {bad}, which is out of range: labels count from 0, one number for each class")
    return labels

"""Sets as folders of images: `train/<class>/<image>` and `test/<class>/<image>`, or `<class>/<image>` to be split."""

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
from numpy.typing import NDArray

from .errors import DataError
from .example_order import held_out
from .memory import allocate, check_fits, taken

if TYPE_CHECKING:
    from PIL import Image

SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
PARTS = ("train", "test")
# A test set is split off once and for all, whatever the run's seed: two runs on one set are measured on one test set.
SPLIT_SEED = 0


def read_parts(
    path: Path, *, on_disk: bool = False
) -> tuple[dict[str, NDArray[np.generic]], tuple[str, ...], list[str]]:
    """A folder with `train/` and `test/`.

    Args:
        on_disk: put the images into a file that the system pages, and not into memory.

    Returns:
        `x_train`, `y_train`, `x_test`, `y_test`: images uint8 [n, height, width] and labels int64 [n].
        the class names: the folders' names in natural order, 2 before 10.
        what was left out or converted, as sentences.

    Raises: DataError.
    """
    if not (path / "test").is_dir():
        raise DataError(f"{path} has train/ but no test/; put held-out images in {path / 'test'}/<class>/")
    names, notes = _class_names(path / "train")
    unknown = [name for name in _class_names(path / "test")[0] if name not in names]
    if unknown:
        raise DataError(f"{path / 'test' / unknown[0]} is a class that {path / 'train'} does not have")
    arrays: dict[str, NDArray[np.generic]] = {}
    converted: Counter[str] = Counter()
    for part in PARTS:
        images, labels = _read_classes(path / part, names, converted, on_disk=on_disk)
        arrays |= {f"x_{part}": images, f"y_{part}": labels}
    return arrays, names, notes + told(converted)


def read_flat(
    path: Path, test_size: float, *, on_disk: bool = False
) -> tuple[dict[str, NDArray[np.generic]], tuple[str, ...], list[str]]:
    """A folder of class folders, of whose images the share `test_size`, 0 to 1, is split off for the test set.

    Returns: as `read_parts`.

    Raises: DataError.
    """
    names, notes = _class_names(path)
    converted: Counter[str] = Counter()
    images, labels = _read_classes(path, names, converted, on_disk=on_disk)
    number = round(test_size * len(labels))
    test = held_out(SPLIT_SEED, len(labels), number)
    train = np.setdiff1d(np.arange(len(labels)), test)
    notes.append(f"{number:,} of {len(labels):,} images were split off for the test set (--test-size {test_size:g})")
    arrays: dict[str, NDArray[np.generic]] = {
        "x_train": taken(images, train, on_disk=on_disk), "y_train": labels[train],
        "x_test": taken(images, test, on_disk=on_disk), "y_test": labels[test],
    }  # fmt: skip
    return arrays, names, notes + told(converted)


def is_flat(path: Path) -> bool:
    """Whether `path` has at least two folders with images in them."""
    folders = [entry for entry in path.iterdir() if entry.is_dir() and not _is_hidden(entry)]
    return sum(any(_is_image(file) for file in folder.iterdir()) for folder in folders) >= 2


def _class_names(path: Path) -> tuple[tuple[str, ...], list[str]]:
    folders = [entry for entry in path.iterdir() if entry.is_dir()]
    names = tuple(sorted((entry.name for entry in folders if not _is_hidden(entry)), key=_natural))
    if len(names) < 2:
        raise DataError(f"{path} has {len(names)} class folders, expected one for each class")
    hidden = sorted(entry.name for entry in folders if _is_hidden(entry))
    return names, [f"{path}: left out {', '.join(hidden)}, which programs leave behind"] if hidden else []


def _is_hidden(path: Path) -> bool:
    # Jupyter's .ipynb_checkpoints, macOS's __MACOSX and ._image.png, Synology's @eaDir
    return path.name.startswith((".", "__", "@"))


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not _is_hidden(path) and not path.is_dir()


def _natural(name: str) -> list[tuple[int, int, str]]:
    """A key that sorts 2 before 10."""
    parts = re.findall(r"\d+|\D+", name)
    return [(0, int(part), part) if part.isdecimal() else (1, 0, part) for part in parts]


def _read_classes(
    path: Path, names: Iterable[str], converted: Counter[str], *, on_disk: bool
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    folders = [path / name for name in names]
    files = [
        (file, label)
        for label, folder in enumerate(folders)
        if folder.is_dir()
        for file in sorted(folder.iterdir(), key=lambda entry: _natural(entry.name))
        if _is_image(file)
    ]
    if not files:
        return np.empty((0, 0, 0), np.uint8), np.empty(0, np.int64)
    first = read_image(files[0][0], files[0][0], Counter())
    if not on_disk:
        check_fits(path, len(files) * first.size)
    images = allocate((len(files), *first.shape), on_disk=on_disk)
    for number, (file, _) in enumerate(files):
        image = read_image(file, file, converted)
        if image.shape != first.shape:
            raise DataError(
                f"the images in {path} are of different sizes ({files[0][0].name} has {first.shape}, {file} has "
                f"{image.shape}: height and width); resize them to one height and width"
            )
        images[number] = image
    return images, np.array([label for _, label in files], np.int64)


def read_image(source: Path | BinaryIO, name: object, converted: Counter[str]) -> NDArray[np.uint8]:
    """An encoded image as grey, uint8 [height, width]; raises DataError.

    Args:
        name: of the image, for messages.
        converted: counts what was changed.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError  # a cluster's nodes, which get arrays, need not have it

    try:
        with Image.open(source) as image:
            if image.mode[0] in "IF":  # Pillow would cut the values off at 255
                raise DataError(f"{name} has more than 8 bits a channel (mode {image.mode}); convert it to 8")
            if (frames := getattr(image, "n_frames", 1)) > 1:
                raise DataError(f"{name} has {frames} pages or frames; save the one that counts by itself")
            upright = ImageOps.exif_transpose(image)
            converted["turned upright as their EXIF data say"] += image.getexif().get(0x0112, 1) != 1
            if upright.has_transparency_data and np.asarray(upright.convert("RGBA"))[..., 3].min() < 255:
                raise DataError(f"{name} is transparent in places; put it on a background, such as black")
            grey = np.asarray(upright.convert("L"))
            converted["made grey, which drops their colour"] += _is_coloured(upright)
            return grey
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise DataError(f"{name} is not a readable image ({error}); replace or remove it") from error


def _is_coloured(image: "Image.Image") -> bool:
    if image.mode in ("1", "L", "LA"):
        return False
    channels = np.asarray(image.convert("RGB")).astype(np.int16)
    return bool((np.ptp(channels, axis=2) > 8).any())  # JPEG's own rounding of grey stays below


def told(converted: Counter[str]) -> list[str]:
    """What was changed, as sentences."""
    return [f"{number:,} images were {what}" for what, number in converted.items() if number]

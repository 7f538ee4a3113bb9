"""Sets as folders of images: `train/<class>/<image>` and `test/<class>/<image>`, or `<class>/<image>` to be split."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
from numpy.typing import NDArray

from .colour import CHANNELS
from .errors import LFS, DataError
from .memory import allocate, check_fits

if TYPE_CHECKING:
    from PIL import Image

SUFFIXES = {
    ".bmp", ".gif", ".jfif", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp",
}  # fmt: skip
PARTS = ("train", "test")
VALIDATION = ("val", "valid", "validation")
LOOKED_AT = 500  # images, whether a set is in colour
COLOURED_SHARE = 0.01  # of these; a set with fewer is a grey one with strays


def read_parts(
    path: Path, *, channels: int | None = None, on_disk: bool = False
) -> tuple[dict[str, NDArray[np.generic]], tuple[str, ...], list[str]]:
    """A folder with `train/` and `test/`.

    Args:
        channels: 1 for grey images, 3 for colour; None: as they are.
        on_disk: put the images into a file that the system pages, and not into memory.

    Returns:
        `x_train`, `y_train`, `x_test`, `y_test`: images uint8 [n, height, width], or [n, height, width, 3] in colour,
            and labels int64 [n].
        the class names: the folders' names in natural order, 2 before 10.
        what was left out or converted, as sentences.

    Raises: DataError.
    """
    folders = find_parts(path)
    if "test" not in folders:
        others = sorted(entry.name for entry in path.iterdir() if entry.name.lower() in VALIDATION)
        instead = f" (or rename {others[0]}/, if that is to be the test set)" if others else ""
        raise DataError(f"{path} has train/ but no test/; put held-out images in {path / 'test'}/<class>/{instead}")
    names, notes = _class_names(folders["train"])
    unknown = [name for name in _class_names(folders["test"])[0] if name not in names]
    if unknown:
        raise DataError(f"{folders['test'] / unknown[0]} is a class that {folders['train']} does not have")
    files = {part: _files(folders[part], names) for part in PARTS}
    if channels is None:
        channels = _channels_of([file for part in PARTS for file, _ in files[part]])
    arrays: dict[str, NDArray[np.generic]] = {}
    converted: Counter[str] = Counter()
    for part in PARTS:
        images, labels = _read_files(folders[part], files[part], converted, channels=channels, on_disk=on_disk)
        arrays |= {f"x_{part}": images, f"y_{part}": labels}
    left = [f"{entry}/ was left out" for entry in sorted(path.iterdir()) if entry.name.lower() in VALIDATION]
    return arrays, names, notes + left + told(converted)


def find_parts(path: Path) -> dict[str, Path]:
    """The folders `train/` and `test/` in `path`, as far as they are there; also Train, training, testing."""
    folders = sorted(entry for entry in path.iterdir() if entry.is_dir())
    return {part: folder for part in PARTS for folder in folders if folder.name.lower() in (part, f"{part}ing")}


def read_flat(
    path: Path, *, channels: int | None = None, on_disk: bool = False
) -> tuple[NDArray[np.uint8], NDArray[np.int64], tuple[str, ...], list[str]]:
    """A folder of class folders.

    Returns: images, labels, class names and what was left out or converted, as `read_parts`.

    Raises: DataError.
    """
    names, notes = _class_names(path)
    converted: Counter[str] = Counter()
    files = _files(path, names)
    channels = channels or _channels_of([file for file, _ in files])
    images, labels = _read_files(path, files, converted, channels=channels, on_disk=on_disk)
    return images, labels, names, notes + told(converted)


def is_flat(path: Path) -> bool:
    """Whether `path` has at least two folders with images in them."""
    folders = [entry for entry in path.iterdir() if entry.is_dir() and not _is_hidden(entry)]
    return sum(any(_is_image(file) for file in folder.iterdir()) for folder in folders) >= 2


def _class_names(path: Path) -> tuple[tuple[str, ...], list[str]]:
    """The classes in natural order, their names as Unicode composes them: disks differ in that."""
    folders = [entry for entry in path.iterdir() if entry.is_dir()]
    counts = Counter(_composed(entry.name) for entry in folders if not _is_hidden(entry))
    if twice := [name for name, count in counts.items() if count > 1]:
        raise DataError(
            f"{path} has the class {twice[0]!r} twice, its name in two ways of writing the same letters in Unicode; "
            "put the images of both into one folder"
        )
    names = tuple(sorted(counts, key=natural))
    if len(names) < 2:
        raise DataError(f"{path} has {len(names)} class folders, expected one for each class")
    hidden = sorted(entry.name for entry in folders if _is_hidden(entry))
    return names, [f"{path}: left out {', '.join(hidden)}, which programs leave behind"] if hidden else []


def _is_hidden(path: Path) -> bool:
    # Jupyter's .ipynb_checkpoints, macOS's __MACOSX and ._image.png, Synology's @eaDir
    return path.name.startswith((".", "__", "@"))


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not _is_hidden(path) and not path.is_dir()


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def natural(name: str) -> list[tuple[int, int, str]]:
    """A key that sorts 2 before 10."""
    parts = re.findall(r"\d+|\D+", name)
    return [(0, int(part), part) if part.isdecimal() else (1, 0, part) for part in parts]


def _files(path: Path, names: Iterable[str]) -> list[tuple[Path, int]]:
    """The image files in the class folders of `path`, each with its class number."""
    folders = {_composed(entry.name): entry for entry in path.iterdir() if entry.is_dir()}
    return [
        (file, label)
        for label, name in enumerate(names)
        if name in folders
        for file in sorted(folders[name].iterdir(), key=lambda entry: natural(entry.name))
        if _is_image(file)
    ]


def _channels_of(files: Sequence[Path]) -> int:
    """3 if more than a few of the images have colour, otherwise 1; judged by some of them, taken evenly."""
    count = min(LOOKED_AT, len(files))
    some = (files[number * len(files) // count] for number in range(count))
    return channels_of((file, file) for file in some)


def channels_of(images: Iterable[tuple[Path | BinaryIO, object]]) -> int:
    """3 if more than a few of the encoded images, each with its name, have colour, otherwise 1."""
    coloured = [_shows_colour(source, name) for source, name in images]
    return CHANNELS if coloured and sum(coloured) >= max(1, COLOURED_SHARE * len(coloured)) else 1


def _shows_colour(source: Path | BinaryIO, name: object) -> bool:
    with _opened(source, name) as image:
        return _is_coloured(image)


def _read_files(
    path: Path, files: Sequence[tuple[Path, int]], converted: Counter[str], *, channels: int, on_disk: bool
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    if not files:
        raise DataError(
            f"{path} has no images in its class folders, which must lie in them and not deeper, as "
            f"{', '.join(sorted(SUFFIXES))}"
        )
    first = read_image(files[0][0], files[0][0], Counter(), channels=channels)
    if not on_disk:
        check_fits(path, len(files) * first.size)
    images = allocate((len(files), *first.shape), on_disk=on_disk)
    for number, (file, _) in enumerate(files):
        image = read_image(file, file, converted, channels=channels)
        if image.shape != first.shape:
            raise DataError(
                f"the images in {path} are of different sizes ({files[0][0].name} has {first.shape[:2]}, {file} has "
                f"{image.shape[:2]}: height and width); resize them to one height and width"
            )
        images[number] = image
    return images, np.array([label for _, label in files], np.int64)


def read_image(
    source: Path | BinaryIO, name: object, converted: Counter[str], *, channels: int = 1
) -> NDArray[np.uint8]:
    """An encoded image in grey, uint8 [height, width], or in colour, uint8 [height, width, 3]; raises DataError.

    Args:
        name: of the image, for messages.
        converted: counts what was changed.
        channels: 1 for grey, 3 for colour.
    """
    from PIL import ImageOps  # a cluster's nodes, which get arrays, need not have it

    with _opened(source, name) as image:
        upright = ImageOps.exif_transpose(image)
        converted["turned upright as their EXIF data say"] += image.getexif().get(0x0112, 1) != 1
        if upright.has_transparency_data and np.asarray(upright.convert("RGBA"))[..., 3].min() < 255:
            raise DataError(f"{name} is transparent in places; put it on a background, such as black")
        if _has_16_bits(image):
            converted["of 16 bits: made 8"] += 1
            grey = np.rint(np.asarray(upright) / 257).astype(np.uint8)  # 65535, white in a PNG, is 255
            return grey if channels == 1 else np.stack([grey] * channels, axis=-1)
        if channels == 1:
            converted["made grey, which drops their colour (--channels 3 keeps it)"] += _is_coloured(upright)
        return np.asarray(upright.convert("L" if channels == 1 else "RGB"))


@contextmanager
def _opened(source: Path | BinaryIO, name: object) -> "Iterator[Image.Image]":
    """An encoded image of one page and 8 bits a channel, opened with Pillow; its troubles are DataErrors."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(source) as image:
            if image.mode[0] in "IF" and not _has_16_bits(image):  # Pillow would cut the values off at 255
                raise DataError(f"{name} has more than 8 bits a channel (mode {image.mode}); convert it to 8")
            if (frames := getattr(image, "n_frames", 1)) > 1:
                raise DataError(f"{name} has {frames} pages or frames; save the one that counts by itself")
            yield image
    except DataError:
        raise
    except (OSError, ValueError, SyntaxError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise DataError(f"{name} is not a readable image ({_reason(source) or error}); replace or remove it") from error


def _reason(source: Path | BinaryIO) -> str:
    """What a file is that is no image, where that is known."""
    if not isinstance(source, Path) or not source.exists():
        return ""
    with source.open("rb") as file:
        start = file.read(len(LFS))
    if start == LFS:
        return "a pointer of Git LFS: `git lfs pull` fetches images"
    return "" if start else "it is empty, of 0 bytes"


def _is_coloured(image: "Image.Image") -> bool:
    if image.mode in ("1", "L", "LA") or _has_16_bits(image):
        return False
    channels = np.asarray(image.convert("RGB")).astype(np.int16)
    return bool((np.ptp(channels, axis=2) > 8).any())  # JPEG's own rounding of grey stays below


def _has_16_bits(image: "Image.Image") -> bool:
    """Whether this is a grey PNG of 16 bits, in which 65535 is white; a TIFF's range nobody states."""
    return image.mode == "I;16" and image.format == "PNG"


def told(converted: Counter[str]) -> list[str]:
    """What was changed, as sentences."""
    return [f"{number:,} images were {what}" for what, number in converted.items() if number]

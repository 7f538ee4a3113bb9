"""Sets in Parquet files, as Hugging Face keeps them: `train-*.parquet` and `test-*.parquet`, encoded images, labels."""

import io
import itertools
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow
import pyarrow.parquet
from numpy.typing import NDArray

from .errors import DataError
from .image_folder import LOOKED_AT, PARTS, channels_of, read_image, told
from .memory import allocate, check_fits

IMAGES, LABELS = ("image", "img"), ("label", "labels")  # names of columns
AT_ONCE = 1000  # rows


def find_parquet(folder: Path) -> dict[str, list[Path]]:
    """The files of each part, in `folder` or in its `data/`, if the training part is there."""
    for place in (folder, folder / "data"):
        found = {part: sorted(place.glob(f"{part}*.parquet")) for part in PARTS}
        if found["train"]:
            return {part: paths for part, paths in found.items() if paths}
    return {}


def read_parquet(
    files: Mapping[str, Sequence[Path]], *, channels: int | None = None, on_disk: bool = False
) -> tuple[dict[str, NDArray[np.generic]], tuple[str, ...], list[str]]:
    """The set in the files of its parts.

    Args:
        channels: 1 for grey images, 3 for colour; None: as they are.
        on_disk: put the images into a file that the system pages, and not into memory.

    Returns: as `image_folder.read_parts`; no class names if the files do not tell them.

    Raises: DataError.
    """
    arrays: dict[str, NDArray[np.generic]] = {}
    converted: Counter[str] = Counter()
    channels = channels or channels_of(itertools.chain.from_iterable(map(_first_rows, files.values())))
    for part, paths in files.items():
        arrays[f"x_{part}"], arrays[f"y_{part}"] = _read_part(paths, converted, channels=channels, on_disk=on_disk)
    return arrays, _class_names(files["train"][0]), told(converted)


def _read_part(
    paths: Sequence[Path], converted: Counter[str], *, channels: int, on_disk: bool
) -> tuple[NDArray[np.uint8], NDArray[np.generic]]:
    opened = [_open(path) for path in paths]
    count = sum(file.metadata.num_rows for file in opened)
    images, labels = np.empty((0, 0, 0), np.uint8), []
    for number, (name, content, label) in enumerate(_rows(paths, opened)):
        image = read_image(io.BytesIO(content), name, converted, channels=channels)
        if not number:
            if not on_disk:
                check_fits(paths[0].parent, count * image.size)
            images = allocate((count, *image.shape), on_disk=on_disk)
        if image.shape != images.shape[1:]:
            raise DataError(
                f"the images in {paths[0].parent} are of different sizes ({images.shape[1:3]} at first, {name} has "
                f"{image.shape[:2]}: height and width); resize them to one height and width"
            )
        images[number] = image
        labels.append(label)
    return images, np.array(labels)


def _first_rows(paths: Sequence[Path]) -> Iterator[tuple[BinaryIO, str]]:
    """Some encoded images from the beginning of each file, each with a name for messages."""
    for path in paths:
        rows = itertools.islice(_rows([path], [_open(path)]), -(-LOOKED_AT // len(paths)))
        yield from ((io.BytesIO(content), name) for name, content, _ in rows)


def _open(path: Path) -> Any:
    try:
        return pyarrow.parquet.ParquetFile(path)
    except (OSError, pyarrow.ArrowException) as error:
        raise DataError(f"{path} is not a readable Parquet file ({error}); fetch it again") from error


def _rows(paths: Sequence[Path], opened: Sequence[Any]) -> Iterator[tuple[str, bytes, Any]]:
    """A name for messages, an encoded image and its label, row by row."""
    for path, file in zip(paths, opened, strict=True):
        image, label = (_column(path, file, names) for names in (IMAGES, LABELS))
        number = 0
        for batch in file.iter_batches(AT_ONCE, columns=[image, label]):
            for held, of in zip(batch.column(image).to_pylist(), batch.column(label).to_pylist(), strict=True):
                content = held.get("bytes") if isinstance(held, dict) else held
                if not isinstance(content, bytes) or of is None:
                    raise DataError(f"{path} has no encoded image, or no label, in row {number}; repair it")
                yield f"{path} row {number}", content, of
                number += 1


def _column(path: Path, file: Any, names: Sequence[str]) -> str:
    there = file.schema_arrow.names
    for name in names:
        if name in there:
            return name
    raise DataError(f"{path} has the columns {', '.join(there)}; expected one called {' or '.join(names)}")


def _class_names(path: Path) -> tuple[str, ...]:
    """Those that Hugging Face's metadata tell."""
    file = _open(path)
    metadata = json.loads((file.schema_arrow.metadata or {}).get(b"huggingface", b"{}"))
    feature = metadata.get("info", {}).get("features", {}).get(_column(path, file, LABELS), {})
    return tuple(feature.get("names", ()))

"""Sets as tables of text, as Kaggle has them: a row for each image, its label and its pixels, in `.csv` files."""

import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.csv
from numpy.typing import NDArray

from .colour import CHANNELS
from .errors import DataError
from .image_folder import PARTS
from .memory import check_fits

LABELS = ("label", "labels", "class", "target", "y")  # names of the column; the first one in a file without names
Table = tuple[NDArray[np.generic], NDArray[np.generic]]  # images and labels


def find_tables(folder: Path, prefix: str = "") -> dict[str, Path]:
    """The files `…train….csv` and `…test….csv` of each part in `folder`, if there is one of each, also `.gz`."""
    found = {part: sorted(folder.glob(f"{prefix}*{part}*.csv*")) for part in PARTS}
    return {part: paths[0] for part, paths in found.items()} if all(len(of) == 1 for of in found.values()) else {}


def is_table(path: Path) -> bool:
    """Whether a file is one by its name."""
    return path.name.lower().endswith((".csv", ".csv.gz"))


def read_table(path: Path) -> Table:
    """The images [n, height, width], or [n, height, width, 3], and labels [n] of one file.

    Raises: DataError.
    """
    check_fits(path, path.stat().st_size)
    try:
        batches = list(_batches(path))
    except (OSError, pyarrow.ArrowException) as error:
        raise DataError(
            f"{path} is not a readable table ({str(error).splitlines()[0]}); expected a label and pixels in each row"
        ) from error
    pixels, labels = (np.concatenate([np.asarray(array) for array in arrays]) for arrays in zip(*batches, strict=True))
    return pixels.reshape(len(pixels), *_image_shape(path, pixels.shape[1])), labels


def _batches(path: Path) -> Iterator[Table]:
    """Rows of pixels and their labels, some megabytes at a time."""
    named = _has_names(path)
    options = pyarrow.csv.ReadOptions(autogenerate_column_names=not named)
    with pyarrow.input_stream(str(path), compression="detect") as stream, pyarrow.csv.open_csv(stream, options) as rows:
        names = rows.schema.names
    label = _label_column(path, names) if named else names[0]
    pixels = [name for name in names if name != label]
    types = pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(pixels, pyarrow.float32()))
    with pyarrow.input_stream(str(path), compression="detect") as stream:
        for batch in pyarrow.csv.open_csv(stream, options, convert_options=types):
            yield _smallest(np.stack([np.asarray(batch.column(name)) for name in pixels], axis=1)), batch.column(label)


def _smallest(values: NDArray[np.float32]) -> NDArray[np.generic]:
    """The values as uint8 if they are whole numbers from 0 to 255."""
    whole = 0 <= values.min(initial=0) <= values.max(initial=0) <= 255 and (values == np.rint(values)).all()
    return values.astype(np.uint8) if whole else values


def _has_names(path: Path) -> bool:
    """Whether the first row is one of names: its last cell is no number."""
    with pyarrow.input_stream(str(path), compression="detect") as stream:
        first = stream.read(2**20).partition(b"\n")[0].decode(errors="replace")
    return re.fullmatch(r"\s*[-+.\de]+\s*", first.rpartition(",")[2].strip('"\r ')) is None


def _label_column(path: Path, names: Sequence[str]) -> str:
    for name in names:
        if name.strip().lower() in LABELS:
            return name
    shown = ", ".join(names[:3])
    raise DataError(
        f"{path} has no column of labels ({shown}, …; expected one called {' or '.join(LABELS)}); if it is a test set "
        "whose labels are kept back, give the training file alone as --data, with --test-size 0.2"
    )


def _image_shape(path: Path, count: int) -> tuple[int, ...]:
    for channels in (1, CHANNELS):
        side = math.isqrt(count // channels)
        if side * side * channels == count:
            return (side, side) if channels == 1 else (side, side, channels)
    raise DataError(
        f"{path} has {count} pixels in a row, which make no square image, grey or in colour; save it with np.savez, "
        "with height and width"
    )

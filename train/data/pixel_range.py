"""From the numbers that a set holds to bytes from 0 to 255, judged over the whole set at once.

One factor for training and test images alike: judged apart, an image too dark or too bright by chance would change what
all others mean. What is not clearly 0 to 1 or 0 to 255 is scaled so that its brightest value is white, and said.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .errors import DataError
from .memory import transformed

WHITE = 255
OVERSHOOT = 0.1  # of the range: what bicubic resizing leaves below black and above white (Keys, 1981: 1/8 at a step)


@dataclass(frozen=True, slots=True)
class PixelRange:
    """What values mean black and white in a set."""

    factor: float  # value x factor is from 0, black, to 255, white
    notes: tuple[str, ...] = ()  # what a person must know: scaled by what, how much was cut off


def judge(
    images: Mapping[str, NDArray[np.generic]], *, white: float | None = None, are_bytes: bool = False
) -> PixelRange:
    """Decide what the values of a whole set mean.

    Args:
        images: the parts of the set by name, numbers of any dtype, finite.
        white: the value that means white, if somebody said so.
        are_bytes: they come from image files, in which 255 is white whether it occurs or not.

    Raises: DataError if values lie where no range that images are kept in has them.
    """
    spans = {name: (float(array.min()), float(array.max())) for name, array in images.items() if array.size}
    low, high = min(low for low, _ in spans.values()), max(high for _, high in spans.values())
    seen = " and ".join(f"{name} from {of[0]:g} to {of[1]:g}" for name, of in spans.items())
    if white is None and are_bytes:
        return PixelRange(1.0, (_DIM.format(high),) if 0 < high < WHITE / 2 else ())
    if white is None:
        _check_parts_agree(spans, seen)
        white = _white(low, high, seen)
    elif high > white * (1 + OVERSHOOT) or low < -white * OVERSHOOT:
        raise DataError(f"--pixel-max {white:g} does not suit the values, {seen}; give the value that means white")
    return PixelRange(WHITE / white, tuple(_notes(low, high, white)))


_DIM = "the brightest pixel has {0:g} of 255: --pixel-max {0:g} makes that white"


def to_bytes(array: NDArray[np.generic], of: PixelRange, *, on_disk: bool = False) -> NDArray[np.uint8]:
    """`array` as uint8 of its shape, 0 black and 255 white, rounded; what lies outside is cut off.

    Args:
        on_disk: leave an array as it lies if nothing is to be changed, and put what is made into a file.
    """
    if array.dtype == np.uint8 and of.factor == 1:
        return array.view(np.uint8) if on_disk else np.ascontiguousarray(array, np.uint8)

    def scaled(values: NDArray[np.generic]) -> NDArray[np.uint8]:
        numbers = values.astype(np.float32)
        return np.clip(np.rint(numbers if of.factor == 1 else numbers * np.float32(of.factor)), 0, WHITE).astype(
            np.uint8
        )

    return transformed(array, scaled, on_disk=on_disk)


def _check_parts_agree(spans: Mapping[str, tuple[float, float]], seen: str) -> None:
    brightest = [high for _, high in spans.values()]
    if 0 < min(brightest) <= 1 + OVERSHOOT and max(brightest) > WHITE / 2:
        raise DataError(
            f"the parts of the set are scaled differently: {seen}; scale both alike, or say what means white by "
            "--pixel-max"
        )


def _white(low: float, high: float, seen: str) -> float:
    if low < -OVERSHOOT * max(high, 1):
        raise DataError(
            f"values run below black: {seen}; expected 0 to 255 or 0 to 1: undo the normalisation, as "
            "(x - x.min()) / (x.max() - x.min()) with the same numbers for both parts"
        )
    if high > WHITE * (1 + OVERSHOOT):
        raise DataError(
            f"values run above white: {seen}; expected 0 to 255 or 0 to 1: say what means white, as --pixel-max 65535 "
            "for 16 bits"
        )
    full = 1.0 if high <= 1 + OVERSHOOT else float(WHITE)
    return high if 0 < high < full / 2 else full


def _notes(low: float, high: float, white: float) -> list[str]:
    notes = []
    if white not in (1, WHITE):
        notes.append(
            f"pixel values run from {low:g} to {high:g}: multiplied by {WHITE / white:.6g}, so that {white:g} is white "
            "(255), as the published model will expect it; --pixel-max says otherwise"
        )
    if low < 0 or high > white:
        notes.append(f"pixel values run from {low:.9g} to {high:.9g}: cut off at 0 and at {white:g}")
    return notes

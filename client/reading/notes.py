"""Why a page as a whole reads badly, and what to do about it.

The numbers were found as those of `ink` were: by hand, on composed pages that were blurred, darkened and mirrored.
"""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .picture import LUMA

if TYPE_CHECKING:
    from .page import Page
    from .result import Reading

# Of the digits: less is the digits' own fault; of a mirrored page more are marked, and pages are seldom mirrored.
MUCH_MARKED, MOST_MARKED = 0.25, 0.5
BLURRED = 0.14  # width of the edges of ink, over the height of the digits: strokes are about so wide
DARK, BRIGHTEST = 70.0, 99.0  # grey levels, under which this percentile of a picture's is in the dark
WORDS, MANY = 0.6, 6  # share of marks that are no digits, and of how many at least
MIRRORED_NOTE = "mirrored: turn off the mirror of the camera, or flip the picture"
BLURRED_NOTE = "too blurred to read: take it again closer, or hold the camera still"
DARK_NOTE = "too dark to read: take it again with more light"
WORDS_NOTE = "most of it is no digits: words are not read"


def notes_on(page: "Page", reading: "Reading", *, mirrored: bool = False) -> tuple[str, ...]:
    """What to say of a page that reads badly.

    Args:
        mirrored: its marks are more like digits when left and right are changed over.
    """
    marked = _share([digit.doubtful for digit in reading.digits]) if reading.digits else 1.0
    badly = marked > MUCH_MARKED
    blurred = badly and page.edge > BLURRED
    # Blurred marks are like nothing, either way round.
    found = [MIRRORED_NOTE] if mirrored and marked > MOST_MARKED and not blurred else []
    if blurred:
        found.append(BLURRED_NOTE)
    elif badly and brightness(page.picture) < DARK:
        found.append(DARK_NOTE)
    elif len(reading.digits) >= MANY and _share([not digit.is_digit for digit in reading.digits]) > WORDS:
        found.append(WORDS_NOTE)
    return tuple(found)


def brightness(picture: NDArray[np.uint8]) -> float:
    """Grey level, 0 to 255, under which nearly all of a picture, uint8 [h, w, 3] RGB, is."""
    return float(np.percentile(picture[::4, ::4] @ np.array(LUMA), BRIGHTEST))


def _share(marked: list[bool]) -> float:
    return sum(marked) / max(len(marked), 1)

"""Finds the handwritten digits in a picture: `find_digits(picture)`.

    picture -> ink (and ruled_lines) -> text_lines -> cuts -> mnist_form

A picture of 28 x 28 pixels is one digit and needs Pillow and NumPy only; for any other, OpenCV does the image work
(the extra `image`). Nothing here knows what the digits are: `result` asks the classifier about `Page.images` and
chooses.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .mnist_form import BOX, SIDE, mnist_form, single_digit_form, upright
from .picture import LUMA, PictureSource, UnreadablePicture, open_picture

if TYPE_CHECKING:  # they need OpenCV
    from .cuts import Span
    from .text_lines import TextLine

__all__ = ["Box", "Candidate", "ImageExtraMissing", "Page", "PageLine", "UnreadablePicture", "find_digits"]

VIEWS = 2  # of each candidate: as it is written, and with its slant taken out
MAX_CANDIDATES = 3000  # of one page, that the classifier is asked about
THINNEST_STROKE = 1.9  # pixels of the 20 x 20 box; MNIST's own strokes take two to three
STRAIGHT_ENOUGH = np.deg2rad(2.0)  # turning by less would blur more than it mends
TURN_MARGIN = 0.1  # of a candidate's longer side, around it, so that no corner is lost when it is turned
SINGLE_BOX_LEVEL = 40  # of 255, over which a pixel of a 28 x 28 picture is in its digit's box


class ImageExtraMissing(ImportError):
    """OpenCV is needed and not installed."""


@dataclass(frozen=True, slots=True)
class Box:
    """Pixels of the upright picture; right and bottom are exclusive."""

    left: int
    top: int
    right: int
    bottom: int


@dataclass(frozen=True, slots=True)
class Candidate:
    """Segments `start` to `stop` (exclusive) of a line, looked at as one digit."""

    start: int
    stop: int
    box: Box
    number: int  # on the page: its views are rows VIEWS * number and on of Page.images
    aspect: float  # width over height
    height: float  # over the line's
    solidity: float  # share of its box that is ink


@dataclass(frozen=True, slots=True)
class PageLine:
    """One line of writing, cut into segments; a reading is a path through its candidates from the first to the last."""

    cuts: tuple[float, ...]  # for each segment, stroke widths of ink between it and the one before; 0: paper
    candidates: tuple[Candidate, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Page:
    """A picture, and everything in it that might be a digit."""

    picture: NDArray[np.uint8]  # uint8 [height, width, 3] RGB, upright
    images: NDArray[np.uint8]  # uint8 [n, 28, 28] in MNIST's form, VIEWS for each candidate of each line
    lines: tuple[PageLine, ...]


def find_digits(source: PictureSource) -> Page:
    """Find what might be digits, in reading order.

    Args:
        source: path, bytes or open binary file of a PNG, JPEG, WebP, GIF, BMP, TIFF or PPM; a PIL image; or an array
            uint8 [h, w], [h, w, 3] RGB or [h, w, 4] RGBA. Dark on light or light on dark.

    Returns: the page, its `images` uint8 [n, 28, 28] ready for the classifier; with no images and no lines if there is
    nothing on it.

    Raises:
        UnreadablePicture: the source is not a picture, or not one that can be read.
        ImageExtraMissing: OpenCV is needed and not installed.
        OSError: the path cannot be opened.
    """
    picture = open_picture(source)
    if picture.shape[:2] == (SIDE, SIDE):
        return _single_digit(picture)
    try:  # here, as single digits are to be read without OpenCV
        from . import ink as ink_map
        from . import text_lines
    except ImportError as error:
        raise ImageExtraMissing(
            f"a picture of {picture.shape[1]} x {picture.shape[0]} pixels needs OpenCV to find its digits ({error}); "
            "pip install opencv-python-headless, or give single digits of 28 x 28 pixels"
        ) from error
    ink = ink_map.find_ink(picture)
    if ink is None:
        return _empty_page(picture)
    lines, stroke = text_lines.find_lines(ink)
    return _page(picture, lines, stroke=stroke, scale=ink.scale)


def _empty_page(picture: NDArray[np.uint8]) -> Page:
    return Page(picture, np.empty((0, SIDE, SIDE), np.uint8), ())


def _single_digit(picture: NDArray[np.uint8]) -> Page:
    grey = np.rint(picture @ np.array(LUMA)).astype(np.uint8)
    digit = single_digit_form(grey)
    if not digit.any():
        return _empty_page(picture)
    rows, columns = (np.flatnonzero((digit > SINGLE_BOX_LEVEL).any(axis=axis)) for axis in (1, 0))
    width, height = len(columns), len(rows)
    box = Box(int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)
    solidity = float((digit > 127).sum()) / (width * height)
    candidate = Candidate(0, 1, box, 0, width / height, 1.0, solidity)
    return Page(picture, np.stack([digit, upright(digit)]), (PageLine((0.0,), (candidate,)),))


def _page(picture: NDArray[np.uint8], lines: list["TextLine"], *, stroke: float, scale: float) -> Page:
    from . import cuts  # needs OpenCV, as above

    images: list[NDArray[np.uint8]] = []
    page_lines = []
    for line in lines:
        segments = cuts.segments(line, stroke)
        spans = cuts.spans(segments, line.height)
        if len(images) // VIEWS + len(spans) > MAX_CANDIDATES:
            raise UnreadablePicture(
                f"the picture has too much in it to be handwritten numbers: over {MAX_CANDIDATES} shapes; "
                "cut out the part to be read"
            )
        candidates = []
        for span in spans:
            candidates.append(_candidate(span, line, picture.shape, scale=scale, number=len(images) // VIEWS))
            form = _form(span.patch.ink, angle=line.angle, stroke=stroke)
            images += [form, upright(form)]
        page_lines.append(PageLine(tuple(segment.cut_before for segment in segments), tuple(candidates)))
    return Page(picture, np.stack(images), tuple(page_lines)) if images else _empty_page(picture)


def _candidate(span: "Span", line: "TextLine", shape: tuple[int, ...], *, scale: float, number: int) -> Candidate:
    patch = span.patch
    left, top = (max(int(np.floor(v / scale)), 0) for v in (patch.left, patch.top))
    right = min(int(np.ceil(patch.right / scale)), shape[1])
    bottom = min(int(np.ceil(patch.bottom / scale)), shape[0])
    return Candidate(
        span.start,
        span.stop,
        Box(left, top, right, bottom),
        number,
        aspect=patch.width / patch.height,
        height=patch.height / line.height,
        solidity=float((patch.ink > 0.5).mean()),
    )


def _form(ink: NDArray[np.float32], *, angle: float, stroke: float) -> NDArray[np.uint8]:
    """[28, 28]: the ink in MNIST's form, upright if its line runs askew, and no thinner than MNIST's pens."""
    import cv2  # as above

    pad = 2 + round(TURN_MARGIN * max(ink.shape))
    ink = np.pad(ink, pad)
    height, width = ink.shape
    if abs(angle) > STRAIGHT_ENOUGH:
        turn = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), np.rad2deg(angle), 1.0)
        ink = cv2.warpAffine(ink, turn, (width, height), flags=cv2.INTER_LINEAR).astype(np.float32)
    pixel = max(height - 2 * pad, width - 2 * pad) / BOX  # of the form, in pixels of the picture
    missing = THINNEST_STROKE * pixel - stroke
    if missing >= 1:
        reach = round(missing) | 1
        pen = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (reach, reach))
        ink = cv2.dilate(ink, pen).astype(np.float32)
    return mnist_form(ink)

"""Finds the handwritten digits in a picture: `find_digits(picture)`.

    picture -> sheet -> ink (and frames, ruled_lines) -> text_lines (and signs) -> cuts -> mnist_form

A picture of 28 x 28 pixels is one digit and needs Pillow and NumPy only; for any other, OpenCV does the image work
(the extra `image`). Nothing here knows what the digits are: `result` asks the classifier about `Page.images` and
chooses.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .mnist_form import BOX, SIDE, mnist_form, single_digit_form, upright
from .picture import LUMA, PictureSource, UnreadablePicture, open_picture

if TYPE_CHECKING:  # they need OpenCV
    from .cuts import Span
    from .ink import Ink
    from .patches import InkPatch
    from .sheet import Sheet
    from .text_lines import Stray, TextLine

__all__ = ["Box", "Candidate", "ImageExtraMissing", "LeftOut", "Page", "PageLine", "UnreadablePicture", "find_digits"]

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
    """Pixels of the picture, turned as its EXIF says; right and bottom are exclusive."""

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
    aspect: float  # width over height; of a narrow hand's, as broad as usual
    height: float  # over the line's
    solidity: float  # share of its box that is ink
    extent: tuple[float, float] = (0.0, 0.0)  # from where to where it lies along its line, in the line's heights
    sign: str = ""  # what it is by its shape and place, if it is no digit
    like: str = ""  # the sign that it may be as well as a digit


@dataclass(frozen=True, slots=True)
class PageLine:
    """One line of writing, cut into segments; a reading is a path through its candidates from the first to the last."""

    cuts: tuple[float, ...]  # for each segment, stroke widths of ink between it and the one before; 0: paper
    candidates: tuple[Candidate, ...]
    walls: tuple[float, ...] = ()  # places along it, in its heights, of the upright lines between cells


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Ink that is in no line of the reading."""

    box: Box
    why: str
    may_be_digit: bool  # as large as the digits of the line nearest to it


@dataclass(frozen=True, slots=True, eq=False)
class Page:
    """A picture, and everything in it that might be a digit."""

    picture: NDArray[np.uint8]  # uint8 [height, width, 3] RGB, turned as its EXIF says
    images: NDArray[np.uint8]  # uint8 [n, 28, 28] in MNIST's form, VIEWS for each candidate of each line
    lines: tuple[PageLine, ...]
    left_out: tuple[LeftOut, ...] = ()
    quarters: int = 0  # right angles by which it was turned clockwise to be read
    edge: float = 0.0  # width of the edges of its ink, over the height of its digits: how blurred it is
    # Finds its digits anew, the picture turned clockwise by so many right angles; by default `find_digits` does.
    turned: "Callable[[int], Page] | None" = None


def find_digits(source: PictureSource, *, quarters: int = 0) -> Page:
    """Find what might be digits, in reading order.

    Args:
        source: path, bytes or open binary file of a PNG, JPEG, WebP, GIF, BMP, TIFF or PPM; a PIL image; or an array
            uint8 [h, w], [h, w, 3] RGB or [h, w, 4] RGBA. Dark on light or light on dark.
        quarters: right angles by which the picture is turned clockwise before it is read.

    Returns: the page, its `images` uint8 [n, 28, 28] ready for the classifier; with no images and no lines if there is
    nothing on it. Boxes are in the picture as it was given.

    Raises:
        UnreadablePicture: the source is not a picture, or not one that can be read.
        ImageExtraMissing: OpenCV is needed and not installed.
        OSError: the path cannot be opened.
    """
    picture = open_picture(source)
    if picture.shape[:2] == (SIDE, SIDE):
        return _single_digit(picture)
    try:  # here, as single digits are to be read without OpenCV
        from . import sheet
    except ImportError as error:
        raise ImageExtraMissing(
            f"a picture of {picture.shape[1]} x {picture.shape[0]} pixels needs OpenCV to find its digits ({error}); "
            "pip install opencv-python-headless, or give single digits of 28 x 28 pixels"
        ) from error
    sheets = sheet.find_sheets(picture)
    page = _page(picture, [each.turned(quarters) for each in sheets], quarters) if sheets else None
    if page is None or not page.lines:
        page = _page(picture, [sheet.whole(picture).turned(quarters)], quarters)
    return page


def _empty_page(picture: NDArray[np.uint8], left_out: tuple[LeftOut, ...] = ()) -> Page:
    return Page(picture, np.empty((0, SIDE, SIDE), np.uint8), (), left_out)


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


def _page(picture: NDArray[np.uint8], sheets: "list[Sheet]", quarters: int) -> Page:
    from . import breadth, text_lines  # these need OpenCV, as above
    from . import ink as ink_map
    from .skew import text_angle

    images: list[NDArray[np.uint8]] = []
    lines: list[PageLine] = []
    left_out: list[LeftOut] = []
    edges: list[float] = []
    for each in sheets:
        sheet, ink = each, ink_map.find_ink(each.pixels)
        angle = text_angle(ink.mask) if ink else 0.0
        if angle:
            sheet = each.levelled(angle)
            ink = ink_map.find_ink(sheet.pixels)
        if ink is None:
            continue
        place = _Place(sheet, ink.scale, picture.shape)
        found = text_lines.find_lines(ink)
        left_out += [_left_out(stray, place) for stray in found.strays]
        broader = breadth.broadening(found.lines)
        for line in found.lines:
            lines.append(_page_line(line, ink, place, images, broader=broader))
            edges.append(ink.edge / line.height)
    if not images:
        return _empty_page(picture, tuple(left_out))
    return Page(picture, np.stack(images), tuple(lines), tuple(left_out), quarters, float(np.median(edges)))


class _Place(NamedTuple):
    """From a sheet's working pixels to the picture's."""

    sheet: "Sheet"
    scale: float
    picture: tuple[int, ...]

    def box(self, patch: "InkPatch") -> Box:
        corners = np.array(
            [(x, y, 1) for x in (patch.left, patch.right) for y in (patch.top, patch.bottom)], np.float64
        )
        corners[:, :2] /= self.scale
        if np.array_equal(self.sheet.to_picture, np.eye(3)):
            points = corners[:, :2]
        else:
            # Pixels have their centres at whole numbers in a homography, boxes their edges.
            corners[:, :2] -= 0.5
            moved = corners @ self.sheet.to_picture.T
            points = moved[:, :2] / moved[:, 2:] + 0.5
        (left, top), (right, bottom) = points.min(axis=0).round(6), points.max(axis=0).round(6)
        height, width = self.picture[:2]
        return Box(
            min(max(int(np.floor(left)), 0), width - 1),
            min(max(int(np.floor(top)), 0), height - 1),
            max(min(int(np.ceil(right)), width), 1),
            max(min(int(np.ceil(bottom)), height), 1),
        )


def _left_out(stray: "Stray", place: _Place) -> LeftOut:
    return LeftOut(place.box(stray.patch), stray.why, stray.may_be_digit)


def _page_line(
    line: "TextLine", ink: "Ink", place: _Place, images: list[NDArray[np.uint8]], *, broader: float
) -> PageLine:
    """The line's candidates, so many times as broad; their views are appended to the page's images."""
    from . import breadth, cuts  # need OpenCV, as above

    segments = cuts.segments(line, line.stroke)
    spans = cuts.spans(segments, line.height)
    if len(images) // VIEWS + len(spans) > MAX_CANDIDATES:
        raise UnreadablePicture(
            f"the picture has too much in it to be handwritten numbers: over {MAX_CANDIDATES} shapes; "
            "cut out the part to be read"
        )
    candidates = []
    for span in spans:
        candidates.append(_candidate(span, line, place, number=len(images) // VIEWS, broader=broader))
        broad = breadth.broadened(span.patch.ink, broader)
        form = written_form(broad, angle=line.angle, stroke=line.stroke)
        images += [form, upright(form)]
    return PageLine(tuple(segment.cut_before for segment in segments), tuple(candidates), _walls(line, ink))


def _walls(line: "TextLine", ink: "Ink") -> tuple[float, ...]:
    """The places of the upright lines between cells that the line of writing runs through."""
    middle = float(np.median([patch.centre[1] for patch in line.patches]))
    return tuple(sorted(wall.x / line.height for wall in ink.walls if wall.top < middle < wall.bottom))


def _candidate(span: "Span", line: "TextLine", place: _Place, *, number: int, broader: float) -> Candidate:
    patch, single = span.patch, span.stop - span.start == 1
    return Candidate(
        span.start,
        span.stop,
        place.box(patch),
        number,
        aspect=broader * patch.width / patch.height,
        height=patch.height / line.height,
        solidity=float((patch.ink > 0.5).mean()),
        extent=(patch.left / line.height, patch.right / line.height),
        sign=patch.sign if single else "",
        like=patch.like if single else "",
    )


def written_form(ink: NDArray[np.float32], *, angle: float, stroke: float) -> NDArray[np.uint8]:
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

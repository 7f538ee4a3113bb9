"""Finds the sheets of paper in a picture, and makes each lie flat: the desk around them goes, the perspective too.

A sheet is a region of one colour with four straight sides, at which the colour changes at once and for good: a printed
frame fails that, since the paper goes on behind it, and so does the soft edge of a shadow. Its corners make a
homography, which flattens it. A picture without such a region is one sheet as it is.

Every sheet remembers where it lay, so that what is found on it can be shown in the picture. The numbers were found as
those of `ink` were: by hand, by looking at pictures of pages on desks.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Matrix = NDArray[np.float64]  # float64 [3, 3], a homography
Quad = NDArray[np.float64]  # float64 [4, 2], corners x, y from the upper left one on, clockwise

SMALL_SIDE = 480  # px of the picture in which sheets are looked for: corners to half a per cent of the side
LEAST_SMALL_SIDE = 24  # px of its shorter side: in a narrower strip there is no room for paper and desk
LARGEST_SIDE = 2000  # px of a flattened sheet, as `ink.WORKING_SIDE`
LEAST_SHEET, WHOLE = 0.04, 0.97  # of the picture's area: less is a mark, more is the picture itself
LEAST_OF_LARGEST = 0.2  # of the largest sheet's area: smaller ones beside it are other things on the desk
LEAST_DIFFERENCE = 28.0  # grey levels between two regions that are told apart
HUE_LIGHTNESS, DARKEST_HUE = 128.0, 16.0  # grey levels at which hues are compared; darker pixels have none
FILLS_QUAD = 0.93  # of the quadrilateral's area that the region has, and of its own that lies in it
RIGHT_ANGLES = np.deg2rad(38)  # by which a corner may differ from a right angle
CLOSING = 5  # px of the small picture: what is narrower does not part a region
SIDE_SAMPLES = 40  # points of each side at which the colour is looked at on both sides of it
NEAR, FAR = 4.0, 11.0  # px of the small picture, from the side to where its two colours are looked at
SHARP = 0.75  # of the whole change that has happened at NEAR: less is the soft edge of a shadow
SHARP_SAMPLES = 0.8  # of a side's points at which the colour changes
ONE_COLOUR, SAME_COLOUR = 0.6, 45.0  # share of a sheet's pixels so near its colour, in grey levels
SHADE_REACH, SHADE_STEP = 0.3, 4  # of the picture's shorter side: around so far the light is the same; of so few pixels
RIM = 2.5  # px of the small picture: a side so near the picture's is cut off by it, and shows no change
INSET = 0.012  # of a sheet's sides, cut off all around with its edge and its shadow
PARALLEL_RIM_SIDES = 3  # of the picture's, that a strip of desk touches


@dataclass(frozen=True, slots=True, eq=False)
class Sheet:
    """A sheet of paper, seen from straight above."""

    pixels: NDArray[np.uint8]  # uint8 [height, width, 3] RGB
    to_picture: Matrix  # from its pixels, x, y, 1, to the picture's

    def turned(self, quarters: int) -> "Sheet":
        """The sheet, turned clockwise by so many right angles."""
        height, width = self.pixels.shape[:2]
        back = [
            [[1, 0, 0], [0, 1, 0]],
            [[0, 1, 0], [-1, 0, height - 1]],
            [[-1, 0, width - 1], [0, -1, height - 1]],
            [[0, -1, width - 1], [1, 0, 0]],
        ][quarters % 4]
        pixels = np.ascontiguousarray(np.rot90(self.pixels, -quarters))
        return Sheet(pixels, self.to_picture @ np.array([*back, [0, 0, 1]], np.float64))

    def levelled(self, angle: float) -> "Sheet":
        """The sheet, turned so that what falls to the right by `angle`, in radians, is level; its corners are paper."""
        height, width = self.pixels.shape[:2]
        cosine, sine = abs(float(np.cos(angle))), abs(float(np.sin(angle)))
        size = (round(width * cosine + height * sine), round(width * sine + height * cosine))
        turn = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), float(np.rad2deg(angle)), 1.0)
        turn[:, 2] += ((size[0] - width) / 2, (size[1] - height) / 2)
        paper = np.median(self.pixels.reshape(-1, 3), axis=0).tolist()
        pixels = cv2.warpAffine(self.pixels, turn, size, flags=cv2.INTER_LINEAR, borderValue=paper).astype(np.uint8)
        return Sheet(pixels, self.to_picture @ np.linalg.inv(np.array([*turn, [0, 0, 1]])))


def find_sheets(picture: NDArray[np.uint8]) -> list[Sheet]:
    """Find the sheets in a picture and flatten them.

    Args:
        picture: uint8 [height, width, 3] RGB.

    Returns: the sheets, from top to bottom; empty if the picture shows nothing but paper, or nothing like a sheet.
    """
    scale = min(1.0, SMALL_SIDE / max(picture.shape[:2]))
    if min(picture.shape[:2]) * scale < LEAST_SMALL_SIDE:
        return []
    small = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else picture
    smooth = cv2.medianBlur(np.ascontiguousarray(small), 3).astype(np.float32)
    found = [quad for mask in _regions(smooth) for quad in _quads(mask) if _is_sheet(quad, smooth)]
    chosen = _apart(found)
    return [_flattened(picture, quad / scale) for quad in sorted(chosen, key=lambda quad: float(quad[:, 1].mean()))]


def whole(picture: NDArray[np.uint8]) -> Sheet:
    """The picture as one sheet."""
    return Sheet(picture, np.eye(3))


def _regions(picture: Floats) -> Iterator[NDArray[np.uint8]]:
    """Masks, uint8 [h, w], of what may be sheets: what differs from the rim, is light, or differs from the rim in hue.

    No shadow changes the hue.
    """
    lightness = picture.mean(axis=2)
    hues = picture * (HUE_LIGHTNESS / np.maximum(lightness, DARKEST_HUE))[..., None]
    for values in (_from_rim(picture), lightness, _from_rim(hues)):
        grey = np.clip(values, 0, 255).astype(np.uint8)
        level, _ = cv2.threshold(grey, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
        above = grey > level
        if not above.any() or above.all() or _difference(values, above) < LEAST_DIFFERENCE:
            continue
        yield above.astype(np.uint8)
        yield (~above).astype(np.uint8)


def _from_rim(picture: Floats) -> Floats:
    rim = np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]])
    return np.asarray(np.abs(picture - np.median(rim, axis=0)).max(axis=2), np.float32)


def _difference(values: Floats, above: NDArray[np.bool_]) -> float:
    return float(values[above].mean() - values[~above].mean())


def _quads(mask: NDArray[np.uint8]) -> Iterator[Quad]:
    """Corners of the regions that are quadrilaterals."""
    area = mask.shape[0] * mask.shape[1]
    kernel = np.ones((CLOSING, CLOSING), np.uint8)
    opened = cv2.morphologyEx(mask, cv2.MORPH_OPEN, kernel)
    contours, _ = cv2.findContours(opened, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    for contour in contours:
        own = cv2.contourArea(contour)
        if not LEAST_SHEET * area <= own <= WHOLE * area:
            continue
        quad = _corners(contour)
        if quad is None:
            continue
        covered = cv2.contourArea(quad.astype(np.float32))
        if min(own, covered) >= FILLS_QUAD * max(own, covered) and _has_right_angles(quad):
            yield quad


def _corners(contour: NDArray[np.integer | np.floating]) -> Quad | None:
    """The hull, simplified until four corners are left; None if there is no such stage."""
    hull = cv2.convexHull(contour)
    length = cv2.arcLength(hull, True)
    for share in (0.01, 0.015, 0.02, 0.03, 0.04, 0.06, 0.08):
        corners = cv2.approxPolyDP(hull, share * length, True)
        if len(corners) == 4:
            return _from_upper_left(corners[:, 0].astype(np.float64))
    return None


def _from_upper_left(corners: Quad) -> Quad:
    """The corners, clockwise, so that the first side is the one nearest to level that lies above."""
    middle = corners.mean(axis=0)
    around = corners[np.argsort(np.arctan2(corners[:, 1] - middle[1], corners[:, 0] - middle[0]))]
    sides = np.roll(around, -1, axis=0) - around
    first = int(np.argmax(sides[:, 0] / np.hypot(sides[:, 0], sides[:, 1])))
    return np.roll(around, -first, axis=0)


def _has_right_angles(quad: Quad) -> bool:
    sides = np.roll(quad, -1, axis=0) - quad
    directions = np.arctan2(sides[:, 1], sides[:, 0])
    turns = np.mod(np.roll(directions, -1) - directions, 2 * np.pi)
    return bool((np.abs(turns - np.pi / 2) < RIGHT_ANGLES).all())


def _is_sheet(quad: Quad, picture: Floats) -> bool:
    """Whether the quadrilateral is of one colour, and ends sharply at each side that the picture does not cut off.

    Of one colour in each place: half of it may lie in the shadow.
    """
    height, width = picture.shape[:2]
    inside = cv2.fillConvexPoly(np.zeros((height, width), np.uint8), np.rint(quad).astype(np.int32), 1) > 0
    colours = _shaded(picture, inside)
    if (np.abs(picture - colours)[inside].max(axis=1) < SAME_COLOUR).mean() < ONE_COLOUR:
        return False
    cut_off = [_on_rim(quad[i], quad[(i + 1) % 4], width, height) for i in range(4)]
    if sum(cut_off) >= PARALLEL_RIM_SIDES and inside.mean() < 0.5:
        return False
    return all(cut_off[i] or _is_sharp(quad[i], quad[(i + 1) % 4], picture, colours) for i in range(4))


def _shaded(picture: Floats, inside: NDArray[np.bool_]) -> Floats:
    """[h, w, 3]: the colour that most of the region has around each pixel; what lies outside has no say."""
    height, width = picture.shape[:2]
    filled = np.where(inside[..., None], picture, np.median(picture[inside], axis=0))
    size = (max(1, width // SHADE_STEP), max(1, height // SHADE_STEP))
    small = np.clip(np.rint(cv2.resize(filled, size, interpolation=cv2.INTER_NEAREST)), 0, 255).astype(np.uint8)
    reach = max(3, int(SHADE_REACH * min(small.shape[:2]))) | 1
    return cv2.resize(cv2.medianBlur(small, reach), (width, height)).astype(np.float32)


def _on_rim(start: NDArray[np.float64], stop: NDArray[np.float64], width: int, height: int) -> bool:
    ends = np.array([start, stop])
    return bool(
        (ends[:, 0] <= RIM).all()
        or (ends[:, 1] <= RIM).all()
        or (ends[:, 0] >= width - 1 - RIM).all()
        or (ends[:, 1] >= height - 1 - RIM).all()
    )


def _is_sharp(start: NDArray[np.float64], stop: NDArray[np.float64], picture: Floats, colours: Floats) -> bool:
    """Whether there is the sheet's colour on the inner side of a side, and another on the outer, near and farther."""
    along = (stop - start) / max(float(np.hypot(*(stop - start))), 1e-6)
    outwards = np.array([along[1], -along[0]])  # corners run clockwise, with y downwards
    points = start + np.linspace(0.06, 0.94, SIDE_SAMPLES)[:, None] * (stop - start)
    colour = _colours(colours, points - FAR * outwards)
    inner = np.abs(_colours(picture, points - NEAR * outwards) - colour).max(axis=1)
    near = np.abs(_colours(picture, points + NEAR * outwards) - colour).max(axis=1)
    far = np.abs(_colours(picture, points + FAR * outwards) - colour).max(axis=1)
    least = np.maximum(SHARP * (far - inner), LEAST_DIFFERENCE / 2)
    changes = (near - inner > least) & (far - inner > LEAST_DIFFERENCE / 2)
    return bool(changes.mean() >= SHARP_SAMPLES)


def _colours(picture: Floats, points: NDArray[np.float64]) -> Floats:
    """[n, 3]: the picture at the points, or at its rim next to them."""
    height, width = picture.shape[:2]
    columns = np.clip(np.rint(points[:, 0]), 0, width - 1).astype(int)
    rows = np.clip(np.rint(points[:, 1]), 0, height - 1).astype(int)
    return picture[rows, columns]


def _apart(quads: list[Quad]) -> list[Quad]:
    """The largest quadrilaterals of which none lies on another."""
    chosen: list[Quad] = []
    for quad in sorted(quads, key=_area, reverse=True):
        if _area(quad) >= LEAST_OF_LARGEST * _area(chosen[0] if chosen else quad) and not any(
            cv2.intersectConvexConvex(quad.astype(np.float32), other.astype(np.float32))[0] > 0.1 * _area(quad)
            for other in chosen
        ):
            chosen.append(quad)
    return chosen


def _area(quad: Quad) -> float:
    return float(cv2.contourArea(quad.astype(np.float32)))


def _flattened(picture: NDArray[np.uint8], quad: Quad) -> Sheet:
    """The quadrilateral, but for a narrow rim, as a rectangle with sides as long as its own are on average."""
    inner = quad + INSET * 2 * (quad.mean(axis=0) - quad)
    sides = np.hypot(*(np.roll(inner, -1, axis=0) - inner).T)
    width, height = (sides[0] + sides[2]) / 2, (sides[1] + sides[3]) / 2
    scale = min(1.0, LARGEST_SIDE / max(width, height))
    width, height = max(8, round(width * scale)), max(8, round(height * scale))
    target = np.array([[0, 0], [width - 1, 0], [width - 1, height - 1], [0, height - 1]], np.float32)
    # Shrunk by the area's mean first, since a warp samples single pixels.
    small = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else picture
    to_sheet = cv2.getPerspectiveTransform((inner * scale).astype(np.float32), target)
    pixels = cv2.warpPerspective(
        small, to_sheet, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    to_picture = np.diag([1 / scale, 1 / scale, 1.0]) @ np.linalg.inv(to_sheet)
    return Sheet(pixels.astype(np.uint8), to_picture)

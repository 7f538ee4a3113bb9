"""Takes printed frames out of a map of ink strength: form boxes, tables and combs, whose lines end within the page.

A frame is ink that hangs together, is hollow, and has the outline of a rectangle with other ink in it. Its lines are
what is straight for as long as its cells; strokes that cross them stay. A comb is a level line with upright teeth at
equal distances, for a digit between each two. Lines that run through the whole page are `ruled_lines`' to take out.

The upright lines are remembered as walls: what stands on two sides of one stands in two cells. The numbers were found
as those of `ink` were: by hand, by looking at pictures of forms.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Mask = NDArray[np.uint8]  # uint8 [h, w], 0 and 1

MARK_STRENGTH, MARK_NOISE = 0.4, 5.0  # of the ink's strength; sigmas of the noise: what is a mark
LEAST_SIDE, LEAST_INSIDE = 14, 5  # px: of a frame, and the height of what is written in it
MOST_INK = 0.45  # of its box: a frame is hollow
OVER_USUAL = 1.2  # times the typical mark's height, at least
LARGEST_SHARE = 0.985  # of the page's side: larger ones are ruled or squared paper
OUTLINE_FILLS = 0.9  # of the smallest rectangle around it
HOLE_FILLS, LEAST_HOLE = 0.86, 8  # of the smallest rectangle around a cell without writing on its edge; px of its sides
LONG_ENOUGH = 0.85  # of a cell's side: shorter straight runs are strokes
ROW_OF_BOXES = 2.2  # width over height from which a frame counts even if every digit in it touches it
# Of a comb: the share of its width that its line takes, of its height that a tooth has, at least; teeth; the share of
# the usual distance by which that between two teeth may differ; the share of its ink that is line or tooth.
COMB_LINE, COMB_TOOTH, LEAST_TEETH, TEETH_DIFFER, COMB_INK = 0.9, 0.6, 4, 0.3, 0.5
COMB_REACH = 1.2  # distances between teeth, by which what stands in a comb may reach over it


@dataclass(frozen=True, slots=True)
class Wall:
    """An upright line between two cells, in working pixels."""

    x: float
    top: float
    bottom: float


def remove_frames(strength: Floats, *, noise: float, contrast: float) -> tuple[Floats, tuple[Wall, ...]]:
    """Take out form boxes and tables.

    Args:
        strength: float32 [height, width], grey levels of ink; 0 for paper.
        noise: sigma of the strength on bare paper.
        contrast: the strength where there is ink.

    Returns: float32 [height, width], the strength without frames; and the walls between their cells.
    """
    marks = (strength > max(MARK_STRENGTH * contrast, MARK_NOISE * noise)).astype(np.uint8)
    count, labels, stats, middles = cv2.connectedComponentsWithStats(marks, connectivity=8)
    boxes, middles = stats[1:count], middles[1:count]
    walls: list[Wall] = []
    for number in _hollow(boxes, marks.shape):
        left, top, width, height = (int(value) for value in boxes[number, :4])
        place = (slice(top, top + height), slice(left, left + width))
        own = (labels[place] == number + 1).astype(np.uint8)
        lines = _comb(own)
        reach = COMB_REACH * width / (len(_walls(lines[1], left=0, top=0)) - 1) if lines else 0.0
        if lines is None:
            if not _is_frame(own, holds_ink=_others_inside(number, boxes, middles)):
                continue
            lines = _lines(own)
        level, upright = lines
        strength = _without(strength, place, level, upright)
        walls += _walls(upright, left=left, top=top, reach=reach)
    return strength, tuple(walls)


def _hollow(boxes: NDArray[np.number], page: tuple[int, ...]) -> list[int]:
    """Numbers of the components that are large for the page, and mostly paper."""
    if not len(boxes):
        return []
    widths, heights, areas = (boxes[:, i].astype(np.float64) for i in (2, 3, 4))
    usual = float(np.median(heights[areas >= 0.1 * np.sort(areas)[-3:].mean()])) if len(boxes) > 3 else 0.0
    hollow = (
        (np.minimum(widths, heights) >= LEAST_SIDE)
        & (areas < MOST_INK * widths * heights)
        & ((widths < LARGEST_SHARE * page[1]) | (heights < LARGEST_SHARE * page[0]))
        & (np.maximum(heights, widths / 2) >= min(usual, float(np.median(heights))) * OVER_USUAL)
    )
    return [int(number) for number in np.flatnonzero(hollow)]


def _others_inside(number: int, boxes: NDArray[np.number], middles: NDArray[np.number]) -> bool:
    left, top, width, height = boxes[number, :4]
    inside = (
        (middles[:, 0] > left)
        & (middles[:, 0] < left + width)
        & (middles[:, 1] > top)
        & (middles[:, 1] < top + height)
        & (boxes[:, 3] >= LEAST_INSIDE)
    )
    inside[number] = False
    return bool(inside.any())


def _is_frame(own: Mask, *, holds_ink: bool) -> bool:
    height, width = own.shape
    if not holds_ink and width < ROW_OF_BOXES * height:
        return False
    contours, _ = cv2.findContours(own, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    outline = max(contours, key=cv2.contourArea)
    (_, (long, short), _) = cv2.minAreaRect(outline)
    return bool(cv2.contourArea(outline) >= OUTLINE_FILLS * max((long - 1) * (short - 1), 1.0))


def _comb(own: Mask) -> tuple[Mask, Mask] | None:
    """The line and the teeth of a comb, a pixel broader than they are; None if it is none."""
    height, width = own.shape
    if width < ROW_OF_BOXES * height:
        return None
    level, teeth = _runs(own, across=COMB_LINE * width, down=COMB_TOOTH * height)
    if not level.any():
        return None
    places = np.sort([wall.x for wall in _walls(teeth, left=0, top=0)])
    apart = np.diff(places)
    if len(places) < LEAST_TEETH or np.abs(apart - np.median(apart)).max() > TEETH_DIFFER * np.median(apart):
        return None
    drawn = (own > 0) & (cv2.dilate(level | teeth, np.ones((3, 3), np.uint8)) > 0)
    return (level, teeth) if drawn.sum() >= COMB_INK * own.sum() else None


def _lines(own: Mask) -> tuple[Mask, Mask]:
    """The frame's level and its upright lines, a pixel broader than they are."""
    cell_width, cell_height = _cell(own)
    return _runs(own, across=LONG_ENOUGH * cell_width, down=LONG_ENOUGH * cell_height)


def _runs(own: Mask, *, across: float, down: float) -> tuple[Mask, Mask]:
    """What runs straight for so many pixels across, and down, a pixel broader than it is."""
    broad = cv2.dilate(own, np.ones((3, 3), np.uint8))  # so that a line that runs a little askew is still one run
    sizes = ((max(3, round(across)), 1), (1, max(3, round(down))))
    kernels = [cv2.getStructuringElement(cv2.MORPH_RECT, size) for size in sizes]
    level, upright = (cv2.morphologyEx(broad, cv2.MORPH_OPEN, kernel) for kernel in kernels)
    return level.astype(np.uint8), upright.astype(np.uint8)


def _cell(own: Mask) -> tuple[float, float]:
    """Width and height of the cells, by those on whose edges nobody wrote; the frame's own without any."""
    contours, hierarchy = cv2.findContours(own, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    sides = []
    for contour, links in zip(contours, hierarchy[0], strict=True):
        _, _, width, height = cv2.boundingRect(contour)
        is_hole = links[3] >= 0
        if is_hole and min(width, height) >= LEAST_HOLE and cv2.contourArea(contour) >= HOLE_FILLS * width * height:
            sides.append((width, height))
    if not sides:
        return float(own.shape[1]), float(own.shape[0])
    largest = max(height for _, height in sides)
    cells = [(width, height) for width, height in sides if height >= largest / 2]
    return float(min(width for width, _ in cells)), float(min(height for _, height in cells))


def _without(strength: Floats, place: tuple[slice, slice], level: Mask, upright: Mask) -> Floats:
    """The strength without the lines, but with the strokes that go on on both sides of one."""
    pad = 3
    rows = slice(max(place[0].start - pad, 0), place[0].stop + pad)
    columns = slice(max(place[1].start - pad, 0), place[1].stop + pad)
    part = strength[rows, columns]
    lines = np.zeros(part.shape, np.uint8)
    top, left = place[0].start - rows.start, place[1].start - columns.start
    lines[top : top + level.shape[0], left : left + level.shape[1]] = level | upright
    on_line = cv2.dilate(lines, np.ones((3, 3), np.uint8)) > 0
    bare = np.where(on_line, 0, part).astype(np.float32)
    result = strength.copy()
    result[rows, columns] = np.where(on_line, np.minimum(_bridged(bare, level, upright), part), bare)
    return result


def _bridged(bare: Floats, level: Mask, upright: Mask) -> Floats:
    """What lay on a line, where a stroke goes on on both sides of it: each kind of line is crossed across it."""
    over, beside = _thickness(level) + 3, _thickness(upright.T) + 3
    across_level = cv2.morphologyEx(bare, cv2.MORPH_CLOSE, np.ones((over, 1), np.uint8))
    across_upright = cv2.morphologyEx(bare, cv2.MORPH_CLOSE, np.ones((1, beside), np.uint8))
    return np.maximum(across_level, across_upright).astype(np.float32)


def _thickness(lines: Mask) -> int:
    """Rows that a level line takes, typically."""
    starts = int((np.diff(lines, axis=0, prepend=0) == 1).sum())
    return round(float(lines.sum()) / max(starts, 1))


def _walls(upright: Mask, *, left: int, top: int, reach: float = 0.0) -> list[Wall]:
    """The upright lines, which part what stands `reach` over and under them as well."""
    count, _, stats, middles = cv2.connectedComponentsWithStats(upright, connectivity=8)
    return [
        Wall(left + float(middles[i, 0]), top + stats[i, 1] - reach, top + stats[i, 1] + stats[i, 3] + reach)
        for i in range(1, count)
    ]

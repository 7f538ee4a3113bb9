"""Sorts a page's ink into lines of writing, and each line's ink into patches from left to right.

A patch begins as a connected component: ink that hangs together. Specks are dropped, and the stray parts of a broken
stroke are joined to the patch they belong to if that is plain to see. What remains unclear (one wide patch: one digit
or two? two near patches: two digits or one?) is left to the classifier, see `cuts` and `best_path`.

The numbers were found as those of `ink` were: by hand, by looking at composed pages. Lengths are in digit heights
where nothing else is said: the page's (`_digit_height`) until there are lines, then the line's own.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from .ink import Ink

Floats = NDArray[np.float32]

# What is dirt: specks, and what comes in from outside the page.
SPECK_AREA, SPECK_PIXELS = 0.9, 4  # of a stroke's width squared, and px: a pen's shortest touch has one width squared
RIM_LENGTH = 0.6  # of the page's side: what touches two sides and is so long is the page's edge or the table
ACROSS_WIDTH, ACROSS_HEIGHT = 0.9, 0.97  # of the page's sides: what touches one and runs through; a 1 may be that high

# The height of the page's digits.
WIDTH_AS_HEIGHT = 0.6  # a patch's width counts as so much height: of a line of joined digits the height says little
HEAVY = 0.15  # of the heaviest patch's ink: lighter ones have no say
TALL_QUANTILE, TALL = 0.9, 0.45  # patches over this share of this quantile of the heights have the say
LEAST_DIGIT_HEIGHT = 2  # stroke widths

# Which patches are digits' bodies, and which are fragments of a digit.
FRAGMENT_HEIGHT = 0.42  # of the digits' height: less is a part of a digit, or dirt
FRAGMENT_INK = 1.2  # stroke widths squared: less is dirt
LONG_REACH, SHORT_REACH, FAR = 0.5, 1.5, 0.4  # of a fragment's size; stroke widths; digit heights: see `_attach`
FRAGMENT_SHARE = 0.65  # of its width over or under a body, from which a fragment is part of that body

# Which bodies follow each other on a line.
LEAST_OVERLAP = 0.4  # of the lower one's height
WIDEST_GAP = 4  # digit heights, to link neighbours; wider gaps are closed by `_same_level`
FALL_COST = 0.7  # of a pixel of distance, for each that the neighbour lies higher or lower
SAME_LEVEL = 0.4  # digit heights between the levels of two chains that are one line

# The line's own height and angle.
TALL_IN_LINE = 0.6  # of the line's highest: lower ones are parts or blots, and have no say
BODIES_FOR_ANGLE, LENGTH_FOR_ANGLE = 4, 4  # at least, the length in digit heights: of fewer the slope is chance


@dataclass(frozen=True, slots=True)
class InkPatch:
    """Ink and its place on the page, in working pixels: a connected component, several, or a part of one."""

    left: int
    top: int
    ink: Floats  # float32 [height, width], 0 to 1; 0 where the ink is another patch's

    @property
    def right(self) -> int:
        """The first column to the right of it."""
        return self.left + int(self.ink.shape[1])

    @property
    def bottom(self) -> int:
        """The first row below it."""
        return self.top + int(self.ink.shape[0])

    @property
    def width(self) -> int:
        """Columns."""
        return int(self.ink.shape[1])

    @property
    def height(self) -> int:
        """Rows."""
        return int(self.ink.shape[0])

    @property
    def centre(self) -> tuple[float, float]:
        """The middle of its box: x, y."""
        return (self.left + self.right) / 2, (self.top + self.bottom) / 2


@dataclass(frozen=True, slots=True)
class TextLine:
    """One line's patches, from left to right."""

    patches: tuple[InkPatch, ...]
    height: float  # of its digits, typically; working pixels
    angle: float  # by which the line falls to the right, radians


def joined(patches: list[InkPatch] | tuple[InkPatch, ...]) -> InkPatch:
    """Several patches as one."""
    if len(patches) == 1:
        return patches[0]
    left, top = min(p.left for p in patches), min(p.top for p in patches)
    right, bottom = max(p.right for p in patches), max(p.bottom for p in patches)
    ink = np.zeros((bottom - top, right - left), np.float32)
    for patch in patches:
        place = ink[patch.top - top : patch.bottom - top, patch.left - left : patch.right - left]
        np.maximum(place, patch.ink, out=place)
    return InkPatch(left, top, ink)


def find_lines(ink: Ink) -> tuple[list[TextLine], float]:
    """Sort a page's ink into lines.

    Returns: the lines from top to bottom, and the width of a stroke in working pixels.
    """
    stroke = _stroke_width(ink.mask)
    components = _components(ink, stroke)
    if not components:
        return [], stroke
    height = _digit_height(components, stroke)
    bodies, fragments = _bodies_and_fragments(components, height=height, stroke=stroke)
    if not bodies:
        return [], stroke
    lines = _chained(bodies, height=height, angle=ink.angle)
    heights = [_line_height(line) for line in lines]
    for fragment in fragments:
        _attach(fragment, lines, heights, stroke)
    lines = [_with_fragments_joined(line, line_height) for line, line_height in zip(lines, heights, strict=True)]
    result = [
        TextLine(tuple(line), line_height, _line_angle(line, line_height, ink.angle))
        for line, line_height in zip(lines, heights, strict=True)
    ]
    return sorted(result, key=lambda line: _level(line.patches, ink.angle)), stroke


def _stroke_width(mask: NDArray[np.bool_]) -> float:
    """Of the page's pens, typically: in a strip of width w the distance to its edge is w/4 on average.

    The 1 is for OpenCV's measuring to the centre of the nearest pixel outside, which lies beyond the edge.
    """
    distance = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 3)
    return max(1.0, 4 * float(distance[mask].mean()) - 1.0)


def _components(ink: Ink, stroke: float) -> list[InkPatch]:
    """The connected components that are not dirt."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(ink.mask.astype(np.uint8), connectivity=8)
    page_height, page_width = ink.mask.shape
    patches = []
    for label in range(1, count):
        left, top, width, height, area = (int(value) for value in stats[label])
        if area < max(SPECK_AREA * stroke**2, SPECK_PIXELS) or min(page_width, page_height) < 4:
            continue
        if _comes_from_outside(left=left, top=top, width=width, height=height, page=ink.mask.shape):
            continue
        # One pixel more on each side: the soft edge, which the mask leaves out, makes the antialiasing.
        y0, y1 = max(top - 1, 0), min(top + height + 1, page_height)
        x0, x1 = max(left - 1, 0), min(left + width + 1, page_width)
        own = (labels[y0:y1, x0:x1] == label).astype(np.uint8)
        near = cv2.dilate(own, np.ones((3, 3), np.uint8)) > 0
        patches.append(InkPatch(x0, y0, np.where(near, ink.amount[y0:y1, x0:x1], 0).astype(np.float32)))
    return patches


def _comes_from_outside(*, left: int, top: int, width: int, height: int, page: tuple[int, ...]) -> bool:
    """Whether a component is the table beside the page, its edge, or a shadow from outside."""
    sides = (left <= 1) + (top <= 1) + (left + width >= page[1] - 1) + (top + height >= page[0] - 1)
    long = width > RIM_LENGTH * page[1] or height > RIM_LENGTH * page[0]
    across = width >= ACROSS_WIDTH * page[1] or height >= ACROSS_HEIGHT * page[0]
    return (sides >= 2 and long) or (sides >= 1 and across)


def _digit_height(patches: list[InkPatch], stroke: float) -> float:
    """Of the page's digits, typically."""
    heights = np.array([max(patch.height, WIDTH_AS_HEIGHT * patch.width) for patch in patches], np.float64)
    weights = np.array([float(patch.ink.sum()) for patch in patches])
    tall = heights >= TALL * float(np.quantile(heights[weights > HEAVY * weights.max()], TALL_QUANTILE))
    return max(float(np.median(heights[tall])), LEAST_DIGIT_HEIGHT * stroke)


def _bodies_and_fragments(
    patches: list[InkPatch], *, height: float, stroke: float
) -> tuple[list[InkPatch], list[InkPatch]]:
    """Bodies of digits, and fragments that may belong to one; smaller ones are dropped."""
    bodies, fragments = [], []
    for patch in patches:
        if patch.height >= FRAGMENT_HEIGHT * height:
            bodies.append(patch)
        elif float(patch.ink.sum()) >= FRAGMENT_INK * stroke**2:
            fragments.append(patch)
    return bodies, fragments


def _chained(bodies: list[InkPatch], *, height: float, angle: float) -> list[list[InkPatch]]:
    """Lines of patches, each beside the next; a chain follows a line even if the line runs askew.

    Each body is linked to the cheapest on its right; what is linked, directly or not, is one chain (union-find).
    """
    order = sorted(range(len(bodies)), key=lambda i: bodies[i].centre[0])
    parent = list(range(len(bodies)))

    def root(i: int) -> int:
        while parent[i] != i:
            i = parent[i]
        return i

    for place, i in enumerate(order):
        best, best_cost = None, np.inf
        for j in order[place + 1 :]:
            cost = _link_cost(bodies[i], bodies[j], height=height, angle=angle)
            if cost < best_cost:
                best, best_cost = j, cost
        if best is not None:
            parent[root(best)] = root(i)
    chains: dict[int, list[InkPatch]] = {}
    for i in order:
        chains.setdefault(root(i), []).append(bodies[i])
    return _same_level(list(chains.values()), height=height, angle=angle)


def _link_cost(left: InkPatch, right: InkPatch, *, height: float, angle: float) -> float:
    """How far `right` is from being the next on `left`'s line, in pixels; infinite if it is on another line."""
    distance = right.left - left.right
    fall = np.tan(angle) * (right.centre[0] - left.centre[0])
    overlap = min(left.bottom + fall, right.bottom) - max(left.top + fall, right.top)
    if overlap < LEAST_OVERLAP * min(left.height, right.height) or distance > WIDEST_GAP * height:
        return float("inf")
    return float(max(distance, 0) + FALL_COST * abs(right.centre[1] - left.centre[1] - fall))


def _same_level(chains: list[list[InkPatch]], *, height: float, angle: float) -> list[list[InkPatch]]:
    """Chains joined that lie on one level: a wide gap within a line is still the line."""
    joined_chains: list[list[InkPatch]] = []
    for chain in sorted(chains, key=lambda chain: _level(chain, angle)):
        last = joined_chains[-1] if joined_chains else None
        if (
            last is not None
            and abs(_level(chain, angle) - _level(last, angle)) < SAME_LEVEL * height
            and not _share_columns(last, chain)
        ):
            last.extend(chain)
        else:
            joined_chains.append(list(chain))
    return [sorted(chain, key=lambda patch: patch.centre[0]) for chain in joined_chains]


def _share_columns(one: list[InkPatch], other: list[InkPatch]) -> bool:
    left, right = max(one[0].left, other[0].left), min(max(p.right for p in one), max(p.right for p in other))
    return right > left


def _line_height(line: list[InkPatch]) -> float:
    heights = np.array([patch.height for patch in line], np.float64)
    tall = heights[heights >= TALL_IN_LINE * heights.max()]
    return float(np.median(tall))


def _attach(fragment: InkPatch, lines: list[list[InkPatch]], heights: list[float], stroke: float) -> None:
    """Put a fragment into the line it lies in, if it lies near a body there."""
    best, best_distance = None, np.inf
    for number, line in enumerate(lines):
        for patch in line:
            across = max(patch.left - fragment.right, fragment.left - patch.right, 0)
            down = max(patch.top - fragment.bottom, fragment.top - patch.bottom, 0)
            distance = float(np.hypot(across, down))
            if distance < best_distance:
                best, best_distance = number, distance
    if best is None:
        return
    size = max(fragment.width, fragment.height)
    # A long stroke may be far off (the bar of a 5); a dot must be close.
    if best_distance <= max(LONG_REACH * size, SHORT_REACH * stroke) and best_distance < FAR * heights[best]:
        lines[best].append(fragment)


def _with_fragments_joined(line: list[InkPatch], height: float) -> list[InkPatch]:
    """Fragments that lie over or under a body become part of it; the others stay patches of their own."""
    bodies = [patch for patch in line if patch.height >= FRAGMENT_HEIGHT * height]
    loose = []
    for fragment in (patch for patch in line if patch.height < FRAGMENT_HEIGHT * height):
        shares = [_shared_width(fragment, body) / fragment.width for body in bodies]
        if shares and max(shares) > FRAGMENT_SHARE:
            place = int(np.argmax(shares))
            bodies[place] = joined([bodies[place], fragment])
        else:
            loose.append(fragment)
    return sorted(bodies + loose, key=lambda patch: patch.centre[0])


def _shared_width(one: InkPatch, other: InkPatch) -> int:
    return max(0, min(one.right, other.right) - max(one.left, other.left))


def _line_angle(line: list[InkPatch], height: float, page_angle: float) -> float:
    """The line's own slope if it is long enough to tell, else the page's."""
    bodies = [patch for patch in line if patch.height > TALL_IN_LINE * height]
    if len(bodies) < BODIES_FOR_ANGLE:
        return page_angle
    x, y = np.array([patch.centre for patch in bodies]).T
    slope = float(np.arctan(np.polyfit(x, y, 1)[0]))
    return slope if (x.max() - x.min()) / height > LENGTH_FOR_ANGLE else page_angle


def _level(patches: list[InkPatch] | tuple[InkPatch, ...], angle: float) -> float:
    """The row at which the patches' line would cross the page's left edge."""
    return float(np.mean([patch.centre[1] - np.tan(angle) * patch.centre[0] for patch in patches]))

"""What signs are measured by: the line they stand in, and how a patch of ink leans, spreads and is hollow.

Lengths are in the line's digit height, levels count from the line's middle downwards, angles are in radians.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from .patches import InkPatch, stroke_width

HALF_INK = 0.5  # of full ink: an edge
SOFT_EDGE = 1  # px that a patch has on each side beyond its ink
BODY = 0.6  # patches so high say where the line runs, and how the hand leans
STRAIGHT = 1.7  # stroke widths across
HOLES_APART = 0.2  # of its height, from a patch's one hole down to the other
NEAR_BEFORE = 0.7  # heights of paper between: a digit so close before a sign is of the same number


@dataclass(frozen=True, slots=True)
class SignLine:
    """What signs are measured by."""

    height: float
    angle: float
    level_at_left: float  # the row at which the middle of its digits would cross the page's left edge
    slant: float  # of its digits: columns to the right for a row upwards
    stroke: float
    digits_top: float = -0.5  # levels from and to which its digits reach, typically; bars that may be signs apart
    digits_bottom: float = 0.5

    def level(self, x: float, y: float) -> float:
        """How far a point lies below the middle of the line, in its height."""
        return (y - self.level_at_left - float(np.tan(self.angle)) * x) / self.height


def measured(patches: Sequence[InkPatch], height: float, angle: float) -> SignLine | None:
    bodies = [patch for patch in patches if patch.height >= BODY * height]
    if not bodies:
        return None
    levels = [patch.centre[1] - np.tan(angle) * patch.centre[0] for patch in bodies]
    stroke = stroke_width([patch.ink > HALF_INK for patch in bodies])
    slant = float(np.median([_slant(patch.ink) for patch in bodies]))
    line = SignLine(height, angle, float(np.median(levels)), slant, stroke)
    digits = [patch for patch in bodies if spread(patch.ink > HALF_INK)[0] > STRAIGHT * stroke] or bodies
    ends = [[line.level(p.centre[0], row) for row in (p.top + SOFT_EDGE, p.bottom - SOFT_EDGE)] for p in digits]
    top, bottom = np.median(ends, axis=0)
    return replace(line, digits_top=float(top), digits_bottom=float(bottom))


def upright(line: SignLine) -> SignLine:
    """The line as if its hand did not slant."""
    return replace(line, slant=0.0)


def _slant(ink: NDArray[np.float32]) -> float:
    """Columns to the right for each row upwards, as `mnist_form.upright` takes it out."""
    y, x = np.nonzero(ink > HALF_INK)
    if len(y) < 2:
        return 0.0
    y, x = y - y.mean(), x - x.mean()
    return float(-(y @ x) / max(float(y @ y), 1e-6))


def shared_columns(patch: InkPatch, others: Sequence[InkPatch], line: SignLine) -> float:
    """The share of its width that lies over or under one body of the line, along the hand's slant."""
    shared = [
        min(patch.right, right) - max(patch.left, left)
        for left, right in (_sides(other, patch, line) for other in others if other.height >= BODY * line.height)
    ]
    return max(max(shared, default=0.0), 0.0) / patch.width


def _sides(body: InkPatch, patch: InkPatch, line: SignLine) -> tuple[float, float]:
    """The columns of a body near the patch, as if all of it lay in the patch's row; its slant is taken out."""
    if body.left > patch.right + line.height or body.right < patch.left - line.height:
        return float(body.left), float(body.right)
    y, x = np.nonzero(body.ink > HALF_INK)
    if not len(y):
        return float(body.left), float(body.right)
    moved = body.left + x + line.slant * (body.top + y - patch.centre[1])
    return float(moved.min()) - SOFT_EDGE, float(moved.max()) + 1 + SOFT_EDGE


def size(patch: InkPatch) -> tuple[int, int]:
    """Width and height without the soft edge."""
    return max(patch.width - 2 * SOFT_EDGE, 1), max(patch.height - 2 * SOFT_EDGE, 1)


def within(value: float, ends: tuple[float, float]) -> bool:
    return ends[0] <= value <= ends[1]


def reaches_over(patch: InkPatch, line: SignLine) -> tuple[float, float]:
    """By how much it reaches further up and further down than the digits do, in the line's height."""
    x = patch.centre[0]
    top, bottom = line.level(x, patch.top + SOFT_EDGE), line.level(x, patch.bottom - SOFT_EDGE)
    return line.digits_top - top, bottom - line.digits_bottom


def leans(patch: InkPatch, line: SignLine, least: float) -> bool:
    """Whether it is straight, and leans to the right by so much more than the digits."""
    mask = patch.ink > HALF_INK
    return spread(mask)[0] <= STRAIGHT * line.stroke and lean(mask) - float(np.arctan(line.slant)) > least


def spread(mask: NDArray[np.bool_]) -> tuple[float, float]:
    """Breadth and length of the strip that has the ink's variances, in pixels."""
    points = np.argwhere(mask).astype(np.float64)
    if len(points) < 3:
        return 0.0, 0.0
    across, along = np.sqrt(12 * np.maximum(np.linalg.eigvalsh(np.cov(points.T)), 0))
    return float(across), float(along)


def lean(mask: NDArray[np.bool_]) -> float:
    """The angle of the ink's long axis to the vertical, to the right."""
    points = np.argwhere(mask).astype(np.float64)
    if len(points) < 3:
        return 0.0
    _, vectors = np.linalg.eigh(np.cov(points.T))
    down, right = vectors[:, 1]
    return float(np.arctan2(-right * np.sign(down), abs(down)))


def inked_along(mask: NDArray[np.bool_], start: tuple[float, float], stop: tuple[float, float]) -> float:
    """The share of a straight line, from one point x, y to another, that is ink; a pixel aside counts."""
    count = max(int(np.hypot(stop[0] - start[0], stop[1] - start[1])), 2)
    columns, rows = (np.rint(np.linspace(a, b, count)).astype(int) for a, b in zip(start, stop, strict=True))
    near = cv2.dilate(mask.astype(np.uint8), np.ones((3, 3), np.uint8))
    height, width = mask.shape
    return float(near[np.clip(rows, 0, height - 1), np.clip(columns, 0, width - 1)].mean())


def densest(values: NDArray[np.number], stroke: float) -> float:
    """The middle of the strip, a stroke wide, with the most points."""
    places = np.arange(values.min(), values.max() + 1)
    counts = [(np.abs(values - place) <= stroke / 2).sum() for place in places]
    best = np.flatnonzero(counts == np.max(counts))
    return float(places[best].mean())


def is_first(patch: InkPatch, others: Sequence[InkPatch], line: SignLine) -> bool:
    """Whether no digit stands close on its left."""
    return not any(
        other.height >= BODY * line.height
        and other.centre[0] < patch.centre[0]
        and patch.left - other.right < NEAR_BEFORE * line.height
        for other in others
    )


def has_holes_aside(patch: InkPatch, aside: float) -> bool:
    """Whether it has two holes, the upper one on the left of the lower one by `aside` of its width."""
    holes = hole_middles(patch)
    if len(holes) != 2:
        return False
    (left, top), (right, bottom) = sorted(holes)
    return right - left > aside * patch.width and bottom - top > HOLES_APART * patch.height


def hole_middles(patch: InkPatch) -> list[tuple[float, float]]:
    """The middles x, y of what its ink encloses, in the patch."""
    mask = (np.pad(patch.ink, 1) > HALF_INK).astype(np.uint8)
    contours, hierarchy = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    if hierarchy is None:
        return []
    boxes = [cv2.boundingRect(c) for c, links in zip(contours, hierarchy[0], strict=True) if links[3] >= 0]
    return [(x + width / 2 - 1, y + height / 2 - 1) for x, y, width, height in boxes]

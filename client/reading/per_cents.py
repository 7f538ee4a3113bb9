"""Tells per cent signs: a slash between two rings, whether or not they touch.

The numbers were found as those of `signs` were.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .patches import InkPatch, joined
from .sign_shapes import BODY, HALF_INK, SignLine, has_holes_aside, inked_along, is_first, lean, spread, within

Point = tuple[float, float]  # x, y in a patch

RING_HEIGHT, RING_NEAR = (0.1, 0.72), 0.3  # of its rings, and how far from its slash
RING_OF_SLASH = (0.15, 0.6)  # of the height of the stroke that it belongs to
PER_CENT_ASPECT = (0.64, 1.15)  # width over height: a dollar sign has such holes as well, as have two digits that touch
TALL_PER_CENT, TALL_LEAN = 1.2, 0.15  # from which a leaning stroke with a ring at its foot is one
HOLES_ASIDE = 0.36  # of its width, between the holes of its rings
# Share of the way from its upper right to its lower left that is ink; of its height that is up, or down, there.
SLASH_INK, SLASH_END = 0.85, 0.12


def per_cents(patches: Sequence[InkPatch], line: SignLine) -> list[tuple[tuple[InkPatch, ...], str]]:
    """Slashes behind a digit, with a small ring on the upper left and another on the lower right."""
    rings = [
        p for p in patches if within(p.height / line.height, RING_HEIGHT) and p.width <= RING_HEIGHT[1] * line.height
    ]
    found: list[tuple[tuple[InkPatch, ...], str]] = []
    for slash in patches:
        mask = slash.ink > HALF_INK
        if slash.height < 0.6 * line.height or lean(mask) < 0.1 or spread(mask)[0] > 2 * line.stroke:
            continue
        near = [r for r in rings if max(r.left - slash.right, slash.left - r.right) < RING_NEAR * line.height]
        upper = [r for r in near if r.centre[0] < slash.centre[0] and r.centre[1] < slash.centre[1] and r is not slash]
        lower = [r for r in near if r.centre[0] > slash.centre[0] and r.centre[1] > slash.centre[1] and r is not slash]
        if upper and lower:
            first = min(upper, key=lambda r: abs(r.right - slash.left))
            second = min(lower, key=lambda r: abs(r.left - slash.right))
            found.append(((first, slash, second), "%"))
    found += _joined_per_cents(patches, line)
    return [(parts, sign) for parts, sign in found if not is_first(min(parts, key=_left), patches, line)]


def _left(patch: InkPatch) -> int:
    return patch.left


def _joined_per_cents(patches: Sequence[InkPatch], line: SignLine) -> list[tuple[tuple[InkPatch, ...], str]]:
    """Per cent signs whose slash touches a ring, or both: two holes, the left one over the right one."""
    found: list[tuple[tuple[InkPatch, ...], str]] = []
    for high in patches:
        if high.height < BODY * line.height or high.width < 0.4 * high.height:
            continue
        low = [
            p
            for p in patches
            if p is not high and p.centre[0] > high.centre[0] and p.left < high.right + 0.1 * line.height
            if p.centre[1] > high.centre[1] and within(p.height / high.height, RING_OF_SLASH)
        ]
        tall = high.height > TALL_PER_CENT * line.height and lean(high.ink > HALF_INK) > TALL_LEAN
        found += [((high, ring), "%") for ring in low if tall and ring.left < high.right and _has_slash(high)]
        found += [
            (parts, "%")
            for parts in [(high,), *((high, ring) for ring in low)]
            if has_holes_aside(joined(list(parts)), HOLES_ASIDE)
            if _has_slash(joined(list(parts)))
            if within(joined(list(parts)).width / high.height, PER_CENT_ASPECT)
        ]
    return found


def _has_slash(patch: InkPatch) -> bool:
    """Whether a straight stroke runs from its upper right to its lower left, which no 9 and 6 that touch have."""
    mask = patch.ink > HALF_INK
    return any(inked_along(mask, start, stop) >= SLASH_INK for start, stop in (_by_rows(mask), _by_corners(mask)))


def _by_rows(mask: NDArray[np.bool_]) -> tuple[Point, Point]:
    """The furthest right of its highest rows, and the furthest left of its lowest."""
    rows = np.flatnonzero(mask.any(axis=1))
    band = max(1, round(SLASH_END * len(rows)))
    upper, lower = mask[rows[0] : rows[0] + band], mask[rows[-1] - band + 1 : rows[-1] + 1]
    right, left = int(np.flatnonzero(upper.any(axis=0))[-1]), int(np.flatnonzero(lower.any(axis=0))[0])
    start = (float(right), float(rows[0] + np.flatnonzero(upper[:, right]).mean()))
    stop = (float(left), float(rows[-1] - band + 1 + np.flatnonzero(lower[:, left]).mean()))
    return start, stop


def _by_corners(mask: NDArray[np.bool_]) -> tuple[Point, Point]:
    """What lies nearest to its upper right corner, and to its lower left: a ring may be the highest, on the left."""
    y, x = np.nonzero(mask)
    first, last = int((x - y).argmax()), int((y - x).argmax())
    return (float(x[first]), float(y[first])), (float(x[last]), float(y[last]))

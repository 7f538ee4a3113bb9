"""Cuts a line's ink where one digit may end and the next begin, more often than there are digits.

Which of the cuts count is the classifier's to say: every span of neighbouring segments is a candidate, and the best
path through the line is searched among the candidates' scores (over-segmentation and recognition, as in LeCun, Bottou,
Bengio and Haffner, Gradient-based learning applied to document recognition, 1998, section V,
https://doi.org/10.1109/5.726791). A cut is the path from top to bottom that crosses the least ink, found by dynamic
programming as a seam of S. Avidan and A. Shamir, Seam carving for content-aware image resizing, 2007
(https://doi.org/10.1145/1276377.1276390).

The numbers were found as those of `ink` were: by hand, by looking at composed pages.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .patches import InkPatch, joined
from .text_lines import TextLine

Floats = NDArray[np.float32]
Columns = NDArray[np.int64]  # of a path: a column for each row

MAY_BE_TWO = 0.45  # width over the line's height from which a patch may be more than one digit
LEAST_CUT_HEIGHT = 0.4  # of the line's height: lower patches are parts of digits, and not cut
SURELY_ONE_SPAN = 1.5  # width over the line's height up to which neighbouring segments may make one digit
LARGEST_INNER_GAP = 0.3  # of the line's height, between parts of one digit
MAX_SEGMENTS = 6  # in one digit
CUTS_PER_HEIGHT, MAX_CUTS = 4.5, 20  # in a patch as wide as its line is high; in any patch
OVER_EACH_OTHER, LIKE_A_CUT = 0.6, 2.0  # share of the narrower one's width; stroke widths
LEAST_SEGMENT = 0.3  # ink of a segment, of that of an upright stroke as high as the line
CUT_COSTS = 3.2  # stroke widths of ink that a cut may cross
CUTS_APART = 0.03  # of the line's height: of cuts so near, the cheapest is taken
PAPER_COST = 0.004  # of full ink's: paper costs next to nothing, so that among free paths the straight one is taken
SIDEWAYS = 0.15  # share of a pixel's cost that is added for a step aside: a slanting path is longer than its rows
TRIM_BELOW = 0.3  # of full ink: rows and columns without more are cut off a segment's edges


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of a line that is not cut any further."""

    patch: InkPatch
    cut_before: float  # stroke widths of ink between it and the segment before; 0 where paper lies between


@dataclass(frozen=True, slots=True)
class Span:
    """Segments `start` to `stop` (exclusive) of a line, as one digit."""

    start: int
    stop: int
    patch: InkPatch


def segments(line: TextLine, stroke: float) -> list[Segment]:
    """Cut a line into its segments, from left to right.

    Args:
        stroke: the width of a stroke, in working pixels.
    """
    result: list[Segment] = []
    for patch in line.patches:
        low = patch.height < LEAST_CUT_HEIGHT * line.height
        if patch.sign or low or patch.width <= MAY_BE_TWO * line.height:
            result.append(Segment(patch, 0.0))
        else:
            result += _split(patch, _cuts(patch, line.height, stroke))
    return [_as_if_cut(result[i - 1], each) if i else each for i, each in enumerate(result)]


def spans(cut: list[Segment], height: float) -> list[Span]:
    """Every span of neighbouring segments that could be one digit, in a line of the given height."""
    found = []
    for start in range(len(cut)):
        for stop in range(start + 1, min(start + MAX_SEGMENTS, len(cut)) + 1):
            patches = [each.patch for each in cut[start:stop]]
            if stop - start > 1 and not _could_be_one(patches, height):
                continue
            found.append(Span(start, stop, joined(patches)))
    return found


def _as_if_cut(before: Segment, each: Segment) -> Segment:
    """Ink over or under other ink is a broken stroke sooner than a digit of its own: to part them costs like a cut."""
    one, other = before.patch, each.patch
    shared = min(one.right, other.right) - max(one.left, other.left)
    if one.sign or other.sign:  # a point under a digit that leans
        return each
    if each.cut_before == 0 and shared > OVER_EACH_OTHER * min(one.width, other.width):
        return Segment(other, LIKE_A_CUT)
    return each


def _split(patch: InkPatch, cuts: list[tuple[float, Columns]]) -> list[Segment]:
    """The patch along its cuts; the ink between two of them is a segment."""
    cuts_to_the_left = np.zeros(patch.ink.shape, np.int64)
    for _, path in cuts:
        cuts_to_the_left += np.arange(patch.width)[None, :] >= path[:, None]
    result: list[Segment] = []
    for number in range(len(cuts) + 1):
        part = _trimmed(patch, np.where(cuts_to_the_left == number, patch.ink, 0).astype(np.float32))
        if part is not None:
            result.append(Segment(part, cuts[number - 1][0] if result else 0.0))
    return result


def _could_be_one(patches: list[InkPatch], height: float) -> bool:
    width = max(patch.right for patch in patches) - min(patch.left for patch in patches)
    reach = patches[0].right
    for patch in patches[1:]:
        if patch.left - reach > LARGEST_INNER_GAP * height:
            return False
        reach = max(reach, patch.right)
    return width <= SURELY_ONE_SPAN * height


def _cuts(patch: InkPatch, height: float, stroke: float) -> list[tuple[float, Columns]]:
    """Cheap paths through the patch from left to right: (stroke widths of ink crossed, column for each row)."""
    down = _least_ink(patch.ink)
    up = _least_ink(patch.ink[::-1])[::-1]
    through = down + up - _cost(patch.ink)
    # A path may cross the middle rows anywhere: the best there stands for the column.
    first, last = patch.height // 3, max(patch.height // 3 + 1, 2 * patch.height // 3)
    costs = through[first:last].min(axis=0) / stroke
    columns = _lowest(costs, reach=max(1, round(CUTS_APART * height)))
    paths = _paths(down, up, columns, first + through[first:last, columns].argmin(axis=0))
    before = np.cumsum(patch.ink, axis=1)
    left = before[np.arange(patch.height)[:, None], paths].sum(axis=0)
    most = int(np.clip(round(CUTS_PER_HEIGHT * patch.width / height), 1, MAX_CUTS))
    least = LEAST_SEGMENT * stroke * height
    taken = [0.0, float(before[:, -1].sum())]
    chosen: list[int] = []
    for i in np.argsort(costs[columns], kind="stable"):
        if len(chosen) < most and all(abs(left[i] - other) >= least for other in taken):
            chosen.append(int(i))
            taken.append(float(left[i]))
    return [(float(costs[columns[i]]), paths[:, i]) for i in sorted(chosen, key=lambda i: float(left[i]))]


def _lowest(costs: Floats, *, reach: int) -> Columns:
    """The columns that cost no more than CUT_COSTS and than any within `reach`."""
    padded = np.pad(costs, reach, mode="edge")
    neighbourhood = np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1).min(axis=1)
    return np.flatnonzero((costs <= neighbourhood) & (costs <= CUT_COSTS))


def _cost(ink: Floats) -> Floats:
    """[h, w]: what a path pays for each pixel: its ink, and a little."""
    return (ink + PAPER_COST).astype(np.float32)


def _least_ink(ink: Floats) -> Floats:
    """[h, w]: the least cost of any path from the top row to each pixel, one row down and at most one aside a move."""
    cost = _cost(ink)
    total = np.empty_like(cost)
    total[0] = cost[0]
    for y in range(1, len(cost)):
        above = total[y - 1]
        best = above.copy()
        np.minimum(best[1:], above[:-1] + SIDEWAYS * cost[y, 1:], out=best[1:])
        np.minimum(best[:-1], above[1:] + SIDEWAYS * cost[y, :-1], out=best[:-1])
        total[y] = best + cost[y]
    return total


def _paths(down: Floats, up: Floats, columns: Columns, rows: Columns) -> Columns:
    """[h, n]: for each of n paths, given one pixel on each, the column in every row."""
    paths = np.tile(columns, (len(down), 1))
    upwards, downwards = _neighbours(down), _neighbours(up)
    for y in range(len(down) - 2, -1, -1):
        paths[y] = np.where(y < rows, upwards[y, paths[y + 1]], columns)
    for y in range(1, len(down)):
        paths[y] = np.where(y > rows, downwards[y, paths[y - 1]], paths[y])
    return paths


def _neighbours(totals: Floats) -> Columns:
    """[h, w]: which of the columns x, x - 1 and x + 1 is the cheapest in the row; x if the others are no cheaper."""
    padded = np.pad(totals, ((0, 0), (1, 1)), constant_values=np.inf)
    aside = np.stack([padded[:, 1:-1], padded[:, :-2], padded[:, 2:]]).argmin(axis=0)
    return np.arange(totals.shape[1]) + np.array([0, -1, 1])[aside]


def _trimmed(patch: InkPatch, ink: Floats) -> InkPatch | None:
    """The ink with its empty edges cut off, all but a pixel; None if nothing is left."""
    inked = ink > TRIM_BELOW
    rows, columns = np.flatnonzero(inked.any(axis=1)), np.flatnonzero(inked.any(axis=0))
    if len(rows) < 2 or len(columns) < 1:
        return None
    top, left = max(int(rows[0]) - 1, 0), max(int(columns[0]) - 1, 0)
    return InkPatch(patch.left + left, patch.top + top, ink[top : rows[-1] + 2, left : columns[-1] + 2])

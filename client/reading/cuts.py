"""Cuts a line's ink where one digit may end and the next begin, more often than there are digits.

Which of the cuts count is the classifier's to say: every run of neighbouring slices is a candidate, and the best way
through the line is searched among the candidates' scores (over-segmentation and recognition, as in LeCun et al. 1998,
section V). A cut is the path from top to bottom that crosses the least ink.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .text_lines import LineOfPieces, Piece, joined

Floats = NDArray[np.float32]
Path = NDArray[np.int64]  # a column for each row

MAY_BE_TWO = 0.45  # width over the line's height from which a piece may be more than one digit
SURELY_ONE_RUN = 1.5  # width over the line's height up to which neighbouring slices may make one digit
LARGEST_INNER_GAP = 0.3  # of the line's height, between parts of one digit
MOST_SLICES = 6  # in one digit
CUTS_PER_HEIGHT = 4.5  # at most, in a piece as wide as its line is high
OVER_EACH_OTHER, LIKE_A_CUT = 0.6, 2.0  # share of the narrower one's width; stroke widths
LEAST_SLICE = 0.3  # ink of a slice, of that of an upright stroke
CUT_COSTS = 3.2  # stroke widths of ink that a cut may cross
SIDEWAYS = 0.15  # share of a pixel's cost that is added for a step aside: a slanting way is longer than its rows


@dataclass(frozen=True, slots=True)
class Slice:
    """A part of a line that is not cut any further."""

    piece: Piece
    cut_before: float  # stroke widths of ink between it and the slice before; 0 where paper lies between


@dataclass(frozen=True, slots=True)
class Run:
    """Slices `start` to `stop` (exclusive) of a line, as one digit."""

    start: int
    stop: int
    piece: Piece


def slices(line: LineOfPieces, stroke: float) -> list[Slice]:
    """The line's slices from left to right."""
    result: list[Slice] = []
    for piece in line.pieces:
        if piece.width <= MAY_BE_TWO * line.height or piece.height < 0.4 * line.height:
            result.append(Slice(piece, 0.0))
        else:
            result += _sliced(piece, _cuts(piece, line.height, stroke))
    return [_as_if_cut(result[i - 1], each) if i else each for i, each in enumerate(result)]


def _as_if_cut(before: Slice, each: Slice) -> Slice:
    """Ink over or under other ink is a broken stroke sooner than a digit of its own: to part them costs like a cut."""
    one, other = before.piece, each.piece
    shared = min(one.right, other.right) - max(one.left, other.left)
    if each.cut_before == 0 and shared > OVER_EACH_OTHER * min(one.width, other.width):
        return Slice(other, LIKE_A_CUT)
    return each


def _sliced(piece: Piece, cuts: list[tuple[float, Path]]) -> list[Slice]:
    """The piece along its cuts; the ink between two of them is a slice."""
    cuts_to_the_left = np.zeros(piece.ink.shape, np.int64)
    for _, path in cuts:
        cuts_to_the_left += np.arange(piece.width)[None, :] >= path[:, None]
    result: list[Slice] = []
    for number in range(len(cuts) + 1):
        part = _trimmed(piece, np.where(cuts_to_the_left == number, piece.ink, 0).astype(np.float32))
        if part is not None:
            result.append(Slice(part, cuts[number - 1][0] if result else 0.0))
    return result


def runs(cut: list[Slice], height: float) -> list[Run]:
    """Every run of neighbouring slices that could be one digit."""
    found = []
    for start in range(len(cut)):
        for stop in range(start + 1, min(start + MOST_SLICES, len(cut)) + 1):
            pieces = [each.piece for each in cut[start:stop]]
            if stop - start > 1 and not _could_be_one(pieces, height):
                continue
            found.append(Run(start, stop, joined(pieces)))
    return found


def _could_be_one(pieces: list[Piece], height: float) -> bool:
    width = max(piece.right for piece in pieces) - min(piece.left for piece in pieces)
    reach = pieces[0].right
    for piece in pieces[1:]:
        if piece.left - reach > LARGEST_INNER_GAP * height:
            return False
        reach = max(reach, piece.right)
    return width <= SURELY_ONE_RUN * height


def _cuts(piece: Piece, height: float, stroke: float) -> list[tuple[float, Path]]:
    """Cheap ways through the piece from left to right: (stroke widths of ink crossed, column for each row)."""
    down = _least_ink(piece.ink)
    up = _least_ink(piece.ink[::-1])[::-1]
    through = down + up - _cost(piece.ink)
    # A way may cross the middle rows anywhere: the best there stands for the column.
    first, last = piece.height // 3, max(piece.height // 3 + 1, 2 * piece.height // 3)
    costs = through[first:last].min(axis=0) / stroke
    columns = _lowest(costs, reach=max(1, round(0.03 * height)))
    paths = _paths(down, up, columns, first + through[first:last, columns].argmin(axis=0))
    before = np.cumsum(piece.ink, axis=1)
    left = before[np.arange(piece.height)[:, None], paths].sum(axis=0)
    most = int(np.clip(round(CUTS_PER_HEIGHT * piece.width / height), 1, 20))
    least = LEAST_SLICE * stroke * height
    taken = [0.0, float(before[:, -1].sum())]
    chosen: list[int] = []
    for i in np.argsort(costs[columns], kind="stable"):
        if len(chosen) < most and all(abs(left[i] - other) >= least for other in taken):
            chosen.append(int(i))
            taken.append(float(left[i]))
    return [(float(costs[columns[i]]), paths[:, i]) for i in sorted(chosen, key=lambda i: float(left[i]))]


def _lowest(costs: Floats, *, reach: int) -> Path:
    """The columns that cost no more than CUT_COSTS and than any within `reach`."""
    padded = np.pad(costs, reach, mode="edge")
    neighbourhood = np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1).min(axis=1)
    return np.flatnonzero((costs <= neighbourhood) & (costs <= CUT_COSTS))


def _cost(ink: Floats) -> Floats:
    """Ink costs its amount; paper next to nothing, so that among free ways the straight one is taken."""
    return (ink + 0.004).astype(np.float32)


def _least_ink(ink: Floats) -> Floats:
    """[h, w]: the least ink on any way from the top row to each pixel, one row down and at most one aside a step."""
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


def _paths(down: Floats, up: Floats, columns: Path, rows: Path) -> Path:
    """[h, n]: for each of n ways, given one pixel on each, the column in every row."""
    paths = np.tile(columns, (len(down), 1))
    onward, back = _steps(down), _steps(up)
    for y in range(len(down) - 2, -1, -1):
        paths[y] = np.where(y < rows, onward[y, paths[y + 1]], columns)
    for y in range(1, len(down)):
        paths[y] = np.where(y > rows, back[y, paths[y - 1]], paths[y])
    return paths


def _steps(totals: Floats) -> Path:
    """[h, w]: which of the columns x, x - 1 and x + 1 is the cheapest in the row; x if the others are no cheaper."""
    padded = np.pad(totals, ((0, 0), (1, 1)), constant_values=np.inf)
    aside = np.stack([padded[:, 1:-1], padded[:, :-2], padded[:, 2:]]).argmin(axis=0)
    return np.arange(totals.shape[1]) + np.array([0, -1, 1])[aside]


def _trimmed(piece: Piece, ink: Floats) -> Piece | None:
    rows, columns = np.flatnonzero((ink > 0.3).any(axis=1)), np.flatnonzero((ink > 0.3).any(axis=0))
    if len(rows) < 2 or len(columns) < 1:
        return None
    top, left = max(int(rows[0]) - 1, 0), max(int(columns[0]) - 1, 0)
    return Piece(piece.left + left, piece.top + top, ink[top : rows[-1] + 2, left : columns[-1] + 2])

"""Cuts a line's ink where one digit may end and the next begin, more often than there are digits.

Which of the cuts count is the classifier's to say: every run of neighbouring slices is a candidate, and the best way
through the line is searched among the candidates' scores (over-segmentation and recognition, as in LeCun et al. 1998,
section V). A cut is the path from top to bottom that crosses the least ink.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from client.image_lines import LineOfPieces, Piece, joined

Floats = NDArray[np.float32]

MAY_BE_TWO = 0.45  # width over the line's height from which a piece may be more than one digit
SURELY_ONE_RUN = 1.5  # width over the line's height up to which neighbouring slices may make one digit
LARGEST_INNER_GAP = 0.3  # of the line's height, between parts of one digit
MOST_SLICES = 6  # in one digit
CUTS_PER_HEIGHT = 4.5  # at most, in a piece as wide as its line is high
LEAST_SLICE = 0.3  # ink of a slice, of that of an upright stroke
CUT_COSTS = 3.2  # stroke widths of ink that a cut may cross


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
    return result


def _sliced(piece: Piece, cuts: list[tuple[float, NDArray[np.int64]]]) -> list[Slice]:
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


def _cuts(piece: Piece, height: float, stroke: float) -> list[tuple[float, NDArray[np.int64]]]:
    """Cheap ways through the piece from left to right: (stroke widths of ink crossed, column for each row)."""
    down = _least_ink(piece.ink)
    up = _least_ink(piece.ink[::-1])[::-1]
    through = down + up - _cost(piece.ink)
    # A way may cross the middle rows anywhere: the best there stands for the column.
    rows = slice(piece.height // 3, max(piece.height // 3 + 1, 2 * piece.height // 3))
    total = through[rows].min(axis=0) / stroke
    most = int(np.clip(round(CUTS_PER_HEIGHT * piece.width / height), 1, 20))
    before = np.cumsum(piece.ink, axis=1)
    least = LEAST_SLICE * stroke * height
    chosen: list[tuple[float, float, NDArray[np.int64]]] = []
    for column in np.argsort(total, kind="stable"):
        if len(chosen) == most or total[column] > CUT_COSTS:
            break
        path = _path(piece.ink, down, up, int(column), rows)
        left = float(before[np.arange(piece.height), path].sum())
        if all(abs(left - other) >= least for other in (0.0, float(before[:, -1].sum()), *(c[0] for c in chosen))):
            chosen.append((left, float(total[column]), path))
    return [(cost, path) for _, cost, path in sorted(chosen, key=lambda cut: cut[0])]


def _cost(ink: Floats) -> Floats:
    """Ink costs its amount; paper next to nothing, so that among free ways the straight one is taken."""
    return (ink + 0.004).astype(np.float32)


SIDEWAYS = 0.15  # added for a step aside: a slanting way is longer than its rows


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


def _path(ink: Floats, down: Floats, up: Floats, column: int, rows: slice) -> NDArray[np.int64]:
    middle = rows.start + int(np.argmin((down + up)[rows, column] - _cost(ink)[rows, column]))
    path = np.empty(len(ink), np.int64)
    path[middle] = column
    for y in range(middle - 1, -1, -1):
        path[y] = _step(down[y], int(path[y + 1]))
    for y in range(middle + 1, len(ink)):
        path[y] = _step(up[y], int(path[y - 1]))
    return path


def _step(totals: Floats, column: int) -> int:
    choices = [c for c in (column, column - 1, column + 1) if 0 <= c < len(totals)]
    return min(choices, key=lambda c: float(totals[c]))


def _trimmed(piece: Piece, ink: Floats) -> Piece | None:
    rows, columns = np.flatnonzero((ink > 0.3).any(axis=1)), np.flatnonzero((ink > 0.3).any(axis=0))
    if len(rows) < 2 or len(columns) < 1:
        return None
    top, left = max(int(rows[0]) - 1, 0), max(int(columns[0]) - 1, 0)
    return Piece(piece.left + left, piece.top + top, ink[top : rows[-1] + 2, left : columns[-1] + 2])

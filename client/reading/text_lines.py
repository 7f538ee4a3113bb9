"""Sorts a page's ink into lines of writing, and each line's ink into pieces from left to right.

A piece is ink that hangs together; specks are dropped, and the stray parts of a broken stroke go to the piece they
belong to if that is plain to see. What remains unclear (one wide piece: one digit or two? two near pieces: two digits
or one?) is left to the classifier, see `client.image_cuts` and `client.reading`.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from .ink import Ink

Floats = NDArray[np.float32]

SPECK_AREA = 0.9  # of a stroke's width squared: less ink is a speck
FRAGMENT_HEIGHT = 0.42  # of the digits' height: less is a part of a digit, or dirt


@dataclass(frozen=True, slots=True)
class Piece:
    """Ink that hangs together, in working pixels."""

    left: int
    top: int
    ink: Floats  # [h, w], 0 to 1; 0 where the ink is another piece's

    @property
    def right(self) -> int:
        return self.left + int(self.ink.shape[1])

    @property
    def bottom(self) -> int:
        return self.top + int(self.ink.shape[0])

    @property
    def width(self) -> int:
        return int(self.ink.shape[1])

    @property
    def height(self) -> int:
        return int(self.ink.shape[0])

    @property
    def centre(self) -> tuple[float, float]:
        return (self.left + self.right) / 2, (self.top + self.bottom) / 2


@dataclass(frozen=True, slots=True)
class LineOfPieces:
    """One line's pieces, from left to right."""

    pieces: tuple[Piece, ...]
    height: float  # of its digits, typically
    angle: float  # by which the line climbs down to the right, radians


def joined(pieces: list[Piece] | tuple[Piece, ...]) -> Piece:
    """Several pieces as one."""
    if len(pieces) == 1:
        return pieces[0]
    left, top = min(p.left for p in pieces), min(p.top for p in pieces)
    right, bottom = max(p.right for p in pieces), max(p.bottom for p in pieces)
    ink = np.zeros((bottom - top, right - left), np.float32)
    for piece in pieces:
        place = ink[piece.top - top : piece.bottom - top, piece.left - left : piece.right - left]
        np.maximum(place, piece.ink, out=place)
    return Piece(left, top, ink)


def find_lines(ink: Ink) -> tuple[list[LineOfPieces], float]:
    """The page's lines from top to bottom, and the width of a stroke in working pixels."""
    stroke = _stroke_width(ink.mask)
    pieces = _pieces(ink, stroke)
    if not pieces:
        return [], stroke
    height = _digit_height(pieces, stroke)
    bodies, fragments = _sorted_out(pieces, height=height, stroke=stroke)
    if not bodies:
        return [], stroke
    lines = _lines_of(bodies, height=height, angle=ink.angle)
    heights = [_line_height(line) for line in lines]
    for fragment in fragments:
        _attach(fragment, lines, heights, stroke)
    lines = [_merged(line, line_height) for line, line_height in zip(lines, heights, strict=True)]
    result = [
        LineOfPieces(tuple(line), line_height, _line_angle(line, line_height, ink.angle))
        for line, line_height in zip(lines, heights, strict=True)
    ]
    return sorted(result, key=lambda line: _level(line, ink.angle)), stroke


def _stroke_width(mask: NDArray[np.bool_]) -> float:
    """In a strip of width w the distance to its edge is w/4 on average."""
    distance = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 3)
    return max(1.0, 4 * float(distance[mask].mean()) - 1.0)


def _pieces(ink: Ink, stroke: float) -> list[Piece]:
    count, labels, stats, _ = cv2.connectedComponentsWithStats(ink.mask.astype(np.uint8), connectivity=8)
    page_height, page_width = ink.mask.shape
    pieces = []
    for label in range(1, count):
        left, top, width, height, area = (int(value) for value in stats[label])
        if area < max(SPECK_AREA * stroke**2, 4) or min(page_width, page_height) < 4:
            continue
        if _is_rim(left=left, top=top, width=width, height=height, page=ink.mask.shape):
            continue
        # One pixel more on each side: the soft edge, which the mask leaves out, makes the antialiasing.
        y0, y1 = max(top - 1, 0), min(top + height + 1, page_height)
        x0, x1 = max(left - 1, 0), min(left + width + 1, page_width)
        own = (labels[y0:y1, x0:x1] == label).astype(np.uint8)
        near = cv2.dilate(own, np.ones((3, 3), np.uint8)) > 0
        patch = np.where(near, ink.amount[y0:y1, x0:x1], 0).astype(np.float32)
        pieces.append(Piece(x0, y0, patch))
    return pieces


def _is_rim(*, left: int, top: int, width: int, height: int, page: tuple[int, ...]) -> bool:
    """Whether a component is the table beside the page, its edge, or a shadow from outside."""
    sides = (left <= 1) + (top <= 1) + (left + width >= page[1] - 1) + (top + height >= page[0] - 1)
    long = width > 0.6 * page[1] or height > 0.6 * page[0]
    return sides >= 2 and long or (sides >= 1 and (width >= 0.9 * page[1] or height >= 0.97 * page[0]))


def _digit_height(pieces: list[Piece], stroke: float) -> float:
    heights = np.array([max(piece.height, 0.6 * piece.width) for piece in pieces], np.float64)
    weights = np.array([float(piece.ink.sum()) for piece in pieces])
    tall = heights >= 0.45 * float(np.quantile(heights[weights > 0.15 * weights.max()], 0.9))
    return max(float(np.median(heights[tall])), 2 * stroke)


def _sorted_out(pieces: list[Piece], *, height: float, stroke: float) -> tuple[list[Piece], list[Piece]]:
    """Bodies of digits, and fragments that may belong to one; specks of no account are dropped."""
    bodies, fragments = [], []
    for piece in pieces:
        if piece.height >= FRAGMENT_HEIGHT * height:
            bodies.append(piece)
        elif float(piece.ink.sum()) >= 1.2 * stroke**2:
            fragments.append(piece)
    return bodies, fragments


def _lines_of(bodies: list[Piece], *, height: float, angle: float) -> list[list[Piece]]:
    """Chains of pieces, each beside the next; a chain follows a line even if the line runs askew."""
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
    chains: dict[int, list[Piece]] = {}
    for i in order:
        chains.setdefault(root(i), []).append(bodies[i])
    return _same_level(list(chains.values()), height=height, angle=angle)


def _link_cost(left: Piece, right: Piece, *, height: float, angle: float) -> float:
    """How far `right` is from being the next on `left`'s line; infinite if it is on another line."""
    distance = right.left - left.right
    fall = np.tan(angle) * (right.centre[0] - left.centre[0])
    overlap = min(left.bottom + fall, right.bottom) - max(left.top + fall, right.top)
    if overlap < 0.4 * min(left.height, right.height) or distance > 4 * height:
        return float("inf")
    return float(max(distance, 0) + 0.7 * abs(right.centre[1] - left.centre[1] - fall))


def _same_level(chains: list[list[Piece]], *, height: float, angle: float) -> list[list[Piece]]:
    """Chains joined that lie on one level: a wide gap within a line is still the line."""

    def level(chain: list[Piece]) -> float:
        return float(np.mean([p.centre[1] - np.tan(angle) * p.centre[0] for p in chain]))

    chains = sorted(chains, key=level)
    joined_chains: list[list[Piece]] = []
    for chain in chains:
        last = joined_chains[-1] if joined_chains else None
        if last is not None and abs(level(chain) - level(last)) < 0.4 * height and not _overlap(last, chain):
            last.extend(chain)
        else:
            joined_chains.append(list(chain))
    return [sorted(chain, key=lambda piece: piece.centre[0]) for chain in joined_chains]


def _overlap(one: list[Piece], other: list[Piece]) -> bool:
    left, right = max(one[0].left, other[0].left), min(max(p.right for p in one), max(p.right for p in other))
    return right > left


def _line_height(line: list[Piece]) -> float:
    heights = np.array([piece.height for piece in line], np.float64)
    tall = heights[heights >= 0.6 * heights.max()]
    return float(np.median(tall))


def _attach(fragment: Piece, lines: list[list[Piece]], heights: list[float], stroke: float) -> None:
    """Put a fragment into the line it lies in, if it lies near a body there."""
    best, best_distance = None, np.inf
    for number, line in enumerate(lines):
        for piece in line:
            across = max(piece.left - fragment.right, fragment.left - piece.right, 0)
            down = max(piece.top - fragment.bottom, fragment.top - piece.bottom, 0)
            distance = float(np.hypot(across, down))
            if distance < best_distance:
                best, best_distance = number, distance
    if best is None:
        return
    size = max(fragment.width, fragment.height)
    # A long stroke may be far off (the bar of a 5); a dot must be close.
    if best_distance <= max(0.5 * size, 1.5 * stroke) and best_distance < 0.4 * heights[best]:
        lines[best].append(fragment)


def _merged(line: list[Piece], height: float) -> list[Piece]:
    """Fragments that lie over or under a body become part of it; the others stay pieces of their own."""
    bodies = [piece for piece in line if piece.height >= FRAGMENT_HEIGHT * height]
    loose = []
    for fragment in (piece for piece in line if piece.height < FRAGMENT_HEIGHT * height):
        shares = [_shared_width(fragment, body) / fragment.width for body in bodies]
        if shares and max(shares) > 0.65:
            place = int(np.argmax(shares))
            bodies[place] = joined([bodies[place], fragment])
        else:
            loose.append(fragment)
    return sorted(bodies + loose, key=lambda piece: piece.centre[0])


def _shared_width(one: Piece, other: Piece) -> int:
    return max(0, min(one.right, other.right) - max(one.left, other.left))


def _line_angle(line: list[Piece], height: float, page_angle: float) -> float:
    """The line's own slope if it is long enough to tell, else the page's."""
    bodies = [piece for piece in line if piece.height > 0.6 * height]
    if len(bodies) < 4:
        return page_angle
    x, y = np.array([piece.centre for piece in bodies]).T
    slope = float(np.arctan(np.polyfit(x, y, 1)[0]))
    certain = (x.max() - x.min()) / height  # in digits
    return slope if certain > 4 else page_angle


def _level(line: LineOfPieces, angle: float) -> float:
    return float(np.mean([piece.centre[1] - np.tan(angle) * piece.centre[0] for piece in line.pieces]))

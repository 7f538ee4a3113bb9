"""Sorts a page's ink into lines of writing, and each line's ink into patches from left to right.

A patch begins as a connected component: ink that hangs together. Specks are dropped, and the stray parts of a broken
stroke are joined to the patch they belong to if that is plain to see. What remains unclear (one wide patch: one digit
or two? two near patches: two digits or one?) is left to the classifier, see `cuts` and `best_path`.

The largest writing is sorted first, then what it leaves, by its own height: small lines beside large ones are lines.
What could be writing and is in no line is handed back, with the reason.

The numbers were found as those of `ink` were: by hand, by looking at composed pages. Lengths are in digit heights
where nothing else is said: the page's (`_digit_height`) until there are lines, then the line's own.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from . import signs
from .components import HALF_INK, SPECK_LENGTH, find_components, is_filled
from .ink import Ink
from .patches import InkPatch, joined, stroke_width

Floats = NDArray[np.float32]

# The height of the page's digits.
WIDTH_AS_HEIGHT = 0.6  # a patch's width counts as so much height: of a line of joined digits the height says little
HEAVY = 0.15  # of the heaviest patch's ink: lighter ones have no say
TALL_QUANTILE, TALL = 0.9, 0.45  # patches over this share of this quantile of the heights have the say
LEAST_DIGIT_HEIGHT = 2  # stroke widths

# Which patches are digits' bodies, and which are fragments of a digit.
FRAGMENT_HEIGHT = 0.42  # of the digits' height: less is a part of a digit, or dirt
FRAGMENT_INK = 1.2  # stroke widths squared: less is dirt
LONG_REACH, SHORT_REACH, FAR = 0.5, 1.5, 0.4  # of a fragment's size; stroke widths; digit heights: see `_attach`
# Heights: a dot, dash or comma lies so far over or under its line, and off its digit; and is so long at most.
SIGN_ABOVE, SIGN_BELOW, SIGN_REACH, SIGN_SIZE = 0.15, 0.4, 0.8, 1.1
FRAGMENT_SHARE = 0.65  # of its width over or under a body, from which a fragment is part of that body

# Which bodies follow each other on a line.
LEAST_OVERLAP = 0.4  # of the lower one's height
WIDEST_GAP = 4  # digit heights, to link neighbours; wider gaps are closed by `_same_level`
FALL_COST = 0.7  # of a pixel of distance, for each that the neighbour lies higher or lower
SAME_LEVEL = 0.4  # digit heights between the levels of two chains that are one line

# Smaller writing beside larger.
ONE_SIZE = 0.62  # of the largest line's height: lower lines are sorted by their own
ROUNDS = 4  # of sorting what is left: a height each
LEAST_LINE_HEIGHT = 8  # px: lower writing cannot be told from dirt
LEAST_OF_PAGE = 0.3  # of the largest line's height, from which a single patch is a line
LEAST_STROKES = 3.0  # stroke widths that a line of smaller writing is high: less is dots and dashes

# What is too large for its place.
HOLDS_MARKS = 2  # other patches that lie in a patch's box, from which it is no digit
OVER_HELD, LEAST_HELD = 1.6, 8.0  # times as high as those, at least; at most
# What is crossed out: at least so wide for its height, and so many stroke widths high; where the stroke lies in its
# height; how steep it may be, and how many slopes are tried; the share of the width that it covers.
CROSSED_ASPECT, CROSSED_STROKES, CROSSED_LEVEL = 1.9, 4.0, (0.2, 0.8)
CROSSED_SLOPE, CROSSED_SLOPES, CROSSED_COVERS = 0.15, 31, 0.9
CROSSED_END, CROSSED_END_HIGH = 0.1, 0.45  # of its height: so far it runs out, and is at most so high there
ONE_MARK = 0.5  # of the nearest line's height: what is left out and so large may be a digit
# Of the line's height: pieces over each other that are together so wide at most, and no further from each other.
STROKE_WIDE, PIECES_APART = 0.4, 0.35

WITHIN, SMALL_IN_LINE = 0.75, 0.75  # of its height; of the height of the patch beside it: see `_within_lines`

# The line's own height and angle.
SOMETHING_IN_LINE, TALL_IN_LINE = 0.4, 0.6  # of the line's highest, of its typical: lower ones are parts or blots
BODIES_FOR_ANGLE, LENGTH_FOR_ANGLE = 4, 4  # at least, the length in digit heights: of fewer the slope is chance


@dataclass(frozen=True, slots=True)
class TextLine:
    """One line's patches, from left to right."""

    patches: tuple[InkPatch, ...]
    height: float  # of its digits, typically; working pixels
    angle: float  # by which the line falls to the right, radians
    stroke: float = 0.0  # width of its pen, working pixels


@dataclass(frozen=True, slots=True)
class Stray:
    """Ink that is in no line."""

    patch: InkPatch
    why: str
    may_be_digit: bool  # as large as the digits of the line nearest to it


@dataclass(frozen=True, slots=True)
class Lines:
    """A page's ink, sorted."""

    lines: tuple[TextLine, ...]  # from top to bottom
    strays: tuple[Stray, ...]


def find_lines(ink: Ink) -> Lines:
    """Sort a page's ink into lines."""
    stroke = stroke_width([ink.mask])
    components, specks = find_components(ink, stroke)
    patches, strays = _without_drawings(components, stroke, ink.grey)
    lines: list[TextLine] = []
    for number in range(ROUNDS):
        found, left, dots = _sorted_once(patches, specks, stroke, ink.angle)
        if number:
            found, too_small = _large_enough(found, lines[0].height)
            left += too_small
        if not found:
            break
        lines += found
        strays += [Stray(dot, "a point, or dirt", True) for dot in dots]
        patches = left
    strays += [Stray(patch, "too small or too far off for the lines", False) for patch in patches]
    strays += _broken_strokes([*patches, *specks], lines)
    ordered = sorted(lines, key=lambda line: _level(line.patches, ink.angle))
    return Lines(tuple(ordered), tuple(_weighed(strays, lines)))


def _sorted_once(
    patches: list[InkPatch], specks: list[InkPatch], stroke: float, angle: float
) -> tuple[list[TextLine], list[InkPatch], list[InkPatch]]:
    """The lines of the largest writing among the patches, the largest first; the patches in none; what may be dots."""
    if not patches:
        return [], [], []
    height = _digit_height(patches, stroke)
    bodies, fragments = _bodies_and_fragments(patches, height=height)
    if not bodies:
        return [], patches, []
    tiny = [each for each in fragments if _is_tiny(each, stroke)]
    fragments = [each for each in fragments if not _is_tiny(each, stroke)]
    lines, smaller = _of_one_size(_chained(bodies, height=height, angle=angle))
    single = [chain[0] for chain in smaller if len(chain) == 1]  # as a long comma is
    heights = [_line_height(line) for line in lines]
    left = [patch for patch in [*single, *fragments] if not _attach(patch, lines, heights, stroke)]
    left += [patch for chain in smaller if len(chain) > 1 for patch in chain]
    marked = [
        signs.marked(line, line_height, angle, specks + tiny) for line, line_height in zip(lines, heights, strict=True)
    ]
    dots = [patch for line in marked for patch in line if _is_lost_dot(patch)]
    lines = [
        _with_fragments_joined([patch for patch in line if not _is_lost_dot(patch)], line_height)
        for line, line_height in zip(marked, heights, strict=True)
    ]
    found = [
        TextLine(
            tuple(line),
            line_height,
            _line_angle(line, line_height, angle),
            stroke_width([patch.ink > HALF_INK for patch in line]),
        )
        for line, line_height in zip(lines, heights, strict=True)
    ]
    return sorted(found, key=lambda line: -line.height), left, dots


def _is_lost_dot(patch: InkPatch) -> bool:
    return not patch.sign and patch.like == signs.LOST_DOT


def _of_one_size(chains: list[list[InkPatch]]) -> tuple[list[list[InkPatch]], list[list[InkPatch]]]:
    """The chains of the largest writing, and the smaller ones, whose neighbours may be fragments to it."""
    heights = [_line_height(chain) for chain in chains]
    least = ONE_SIZE * max(heights)
    large = [chain for chain, height in zip(chains, heights, strict=True) if height >= least]
    return large, [chain for chain, height in zip(chains, heights, strict=True) if height < least]


def _is_tiny(patch: InkPatch, stroke: float) -> bool:
    """Whether it is too little for a part of a stroke; a dot at most."""
    return (
        float(patch.ink.sum()) < FRAGMENT_INK * stroke**2 and max(patch.width, patch.height) < SPECK_LENGTH * stroke + 2
    )


def _large_enough(found: list[TextLine], page_height: float) -> tuple[list[TextLine], list[InkPatch]]:
    """Lines that are smaller writing, and the patches of those that are dirt."""
    kept, dropped = [], []
    for line in found:
        single = len(line.patches) == 1 and line.height < LEAST_OF_PAGE * page_height
        if single or line.height < max(LEAST_LINE_HEIGHT, LEAST_STROKES * line.stroke):
            dropped += list(line.patches)
        else:
            kept.append(line)
    return kept, dropped


def _without_drawings(
    patches: list[InkPatch], stroke: float, grey: NDArray[np.uint8] | None
) -> tuple[list[InkPatch], list[Stray]]:
    """The patches, and those apart that hold marks of their own, as frames do, are crossed out, or filled."""
    kept, strays = [], []
    for patch in patches:
        held = [other for other in patches if OVER_HELD * other.height <= patch.height and _surrounds(patch, other)]
        if len([other for other in held if other.height * LEAST_HELD >= patch.height]) >= HOLDS_MARKS:
            strays.append(Stray(patch, "holds marks of its own: a frame or a drawing", True))
        elif _is_crossed_out(patch, stroke):
            strays.append(Stray(patch, "crossed out", True))
        elif grey is not None and is_filled(patch, grey):
            strays.append(Stray(patch, "a filled shape", True))
        else:
            kept.append(patch)
    return kept, strays


def _surrounds(patch: InkPatch, other: InkPatch) -> bool:
    """Whether it has ink on all four sides of the other's middle."""
    x, y = (int(middle) - edge for middle, edge in zip(other.centre, (patch.left, patch.top), strict=True))
    if not (0 < x < patch.width and 0 < y < patch.height):
        return False
    inked = patch.ink > HALF_INK
    return bool(inked[y, :x].any() and inked[y, x:].any() and inked[:y, x].any() and inked[y:, x].any())


def _is_crossed_out(patch: InkPatch, stroke: float) -> bool:
    """Whether a straight stroke runs through several digits, at about half their height, and out on both sides."""
    if patch.width < CROSSED_ASPECT * patch.height or patch.height < CROSSED_STROKES * stroke:
        return False
    y, x = np.nonzero(patch.ink > HALF_INK)
    reach = CROSSED_END * patch.height
    ends = [y[x < reach], y[patch.width - x < reach]]
    if any(not len(end) or np.ptp(end) > CROSSED_END_HIGH * patch.height for end in ends):
        return False
    middle = slice(round(CROSSED_LEVEL[0] * patch.height), round(CROSSED_LEVEL[1] * patch.height))
    for slope in np.linspace(-CROSSED_SLOPE, CROSSED_SLOPE, CROSSED_SLOPES):
        rows = np.rint(y - slope * (x - patch.width / 2)).astype(int).clip(0, patch.height - 1)
        if np.bincount(rows, minlength=patch.height)[middle].max(initial=0) >= CROSSED_COVERS * patch.width:
            return True
    return False


def _weighed(strays: list[Stray], lines: list[TextLine]) -> list[Stray]:
    """The strays that are large enough for writing, and whether each may be a digit of the line nearest to it."""
    if not lines:
        return strays
    result = []
    for stray in strays:
        nearest = min(lines, key=lambda line: _distance(stray.patch, line))
        if stray.may_be_digit or max(stray.patch.height, stray.patch.width) >= FRAGMENT_HEIGHT * nearest.height:
            may_be_digit = stray.may_be_digit or stray.patch.height >= ONE_MARK * nearest.height
            result.append(Stray(stray.patch, stray.why, may_be_digit))
    return result


def _broken_strokes(pieces: list[InkPatch], lines: list[TextLine]) -> list[Stray]:
    """Pieces over each other in a gap of a line, together as high as a mark: what a faint pen leaves of a 1."""
    found = []
    for line in lines:
        top, bottom = (float(np.median([getattr(p, side) for p in line.patches])) for side in ("top", "bottom"))
        free = [p for p in pieces if top <= p.centre[1] <= bottom and not _share_columns([p], list(line.patches))]
        for group in _over_each_other(free, line.height):
            whole = joined(group)
            if len(group) > 1 and whole.height >= ONE_MARK * line.height and whole.width < STROKE_WIDE * line.height:
                found.append(Stray(whole, "a broken stroke, or dirt", True))
    return found


def _over_each_other(pieces: list[InkPatch], height: float) -> list[list[InkPatch]]:
    """Pieces, grouped by their columns: from one to the next it is not far."""
    groups: list[list[InkPatch]] = []
    for piece in sorted(pieces, key=lambda piece: piece.centre[0]):
        last = groups[-1][-1] if groups else None
        if last is not None and piece.centre[0] - last.centre[0] < PIECES_APART * height:
            groups[-1].append(piece)
        else:
            groups.append([piece])
    return groups


def _distance(patch: InkPatch, line: TextLine) -> float:
    return min(float(np.hypot(p.centre[0] - patch.centre[0], p.centre[1] - patch.centre[1])) for p in line.patches)


def _digit_height(patches: list[InkPatch], stroke: float) -> float:
    """Of the page's digits, typically."""
    heights = np.array([max(patch.height, WIDTH_AS_HEIGHT * patch.width) for patch in patches], np.float64)
    weights = np.array([float(patch.ink.sum()) for patch in patches])
    tall = heights >= TALL * float(np.quantile(heights[weights > HEAVY * weights.max()], TALL_QUANTILE))
    return max(float(np.median(heights[tall])), LEAST_DIGIT_HEIGHT * stroke)


def _bodies_and_fragments(patches: list[InkPatch], *, height: float) -> tuple[list[InkPatch], list[InkPatch]]:
    """Bodies of digits, and fragments that may belong to one."""
    bodies = [patch for patch in patches if patch.height >= FRAGMENT_HEIGHT * height]
    return bodies, [patch for patch in patches if patch.height < FRAGMENT_HEIGHT * height]


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
    return _within_lines(_same_level(list(chains.values()), height=height, angle=angle), height=height)


def _within_lines(chains: list[list[InkPatch]], *, height: float) -> list[list[InkPatch]]:
    """Chains, those apart that lie within the height of another beside them: raised and lowered parts of its line."""
    ordered = sorted(chains, key=lambda chain: -max(patch.height for patch in chain))
    kept: list[list[InkPatch]] = []
    for chain in ordered:
        home = next((line for line in kept if all(_lies_within(patch, line, height) for patch in chain)), None)
        if home is None:
            kept.append(list(chain))
        else:
            home.extend(chain)
    return [sorted(chain, key=lambda patch: patch.centre[0]) for chain in kept]


def _lies_within(patch: InkPatch, line: list[InkPatch], height: float) -> bool:
    """Whether a small patch is level with a larger one near it."""
    return any(
        patch.height <= SMALL_IN_LINE * each.height
        and min(patch.bottom, each.bottom) - max(patch.top, each.top) >= WITHIN * patch.height
        and max(patch.left - each.right, each.left - patch.right) <= height
        for each in line
    )


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
    return any(min(a.right, b.right) > max(a.left, b.left) for a in one for b in other)


def _line_height(line: list[InkPatch]) -> float:
    """The typical height, without the lower ones; signs that reach further have no more say than digits."""
    heights = np.array([patch.height for patch in line], np.float64)
    usual = float(np.median(heights[heights >= SOMETHING_IN_LINE * heights.max()]))
    return float(np.median(heights[heights >= TALL_IN_LINE * usual]))


def _attach(fragment: InkPatch, lines: list[list[InkPatch]], heights: list[float], stroke: float) -> bool:
    """Put a fragment into the line it lies in, if it lies near a body there; whether it was put."""
    best, best_distance, nearest = None, np.inf, fragment
    for number, line in enumerate(lines):
        for patch in line:
            across = max(patch.left - fragment.right, fragment.left - patch.right, 0)
            down = max(patch.top - fragment.bottom, fragment.top - patch.bottom, 0)
            distance = float(np.hypot(across, down))
            if distance < best_distance:
                best, best_distance, nearest = number, distance, patch
    if best is None:
        return False
    size = max(fragment.width, fragment.height)
    height = heights[best]
    # A long stroke may be far off (the bar of a 5); a dot must be close, unless it stands on the line, as signs do.
    near = best_distance <= max(LONG_REACH * size, SHORT_REACH * stroke) and best_distance < FAR * height
    level = nearest.top - SIGN_ABOVE * height < fragment.centre[1] < nearest.bottom + SIGN_BELOW * height
    if near or (level and best_distance < SIGN_REACH * height and size < SIGN_SIZE * height):
        lines[best].append(fragment)
        return True
    return False


def _with_fragments_joined(line: list[InkPatch], height: float) -> list[InkPatch]:
    """Fragments that lie over or under a body become part of it; the others stay patches of their own."""
    bodies = [patch for patch in line if patch.height >= FRAGMENT_HEIGHT * height and not patch.sign]
    loose = [patch for patch in line if patch.sign]
    for fragment in (patch for patch in line if patch.height < FRAGMENT_HEIGHT * height and not patch.sign):
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

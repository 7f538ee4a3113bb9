"""Tells dots, commas and dashes on a line, and the colons and equals signs that two of them make.

The numbers were found as those of `signs` were.
"""

from collections.abc import Sequence

import numpy as np

from .patches import InkPatch
from .sign_shapes import BODY, HALF_INK, SignLine, reaches_over, shared_columns, size, spread, upright, within

LEAST_DOT, DOT_REACH, BOTH_SIDES = 0.06, 0.9, 2  # size; to the digits beside it, which a speck has on both sides
DOT_SIZE, DOT_STROKES, DOT_ASPECT, FILLED = 0.33, 2.2, 2.0, 0.6
LOST_DOT = 0.12  # size, from which a speck that is not told for a dot may be one all the same
ON_LINE = 0.18  # the level from which a dot stands on the line
# At most so high; a speck reaches down to this level at most. A comma is so many times as long as broad, whatever its
# direction, or a shorter one that hangs so far below the digits. Of 243 by eighty-nine fonts and by lines as
# `tools.compose_kinds` draws them, 96 in 100 are told by that; the others lie where it may be either.
COMMA_HEIGHT, COMMA_BOTTOM = 0.58, 0.6
COMMA_LONG, COMMA_LONG_BELOW, COMMA_BELOW = 1.6, 1.3, 0.1
MAY_BE_EITHER = (1.4, 1.8)  # times as long as broad, and not below the digits; there, all that is shorter than a comma
DASH_WIDTH, DASH_ASPECT, DASH_LEVEL, DASH_STROKES = (0.17, 1.1), 1.7, (-0.15, 0.3), (0.4, 1.7)
PAIR_LEVEL = 0.6  # of the two parts of a colon or equals sign
COLON_ASIDE, COLON_APART = 0.25, (0.2, 0.85)
EQUALS_SHARED, EQUALS_APART = 0.5, (0.1, 0.6)  # share of the narrower one's width; from middle to middle
DASH_OVER_BODY, DOT_OVER_BODY = 0.3, 0.65  # of its width: what lies so far over or under a body is a part of it
PART_OVER_PART = 0.5  # of the narrower one: parts of a stroke lie over each other so far


def beside_bodies(speck: InkPatch, patches: Sequence[InkPatch], line: SignLine) -> int:
    """On how many sides it has a digit near it at its level; 0 for a grain of the paper."""
    if max(size(speck)) < LEAST_DOT * line.height or abs(line.level(*speck.centre)) > COMMA_BOTTOM:
        return 0
    bodies = [patch for patch in patches if patch.height >= BODY * line.height]
    reach = DOT_REACH * line.height
    left = any(speck.centre[0] - body.centre[0] >= 0 and speck.left - body.right <= reach for body in bodies)
    right = any(body.centre[0] - speck.centre[0] >= 0 and body.left - speck.right <= reach for body in bodies)
    return left + right


def small_sign(patch: InkPatch, others: Sequence[InkPatch], line: SignLine) -> str:
    """A full stop, comma or dash; "" if it is none."""
    shared = shared_columns(patch, others, line)
    clear = min(shared, shared_columns(patch, others, upright(line)))  # of few digits the slant is uncertain
    if not _stands_alone(patch, others, line):
        return ""
    if shared <= DASH_OVER_BODY and _is_dash(patch, line) and within(line.level(*patch.centre), DASH_LEVEL):
        return "-"
    if line.level(*patch.centre) < ON_LINE or clear > DOT_OVER_BODY:
        return ""
    width, height = (side / line.height for side in size(patch))
    if height <= COMMA_HEIGHT and width <= DOT_SIZE * 1.3 and _is_comma(patch, line):
        return "," if _is_solid(patch, line) else ""
    return "." if _is_dot(patch, line) else ""


def may_be_dot(patch: InkPatch, others: Sequence[InkPatch], line: SignLine) -> bool:
    """Whether a speck is as large as the dots that this pen makes, and no part of a digit over or under it."""
    large = max(size(patch)) >= LOST_DOT * max(line.height, DOT_STROKES * line.stroke)
    alone = _stands_alone(patch, others, line) and _is_clear(patch, others, line)
    return large and alone and _is_dot(patch, line)


def dot_or_comma(patch: InkPatch, line: SignLine) -> str:
    """Of a dot or comma, the other one if it may be that as well."""
    long, below = _length(patch), reaches_over(patch, line)[1]
    either = within(long, MAY_BE_EITHER) if below < COMMA_BELOW else long <= COMMA_LONG
    return {".": ",", ",": "."}.get(patch.sign, "") if either else ""


def _is_comma(patch: InkPatch, line: SignLine) -> bool:
    long = _length(patch)
    return long > COMMA_LONG or (long > COMMA_LONG_BELOW and reaches_over(patch, line)[1] > COMMA_BELOW)


def _length(patch: InkPatch) -> float:
    """How many times as long as broad it is."""
    across, along = spread(patch.ink > HALF_INK)
    return along / max(across, HALF_INK)


def _stands_alone(patch: InkPatch, others: Sequence[InkPatch], line: SignLine) -> bool:
    """Whether no other small patch lies over or under it: those are the parts of a broken stroke."""
    return not any(
        other.height < BODY * line.height
        and min(patch.right, other.right) - max(patch.left, other.left) > PART_OVER_PART * min(patch.width, other.width)
        for other in others
    )


def _is_clear(patch: InkPatch, others: Sequence[InkPatch], line: SignLine) -> bool:
    """Whether it does not lie over or under a digit."""
    return any(shared_columns(patch, others, each) <= DOT_OVER_BODY for each in (line, upright(line)))


def _is_dot(patch: InkPatch, line: SignLine) -> bool:
    short, long = sorted(size(patch))
    most = max(DOT_SIZE * line.height, min(DOT_STROKES * line.stroke, 1.4 * DOT_SIZE * line.height))
    return long <= most and long <= DOT_ASPECT * short + 1 and _is_solid(patch, line)


def _is_solid(patch: InkPatch, line: SignLine) -> bool:
    """Whether it is one short stroke or a filled spot: no ring, no hook."""
    mask = patch.ink > HALF_INK
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return False
    filled = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].mean()
    return bool(filled >= FILLED or spread(mask)[0] <= 1.5 * line.stroke)


def _is_dash(patch: InkPatch, line: SignLine) -> bool:
    width, height = size(patch)
    return (
        within(width / line.height, DASH_WIDTH)
        and width >= DASH_ASPECT * height
        and within(spread(patch.ink > HALF_INK)[0] / line.stroke, DASH_STROKES)
    )


def pairs(patches: Sequence[InkPatch], line: SignLine) -> list[tuple[tuple[InkPatch, ...], str]]:
    """Colons and equals signs: two dots, or two dashes, over each other."""
    small = [p for p in patches if p.height < BODY * line.height and abs(line.level(*p.centre)) <= PAIR_LEVEL]
    found: list[tuple[tuple[InkPatch, ...], str]] = []
    for upper in small:
        for lower in small:
            apart = (lower.centre[1] - upper.centre[1]) / line.height
            if lower is upper or apart <= 0:
                continue
            aside = abs(lower.centre[0] - upper.centre[0]) / line.height
            shared = min(upper.right, lower.right) - max(upper.left, lower.left)
            others = [each for each in patches if each is not upper and each is not lower]
            if not all(_stands_alone(part, others, line) and _is_clear(part, others, line) for part in (upper, lower)):
                continue
            if _is_dash(upper, line) and _is_dash(lower, line):
                if shared >= EQUALS_SHARED * min(upper.width, lower.width) and within(apart, EQUALS_APART):
                    found.append(((upper, lower), "="))
            elif _is_dot(upper, line) and _is_dot(lower, line) and aside <= COLON_ASIDE and within(apart, COLON_APART):
                found.append(((upper, lower), ":"))
    return found

"""Tells the signs that are as high as a line's digits: slashes, brackets, plus and dollar signs.

The numbers were found as those of `signs` were.
"""

import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from .patches import InkPatch
from .sign_shapes import (
    BODY,
    HALF_INK,
    SignLine,
    densest,
    hole_middles,
    inked_along,
    is_first,
    lean,
    leans,
    reaches_over,
    size,
    within,
)

SLASH_HEIGHT, SLASH_LEAN = 1.24, 0.15  # at least; more than the hand leans
LONG_SLASH_HEIGHT, LONG_SLASH_LEAN = 1.45, 0.06
# Further up and down than the digits, each: no 1 of MNIST's writers or of ten fonts reaches so far and leans as well.
SLASH_REACH, SLASH_REACH_LEAN, SLASH_OVER_DIGITS = 0.06, 0.0, 1.15
LEAST_LEAN = 0.1  # to the right, whatever the hand's: a bar is none
DATE_SLASH_HEIGHT, DATE_SLASH_LEAN, DATE_SLASHES_DIFFER = 0.95, 0.1, 0.12  # of a pair; radians and heights
DOUBTFUL_SLASH_HEIGHT, DOUBTFUL_SLASH_LEAN = 0.95, 0.32  # of what may be a 1 as well
DOUBTFUL_SLASH_OVER_DIGITS = 1.08  # times as high as the digits, and further than they at both ends: as well
BOW_HEIGHT, BOW_ASPECT = 1.08, 0.55
BOW_DEPTH, BOW_OFF = (0.09, 0.4), 0.6  # over its height; stroke widths off a parabola
CROSS_HEIGHT, CROSS_ASPECT, CROSS_LEVEL = (0.25, 0.82), 1.7, 0.32
CROSS_HALF, CORNER_INK = 0.7, 0.12  # stroke widths from a bar's middle; share of the four corners that is ink
CROSS_STROKES = 2.4  # at least: less is a blot
CROSS_REACH, CROSS_INK = 0.8, 0.92  # of its box that each bar runs through; of its ink that lies on the bars
DOLLAR_HEIGHT, DOLLAR_ASPECT = 1.04, 0.75  # at least; width over height at most
DOLLAR_LEAN, DOLLAR_HOLES = 0.35, 4  # columns a row by which its bar leans more than the hand, at most; holes at most
DOLLAR_BAR = 0.92  # share of the way from its highest point to its lowest that is ink: of an 8 it is hardly half


def high_sign(patch: InkPatch, line: SignLine) -> str:
    """A plus sign, slash or bracket; "" if it is none."""
    if _is_cross(patch, line):
        return "+"
    return _bracket(patch, line) or ("/" if _is_slash(patch, line) else "")


def _is_slash(patch: InkPatch, line: SignLine) -> bool:
    """Whether it is straight, leans more than the digits, and reaches further than any 1."""
    least = LONG_SLASH_LEAN if _is_long(patch, line) else SLASH_LEAN
    return patch.height > SLASH_HEIGHT * line.height and leans(patch, line, least)


def _is_long(patch: InkPatch, line: SignLine) -> bool:
    return patch.height > LONG_SLASH_HEIGHT * line.height


def slash_or_one(patch: InkPatch, line: SignLine) -> str:
    """Of a slash by itself, "1" if it may be that as well: tall ones lean, too."""
    return "1" if patch.sign == "/" and not _is_long(patch, line) else ""


def _reaches_over_digits(patch: InkPatch, line: SignLine, *, reach: float, times: float) -> bool:
    """Whether it leans, and is higher than the digits at both ends."""
    up, down = reaches_over(patch, line)
    higher = size(patch)[1] > times * (line.digits_bottom - line.digits_top) * line.height
    return (
        higher
        and min(up, down) > reach
        and leans(patch, line, SLASH_REACH_LEAN)
        and lean(patch.ink > HALF_INK) > LEAST_LEAN
    )


def slashes_of_date(patches: Sequence[InkPatch], line: SignLine) -> list[InkPatch]:
    """Two strokes alike that lean more than the digits, with a day or month before and between, a year behind them.

    Or two that reach over the digits at both ends, whatever stands around them. Of several pairs the one that leans
    most: the others are 1s.
    """
    ordered = sorted((p for p in patches if p.height >= BODY * line.height), key=lambda patch: patch.centre[0])
    leaning = [i for i, patch in enumerate(ordered) if _may_be_of_date(patch, line)]
    over = {i for i in leaning if _reaches_over_digits(ordered[i], line, reach=SLASH_REACH, times=SLASH_OVER_DIGITS)}
    pairs = [
        (ordered[first], ordered[second])
        for first, second in itertools.combinations(leaning, 2)
        if _parts_date(first, second, len(ordered)) or (over >= {first, second} and 0 < first < second - 1)
        if _are_alike(ordered[first], ordered[second], line)
    ]
    return list(max(pairs, key=lambda pair: sum(lean(each.ink > HALF_INK) for each in pair), default=()))


def _may_be_of_date(patch: InkPatch, line: SignLine) -> bool:
    high = patch.height > DATE_SLASH_HEIGHT * line.height
    reaches = _reaches_over_digits(patch, line, reach=SLASH_REACH, times=SLASH_OVER_DIGITS)
    return (high and leans(patch, line, DATE_SLASH_LEAN)) or reaches


def _parts_date(first: int, second: int, count: int) -> bool:
    """Whether two of so many marks stand where the slashes of a date do."""
    return first in (1, 2) and second - first - 1 in (1, 2) and count - second - 1 in (1, 2, 3, 4)


def _are_alike(one: InkPatch, other: InkPatch, line: SignLine) -> bool:
    leans = abs(lean(one.ink > HALF_INK) - lean(other.ink > HALF_INK))
    return leans < DATE_SLASHES_DIFFER and abs(one.height - other.height) < DATE_SLASHES_DIFFER * line.height


def may_be_slash(patch: InkPatch, line: SignLine) -> bool:
    """Whether it is a slash or a 1 that leans, which only the reader of the number can tell."""
    if patch.height >= DOUBTFUL_SLASH_HEIGHT * line.height and leans(patch, line, DOUBTFUL_SLASH_LEAN):
        return True
    return _reaches_over_digits(patch, line, reach=0.0, times=DOUBTFUL_SLASH_OVER_DIGITS)


def _bracket(patch: InkPatch, line: SignLine) -> str:
    """A bow from top to bottom, higher than the digits: a parabola, one stroke wide in each row."""
    height = patch.height / line.height
    if height < BOW_HEIGHT or patch.width > BOW_ASPECT * patch.height:
        return ""
    mask = patch.ink > HALF_INK
    rows = np.flatnonzero(mask.any(axis=1))
    if len(rows) < 6 or (np.diff(mask[rows].astype(np.int8), axis=1, prepend=0, append=0) == 1).sum() > 1.04 * len(
        rows
    ):
        return ""
    middles = np.array([np.flatnonzero(mask[row]).mean() for row in rows])
    y = np.linspace(-1, 1, len(rows))
    bend, tilt, offset = np.polyfit(y, middles, 2)
    off = float(np.sqrt(np.mean(np.square(middles - np.polyval((bend, tilt, offset), y)))))
    depth = abs(bend) / patch.height
    if not within(depth, BOW_DEPTH) or off > BOW_OFF * line.stroke or abs(bend) < 1.0 * line.stroke:
        return ""
    return "(" if bend > 0 else ")"


def _is_cross(patch: InkPatch, line: SignLine) -> bool:
    """Whether it is a cross, lower than the digits, at about half their height."""
    level = abs(line.level(*patch.centre)) <= CROSS_LEVEL
    size = within(patch.height / line.height, CROSS_HEIGHT)
    return level and size and has_crossed_bars(patch, line) and not hole_middles(patch)  # as a narrow 8 has


def has_crossed_bars(patch: InkPatch, line: SignLine) -> bool:
    """Whether its ink lies on an upright and a level bar that cross near the middle and run through all of it."""
    aspect = patch.width / patch.height
    if max(aspect, 1 / aspect) > CROSS_ASPECT or min(patch.width, patch.height) < CROSS_STROKES * line.stroke:
        return False
    mask = patch.ink > HALF_INK
    y, x = np.nonzero(mask)
    if len(y) < 3:
        return False
    x = x + line.slant * (y - y.mean())  # the hand's slant taken out
    across, down = x - densest(x, line.stroke), y - densest(y, line.stroke)
    reach = CROSS_HALF * line.stroke
    on_upright, on_level = np.abs(across) <= reach, np.abs(down) <= reach
    corners = (np.ptp(x) + 1 - 2 * reach) * (np.ptp(y) + 1 - 2 * reach)
    outside = float((~(on_upright | on_level)).sum())
    if outside > (1 - CROSS_INK) * len(y) or outside > CORNER_INK * corners:
        return False
    high, wide = float(np.ptp(y)), float(np.ptp(x))
    through = np.ptp(y[on_upright]) >= CROSS_REACH * high and np.ptp(x[on_level]) >= CROSS_REACH * wide
    central = within(float(-across.min()) / max(wide, 1), (0.25, 0.75)) and within(
        float(-down.min()) / max(high, 1), (0.25, 0.75)
    )
    return bool(through and central)


def is_dollar(patch: InkPatch, others: Sequence[InkPatch], line: SignLine) -> bool:
    """Whether it stands before the number, reaches further than the digits, and has an S about a bar.

    A straight stroke runs from its highest point to its lowest, with a hole on the left of it, and a lower one on the
    right. So it does in a slashed 0, but there it leans more.
    """
    if patch.height < DOLLAR_HEIGHT * line.height or patch.width > DOLLAR_ASPECT * patch.height:
        return False
    mask = patch.ink > HALF_INK
    rows = np.flatnonzero(mask.any(axis=1))
    if len(rows) < 2 or not is_first(patch, others, line):
        return False
    (top_x, top), (bottom_x, bottom) = ((float(np.flatnonzero(mask[y]).mean()), float(y)) for y in (rows[0], rows[-1]))
    slope = (top_x - bottom_x) / (bottom - top)
    if slope - line.slant > DOLLAR_LEAN or inked_along(mask, (top_x, top), (bottom_x, bottom)) < DOLLAR_BAR:
        return False
    sides = [(x - bottom_x - slope * (bottom - y), y) for x, y in hole_middles(patch)]
    left, right = [y for x, y in sides if x < 0], [y for x, y in sides if x > 0]
    return bool(left and right) and len(sides) <= DOLLAR_HOLES and min(left) < max(right)


def pair_brackets(patches: Sequence[InkPatch]) -> list[InkPatch]:
    """A line's patches; a bracket without its other half may be a 1 that bends."""
    result = list(patches)
    opened: list[int] = []
    for i, patch in enumerate(patches):
        if patch.sign == "(":
            opened.append(i)
        elif patch.sign == ")" and opened:
            opened.pop()
        elif patch.sign == ")":
            result[i] = replace(patch, sign="", like=patch.sign)
    for i in opened:
        result[i] = replace(patches[i], sign="", like=patches[i].sign)
    return result

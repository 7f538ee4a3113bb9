"""Tells the signs in numbers by their shape and their place on the line: . , - / : + = % ( ) $.

A classifier of digits knows none of them, and would read a slash as a 1 and leave out a point, which changes what a
number means. What is told here is plain to see: a dot on the line, a dash at half height, two of either over each
other, a cross, a stroke that leans and reaches further than the digits, a bow as high as the line. Everything else is
left to the classifier.

The numbers were found as those of `ink` were: by hand, by looking at pages of handwriting fonts. Lengths are in the
line's digit height, levels count from the line's middle downwards, angles are in radians.
"""

from collections.abc import Sequence
from dataclasses import replace

from .high_signs import (
    has_crossed_bars,
    high_sign,
    is_dollar,
    may_be_slash,
    pair_brackets,
    slash_or_one,
    slashes_of_date,
)
from .patches import InkPatch, joined
from .per_cents import per_cents
from .sign_shapes import SignLine, measured
from .small_signs import BOTH_SIDES, beside_bodies, dot_or_comma, may_be_dot, pairs, small_sign

LOST_DOT = "."  # what a patch is like that is no digit, nor surely a sign


def marked(patches: Sequence[InkPatch], height: float, angle: float, specks: Sequence[InkPatch] = ()) -> list[InkPatch]:
    """Tell the signs in a line.

    Args:
        patches: of the line.
        height: of its digits, in working pixels.
        angle: by which it falls to the right.
        specks: what is too small to be anything else than a dot; dropped unless it stands where dots stand.

    Returns: the patches from left to right, those that are signs with their `sign`; the parts of a sign joined.
    """
    line = measured(patches, height, angle)
    if line is None:
        return sorted(patches, key=lambda patch: patch.centre[0])
    dots = [speck for speck in specks if beside_bodies(speck, patches, line)]
    rest = [*patches, *dots]
    found: list[InkPatch] = []
    for parts, sign in [*per_cents(rest, line), *pairs(rest, line)]:
        if all(any(part is each for each in rest) for part in parts):
            rest = [each for each in rest if not any(part is each for part in parts)]
            found.append(replace(joined(list(parts)), sign=sign))
    slashes = slashes_of_date(rest, line)
    for patch in rest:
        others = [each for each in rest if each is not patch]
        if any(patch is dot for dot in dots):
            told = _dot(patch, others, line, sides=beside_bodies(patch, patches, line))
            found += [told] if told.sign or told.like else []
            continue
        sign = small_sign(patch, others, line) or high_sign(patch, line)
        if not sign and is_dollar(patch, others, line):
            sign = "$"
        if any(patch is each for each in slashes):
            found.append(replace(patch, sign="/"))
            continue
        told = replace(patch, sign=sign)
        either = dot_or_comma(told, line) or slash_or_one(told, line)
        found.append(replace(told, like=either if sign else _may_be(patch, line)))
    return pair_brackets(sorted(found, key=lambda patch: patch.centre[0]))


def _dot(patch: InkPatch, others: Sequence[InkPatch], line: SignLine, *, sides: int) -> InkPatch:
    """A speck: a dot or comma if digits stand on both sides of it, else perhaps; dirt without either."""
    told = replace(patch, sign=small_sign(patch, others, line) if sides >= BOTH_SIDES else "")
    if told.sign:
        return replace(told, like=dot_or_comma(told, line))
    return replace(told, like=LOST_DOT if may_be_dot(patch, others, line) else "")


def _may_be(patch: InkPatch, line: SignLine) -> str:
    """The sign that it may be as well as a digit."""
    if may_be_slash(patch, line):
        return "/"
    return "+" if has_crossed_bars(patch, line) else ""

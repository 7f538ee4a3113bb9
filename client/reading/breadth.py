"""By how much a hand's digits are narrower than usual: such digits are broadened for the classifier.

MNIST's form keeps a digit's proportions, and its writers' digits are two thirds as wide as high or wider: of one that
is half as wide as that, the classifier makes a 1. A single narrow digit may be one; of a whole page of them the hand is
narrow. Strokes have no say, as 1s are narrow in any hand, nor has what stands on one: a 1 with a flag, if broadened, is
a 7.
"""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from .sign_shapes import BODY, HALF_INK, STRAIGHT, size, spread
from .text_lines import TextLine

# Width over height of a page's digits, typically: the usual of fonts and of MNIST's writers are over the first, and
# narrower hands are broadened to the second. Of how many digits the typical is taken at least.
NARROW, BROADENED, LEAST_DIGITS = 0.52, 0.65, 5
WIDEST_DIGIT = 1.0  # wider marks are several digits
FLAG = 0.4  # of its height, over which a 1 has its flag and a 7 its bar; below, they are a stroke


def broadening(lines: Sequence[TextLine]) -> float:
    """How many times as broad the digits of these lines are to be; 1 for usual hands."""
    aspects = [aspect for line in lines for aspect in _aspects(line)]
    usual = float(np.median(aspects)) if len(aspects) >= LEAST_DIGITS else 1.0
    return BROADENED / usual if usual < NARROW else 1.0


def _aspects(line: TextLine) -> list[float]:
    found = []
    for patch in line.patches:
        width, height = size(patch)
        if patch.sign or patch.height < BODY * line.height or width > WIDEST_DIGIT * height:
            continue
        mask = patch.ink > HALF_INK
        if min(spread(part)[0] for part in (mask, mask[round(FLAG * len(mask)) :])) > STRAIGHT * line.stroke:
            found.append(width / height)
    return found


def broadened(ink: NDArray[np.float32], times: float) -> NDArray[np.float32]:
    """The ink, so many times as broad."""
    if times == 1.0:
        return ink
    wide = cv2.resize(ink, (max(1, round(times * ink.shape[1])), ink.shape[0]), interpolation=cv2.INTER_LINEAR)
    return wide.astype(np.float32)

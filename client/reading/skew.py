"""Finds by how much the lines of writing on a page lie askew.

The angle is the one at which the marks pile up most sharply when looked at along the rows, as `ruled_lines` finds that
of ruled paper: sharpness is the sum of squared differences between neighbouring rows' counts (W. Postl, Detection of
linear oblique structures and skew scan in digitized documents, ICPR 1986). A row is a part of a digit's height, so that
single strokes do not count. A few degrees are left to `text_lines`, which follows lines that run askew.

The numbers were found as those of `ink` were: by hand, by looking at composed pages.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]

PIXELS = 12_000  # of the marks, drawn at random from more
LARGEST, STEP, FINE_STEP = 32.0, 1.0, 0.25  # degrees
LEAST, LEVEL = 5.0, 2.0  # degrees: less is not worth a turn; up to here a page lies level
SHARPER = 1.7  # times as sharp as the page as it lies, at least
LEAST_MARKS = 6  # components: of fewer there is no telling a line from a stroke
TALL = 3  # components are marks from the highest one's height over this
ROWS = 6  # in a mark's height


def text_angle(mask: Mask) -> float:
    """By how much the lines of writing fall to the right.

    Args:
        mask: bool [height, width], where there is ink.

    Returns: radians; 0 if the lines are level, nearly, or cannot be told.
    """
    count, _, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    heights = stats[1:count, 3]
    heights = heights[heights > heights.max(initial=0) / TALL]
    if len(heights) < LEAST_MARKS:
        return 0.0
    y, x = np.nonzero(mask)
    if len(y) > PIXELS:
        chosen = np.random.default_rng(0).choice(len(y), PIXELS, replace=False)
        y, x = y[chosen], x[chosen]
    points = np.stack([x - x.mean(), y - y.mean()], axis=1) * (ROWS / max(float(np.median(heights)), ROWS))
    coarse = np.arange(-LARGEST, LARGEST + STEP / 2, STEP)
    sharpness = np.array([_sharpness(points, degrees) for degrees in coarse])
    best = float(coarse[int(np.argmax(sharpness))])
    level = float(sharpness[np.abs(coarse) <= LEVEL].max())
    if not LEAST <= abs(best) < LARGEST or float(sharpness.max()) < SHARPER * level:
        return 0.0
    fine = best + np.arange(-STEP, STEP + FINE_STEP / 2, FINE_STEP)
    return float(np.deg2rad(fine[int(np.argmax([_sharpness(points, degrees) for degrees in fine]))]))


def _sharpness(points: NDArray[np.float64], degrees: float) -> float:
    """Of the rows' counts, looked at from an angle."""
    angle = np.deg2rad(degrees)
    rows = np.rint(points[:, 1] * np.cos(angle) - points[:, 0] * np.sin(angle)).astype(np.int64)
    return float(np.square(np.diff(np.bincount(rows - rows.min()))).sum())

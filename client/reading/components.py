"""Finds the ink that hangs together on a page, and leaves out the dirt.

The numbers were found as those of `ink` were: by hand, by looking at composed pages.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from .ink import Ink
from .patches import InkPatch

# What is dirt: specks, and what comes in from outside the page.
HALF_INK = 0.5  # of full ink: an edge
# Of a stroke's width squared: less may be a dot where dots stand, and is dirt elsewhere; less is dirt. Of its width:
# what is longer is a thinner pen's. Pixels, at least.
SPECK_AREA, LEAST_SPECK, SPECK_LENGTH, SPECK_PIXELS = 0.9, 0.2, 1.6, 4
OUTSIDE = 0.5  # of an edge of ink, that the mask leaves out: it ends in the middle of the edge
RIM_LENGTH = 0.6  # of the page's side: what touches two sides and is so long is the page's edge or the table
ACROSS_WIDTH, ACROSS_HEIGHT = 0.9, 0.97  # of the page's sides: what touches one and runs through; a 1 may be that high

# Of a shape's box, that it encloses at least; of the difference between ink and paper, what is inside a filled one.
LEAST_FILLED, FILLED = 0.15, 0.5
# Of a shape's longest side, the circle that fits into it: less is a stroke, however thick the pen was. The bar of a
# marker has 0.1 to 0.15, a triangle about 0.5, a square 1.
THICK = 0.3


def find_components(ink: Ink, stroke: float) -> tuple[list[InkPatch], list[InkPatch]]:
    """The connected components that come from within the page: those that may be strokes, and specks."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(ink.mask.astype(np.uint8), connectivity=8)
    page_height, page_width = ink.mask.shape
    soft = max(1, int(OUTSIDE * ink.edge))
    near_it = np.ones((2 * soft + 1, 2 * soft + 1), np.uint8)
    patches: list[InkPatch] = []
    specks: list[InkPatch] = []
    for label in range(1, count):
        left, top, width, height, area = (int(value) for value in stats[label])
        if area < max(LEAST_SPECK * stroke**2, SPECK_PIXELS) or min(page_width, page_height) < 4:
            continue
        if _comes_from_outside(left=left, top=top, width=width, height=height, page=ink.mask.shape):
            continue
        # The soft edge, which the mask leaves out, makes the antialiasing: a pixel, or more in a blurred picture, whose
        # thin strokes are all edge.
        y0, y1 = max(top - soft, 0), min(top + height + soft, page_height)
        x0, x1 = max(left - soft, 0), min(left + width + soft, page_width)
        own = (labels[y0:y1, x0:x1] == label).astype(np.uint8)
        near = cv2.dilate(own, near_it) > 0
        patch = InkPatch(x0, y0, np.where(near, ink.amount[y0:y1, x0:x1], 0).astype(np.float32))
        is_speck = area < SPECK_AREA * stroke**2 and max(width, height) < SPECK_LENGTH * stroke
        (specks if is_speck else patches).append(patch)
    return patches, specks


def is_filled(patch: InkPatch, grey: NDArray[np.uint8]) -> bool:
    """Whether what it encloses is no paper: it is the outline of a filled shape, which is wider than any stroke.

    Args:
        grey: uint8 [height, width], the page's lightness.
    """
    inked = (patch.ink > HALF_INK).astype(np.uint8)
    outlines, _ = cv2.findContours(inked, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    whole = cv2.drawContours(np.zeros_like(inked), outlines, -1, 1, cv2.FILLED)
    if 2 * cv2.distanceTransform(np.pad(whole, 1), cv2.DIST_L2, 5).max() < THICK * max(whole.shape):
        return False
    inside = cv2.erode(whole - inked, np.ones((3, 3), np.uint8)) > 0
    if inside.sum() < LEAST_FILLED * inked.size:
        return False
    rows, columns = slice(patch.top, patch.bottom), slice(patch.left, patch.right)
    within, ink = (float(np.median(grey[rows, columns][part])) for part in (inside, inked > 0))
    paper = _paper_around(patch, grey, ink=ink)
    return abs(within - paper) > FILLED * abs(ink - paper)


def _paper_around(patch: InkPatch, grey: NDArray[np.uint8], *, ink: float) -> float:
    """The lightness beside it where that is least like ink: its neighbours may be near."""
    height, width = grey.shape
    rows, columns = slice(patch.top, patch.bottom), slice(patch.left, patch.right)
    around = [grey[rows, x] for x in (max(patch.left - 2, 0), min(patch.right + 1, width - 1))]
    around += [grey[y, columns] for y in (max(patch.top - 2, 0), min(patch.bottom + 1, height - 1))]
    values = np.concatenate(around).astype(np.float64)
    away = np.abs(values - ink)
    return float(np.median(values[away >= np.median(away)]))


def _comes_from_outside(*, left: int, top: int, width: int, height: int, page: tuple[int, ...]) -> bool:
    """Whether a component is the table beside the page, its edge, or a shadow from outside."""
    sides = (left <= 1) + (top <= 1) + (left + width >= page[1] - 1) + (top + height >= page[0] - 1)
    long = width > RIM_LENGTH * page[1] or height > RIM_LENGTH * page[0]
    across = width >= ACROSS_WIDTH * page[1] or height >= ACROSS_HEIGHT * page[0]
    return (sides >= 2 and long) or (sides >= 1 and across)

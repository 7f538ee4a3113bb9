"""Ink and its place on the page: what lines, segments and candidates are made of."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class InkPatch:
    """Ink and its place on the page, in working pixels: a connected component, several, or a part of one."""

    left: int
    top: int
    ink: Floats  # float32 [height, width], 0 to 1; 0 where the ink is another patch's
    sign: str = ""  # what it is by its shape and place if it is no digit, see `signs`
    like: str = ""  # the sign that it may be as well as a digit

    @property
    def right(self) -> int:
        """The first column to the right of it."""
        return self.left + int(self.ink.shape[1])

    @property
    def bottom(self) -> int:
        """The first row below it."""
        return self.top + int(self.ink.shape[0])

    @property
    def width(self) -> int:
        """Columns."""
        return int(self.ink.shape[1])

    @property
    def height(self) -> int:
        """Rows."""
        return int(self.ink.shape[0])

    @property
    def centre(self) -> tuple[float, float]:
        """The middle of its box: x, y."""
        return (self.left + self.right) / 2, (self.top + self.bottom) / 2


def joined(patches: list[InkPatch] | tuple[InkPatch, ...]) -> InkPatch:
    """Several patches as one."""
    if len(patches) == 1:
        return patches[0]
    left, top = min(p.left for p in patches), min(p.top for p in patches)
    right, bottom = max(p.right for p in patches), max(p.bottom for p in patches)
    ink = np.zeros((bottom - top, right - left), np.float32)
    for patch in patches:
        place = ink[patch.top - top : patch.bottom - top, patch.left - left : patch.right - left]
        np.maximum(place, patch.ink, out=place)
    return InkPatch(left, top, ink)


def stroke_width(masks: Sequence[NDArray[np.bool_]]) -> float:
    """Of the pens, typically: in a strip of width w the distance to its edge is w/4 on average.

    The 1 is for OpenCV's measuring to the centre of the nearest pixel outside, which lies beyond the edge.
    """
    distances = [cv2.distanceTransform(np.pad(mask, 1).astype(np.uint8), cv2.DIST_L2, 3) for mask in masks]
    inked = np.concatenate([distance[distance > 0] for distance in distances])
    return max(1.0, 4 * float(inked.mean()) - 1.0) if inked.size else 1.0

"""Tells ink from paper: any picture in, a map of how much ink lies on each pixel out.

Whatever the colours and whichever is lighter: the paper is flattened first, then the one direction in colour space
in which most of the marks differ from it is the ink's, and what lies along it beyond the noise is ink.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from . import ruled_lines

Floats = NDArray[np.float32]

WORKING_SIDE = 2000  # longer pictures are worked on at this size
LEAST_CONTRAST = 10.0  # grey levels, of 255, under which nothing counts as writing
NOISE_FACTOR = 5.0  # how many times the noise's sigma a mark must reach


@dataclass(frozen=True, slots=True)
class Ink:
    """What is written, at working size."""

    amount: Floats  # [h, w], 0 for paper to 1 for ink
    mask: NDArray[np.bool_]  # [h, w], where there is ink
    scale: float  # working pixels for each of the picture's
    angle: float  # of the ruled lines, radians, clockwise in the picture; 0 without


def find_ink(picture: NDArray[np.uint8]) -> Ink | None:
    """The ink in an RGB picture; None if there is none."""
    scale = min(1.0, WORKING_SIDE / max(picture.shape[:2]))
    if scale < 1:
        picture = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA).astype(np.uint8)
    marks = _marks(picture.astype(np.float32))
    noise = _noise(marks)
    if noise > 1.0:
        marks = cv2.GaussianBlur(marks, (0, 0), min(1.2, 0.4 + 0.1 * noise)).astype(np.float32)
        noise = _noise(marks)
    contrast = _contrast(marks, noise)
    if contrast is None:
        return None
    marks, angle = ruled_lines.remove_rules(marks, noise=noise, contrast=contrast)
    contrast = _contrast(marks, noise)
    if contrast is None:
        return None
    local = _local_contrast(marks, contrast)
    floor = max(NOISE_FACTOR * noise, LEAST_CONTRAST)
    mask = _hysteresis(marks, low=np.maximum(0.4 * local, floor), high=np.maximum(0.6 * local, floor))
    if not mask.any():
        return None
    amount = np.clip((marks - 0.15 * local) / (0.7 * local), 0, 1).astype(np.float32)
    return Ink(amount, mask, scale, angle)


def _marks(picture: Floats) -> Floats:
    """[h, w]: how far each pixel lies from the paper around it, towards the ink, in grey levels of full light."""
    paper = _paper_by_median(picture)
    light = paper @ np.array([0.299, 0.587, 0.114], np.float32)
    difference = picture - paper
    direction = _ink_direction(difference)
    towards_ink: Floats = np.ascontiguousarray(difference @ direction)
    if not _ink_is_positive(towards_ink):
        direction, towards_ink = -direction, -towards_ink
    along = picture @ direction
    # What an opening keeps is wider than any stroke: the paper, its shadows and their edges.
    marks = along - _opened(along)
    marks -= float(np.median(marks))
    if float(direction.sum()) < 0:  # dark on light: ink in the shadow has less contrast, by as much as the paper
        full = float(np.percentile(light, 95))
        marks *= full / np.maximum(light, 0.2 * full)
    return np.maximum(marks, 0).astype(np.float32)


def _paper_by_median(picture: Floats) -> Floats:
    """The paper's colour everywhere, coarsely: ink covers less than half of any large neighbourhood."""
    height, width = picture.shape[:2]
    factor = min(1.0, 160 / min(height, width), 640 / max(height, width))
    across, down = max(factor, 1 / width), max(factor, 1 / height)  # of a very long picture a pixel is left
    small = cv2.resize(picture, None, fx=across, fy=down, interpolation=cv2.INTER_AREA)
    reach = max(3, int(min(small.shape[:2]) * 0.45)) | 1
    rounded = np.clip(np.rint(small), 0, 255).astype(np.uint8)
    median = cv2.medianBlur(rounded, min(reach, 151)).astype(np.float32)
    smooth = cv2.GaussianBlur(median, (0, 0), max(1.0, reach / 8))
    return cv2.resize(smooth, (width, height), interpolation=cv2.INTER_LINEAR).astype(np.float32)


def _ink_direction(difference: Floats) -> Floats:
    """The unit vector in colour space along which the strongest marks differ from the paper."""
    step = max(1, int(np.sqrt(difference.shape[0] * difference.shape[1] / 60_000)))
    sample = difference[::step, ::step].reshape(-1, 3)
    strength = np.einsum("ij,ij->i", sample, sample)
    strong = sample[strength >= max(float(np.percentile(strength, 90)), 0.15 * float(strength.max()))]
    _, vectors = np.linalg.eigh(strong.T @ strong)
    direction: Floats = vectors[:, -1].astype(np.float32)
    # Marks of several colours share no direction; then their lightness has to do.
    explained = float(np.square(strong @ direction).sum() / max(float(np.square(strong).sum()), 1e-6))
    return direction if explained > 0.8 else np.full(3, 3**-0.5, np.float32)


def _ink_is_positive(towards_ink: Floats) -> bool:
    """Ink is what little lies far from the paper; on a tight crop, what keeps away from the picture's rim."""
    values = towards_ink
    low, high = (float(np.percentile(values, q)) for q in (1, 99))
    middle = (low + high) / 2
    rim = np.concatenate([values[:2].ravel(), values[-2:].ravel(), values[:, :2].ravel(), values[:, -2:].ravel()])
    rim_share, share = float((rim > middle).mean()), float((values > middle).mean())
    if abs(rim_share - 0.5) > 0.35 and abs(share - 0.5) < 0.3:
        return rim_share < 0.5
    return share < 0.5


def _opened(along: Floats) -> Floats:
    """The map without anything narrower than a quarter of the picture's shorter side."""
    height, width = along.shape
    factor = min(1.0, 120 / min(height, width))
    # Shrunk by the area's mean, strokes would fade into the paper instead of being cut off.
    shrunk = cv2.resize(along, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    reach = max(5, int(min(shrunk.shape) * 0.28)) | 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (reach, reach))
    padded = cv2.copyMakeBorder(shrunk, reach, reach, reach, reach, cv2.BORDER_REPLICATE)
    opened = cv2.morphologyEx(padded, cv2.MORPH_OPEN, kernel)[reach:-reach, reach:-reach]
    opened = cv2.GaussianBlur(opened, (0, 0), 1.5)
    return cv2.resize(opened, (width, height), interpolation=cv2.INTER_LINEAR).astype(np.float32)


def _noise(marks: Floats) -> float:
    """The noise's sigma, from the differences of neighbours (Immerkaer: Fast noise variance estimation, 1996)."""
    laplacian = cv2.filter2D(marks, cv2.CV_32F, np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32))
    return float(np.median(np.abs(laplacian)) / 0.6745 / 6)


def _contrast(marks: Floats, noise: float) -> float | None:
    """How far the ink stands out, in grey levels; None for an empty page."""
    floor = max(NOISE_FACTOR * noise, LEAST_CONTRAST)
    written = marks[marks > max(floor, 0.35 * float(np.percentile(marks, 99.9)))]
    if written.size < 12:
        return None
    return float(np.percentile(written, 60))


def _local_contrast(marks: Floats, contrast: float) -> Floats:
    """The ink's strength around each pixel, so that a fainter pen beside a strong one still counts."""
    height, width = marks.shape
    factor = min(1.0, 100 / min(height, width))
    small = cv2.resize(marks, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    reach = max(3, int(min(small.shape) * 0.3)) | 1
    strongest = cv2.dilate(small, np.ones((reach, reach), np.uint8))
    smooth = cv2.GaussianBlur(strongest, (0, 0), reach / 3)
    local = cv2.resize(smooth, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.clip(local, 0.5 * contrast, 1.1 * contrast).astype(np.float32)


def _hysteresis(marks: Floats, *, low: Floats, high: Floats) -> NDArray[np.bool_]:
    """What is above `low` and hangs together with something above `high` (Canny, 1986)."""
    candidates = (marks > low).astype(np.uint8)
    count, labels = cv2.connectedComponents(candidates, connectivity=8)
    sure = np.zeros(count, np.bool_)
    sure[np.unique(labels[marks > high])] = True
    sure[0] = False
    return sure[labels]

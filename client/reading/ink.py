"""Tells ink from paper: any picture in, a map of how much ink lies on each pixel out.

The colours do not matter, nor which of ink and paper is the lighter. The paper is flattened first; then the one
direction in colour space in which most of the marks differ from it is the ink's, and what lies along it beyond the
noise is ink. Between the steps stands a map of *ink strength*: how far each pixel lies from the paper around it, in
grey levels (0 to 255).

How the numbers below were found: none of them follows from a formula, except where a source stands beside it. They
were set by hand, by looking at what was found on pages as `python -m tools.compose_page` makes them, and nobody has
searched for better ones. `python -m benchmarks.reading` measures what they are worth together. Sizes are in pixels at
working size, shares in parts of the stated length, strengths in grey levels.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from . import frames, ruled_lines
from .picture import LUMA

Floats = NDArray[np.float32]

WORKING_SIDE = 2000  # px; larger pictures are shrunk to this: a full page of 40 lines keeps digits of 30 px

# What counts as writing at all.
LEAST_CONTRAST = 10.0  # grey levels; less is what JPEG and paper grain make
NOISE_FACTOR = 5.0  # sigmas of the noise that a mark must reach: of a million noise pixels less than one does
LEAST_WRITTEN_PIXELS = 12  # a page with fewer has no digit, which takes a stroke of 3 x 4 px at the very least

# Smoothing of noisy pictures: a Gaussian that widens with the noise, and stays narrower than a thin stroke (2 px).
NOISE_TO_SMOOTH = 1.0  # grey levels; below it smoothing would only cost sharpness
SMOOTHING, SMOOTHING_PER_LEVEL, MOST_SMOOTHING = 0.4, 0.1, 1.2  # px of sigma: at no noise, for each level more, at most

# The threshold, and the soft edge that makes the antialiasing; shares of the ink's strength around a pixel.
LOW_THRESHOLD, HIGH_THRESHOLD = 0.4, 0.6  # an edge is half ink: hysteresis takes what is doubtful on both sides of 0.5
PAPER_UP_TO, FULL_INK_AFTER = 0.15, 0.7  # 0.15 and less is paper, 0.15 + 0.7 and more is full ink

# The page's paper: a median over a large neighbourhood of a small picture, since medians of large ones are slow.
PAPER_SHORT_SIDE, PAPER_LONG_SIDE = 160, 640  # px of the small picture, at most
PAPER_REACH = 0.45  # of its shorter side: ink covers less than half of any neighbourhood so large
PAPER_SMOOTHING = 8  # the median's steps are smoothed with a sigma of its reach over this

# The ink's direction in colour space.
DIRECTION_PIXELS = 60_000  # enough for three numbers
STRONGEST_PERCENTILE = 90  # marks are among the tenth of the pixels that differ most from the paper ...
STRONGEST_SHARE = 0.15  # ... and have this share of the squared strength of the strongest, or they are noise
ONE_COLOUR = 0.8  # share of the marks' squared strength that one direction explains if there is one ink

# Which side of the paper is ink.
DARK_PERCENTILE, LIGHT_PERCENTILE = 1, 99  # the picture's two extremes, without single outliers
RIM = 2  # px around the picture, which are paper unless a digit touches the edge
CLEAR_RIM, UNCLEAR_PAGE = 0.35, 0.3  # distances from half: a rim so one-sided decides where the whole page does not

# The background: what an opening keeps, which is wider than any stroke.
BACKGROUND_SIDE = 120  # px of the small picture's shorter side, at most: opening a large one is slow
WIDEST_STROKE = 0.28  # of the shorter side
BACKGROUND_SMOOTHING = 1.5  # px of sigma, over the steps of the opening
FULL_LIGHT_PERCENTILE = 95  # of the paper's luma: the best lit part of the page
DEEPEST_SHADOW = 0.2  # of full light; in deeper ones the noise would be amplified more than five times

# The ink's strength, over the page and around each pixel.
STRONG_SHARE, STRONGEST = 0.35, 99.9  # what counts for the page's: over this share of this percentile
TYPICAL_PERCENTILE = 60  # of what counts: above the median, since soft edges are weaker than strokes
LOCAL_SIDE = 100  # px of the small picture's shorter side, at most
LOCAL_REACH = 0.3  # of its shorter side: so wide that strokes are met from the gaps of a line
WEAKEST_LOCAL, STRONGEST_LOCAL = 0.5, 1.1  # of the page's strength: a fainter pen counts, a stain does not


@dataclass(frozen=True, slots=True)
class Ink:
    """What is written, at working size."""

    amount: Floats  # float32 [height, width], 0 for paper to 1 for ink
    mask: NDArray[np.bool_]  # bool [height, width], where there is ink
    scale: float  # working pixels for each pixel of the picture, at most 1
    angle: float  # of the ruled lines, radians, clockwise in the picture; 0 without
    walls: tuple[frames.Wall, ...] = ()  # between the cells of forms and tables
    grey: NDArray[np.uint8] | None = None  # uint8 [height, width], the picture's lightness
    edge: float = 0.0  # working pixels from paper to full ink, across a stroke's edge


def find_ink(picture: NDArray[np.uint8]) -> Ink | None:
    """Find the ink in a picture.

    Args:
        picture: uint8 [height, width, 3] RGB.

    Returns: the ink, at working size; None if there is none.
    """
    scale = min(1.0, WORKING_SIDE / max(picture.shape[:2]))
    if scale < 1:
        picture = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA).astype(np.uint8)
    strength = _ink_strength(picture.astype(np.float32))
    noise = _noise(strength)
    if noise > NOISE_TO_SMOOTH:
        sigma = min(MOST_SMOOTHING, SMOOTHING + SMOOTHING_PER_LEVEL * noise)
        strength = cv2.GaussianBlur(strength, (0, 0), sigma).astype(np.float32)
        noise = _noise(strength)
    contrast = _contrast(strength, noise)
    if contrast is None:
        return None
    strength, walls = frames.remove_frames(strength, noise=noise, contrast=contrast)
    strength, angle = ruled_lines.remove_ruled_lines(strength, noise=noise, contrast=contrast)
    contrast = _contrast(strength, noise)
    if contrast is None:
        return None
    local = _local_contrast(strength, contrast)
    floor = max(NOISE_FACTOR * noise, LEAST_CONTRAST)
    low, high = np.maximum(LOW_THRESHOLD * local, floor), np.maximum(HIGH_THRESHOLD * local, floor)
    mask = _hysteresis(strength, low=low, high=high)
    if not mask.any():
        return None
    amount = np.clip((strength - PAPER_UP_TO * local) / (FULL_INK_AFTER * local), 0, 1).astype(np.float32)
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.uint8)
    return Ink(amount, mask, scale, angle, walls, grey, _edge(amount, mask))


def _edge(amount: Floats, mask: NDArray[np.bool_]) -> float:
    """How many pixels the ink takes to become full, typically, by how steeply it does on the mask's outline."""
    inked = mask.astype(np.uint8)
    outline = inked > cv2.erode(inked, np.ones((3, 3), np.uint8))
    across, down = (cv2.Sobel(amount, cv2.CV_32F, x, 1 - x, ksize=3, scale=1 / 8) for x in (1, 0))
    steepness = float(np.median(np.hypot(across[outline], down[outline])))
    return 1 / max(steepness, 1e-3)


def _ink_strength(picture: Floats) -> Floats:
    """[h, w]: how far each pixel lies from the paper around it, towards the ink, in grey levels of full light."""
    paper = _paper_by_median(picture)
    light = paper @ np.array(LUMA, np.float32)
    difference = picture - paper
    direction = _ink_direction(difference)
    towards_ink: Floats = np.ascontiguousarray(difference @ direction)
    if not _ink_is_positive(towards_ink):
        direction, towards_ink = -direction, -towards_ink
    along = picture @ direction
    # A top-hat: what an opening keeps is wider than any stroke, that is the paper, its shadows and their edges.
    strength = along - _background(along)
    strength -= float(np.median(strength))
    if float(direction.sum()) < 0:  # dark on light: ink in the shadow has less contrast, by as much as the paper
        full = float(np.percentile(light, FULL_LIGHT_PERCENTILE))
        strength *= full / np.maximum(light, DEEPEST_SHADOW * full)
    return np.maximum(strength, 0).astype(np.float32)


def _paper_by_median(picture: Floats) -> Floats:
    """[h, w, 3]: the paper's colour everywhere, coarsely."""
    height, width = picture.shape[:2]
    factor = min(1.0, PAPER_SHORT_SIDE / min(height, width), PAPER_LONG_SIDE / max(height, width))
    across, down = max(factor, 1 / width), max(factor, 1 / height)  # of a very long picture a pixel is left
    small = cv2.resize(picture, None, fx=across, fy=down, interpolation=cv2.INTER_AREA)
    reach = max(3, int(min(small.shape[:2]) * PAPER_REACH)) | 1
    rounded = np.clip(np.rint(small), 0, 255).astype(np.uint8)
    median = cv2.medianBlur(rounded, reach).astype(np.float32)
    smooth = cv2.GaussianBlur(median, (0, 0), max(1.0, reach / PAPER_SMOOTHING))
    return cv2.resize(smooth, (width, height), interpolation=cv2.INTER_LINEAR).astype(np.float32)


def _ink_direction(difference: Floats) -> Floats:
    """[3]: the unit vector in colour space along which the strongest marks differ from the paper."""
    stride = max(1, int(np.sqrt(difference.shape[0] * difference.shape[1] / DIRECTION_PIXELS)))
    sample = difference[::stride, ::stride].reshape(-1, 3)
    squared = np.einsum("ij,ij->i", sample, sample)
    least = max(float(np.percentile(squared, STRONGEST_PERCENTILE)), STRONGEST_SHARE * float(squared.max()))
    strong = sample[squared >= least]
    _, vectors = np.linalg.eigh(strong.T @ strong)
    direction: Floats = vectors[:, -1].astype(np.float32)
    # Marks of several colours share no direction; then their lightness has to do.
    explained = float(np.square(strong @ direction).sum() / max(float(np.square(strong).sum()), 1e-6))
    return direction if explained > ONE_COLOUR else np.full(3, 3**-0.5, np.float32)


def _ink_is_positive(towards_ink: Floats) -> bool:
    """Ink is what little lies far from the paper; on a tight crop, what keeps away from the picture's rim."""
    values = towards_ink
    low, high = (float(np.percentile(values, q)) for q in (DARK_PERCENTILE, LIGHT_PERCENTILE))
    middle = (low + high) / 2
    rim = np.concatenate([side.ravel() for side in (values[:RIM], values[-RIM:], values[:, :RIM], values[:, -RIM:])])
    rim_share, share = float((rim > middle).mean()), float((values > middle).mean())
    if abs(rim_share - 0.5) > CLEAR_RIM and abs(share - 0.5) < UNCLEAR_PAGE:
        return rim_share < 0.5
    return share < 0.5


def _background(along: Floats) -> Floats:
    """[h, w]: the map without anything narrower than WIDEST_STROKE."""
    height, width = along.shape
    factor = min(1.0, BACKGROUND_SIDE / min(height, width))
    # Shrunk by the area's mean, strokes would fade into the paper instead of being cut off.
    shrunk = cv2.resize(along, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    reach = max(5, int(min(shrunk.shape) * WIDEST_STROKE)) | 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (reach, reach))
    padded = cv2.copyMakeBorder(shrunk, reach, reach, reach, reach, cv2.BORDER_REPLICATE)
    opened = cv2.morphologyEx(padded, cv2.MORPH_OPEN, kernel)[reach:-reach, reach:-reach]
    opened = cv2.GaussianBlur(opened, (0, 0), BACKGROUND_SMOOTHING)
    return cv2.resize(opened, (width, height), interpolation=cv2.INTER_LINEAR).astype(np.float32)


def _noise(strength: Floats) -> float:
    """The noise's sigma, from the differences of neighbours.

    The mask is that of J. Immerkaer, Fast noise variance estimation, 1996 (https://doi.org/10.1006/cviu.1996.0060): of
    noise with sigma 1 it makes noise with sigma 6. The median instead of his mean, so that strokes do not count; the
    median of a Gaussian's absolute value is 0.6745 sigma.
    """
    laplacian = cv2.filter2D(strength, cv2.CV_32F, np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32))
    return float(np.median(np.abs(laplacian)) / 0.6745 / 6)


def _contrast(strength: Floats, noise: float) -> float | None:
    """How far the ink stands out, in grey levels; None for an empty page."""
    floor = max(NOISE_FACTOR * noise, LEAST_CONTRAST)
    written = strength[strength > max(floor, STRONG_SHARE * float(np.percentile(strength, STRONGEST)))]
    if written.size < LEAST_WRITTEN_PIXELS:
        return None
    return float(np.percentile(written, TYPICAL_PERCENTILE))


def _local_contrast(strength: Floats, contrast: float) -> Floats:
    """[h, w]: the ink's strength around each pixel, so that a fainter pen beside a strong one still counts."""
    height, width = strength.shape
    factor = min(1.0, LOCAL_SIDE / min(height, width))
    small = cv2.resize(strength, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    reach = max(3, int(min(small.shape) * LOCAL_REACH)) | 1
    strongest = cv2.dilate(small, np.ones((reach, reach), np.uint8))
    smooth = cv2.GaussianBlur(strongest, (0, 0), reach / 3)
    local = cv2.resize(smooth, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.clip(local, WEAKEST_LOCAL * contrast, STRONGEST_LOCAL * contrast).astype(np.float32)


def _hysteresis(strength: Floats, *, low: Floats, high: Floats) -> NDArray[np.bool_]:
    """[h, w]: what is above `low` and hangs together with something above `high`.

    As J. Canny joins edges: A computational approach to edge detection, 1986
    (https://doi.org/10.1109/TPAMI.1986.4767851).
    """
    candidates = (strength > low).astype(np.uint8)
    count, labels = cv2.connectedComponents(candidates, connectivity=8)
    sure = np.zeros(count, np.bool_)
    sure[np.unique(labels[strength > high])] = True
    sure[0] = False
    return sure[labels]

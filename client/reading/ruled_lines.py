"""Takes the lines of ruled or squared paper out of a map of ink strength, and tells how the page lies by them.

A ruled line runs through the whole page: along it, in most of a dozen stretches of the page's width, the typical mark
is the line's own. What stands out of the line is writing that crosses it, and stays.

The numbers were found as those of `ink` were: by hand, by looking at composed pages.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

STRETCHES = 14  # that the page's width is cut into: writing fills some of them, a ruled line nearly all
STRETCHES_WITH_LINE = 0.7  # share of the stretches in which a row must be marked to be ruled
STRETCH_SAMPLES = 40  # px of each row that a stretch's median is taken of, about: enough, and fast
LEAST_WIDTH, LEAST_HEIGHT = 5 * STRETCHES, 8  # px; in less there is no telling lines from writing

# The angle is looked for among all from -LARGEST_ANGLE to LARGEST_ANGLE degrees: more askew nobody holds a camera.
LARGEST_ANGLE, ANGLE_STEP = 8.0, 0.25
ANGLE_PIXELS = 40_000  # of the marks, drawn at random from more: enough for a sharp profile
STRAIGHT_BONUS = 0.002  # of sharpness lost for each degree: of equals the straightest wins

# Marks count from the higher of two levels: sigmas of the noise, and a share of the ink's strength, since rules are
# printed faint. Finding the angle takes less trust than taking marks away, so it can have the stronger marks only.
ANGLE_NOISE, ANGLE_STRENGTH = 2.0, 0.08
LINE_NOISE, LINE_STRENGTH = 1.2, 0.07  # lower: a stretch's median is less noisy than its pixels

THICKEST_IN_HEIGHT, THICKEST_IN_WIDTH, THICKEST = 0.02, 0.006, 3  # of the page's sides, and px whatever they are
MOST_OVER_USUAL = 2.5  # a stretch of a line is at most so much stronger than the line: the rest is writing

LINE_LEFT = 0.02  # of the ink's strength: a line fainter than this is left, nothing would take it for ink
INK_OVER_LINE = 0.45  # ink stands out of the line by this share of the difference between ink's strength and line's ...
LEAST_OVER_LINE = 0.25  # ... which is taken to be at least this share of the ink's strength, for lines as dark as ink
MOST_ROWS = 12  # that a line takes, for closing the gaps it leaves in strokes


def remove_ruled_lines(strength: Floats, *, noise: float, contrast: float) -> tuple[Floats, float]:
    """Take out what is printed on ruled or squared paper.

    Args:
        strength: float32 [height, width], grey levels of ink; 0 for paper.
        noise: sigma of the strength on bare paper.
        contrast: the strength where there is ink.

    Returns: float32 [height, width], the strength without lines; and the lines' angle in radians, clockwise (0 if there
    are none).
    """
    across, angle = _remove_along_rows(strength, noise=noise, contrast=contrast)
    # Upright lines lie across the first: where they lean, the others lean as well.
    upright, upright_angle = _remove_along_rows(np.ascontiguousarray(across.T), noise=noise, contrast=contrast)
    return np.ascontiguousarray(upright.T), angle or -upright_angle


def _remove_along_rows(strength: Floats, *, noise: float, contrast: float) -> tuple[Floats, float]:
    height, width = strength.shape
    if width < LEAST_WIDTH or height < LEAST_HEIGHT:
        return strength, 0.0
    angle = _angle(strength, max(ANGLE_NOISE * noise, ANGLE_STRENGTH * contrast))
    shear = np.array([[1, 0, 0], [-np.tan(angle), 1, np.tan(angle) * width / 2]], np.float32)
    straight = cv2.warpAffine(
        strength, shear, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    ).astype(np.float32)
    profile = _line_profile(straight, level=max(LINE_NOISE * noise, LINE_STRENGTH * contrast))
    if profile is None:
        return strength, 0.0
    inverse = cv2.invertAffineTransform(shear)
    lines = cv2.warpAffine(profile, inverse, (width, height), flags=cv2.INTER_LINEAR).astype(np.float32)
    return _without(strength, lines, contrast), float(angle)


def _angle(strength: Floats, level: float) -> float:
    """The angle at which the marks pile up most sharply when looked at along the rows, in radians.

    Sharpness is the sum of squared differences between neighbouring rows' counts, as in W. Postl, Detection of linear
    oblique structures and skew scan in digitized documents, ICPR 1986.
    """
    y, x = np.nonzero(strength > level)
    if len(y) > ANGLE_PIXELS:
        chosen = np.random.default_rng(0).choice(len(y), ANGLE_PIXELS, replace=False)
        y, x = y[chosen], x[chosen]
    height, width = strength.shape
    centred = x - width / 2
    best, best_angle = -1.0, 0.0
    for degrees in np.arange(-LARGEST_ANGLE, LARGEST_ANGLE + ANGLE_STEP / 2, ANGLE_STEP):
        rows = np.rint(y - centred * np.tan(np.deg2rad(degrees))).astype(np.int64) + height
        counts = np.bincount(np.clip(rows, 0, 3 * height), minlength=3 * height)
        sharpness = float(np.square(np.diff(counts)).sum()) * (1 - STRAIGHT_BONUS * abs(degrees))
        if sharpness > best:
            best, best_angle = sharpness, float(np.deg2rad(degrees))
    return best_angle


def _line_profile(straight: Floats, *, level: float) -> Floats | None:
    """[h, w]: the lines' own strength where there are lines, 0 elsewhere; None if there are none."""
    height, width = straight.shape
    edges = np.linspace(0, width, STRETCHES + 1).astype(int)
    typical = np.stack(
        [
            np.median(straight[:, a : b : max(1, (b - a) // STRETCH_SAMPLES)], axis=1)
            for a, b in zip(edges[:-1], edges[1:], strict=True)
        ],
        axis=1,
    ).astype(np.float32)
    # Only what is thin: anything higher than a ruled line is writing, or a shadow.
    thickest = max(THICKEST, round(height * THICKEST_IN_HEIGHT), round(width * THICKEST_IN_WIDTH))
    broad = cv2.morphologyEx(typical, cv2.MORPH_OPEN, np.ones((2 * thickest + 1, 1), np.uint8))
    thin = typical - broad
    # A line that lies a little aslant still counts in the neighbouring row.
    near = cv2.dilate(thin, np.ones((3, 1), np.uint8))
    ruled = (near > level).mean(axis=1) >= STRETCHES_WITH_LINE
    # And it is there in one of the two outermost stretches on each side.
    ruled &= (near[:, :2].max(axis=1) > level) & (near[:, -2:].max(axis=1) > level)
    if not ruled.any():
        return None
    usual = np.median(thin, axis=1, keepdims=True)
    strength = np.where(ruled[:, None], np.minimum(np.maximum(near, usual), MOST_OVER_USUAL * usual + level), 0)
    return cv2.resize(strength.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR).astype(np.float32)


def _without(strength: Floats, lines: Floats, contrast: float) -> Floats:
    on_line = lines > LINE_LEFT * contrast
    ink = strength > lines + INK_OVER_LINE * np.maximum(contrast - lines, LEAST_OVER_LINE * contrast)
    left = np.where(on_line & ~ink, 0, strength).astype(np.float32)
    # Where ink is no stronger than the line, a stroke that goes on above and below went through.
    thickness = _thickness(on_line)
    bridged = cv2.morphologyEx(left, cv2.MORPH_CLOSE, np.ones((thickness + 2, 3), np.uint8))
    return np.where(on_line & ~ink, np.minimum(bridged, strength), left).astype(np.float32)


def _thickness(on_line: NDArray[np.bool_]) -> int:
    """Rows that a line takes, typically."""
    starts = on_line[1:] & ~on_line[:-1]
    crossed = max(int(starts.sum()), 1)
    return int(np.clip(round(float(on_line.sum()) / crossed), 1, MOST_ROWS))

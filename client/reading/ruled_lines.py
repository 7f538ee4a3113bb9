"""Takes the lines of ruled or squared paper out of a map of marks, and tells how the page lies by them.

A rule runs through the whole page: along it, in most of a dozen stretches of the page's width, the typical mark is the
rule's own. What stands out of the rule is writing that crosses it, and stays.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

STRETCHES = 14
STRETCHES_WITH_RULE = 0.7
LARGEST_ANGLE = 8.0  # degrees
ANGLE_STEP = 0.25


def remove_rules(marks: Floats, *, noise: float, contrast: float) -> tuple[Floats, float]:
    """The marks without rules, and the rules' angle in radians (0 if there are none).

    Args:
        marks: float32 [h, w], 0 for paper.
        noise: sigma of the marks on bare paper.
        contrast: the marks' strength where there is ink.
    """
    across, angle = _remove_along_rows(marks, noise=noise, contrast=contrast)
    # Upright rules lie across the first: where they lean, the others lean as well.
    upright, upright_angle = _remove_along_rows(np.ascontiguousarray(across.T), noise=noise, contrast=contrast)
    return np.ascontiguousarray(upright.T), angle or -upright_angle


def _remove_along_rows(marks: Floats, *, noise: float, contrast: float) -> tuple[Floats, float]:
    height, width = marks.shape
    if width < 5 * STRETCHES or height < 8:
        return marks, 0.0
    level = max(2.0 * noise, 0.08 * contrast)
    angle = _angle(marks, level)
    shear = np.array([[1, 0, 0], [-np.tan(angle), 1, np.tan(angle) * width / 2]], np.float32)
    straight = cv2.warpAffine(
        marks, shear, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    ).astype(np.float32)
    profile = _rule_profile(straight, level=max(1.2 * noise, 0.07 * contrast))
    if profile is None:
        return marks, 0.0
    inverse = cv2.invertAffineTransform(shear)
    rule = cv2.warpAffine(profile, inverse, (width, height), flags=cv2.INTER_LINEAR).astype(np.float32)
    return _without(marks, rule, contrast), float(angle)


def _angle(marks: Floats, level: float) -> float:
    """The angle at which the marks pile up most sharply when looked at along the rows."""
    y, x = np.nonzero(marks > level)
    if len(y) > 40_000:
        chosen = np.random.default_rng(0).choice(len(y), 40_000, replace=False)
        y, x = y[chosen], x[chosen]
    height, width = marks.shape
    centred = x - width / 2
    best, best_angle = -1.0, 0.0
    for degrees in np.arange(-LARGEST_ANGLE, LARGEST_ANGLE + ANGLE_STEP / 2, ANGLE_STEP):
        rows = np.rint(y - centred * np.tan(np.deg2rad(degrees))).astype(np.int64) + height
        counts = np.bincount(np.clip(rows, 0, 3 * height), minlength=3 * height)
        sharpness = float(np.square(np.diff(counts)).sum()) * (1 - 0.002 * abs(degrees))
        if sharpness > best:
            best, best_angle = sharpness, float(np.deg2rad(degrees))
    return best_angle


def _rule_profile(straight: Floats, *, level: float) -> Floats | None:
    """[h, w]: the rules' own mark where there are rules, 0 elsewhere; None if there are none."""
    height, width = straight.shape
    edges = np.linspace(0, width, STRETCHES + 1).astype(int)
    typical = np.stack(
        [
            np.median(straight[:, a : b : max(1, (b - a) // 40)], axis=1)
            for a, b in zip(edges[:-1], edges[1:], strict=True)
        ],
        axis=1,
    ).astype(np.float32)
    # Only what is thin: anything higher than a rule is writing, or a shadow.
    thickest = max(3, round(height * 0.02), round(width * 0.006))
    broad = cv2.morphologyEx(typical, cv2.MORPH_OPEN, np.ones((2 * thickest + 1, 1), np.uint8))
    thin = typical - broad
    # A rule that lies a little aslant still counts in the neighbouring row.
    near = cv2.dilate(thin, np.ones((3, 1), np.uint8))
    ruled = (near > level).mean(axis=1) >= STRETCHES_WITH_RULE
    ruled &= (near[:, :2].max(axis=1) > level) & (near[:, -2:].max(axis=1) > level)
    if not ruled.any():
        return None
    usual = np.median(thin, axis=1, keepdims=True)
    strength = np.where(ruled[:, None], np.minimum(np.maximum(near, usual), 2.5 * usual + level), 0)
    return cv2.resize(strength.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR).astype(np.float32)


def _without(marks: Floats, rule: Floats, contrast: float) -> Floats:
    on_rule = rule > 0.02 * contrast
    ink = marks > rule + 0.45 * np.maximum(contrast - rule, 0.25 * contrast)
    left = np.where(on_rule & ~ink, 0, marks).astype(np.float32)
    # Where ink is no stronger than the rule, a stroke that goes on above and below went through.
    thickness = _thickness(on_rule)
    bridged = cv2.morphologyEx(left, cv2.MORPH_CLOSE, np.ones((thickness + 2, 3), np.uint8))
    return np.where(on_rule & ~ink, np.minimum(bridged, marks), left).astype(np.float32)


def _thickness(on_rule: NDArray[np.bool_]) -> int:
    """Rows that a rule takes, typically."""
    starts = on_rule[1:] & ~on_rule[:-1]
    crossed = max(int(starts.sum()), 1)
    return int(np.clip(round(float(on_rule.sum()) / crossed), 1, 12))

"""Ink told from paper, on pages whose every pixel is known."""

import numpy as np
import pytest

from inkling.client.reading import ink
from inkling.client.reading.ink import find_ink

BARS = (slice(40, 110), slice(60, 70)), (slice(40, 110), slice(150, 160))


def page_of(paper=(250, 245, 230), pen=(30, 40, 120), size=(150, 220), noise=0.0):
    picture = np.empty((*size, 3))
    picture[:] = paper
    for bar in BARS:
        picture[bar] = pen
    picture += np.random.default_rng(0).normal(0, 1, picture.shape) * noise
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8)


def written(size=(150, 220)):
    mask = np.zeros(size, bool)
    for bar in BARS:
        mask[bar] = True
    return mask


@pytest.mark.parametrize("noise", [0.0, 6.0])
@pytest.mark.parametrize(
    ("paper", "pen"), [((250, 245, 230), (30, 40, 120)), ((30, 60, 50), (230, 230, 215))], ids=["dark", "light"]
)
def test_the_mask_is_what_is_written(paper, pen, noise):
    found = find_ink(page_of(paper, pen, noise=noise))
    assert (found.scale, found.angle) == (1.0, 0.0)
    wrong = found.mask != written()
    assert wrong.sum() <= 0.03 * written().sum()
    assert found.amount.dtype == np.float32 and found.amount.min() == 0 and found.amount.max() == 1
    inside = tuple(slice(part.start + 3, part.stop - 3) for part in BARS[0])
    assert (found.amount[inside] > 0.85).all() and found.amount[:20].max() < 0.15


def test_a_fainter_pen_beside_a_strong_one_counts():
    picture = page_of()
    picture[BARS[1]] = (130, 135, 165)
    assert find_ink(picture).mask[written()].mean() > 0.97


def test_ink_in_a_shadow_is_as_strong_as_in_the_light():
    light = np.linspace(1.0, 0.4, 220)[None, :, None]
    strength = ink._ink_strength((page_of() * light).astype(np.float32))
    bright, shaded = (float(np.median(strength[bar])) for bar in BARS)
    assert shaded == pytest.approx(bright, rel=0.15)


@pytest.mark.parametrize("sigma", [0.5, 3.0, 12.0])
def test_noise_is_estimated_whatever_is_written_on_it(sigma):
    noise = np.random.default_rng(1).normal(0, sigma, (200, 200)).astype(np.float32)
    noise[50:150, 90:110] += 150
    assert ink._noise(noise) == pytest.approx(sigma, rel=0.1)


def test_no_ink_is_none():
    assert find_ink(np.full((100, 150, 3), 200, np.uint8)) is None
    assert find_ink(page_of(pen=(245, 240, 225))) is None  # fainter than LEAST_CONTRAST


def test_a_large_picture_is_worked_on_at_a_smaller_size():
    picture = page_of()[50:90].repeat(12, axis=0).repeat(12, axis=1)
    found = find_ink(picture)
    assert max(found.mask.shape) == ink.WORKING_SIDE
    assert found.scale == pytest.approx(ink.WORKING_SIDE / (12 * 220))


def test_hysteresis_keeps_the_weak_that_hangs_together_with_the_strong():
    row = np.array([[0, 5, 9, 5, 0, 5, 5, 0, 9]], np.float32)
    kept = ink._hysteresis(row, low=np.full_like(row, 4), high=np.full_like(row, 8))
    assert kept.tolist() == [[False, True, True, True, False, False, False, False, True]]


def test_the_background_has_nothing_as_narrow_as_a_stroke():
    slope = np.tile(np.linspace(50, 150, 220, dtype=np.float32), (150, 1))
    marked = slope.copy()
    for bar in BARS:
        marked[bar] += 100
    assert np.abs(ink._background(marked) - slope)[10:-10, 10:-10].max() < 8

"""Ruled marks taken out of maps of ink strength, the digits kept."""

import numpy as np
import pytest

from inkling.client.reading.ruled_lines import ANGLE_STEP, remove_ruled_lines

CONTRAST, FAINT = 150.0, 50.0


def writing(size=(240, 420)):
    """Three upright strokes."""
    strength = np.zeros(size, np.float32)
    for x in (80, 200, 320):
        strength[60:180, x : x + 10] = CONTRAST
    return strength


def ruled(strength, *, pitch=40, slope=0.0, thickness=2):
    lines = np.zeros_like(strength)
    x = np.arange(strength.shape[1])
    for y in range(15, strength.shape[0] + 60, pitch):
        for row in range(thickness):
            rows = np.rint(y + row + slope * (x - strength.shape[1] / 2)).astype(int)
            inside = (rows >= 0) & (rows < strength.shape[0])
            lines[rows[inside], x[inside]] = FAINT
    return np.maximum(strength, lines)


@pytest.mark.parametrize("degrees", [-3.0, 0.0, 1.5])
def test_ruled_lines_go_and_the_writing_stays(degrees):
    page = writing()
    left, angle = remove_ruled_lines(ruled(page, slope=np.tan(np.deg2rad(degrees))), noise=1.0, contrast=CONTRAST)
    assert np.rad2deg(angle) == pytest.approx(degrees, abs=ANGLE_STEP)
    ink = page > 0
    assert (left[ink] > 0.6 * CONTRAST).mean() > 0.98  # strokes have no gaps where lines crossed them
    assert (left[~ink] < 0.3 * FAINT).mean() > 0.97


def test_squared_paper_goes_both_ways():
    page = writing()
    squared = ruled(ruled(page).T.copy()).T
    left, angle = remove_ruled_lines(np.ascontiguousarray(squared), noise=1.0, contrast=CONTRAST)
    assert angle == 0
    assert (left[page > 0] > 0.6 * CONTRAST).mean() > 0.95
    assert (left[page == 0] < 0.3 * FAINT).mean() > 0.97


def test_a_line_as_dark_as_the_ink_leaves_the_strokes_that_cross_it():
    page = writing()
    dark = page.copy()
    dark[100:102] = CONTRAST
    left, _ = remove_ruled_lines(dark, noise=1.0, contrast=CONTRAST)
    assert not left[100:102, :70].any() and not left[100:102, 340:].any()
    assert (left[100:102, 81:89] > 0.6 * CONTRAST).all()


def test_writing_alone_stays_as_it_is():
    page = writing()
    left, angle = remove_ruled_lines(page, noise=1.0, contrast=CONTRAST)
    assert angle == 0
    np.testing.assert_array_equal(left, page)


def test_a_bar_that_ends_before_the_pages_edge_is_writing():
    page = writing()
    page[100:102, 65:] = CONTRAST  # twelve of the fourteen stretches
    left, _ = remove_ruled_lines(page, noise=1.0, contrast=CONTRAST)
    np.testing.assert_array_equal(left, page)


@pytest.mark.parametrize("size", [(6, 420), (6, 60)])
def test_too_small_a_page_is_left_alone(size):
    page = np.full(size, CONTRAST, np.float32)
    left, angle = remove_ruled_lines(page, noise=1.0, contrast=CONTRAST)
    assert angle == 0
    np.testing.assert_array_equal(left, page)

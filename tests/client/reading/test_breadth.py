"""Narrow hands are broadened, others are left as they are."""

import cv2
import numpy as np
import pytest

from inkling.client.reading.breadth import BROADENED, broadened, broadening
from inkling.client.reading.ink import Ink
from inkling.client.reading.text_lines import find_lines


def rings(width, *, bars=0):
    """Seven rings of one height, and bars beside them."""
    ink = np.zeros((140, 900), np.uint8)
    for number in range(7):
        cv2.ellipse(ink, (60 + 70 * number, 70), (width // 2, 35), 0, 0, 360, 255, 5, cv2.LINE_AA)
    for number in range(bars):
        cv2.line(ink, (560 + 40 * number, 35), (560 + 40 * number, 105), 255, 5)
    amount = ink.astype(np.float32) / 255
    return find_lines(Ink(amount, amount > 0.5, 1.0, 0.0)).lines


@pytest.mark.parametrize("bars", [0, 8])
def test_a_narrow_hand_is_broadened(bars):
    width = 24
    assert broadening(rings(width, bars=bars)) == pytest.approx(BROADENED / ((width + 5) / 75), rel=0.15)


def test_a_usual_hand_stays_as_it_is():
    assert broadening(rings(50, bars=8)) == 1.0
    assert broadening([]) == 1.0


def test_ink_is_broadened_and_no_higher():
    ink = np.ones((20, 10), np.float32)
    assert broadened(ink, 1.5).shape == (20, 15) and broadened(ink, 1.0) is ink


def test_ones_with_flags_are_no_narrow_hand():
    ink = np.zeros((140, 500), np.uint8)
    for x in range(60, 440, 60):
        cv2.polylines(ink, [np.array([(x - 18, 50), (x, 35), (x - 4, 105)])], False, 255, 6, cv2.LINE_AA)
    amount = ink.astype(np.float32) / 255
    assert broadening(find_lines(Ink(amount, amount > 0.5, 1.0, 0.0)).lines) == 1.0

"""A 0 is closed and round: a C is open, a D has a straight side."""

import cv2
import numpy as np
import pytest

from inkling.client.reading.zeros import why_no_zero


def form(draw):
    ink = np.zeros((28, 28), np.uint8)
    draw(ink)
    return ink


@pytest.mark.parametrize(
    ("start", "stop", "letter"), [(0, 360, ""), (20, 340, ""), (60, 300, "C")], ids=["closed", "nearly", "open"]
)
def test_a_ring_may_have_a_small_gap(start, stop, letter):
    ring = form(lambda ink: cv2.ellipse(ink, (14, 14), (6, 9), 0, start, stop, 255, 2))
    assert ("C" in why_no_zero(ring)) == (letter == "C") and bool(why_no_zero(ring)) == bool(letter)


def test_a_straight_left_side_is_a_letters():
    def draw(ink):
        cv2.line(ink, (8, 5), (8, 23), 255, 2)
        cv2.ellipse(ink, (8, 14), (10, 9), 0, -90, 90, 255, 2)

    assert "D" in why_no_zero(form(draw))


def test_a_filled_ring_and_an_empty_form_are_not_open():
    assert why_no_zero(form(lambda ink: cv2.ellipse(ink, (14, 14), (6, 9), 0, 0, 360, 255, -1))) == ""
    assert why_no_zero(np.zeros((28, 28), np.uint8)) == ""

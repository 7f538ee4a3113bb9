"""Signs told from digits by their shape and their place on the line."""

import cv2
import numpy as np
import pytest

from inkling.client.reading.ink import Ink
from inkling.client.reading.text_lines import find_lines
from tools.compose_kinds import SIGNS

HEIGHT, PEN = 60, 6


def line_with(strokes, *, slant=0.0):
    """A sign between four upright bars, of which each leans by `slant`."""
    ink = np.zeros((140, 400), np.uint8)

    def draw(points, left):
        pixels = [(round(left + x * HEIGHT + slant * (1 - y) * HEIGHT), round(40 + y * HEIGHT)) for x, y in points]
        cv2.polylines(ink, [np.array(pixels, np.int32)], False, 255, PEN, cv2.LINE_AA)

    for left in (30, 80, 186, 240):
        draw([(0, 0), (0, 1)], left)
    for stroke in strokes:
        draw(stroke, 125)
    amount = ink.astype(np.float32) / 255
    return Ink(amount, amount > 0.5, 1.0, 0.0)


def signs_of(ink):
    (line,) = find_lines(ink).lines
    return [patch.sign for patch in line.patches]


@pytest.mark.parametrize("slant", [0.0, 0.15])
@pytest.mark.parametrize("sign", SIGNS)
def test_each_sign_is_told(sign, slant):
    assert signs_of(line_with(SIGNS[sign], slant=slant)) == ["", "", sign, "", ""]


SEVEN = [[(0, 0), (0.5, 0), (0.2, 1)]]
FOUR = [[(0.3, 0), (0, 0.6), (0.55, 0.6)], [(0.4, 0.35), (0.38, 1.0)]]
BAR_OF_A_SEVEN = [[(0, 0), (0.5, 0), (0.2, 1)], [(0.08, 0.5), (0.5, 0.5)]]
RING = [[(0.25, 0), (0, 0.5), (0.25, 1), (0.5, 0.5), (0.25, 0)]]


@pytest.mark.parametrize("strokes", [SEVEN, FOUR, BAR_OF_A_SEVEN, RING], ids=["7", "4", "7 with a bar", "0"])
def test_digits_are_no_signs(strokes):
    assert not any(signs_of(line_with(strokes)))


def test_a_bar_that_leans_as_the_hand_does_is_a_digit():
    assert not any(signs_of(line_with([[(0, 0), (0, 1)]], slant=0.4)))


def test_a_bar_that_leans_more_than_the_hand_may_be_a_slash():
    (line,) = find_lines(line_with([[(0.45, 0.0), (0.0, 1.0)]])).lines
    assert [(patch.sign, patch.like) for patch in line.patches if patch.like] == [("", "/")]


def test_a_dot_at_half_height_is_no_full_stop():
    assert "." not in signs_of(line_with([[(0.05, 0.5), (0.06, 0.5)]]))

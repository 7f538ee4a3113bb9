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
@pytest.mark.parametrize("sign", sorted(set(SIGNS) - {"(", ")"}))
def test_each_sign_is_told(sign, slant):
    assert signs_of(line_with(SIGNS[sign], slant=slant)) == ["", "", sign, "", ""]


def test_a_comma_may_hang_below_its_line():
    assert signs_of(line_with([[(0.1, 1.0), (0.0, 1.4)]])) == ["", "", ",", "", ""]


def test_a_dot_below_its_line_is_marked_unless_it_is_as_long_as_a_comma():
    def likes(strokes):
        (line,) = find_lines(line_with(strokes)).lines
        return [patch.like for patch in line.patches if patch.sign]

    assert likes([[(0.08, 1.08), (0.06, 1.12)]]) == [","]
    assert likes([[(0.08, 1.08), (0.05, 1.15)]]) == ["."]
    assert likes([[(0.1, 1.0), (0.0, 1.4)]]) == [""]


def test_a_colon_is_told_beside_digits_that_lean_over_it():
    assert signs_of(line_with(SIGNS[":"], slant=0.5)) == ["", "", ":", "", ""]


def moved(strokes, by):
    return [[(x + by, y) for x, y in stroke] for stroke in strokes]


@pytest.mark.parametrize("slant", [0.0, 0.15])
def test_brackets_are_told_in_pairs(slant):
    both = SIGNS["("] + moved(SIGNS[")"], 2.6)
    assert signs_of(line_with(both, slant=slant)) == ["", "", "(", "", "", ")"]


@pytest.mark.parametrize("sign", "()")
def test_a_bracket_by_itself_may_be_a_one(sign):
    (line,) = find_lines(line_with(SIGNS[sign])).lines
    assert [(patch.sign, patch.like) for patch in line.patches if patch.like] == [("", sign)]


# An S with a bar through it, and an 8 as high, whose upper ring lies on the left of its lower one.
DOLLAR = [[(0.5, 0.1), (0.1, 0.05), (0.05, 0.35), (0.5, 0.6), (0.45, 0.95), (0, 0.9)], [(0.27, -0.15), (0.27, 1.15)]]
EIGHT = [[(0.2, -0.15), (0.0, 0.15), (0.4, 0.75), (0.3, 1.15), (0.15, 0.8), (0.4, 0.2), (0.2, -0.15)]]


def first_in_line(strokes):
    """What the strokes are told for with nothing near before them, as the first sign of a number."""
    (line,) = find_lines(line_with(moved(strokes, 3.3))).lines
    return line.patches[-1].sign


def test_a_dollar_sign_has_a_bar_through_it():
    assert first_in_line(DOLLAR) == "$" and first_in_line(EIGHT) == ""


def test_a_ring_that_hangs_on_the_slash_may_be_the_highest_part_of_a_per_cent_sign():
    ring, slash = [(0.1, 0.45), (-0.05, 0.25), (0.15, -0.1), (0.3, 0.15), (0.1, 0.45)], [(0.65, 0.05), (0.15, 1.05)]
    low = [(0.65, 0.65), (0.8, 0.8), (0.65, 1.0), (0.52, 0.8), (0.65, 0.65)]
    assert signs_of(line_with([ring, [(0.2, -0.05), (0.65, 0.05)], slash, low])) == ["", "", "%", "", ""]


def test_a_nine_and_a_six_that_touch_are_no_per_cent_sign():
    nine = [[(0.3, 0.1), (0.1, 0.0), (0.0, 0.25), (0.15, 0.45), (0.3, 0.1), (0.25, 1.0)]]
    six = [[(0.45, 0.0), (0.3, 0.55), (0.32, 0.95), (0.5, 0.95), (0.55, 0.7), (0.32, 0.65)]]
    assert "%" not in signs_of(line_with(nine + six))


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


def test_a_cross_as_high_as_the_digits_may_be_a_plus_sign():
    (line,) = find_lines(line_with([[(0.0, 0.5), (0.8, 0.5)], [(0.4, 0.0), (0.4, 1.0)]])).lines
    assert [(patch.sign, patch.like) for patch in line.patches if patch.like] == [("", "+")]


def test_parts_of_a_broken_stroke_over_each_other_are_no_signs():
    assert not any(signs_of(line_with([[(0.05, 1.0), (0.06, 1.0)], [(0.0, 0.62), (0.3, 0.62)]])))


OVER_BOTH_ENDS = [(0.3, -0.12), (0.0, 1.12)]


def test_a_leaning_stroke_that_reaches_over_the_digits_at_both_ends_may_be_a_slash():
    (line,) = find_lines(line_with([OVER_BOTH_ENDS])).lines
    assert [(each.sign, each.like) for each in line.patches if each.like] == [("", "/")]


def test_a_slash_by_itself_may_be_a_one():
    (line,) = find_lines(line_with(SIGNS["/"])).lines
    assert [(each.sign, each.like) for each in line.patches if each.sign] == [("/", "1")]


def test_two_such_strokes_alike_are_slashes():
    (line,) = find_lines(line_with([OVER_BOTH_ENDS, *moved([OVER_BOTH_ENDS], 1.5)])).lines
    assert [(each.sign, each.like) for each in line.patches] == [("", "")] * 2 + [
        ("/", ""),
        ("", ""),
        ("/", ""),
        ("", ""),
    ]


def test_a_stroke_as_high_as_the_digits_is_no_slash_by_its_reach():
    assert not any(signs_of(line_with([[(0.25, 0.0), (0.0, 1.0)]])))


@pytest.mark.parametrize(
    ("strokes", "sign", "like"),
    [
        (SIGNS["."], ".", ""),
        (SIGNS[","], ",", ""),
        ([[(0.05, 0.93), (0.06, 1.0)]], ".", ","),
        ([[(0.05, 1.15), (0.06, 1.15)]], ".", ","),
    ],
    ids=["dot", "comma", "long dot", "low dot"],
)
def test_a_dot_that_may_be_a_comma_is_both(strokes, sign, like):
    (line,) = find_lines(line_with(strokes)).lines
    assert [(each.sign, each.like) for each in line.patches if each.sign] == [(sign, like)]


def test_a_dot_before_a_number_is_left_out_and_may_be_one():
    ink = np.zeros((140, 400), np.uint8)
    for left in (100, 150, 200):
        cv2.line(ink, (left, 40), (left, 100), 255, PEN)
    cv2.circle(ink, (76, 97), 4, 255, -1)
    amount = ink.astype(np.float32) / 255
    found = find_lines(Ink(amount, amount > 0.5, 1.0, 0.0))
    assert [(stray.why, stray.may_be_digit) for stray in found.strays] == [("a point, or dirt", True)]

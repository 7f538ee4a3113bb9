"""Over-segmentation: the least ink on any path, where lines are cut, which segments may be one digit."""

import itertools

import cv2
import numpy as np
import pytest

from inkling.client.reading import cuts
from inkling.client.reading.cuts import Segment, segments, spans
from inkling.client.reading.text_lines import InkPatch, TextLine

STROKE = 6.0


def line_of(*patches, height=60.0):
    return TextLine(patches, height, 0.0)


def two_rings_joined(bridge):
    """Two rings of 60 pixels side by side, joined by a bar `bridge` pixels high."""
    ink = np.zeros((64, 140), np.uint8)
    for x in (32, 106):
        cv2.circle(ink, (x, 32), 26, 1, int(STROKE))
    cv2.rectangle(ink, (58, 32 - bridge // 2), (80, 31 + bridge - bridge // 2), 1, -1)
    return InkPatch(10, 20, ink.astype(np.float32))


def cost_of(columns, ink):
    """What a path costs, by the rule: each pixel, and for a step aside SIDEWAYS of the pixel more."""
    cost = ink + cuts.PAPER_COST
    aside = [0, *(before != after for before, after in itertools.pairwise(columns))]
    return sum(
        cost[y, x] * (1 + cuts.SIDEWAYS * moved) for y, (x, moved) in enumerate(zip(columns, aside, strict=True))
    )


def all_paths(height, width):
    """Every path from the top row to the bottom row, one row down and at most one column aside a step."""
    for start in range(width):
        for moves in itertools.product((-1, 0, 1), repeat=height - 1):
            columns = np.cumsum([start, *moves])
            if columns.min() >= 0 and columns.max() < width:
                yield columns.tolist()


@pytest.mark.parametrize("seed", range(5))
def test_the_least_ink_is_the_least_of_all_paths(seed):
    ink = np.random.default_rng(seed).random((5, 4)).astype(np.float32)
    total = cuts._least_ink(ink)
    for end in range(4):
        brute = min(cost_of(columns, ink) for columns in all_paths(5, 4) if columns[-1] == end)
        assert total[-1, end] == pytest.approx(brute, rel=1e-5)


@pytest.mark.parametrize("seed", range(5))
def test_paths_follow_the_least_ink_through_their_pixels(seed):
    ink = np.random.default_rng(seed).random((7, 5)).astype(np.float32)
    down, up = cuts._least_ink(ink), cuts._least_ink(ink[::-1])[::-1]
    columns, rows = np.arange(5), np.array([3, 2, 3, 4, 3])
    paths = cuts._paths(down, up, columns, rows)
    assert (np.abs(np.diff(paths, axis=0)) <= 1).all()
    for i in range(5):
        assert paths[rows[i], i] == columns[i]
        # Up and down a step aside is paid at different pixels, so the two halves are compared each by its own rule.
        above, below = paths[: rows[i] + 1, i].tolist(), paths[rows[i] :, i][::-1].tolist()
        assert cost_of(above, ink[: rows[i] + 1]) <= down[rows[i], i] * (1 + cuts.SIDEWAYS) + 1e-5
        assert cost_of(below, ink[rows[i] :][::-1]) <= up[rows[i], i] * (1 + cuts.SIDEWAYS) + 1e-5


def test_among_free_paths_the_straight_one_is_taken():
    paper = np.zeros((9, 7), np.float32)
    total = cuts._least_ink(paper)
    paths = cuts._paths(total, total[::-1], np.array([3]), np.array([4]))
    assert paths[:, 0].tolist() == [3] * 9


@pytest.mark.parametrize("bridge", [2, 6, 12])
def test_touching_digits_are_cut_at_the_bridge_and_pay_for_its_ink(bridge):
    cut = segments(line_of(two_rings_joined(bridge)), STROKE)
    between = [each for each in cut if 60 <= each.patch.left - 10 <= 82]
    assert between and min(each.cut_before for each in between) == pytest.approx(bridge / STROKE, abs=0.25)


def test_a_bridge_too_thick_is_not_cut():
    thick = round(STROKE * (cuts.CUT_COSTS + 1))
    cut = segments(line_of(two_rings_joined(thick)), STROKE)
    assert not any(61 <= each.patch.left - 10 <= 79 for each in cut)


def test_cutting_loses_no_ink_to_speak_of():
    patch = two_rings_joined(6)
    cut = segments(line_of(patch), STROKE)
    page = np.zeros((200, 200), np.float32)
    for each in cut:
        part = each.patch
        page[part.top : part.bottom, part.left : part.right] += part.ink
    inside = page[patch.top : patch.bottom, patch.left : patch.right]
    assert (inside <= patch.ink + 1e-6).all()  # no pixel belongs to two segments
    assert inside.sum() > 0.99 * patch.ink.sum()


def test_a_narrow_patch_and_a_low_one_stay_whole():
    bar = np.ones((60, round(cuts.MAY_BE_TWO * 60)), np.float32)
    dash = np.ones((round(cuts.LEAST_CUT_HEIGHT * 60) - 1, 50), np.float32)
    for ink in (bar, dash):
        (only,) = segments(line_of(InkPatch(0, 0, ink)), STROKE)
        assert only.patch.ink is ink and only.cut_before == 0


def segment(left, width=20, top=0, height=60, cut_before=0.0):
    return Segment(InkPatch(left, top, np.ones((height, width), np.float32)), cut_before)


def test_spans_are_neighbours_that_are_near_and_not_too_wide():
    found = spans([segment(0), segment(25), segment(80), segment(105)], 60.0)
    assert [(each.start, each.stop) for each in found] == [(0, 1), (0, 2), (1, 2), (2, 3), (2, 4), (3, 4)]
    wide = spans([segment(0, width=50), segment(52, width=50)], 60.0)
    assert [(each.start, each.stop) for each in wide] == [(0, 1), (1, 2)]


def test_spans_have_all_their_segments_ink():
    (span,) = [each for each in spans([segment(0), segment(25)], 60.0) if each.stop - each.start == 2]
    assert (span.patch.left, span.patch.right) == (0, 45)
    assert span.patch.ink.sum() == 2 * 60 * 20


def test_a_span_has_a_limited_number_of_segments():
    found = spans([segment(6 * i, width=5) for i in range(12)], 60.0)
    assert max(each.stop - each.start for each in found) == cuts.MAX_SEGMENTS


def test_to_part_ink_over_ink_costs_like_a_cut():
    upper, lower = InkPatch(0, 0, np.ones((20, 20), np.float32)), InkPatch(2, 40, np.ones((20, 20), np.float32))
    beside = InkPatch(30, 0, np.ones((60, 20), np.float32))
    cut = segments(line_of(upper, lower, beside), STROKE)
    assert [each.cut_before for each in cut] == [0, cuts.LIKE_A_CUT, 0]


def test_a_point_under_a_digit_that_leans_is_parted_from_it_for_nothing():
    digit, point = np.ones((60, 40), np.float32), np.ones((8, 8), np.float32)
    cut = segments(line_of(InkPatch(0, 0, digit), InkPatch(30, 54, point, sign=".")), STROKE)
    assert [each.cut_before for each in cut if each.patch.sign] == [0.0]

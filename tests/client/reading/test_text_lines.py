"""Ink sorted into lines: connected components, chains against brute force, fragments and dirt."""

import cv2
import numpy as np
import pytest
from PIL import Image, ImageDraw

from inkling.client.reading import text_lines
from inkling.client.reading.components import find_components
from inkling.client.reading.ink import Ink, find_ink
from inkling.client.reading.patches import InkPatch, joined, stroke_width
from inkling.client.reading.text_lines import find_lines
from tests.client.reading.made_up import strokes


def ink_of(page, angle=0.0):
    amount = np.asarray(page, np.float32)
    return Ink(amount, amount > 0.5, 1.0, angle)


def page_with(*boxes, size=(200, 400)):
    """Filled boxes (left, top, width, height) on an empty page."""
    page = np.zeros(size, np.float32)
    for left, top, width, height in boxes:
        page[top : top + height, left : left + width] = 1
    return page


def patch(left, top, width=20, height=40):
    return InkPatch(left, top, np.ones((height, width), np.float32))


def boxes_of(lines):
    return [[(each.left, each.top) for each in line.patches] for line in lines]


def test_what_touches_at_a_corner_is_one_component():
    page = page_with((50, 50, 10, 40), (60, 90, 10, 40), (120, 60, 10, 40))
    components, _ = find_components(ink_of(page), 6.0)
    assert sorted((each.left, each.width) for each in components) == [(49, 22), (119, 12)]


def test_a_component_keeps_its_soft_edge_and_no_others_ink():
    page = page_with((50, 50, 10, 40), (63, 50, 10, 40))
    page[50:90, 60] = 0.3
    components, _ = find_components(ink_of(page), 6.0)
    left = min(components, key=lambda each: each.left)
    assert left.ink[1:-1, -1].tolist() == pytest.approx([0.3] * 40)
    assert left.ink.sum() == pytest.approx(400 + 12, abs=0.01)


def test_specks_and_what_comes_from_outside_are_dropped():
    digit, speck = (100, 60, 10, 60), (300, 100, 2, 2)
    shadow, table = (0, 0, 390, 30), (399, 0, 1, 199)
    found, specks = find_components(ink_of(page_with(digit, speck, shadow, table)), 6.0)
    assert specks == []
    assert [(each.left, each.top) for each in found] == [(99, 59)]


@pytest.mark.parametrize("width", [4, 8, 12])
def test_a_strokes_width_is_measured(width):
    page = page_with((50, 20, width, 160))
    assert stroke_width([page > 0]) == pytest.approx(width, abs=1.5)


def test_joined_patches_lie_where_they_lay():
    one = joined([patch(10, 5, 4, 6), patch(20, 8, 2, 10)])
    assert (one.left, one.top, one.right, one.bottom) == (10, 5, 22, 18)
    assert one.ink.sum() == 4 * 6 + 2 * 10
    assert one.ink[0, 0] == 1 and one.ink[0, 10] == 0 and one.ink[12, 10] == 1


def transitive_closure(bodies, height):
    """The chains by brute force: every body with its cheapest link to the right, closed under being linked."""
    groups = [{i} for i in range(len(bodies))]
    for i, body in enumerate(bodies):
        costs = {
            j: text_lines._link_cost(body, other, height=height, angle=0.0)
            for j, other in enumerate(bodies)
            if other.centre[0] > body.centre[0]
        }
        if costs and min(costs.values()) < np.inf:
            best = min(costs, key=costs.get)
            one, other = (next(group for group in groups if k in group) for k in (i, best))
            if one is not other:
                groups.remove(other)
                one |= other
    return {frozenset(group) for group in groups}


@pytest.mark.parametrize("seed", range(6))
def test_chains_are_what_is_linked_directly_or_not(seed):
    random = np.random.default_rng(seed)
    # In three rows too far apart to be joined by their level.
    places = [(int(x), int(random.integers(3) * 90 + random.integers(-8, 9))) for x in random.permutation(900)[:15]]
    bodies = [patch(x, y + 20) for x, y in places]
    chains = text_lines._chained(bodies, height=40.0, angle=0.0)
    expected = transitive_closure(bodies, 40.0)
    number = {id(body): i for i, body in enumerate(bodies)}
    found = [frozenset(number[id(body)] for body in chain) for chain in chains]
    # Chains on one level that share no column are joined further; none is torn apart.
    assert all(any(group <= chain for chain in found) for group in expected)
    assert sorted(i for chain in found for i in chain) == list(range(15))
    rows = [{places[i][1] // 45 for i in chain} for chain in found]
    assert all(max(row) - min(row) <= 1 for row in rows)


def test_bodies_must_overlap_to_be_linked():
    left, height = patch(0, 0), 40.0
    cost = [text_lines._link_cost(left, patch(30, top), height=height, angle=0.0) for top in (0, 10, 30)]
    assert cost[0] == 10  # of distance alone
    assert cost[1] == pytest.approx(10 + text_lines.FALL_COST * 10)
    assert cost[2] == np.inf  # a quarter of the height is shared, too little
    assert text_lines._link_cost(left, patch(30 + 4 * 40, 0), height=height, angle=0.0) == np.inf


def test_a_line_askew_is_followed_by_the_pages_angle():
    left, right = patch(0, 0), patch(100, 30)
    assert text_lines._link_cost(left, right, height=40.0, angle=0.0) == np.inf
    assert text_lines._link_cost(left, right, height=40.0, angle=float(np.arctan(0.3))) == pytest.approx(80)


def test_a_wide_gap_within_a_line_is_still_the_line():
    lines = find_lines(ink_of(page_with((20, 60, 8, 60), (340, 64, 8, 60)))).lines
    assert boxes_of(lines) == [[(19, 59), (339, 63)]]


def test_lines_are_sorted_and_measured():
    upper = [(20 + 50 * i, 20, 8, 60) for i in range(6)]
    lower = [(40 + 50 * i, 120, 8, 50) for i in range(5)]
    lines = find_lines(ink_of(page_with(*reversed(upper + lower)))).lines
    assert [len(line.patches) for line in lines] == [6, 5]
    assert [line.height for line in lines] == [62, 52]  # a pixel of soft edge on each side
    assert [line.stroke for line in lines] == pytest.approx([8, 8], abs=1.5)


@pytest.mark.parametrize("slope", [-0.05, 0.0, 0.08])
def test_a_long_line_tells_its_own_angle(slope):
    page = page_with(*((20 + 45 * i, round(80 + slope * 45 * i), 8, 40) for i in range(8)))
    (line,) = find_lines(ink_of(page)).lines
    assert line.angle == pytest.approx(np.arctan(slope), abs=0.01)


def test_a_fragment_over_its_body_becomes_part_of_it():
    line = [patch(0, 20), patch(2, 5, 16, 8), patch(60, 20)]
    merged = text_lines._with_fragments_joined(line, 40.0)
    assert [(each.left, each.top, each.height) for each in merged] == [(0, 5, 55), (60, 20, 40)]


def test_a_fragment_beside_its_body_stays_a_patch():
    line = [patch(0, 20), patch(18, 5, 16, 8)]
    assert len(text_lines._with_fragments_joined(line, 40.0)) == 2


def test_a_long_stroke_may_be_further_off_than_a_dot():
    def attached(fragment):
        lines = [[patch(0, 0)]]
        text_lines._attach(fragment, lines, [40.0], 4.0)
        return len(lines[0]) == 2

    assert attached(patch(12, -14, 20, 6)) and not attached(patch(12, -18, 6, 6))
    assert attached(patch(28, 34, 6, 6))  # on the line, where a full stop stands
    assert not attached(patch(20 + 17, 0, 60, 6))  # further than FAR, however long


def test_a_small_line_beside_a_large_one_is_a_line_of_its_own_height():
    large = [(20 + 70 * i, 20, 12, 100) for i in range(5)]
    small = [(30 + 20 * i, 160, 4, 24) for i in range(6)]
    found = find_lines(ink_of(page_with(*large, *small)))
    assert [len(line.patches) for line in found.lines] == [5, 6]
    assert [line.height for line in found.lines] == [102, 26]
    assert found.strays == ()


def test_what_is_in_no_line_is_handed_back_with_the_reason():
    digits = [(20 + 50 * i, 20, 8, 60) for i in range(6)]
    far_off = (200, 150, 40, 20)
    found = find_lines(ink_of(page_with(*digits, far_off)))
    (stray,) = found.strays
    assert (stray.patch.left, stray.patch.top, stray.may_be_digit) == (199, 149, False)
    assert "too small or too far off" in stray.why


def test_a_ring_around_digits_is_no_digit():
    page = page_with(*((100 + 40 * i, 80, 8, 40) for i in range(4)))
    page[40:44, 60:300] = page[156:160, 60:300] = 1
    page[40:160, 60:64] = page[40:160, 296:300] = 1
    found = find_lines(ink_of(page))
    assert [len(line.patches) for line in found.lines] == [4]
    assert ["holds marks of its own" in stray.why for stray in found.strays] == [True]
    assert found.strays[0].may_be_digit


def test_raised_and_lowered_rings_stay_in_their_line():
    digits = [(20 + 40 * i, 60, 8, 60) for i in range(3)]
    (line,) = find_lines(ink_of(page_with(*digits, (150, 60, 20, 26), (185, 94, 20, 26)))).lines
    assert len(line.patches) == 5


def test_what_stands_in_a_gap_of_its_line_is_in_the_line():
    outer = [(20, 60, 8, 60), (40, 60, 8, 60), (740, 66, 8, 60), (760, 66, 8, 60)]
    inner = [(380, 63, 8, 60), (400, 63, 8, 60)]
    (line,) = find_lines(ink_of(page_with(*outer, *inner, size=(200, 800)))).lines
    assert len(line.patches) == 6


def test_a_number_that_is_crossed_out_is_left_out_and_told():
    digits = [(x, 40, x + 30, 100) for x in range(40, 240, 60)]
    ink = find_ink(np.asarray(strokes(*digits, (20, 72, 270, 66), size=(320, 160))))
    found = find_lines(ink)
    assert not found.lines
    assert [(stray.why, stray.may_be_digit) for stray in found.strays] == [("crossed out", True)]


def test_an_underlined_number_is_not_crossed_out():
    digits = [(x, 40, x + 30, 100) for x in range(40, 240, 60)]
    ink = find_ink(np.asarray(strokes(*digits, (20, 102, 290, 100), size=(320, 160))))
    assert not any(stray.why == "crossed out" for stray in find_lines(ink).strays)


def test_a_filled_shape_is_no_zero():
    disc = Image.new("RGB", (200, 200), "white")
    ImageDraw.Draw(disc).ellipse((40, 40, 160, 160), fill="black")
    found = find_lines(find_ink(np.asarray(disc)))
    assert not found.lines and [(s.why, s.may_be_digit) for s in found.strays] == [("a filled shape", True)]


@pytest.mark.parametrize("width", [6, 10, 14, 20])
@pytest.mark.parametrize("lean", [0, 20, 40])
def test_a_bar_is_a_stroke_however_thick_the_pen_was(width, lean):
    """A 1 of one straight stroke, as people draw it: the ink's search finds no more than the outline of a thick one."""
    page = Image.new("RGB", (900, 500), "white")
    ImageDraw.Draw(page).line((450 - lean, 160, 450 + lean, 340), fill="black", width=width)
    found = find_lines(find_ink(np.asarray(page)))
    assert len(found.lines) == 1 and not found.strays


def test_a_ring_is_not_filled_even_where_half_the_page_is_in_shadow():
    ring = Image.new("RGB", (400, 200), "white")
    for left in (60, 260):
        ImageDraw.Draw(ring).ellipse((left, 50, left + 70, 150), outline="black", width=10)
    shadow = np.where(np.arange(400) > 200, 0.6, 1.0)[None, :, None]
    found = find_lines(find_ink((np.asarray(ring) * shadow).astype(np.uint8)))
    assert not any(stray.why == "a filled shape" for stray in found.strays)


def test_a_ring_is_not_filled_however_near_its_neighbours_are():
    ring = Image.new("RGB", (400, 200), "white")
    draw = ImageDraw.Draw(ring)
    draw.ellipse((150, 50, 230, 150), outline="black", width=14)
    for left in (136, 236):
        draw.rectangle((left, 50, left + 10, 150), fill="black")
    found = find_lines(find_ink(np.asarray(ring)))
    assert not any(stray.why == "a filled shape" for stray in found.strays)


def test_what_is_blurred_keeps_its_soft_edges():
    page = np.zeros((120, 200), np.float32)
    cv2.line(page, (60, 30), (60, 90), 1.0, 8)
    for sigma, soft in ((0.8, 1), (4.0, 5)):
        amount = cv2.GaussianBlur(page, (0, 0), sigma).astype(np.float32)
        mask = amount > 0.4
        edge = 2.5 * sigma
        ((patch,), _) = find_components(Ink(amount, mask, 1.0, 0.0, edge=edge), 8.0)
        columns = np.flatnonzero(mask.any(axis=0))
        assert (patch.left, patch.right) == (columns[0] - soft, columns[-1] + 1 + soft)


@pytest.mark.parametrize(("pieces", "lost"), [((30, 45, 60, 75), 1), ((30,), 0)], ids=["a stroke", "a speck"])
def test_what_is_left_of_a_broken_stroke_in_a_gap_is_left_out_with_a_word(pieces, lost):
    bars = [(left, 30, 8, 60) for left in (20, 60, 180, 220)]
    specks = [(120 + top // 15, top, 4, 6) for top in pieces]
    found = find_lines(ink_of(page_with(*bars, *specks)))
    assert len([stray for stray in found.strays if stray.may_be_digit and "broken" in stray.why]) == lost

"""Pages that lie on their side or head are asked about once more, and read; others are not.

The classifier is the distance from MNIST's classes (`novelty`), which needs no model and is right often enough.
"""

import numpy as np
import pytest

from inkling.client.reading.novelty import outlier_scores
from inkling.client.reading.page import VIEWS, find_digits
from inkling.client.reading.rounds import advance, read_page, reading_rounds
from inkling.client.reading.turn import POSITIONS, Position, best_position, some_marks
from tools.compose_kinds import compose_kind


def by_distance(images):
    likeness = np.exp(-14 * outlier_scores(images).astype(np.float64))
    return likeness / likeness.sum(axis=1, keepdims=True)


@pytest.mark.parametrize(("kind", "quarters"), [("plain", 0), ("turned 90", 1), ("turned 180", 2), ("turned 270", 3)])
def test_the_way_up_is_found_by_trying(kind, quarters):
    # The page was turned against the clock, so that it takes as many turns with the clock.
    page = find_digits(compose_kind(kind, 12).picture)
    marks = some_marks(page)
    assert best_position(marks, by_distance(marks.images)) == Position(quarters, False)


def test_a_mirrored_page_is_told():
    page = find_digits(np.ascontiguousarray(compose_kind("plain", 12).picture[:, ::-1]))
    marks = some_marks(page)
    assert best_position(marks, by_distance(marks.images)) == Position(0, True)


def test_a_page_on_its_head_is_read_and_its_boxes_are_in_the_picture_as_given():
    written = compose_kind("turned 180", 12)
    reading = read_page(find_digits(written.picture), by_distance)
    assert reading.quarters == 2 and reading.to_json()["turned_degrees"] == 180
    first, last = reading.lines[0][0].box, reading.lines[-1][0].box
    assert first.top > last.bottom  # the first line stands at the bottom of the picture
    assert reading.lines[0][0].box.left > reading.lines[0][-1].box.left


def test_marks_are_asked_about_in_all_positions():
    page = find_digits(compose_kind("plain", 3).picture)
    marks = some_marks(page)
    assert len(marks.images) == len(POSITIONS) * VIEWS * marks.number
    forms = marks.images.reshape(len(POSITIONS), marks.number, VIEWS, 28, 28)[:, :, 0]
    for position, placed in zip(POSITIONS, forms, strict=True):
        first = forms[0][..., ::-1] if position.mirrored else forms[0]
        np.testing.assert_array_equal(placed, np.rot90(first, -position.quarters, axes=(1, 2)))


def test_a_page_that_reads_well_is_asked_about_once():
    page = find_digits(compose_kind("plain", 3).picture)

    def sure(images):
        labels = by_distance(images).argmax(axis=1)
        return np.where(np.arange(10) == labels[:, None], 0.999, 0.001 / 9)

    asked = []
    read_page(page, lambda images: asked.append(len(images)) or sure(images))
    assert asked[0] == len(page.images)


def test_an_empty_page_asks_nothing():
    reading = advance(reading_rounds(find_digits(np.full((200, 300), 255, np.uint8))), None)
    assert reading.text == ""

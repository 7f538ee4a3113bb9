"""Form boxes and tables taken out of maps of ink strength, the digits kept."""

import cv2
import numpy as np
import pytest

from inkling.client.reading.frames import remove_frames
from inkling.client.reading.page import find_digits

CONTRAST = 150.0


def boxes(columns, rows=1, *, cell=(50, 60), thickness=2, left=40, top=40):
    """Cells with an upright stroke in each, float32 [h, w]; and the strokes alone."""
    size = (2 * top + rows * cell[1], 2 * left + columns * cell[0])
    frame, strokes = np.zeros(size, np.float32), np.zeros(size, np.float32)
    for row in range(rows):
        for column in range(columns):
            x, y = left + column * cell[0], top + row * cell[1]
            cv2.rectangle(frame, (x, y), (x + cell[0], y + cell[1]), CONTRAST, thickness)
            middle = x + cell[0] // 2
            strokes[y + 15 : y + cell[1] - 15, middle - 3 : middle + 3] = CONTRAST
    return np.maximum(frame, strokes), strokes


@pytest.mark.parametrize("thickness", [1, 2, 4])
@pytest.mark.parametrize(("columns", "rows"), [(1, 1), (7, 1), (3, 3)])
def test_frames_go_and_what_is_in_them_stays(columns, rows, thickness):
    page, strokes = boxes(columns, rows, thickness=thickness)
    left, walls = remove_frames(page, noise=1.0, contrast=CONTRAST)
    assert (left[strokes > 0] == CONTRAST).all()
    assert left[strokes == 0].max() == 0
    assert len({round(wall.x / 10) for wall in walls}) == columns + 1


def test_a_stroke_that_crosses_a_line_stays_whole():
    page, _ = boxes(5)
    page[70:130, 112:118] = CONTRAST  # through the lower line, at 100
    left, _ = remove_frames(page, noise=1.0, contrast=CONTRAST)
    assert (left[72:128, 113:117] > 0.6 * CONTRAST).all()


def test_a_frame_a_little_askew_goes():
    page, _ = boxes(6)
    turn = cv2.getRotationMatrix2D((page.shape[1] / 2, page.shape[0] / 2), 1.0, 1.0)
    askew = cv2.warpAffine(page, turn, page.shape[::-1])
    left, _ = remove_frames(askew, noise=1.0, contrast=CONTRAST)
    assert (left > 0).mean() < 0.45 * (askew > 0).mean()


def test_digits_are_no_frames():
    page = np.zeros((120, 300), np.uint8)
    cv2.putText(page, "08469", (10, 90), cv2.FONT_HERSHEY_SIMPLEX, 2.6, CONTRAST, 8)
    page = page.astype(np.float32)
    left, walls = remove_frames(page, noise=1.0, contrast=CONTRAST)
    assert walls == ()
    np.testing.assert_array_equal(left, page)


def test_a_form_is_read_cell_by_cell():
    page, _ = boxes(6)
    picture = np.repeat((250 - page)[..., None], 3, axis=2).astype(np.uint8)
    (line,) = find_digits(picture).lines
    assert len(line.cuts) == 6 and len(line.walls) == 7


def comb(fields, *, cell=50, tooth=20, left=40, top=80):
    """A comb for so many digits, an upright stroke over each field, float32 [h, w]; and the strokes alone."""
    drawn, strokes = (np.zeros((top + 60, 2 * left + fields * cell), np.float32) for _ in range(2))
    cv2.line(drawn, (left, top), (left + fields * cell, top), CONTRAST, 2)
    for number in range(fields + 1):
        cv2.line(drawn, (left + number * cell, top - tooth), (left + number * cell, top), CONTRAST, 2)
    for number in range(fields):
        middle = left + number * cell + cell // 2
        strokes[top - 45 : top - 8, middle - 3 : middle + 3] = CONTRAST
    return np.maximum(drawn, strokes), strokes


@pytest.mark.parametrize("fields", [3, 8])
def test_a_comb_goes_and_its_teeth_part_what_stands_over_them(fields):
    page, strokes = comb(fields)
    left, walls = remove_frames(page, noise=1.0, contrast=CONTRAST)
    assert (left[strokes > 0] == CONTRAST).all() and left[strokes == 0].max() == 0
    assert len(walls) == fields + 1
    assert all(wall.top < 40 and wall.bottom > 80 for wall in walls)


def test_a_line_with_strokes_at_random_is_no_comb():
    page = np.zeros((140, 500), np.float32)
    cv2.line(page, (40, 80), (460, 80), CONTRAST, 2)
    for x in (45, 70, 150, 290, 455):
        cv2.line(page, (x, 60), (x, 80), CONTRAST, 2)
    left, walls = remove_frames(page, noise=1.0, contrast=CONTRAST)
    assert walls == () and (left == page).all()

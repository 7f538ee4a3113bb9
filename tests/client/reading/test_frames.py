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

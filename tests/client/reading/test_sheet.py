"""Sheets of paper found on desks, and flattened; frames and shadows are no sheets."""

import cv2
import numpy as np
import pytest

from inkling.client.reading.page import find_digits
from inkling.client.reading.sheet import find_sheets, whole

DESK, PAPER, INK = (110, 80, 60), (245, 243, 236), (30, 30, 60)
SIZE = (640, 480)  # width, height


def page_on_desk(corners, *, paper=PAPER, desk=DESK):
    """A sheet with two upright strokes at 0.4 and 0.6 of its width, seen with these corners."""
    page = np.full((300, 400, 3), paper, np.uint8)
    for x in (160, 240):
        page[110:190, x - 6 : x + 6] = INK
    to_picture = cv2.getPerspectiveTransform(
        np.array([[0, 0], [400, 0], [400, 300], [0, 300]], np.float32), np.array(corners, np.float32)
    )
    picture = np.full((SIZE[1], SIZE[0], 3), desk, np.uint8)
    return cv2.warpPerspective(page, to_picture, SIZE, picture, borderMode=cv2.BORDER_TRANSPARENT)


CORNERS = {
    "level": [(120, 90), (520, 90), (520, 390), (120, 390)],
    "askew": [(150, 70), (540, 110), (510, 410), (120, 370)],
    "from below": [(170, 100), (470, 100), (540, 400), (100, 400)],
}


@pytest.mark.parametrize("corners", CORNERS.values(), ids=CORNERS)
@pytest.mark.parametrize(
    ("paper", "desk"), [(PAPER, DESK), ((236, 231, 140), (40, 40, 42)), ((40, 60, 50), (200, 190, 180))]
)
def test_a_sheet_is_found_and_its_pixels_lie_where_they_lay(corners, paper, desk):
    (sheet,) = find_sheets(page_on_desk(corners, paper=paper, desk=desk))
    height, width = sheet.pixels.shape[:2]
    ends = np.array([(0, 0, 1), (width - 1, 0, 1), (width - 1, height - 1, 1), (0, height - 1, 1)])
    seen = ends @ sheet.to_picture.T
    assert np.abs(seen[:, :2] / seen[:, 2:] - corners).max() < 14  # the rim is cut off
    assert (np.abs(sheet.pixels[5:-5, 5:60].astype(int) - paper) < 30).all()


@pytest.mark.parametrize("angle", [0, 135, 250])
@pytest.mark.parametrize("desk", [DESK, (50, 90, 60), (40, 40, 42)])
def test_a_sheet_may_lie_half_in_the_shadow(desk, angle):
    y, x = np.mgrid[: SIZE[1], : SIZE[0]]
    across = (x - SIZE[0] / 2) * np.cos(np.deg2rad(angle)) + (y - SIZE[1] / 2) * np.sin(np.deg2rad(angle))
    light = 1 - 0.45 / (1 + np.exp(-across / 40))
    picture = (page_on_desk(CORNERS["askew"], desk=desk) * light[..., None]).astype(np.uint8)
    (sheet,) = find_sheets(picture)
    seen = sheet.to_picture @ (0, 0, 1)
    assert np.abs(seen[:2] / seen[2] - CORNERS["askew"][0]).max() < 14


def test_two_notes_are_two_sheets_from_top_to_bottom():
    picture = np.full((600, 400, 3), (50, 50, 55), np.uint8)
    picture[330:530, 60:330] = (250, 200, 160)
    picture[60:260, 90:340] = (236, 231, 140)
    sheets = find_sheets(picture)
    assert [int(np.median(sheet.pixels[..., 2])) for sheet in sheets] == [140, 160]


@pytest.mark.parametrize("kind", ["plain", "frame", "shadow", "writing"])
def test_paper_to_the_rim_has_no_sheet_in_it(kind):
    picture = np.full((300, 400, 3), PAPER, np.float32)
    if kind == "frame":
        cv2.rectangle(picture, (60, 60), (340, 240), INK, 4)
    if kind == "shadow":
        picture *= np.clip((np.arange(400) - 100) / 120, 0.4, 1.0)[None, :, None]
    picture = picture.astype(np.uint8)
    if kind == "writing":
        cv2.putText(picture, "407", (60, 220), cv2.FONT_HERSHEY_SIMPLEX, 6, INK, 24)
    assert find_sheets(picture) == []


@pytest.mark.parametrize("quarters", [0, 1, 2, 3])
def test_a_turned_sheet_still_knows_where_it_lay(quarters):
    picture = np.zeros((20, 30, 3), np.uint8)
    picture[4, 7] = 255
    turned = whole(picture).turned(quarters)
    y, x = np.argwhere(turned.pixels[..., 0] == 255)[0]
    assert (turned.to_picture @ (x, y, 1)).tolist() == [7, 4, 1]


def test_a_levelled_sheet_still_knows_where_it_lay():
    picture = np.zeros((200, 300, 3), np.uint8)
    picture[90:95, 200:205] = 255
    levelled = whole(picture).levelled(0.3)
    y, x = np.argwhere(levelled.pixels[..., 0] > 128).mean(axis=0)
    assert levelled.to_picture @ (x, y, 1) == pytest.approx([202, 92, 1], abs=0.5)


@pytest.mark.parametrize("corners", CORNERS.values(), ids=CORNERS)
def test_boxes_on_a_sheet_are_in_the_pixels_of_the_picture(corners):
    picture = page_on_desk(corners)
    page = find_digits(picture)
    (line,) = page.lines
    boxes = sorted((each.box for each in line.candidates if each.stop - each.start == 1), key=lambda box: box.left)
    assert len(boxes) == 2
    ink = picture.max(axis=2) < 65
    for box in boxes:
        inside = ink[box.top : box.bottom, box.left : box.right]
        assert inside.mean() > 0.35
    assert page.picture is not None and page.picture.shape == picture.shape

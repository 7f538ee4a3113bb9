"""Pages that lie askew."""

import cv2
import numpy as np
import pytest

from inkling.client.reading.skew import text_angle


def page(degrees):
    mask = np.zeros((500, 600), np.uint8)
    for row in range(3):
        cv2.putText(mask, "4071936"[: 5 + row % 3], (120, 170 + 90 * row), cv2.FONT_HERSHEY_SIMPLEX, 1.8, 1, 5)
    turn = cv2.getRotationMatrix2D((300, 250), -degrees, 1.0)
    return cv2.warpAffine(mask, turn, (600, 500)) > 0


@pytest.mark.parametrize("degrees", [-25, -12, 8, 18, 28])
def test_the_angle_is_found(degrees):
    assert np.rad2deg(text_angle(page(degrees))) == pytest.approx(degrees, abs=2.0)


@pytest.mark.parametrize("degrees", [-3, 0, 2])
def test_level_pages_are_left_as_they_are(degrees):
    assert text_angle(page(degrees)) == 0


def test_a_few_strokes_have_no_angle():
    mask = np.zeros((200, 200), np.uint8)
    cv2.line(mask, (20, 60), (180, 120), 1, 6)
    assert text_angle(mask > 0) == 0
    assert text_angle(np.zeros((50, 50), bool)) == 0

"""Pages that are blurred, dark, mirrored or full of words say so.

The classifier is that of `test_rounds`, or one that is sure of nothing.
"""

import cv2
import numpy as np
import pytest

from inkling.client.reading import notes
from inkling.client.reading.page import find_digits
from inkling.client.reading.rounds import read_page
from tests.client.reading.test_rounds import by_distance
from tools.compose_kinds import compose_kind


def unsure(images):
    return np.full((len(images), 10), 0.1)


def written(seed):
    return compose_kind("plain", seed).picture


def read(picture):
    return read_page(find_digits(picture), unsure)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_blurred_page_is_told(seed):
    picture = written(seed)
    height = (picture.shape[0] - 2) / 7.1  # of its digits: three lines of 1.7 heights, and margins
    reading = read(cv2.GaussianBlur(picture, (0, 0), 0.16 * height))
    assert reading.notes == (notes.BLURRED_NOTE,) and not reading.confident
    assert notes.BLURRED_NOTE in str(reading) and reading.to_json()["notes"] == [notes.BLURRED_NOTE]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_sharp_page_that_reads_badly_is_not_called_blurred(seed):
    assert notes.BLURRED_NOTE not in read(written(seed)).notes


def test_a_dark_page_is_told():
    assert notes.DARK_NOTE in read((written(4) * 0.2).astype(np.uint8)).notes


def test_a_dark_board_with_light_writing_is_not_called_dark():
    assert notes.DARK_NOTE not in read(255 - written(4)).notes


def test_a_mirrored_page_is_told():
    reading = read_page(find_digits(np.ascontiguousarray(written(12)[:, ::-1])), by_distance)
    assert notes.MIRRORED_NOTE in reading.notes and not reading.confident


def test_a_page_that_reads_well_has_no_notes():
    page = find_digits(written(3))

    def sure(images):
        return np.where(np.arange(10) == by_distance(images).argmax(axis=1)[:, None], 0.999, 0.001 / 9)

    assert read_page(page, sure).notes == ()

"""Readings of made-up candidates: what is marked, and why."""

import base64
import dataclasses
import io
import re

import numpy as np
import pytest
from PIL import Image, ImageDraw

from inkling.client.reading.page import VIEWS, Box, Candidate, LeftOut, Page, PageLine, find_digits
from inkling.client.reading.result import Reading
from inkling.client.reading.rounds import read_page
from inkling.train import data
from tests.client.reading.made_up import candidate, sure_of


@pytest.fixture(scope="module")
def digits():
    dataset = data.load()
    return dataset.test_images, dataset.test_labels


def page_of(*candidates, cuts=(0.0,), images=None):
    number = 1 + max(candidate.number for candidate in candidates)
    images = np.zeros((number * VIEWS, 28, 28), np.uint8) if images is None else images
    return Page(np.zeros((40, 60, 3), np.uint8), images, (PageLine(cuts, candidates),))


def read_with(page, *said):
    return Reading.of(page, np.repeat(np.stack(said), VIEWS, axis=0))


@pytest.fixture
def seven(digits):
    images, labels = digits
    return images[np.flatnonzero(labels == 7)[:1]].repeat(VIEWS, axis=0)


def test_a_clear_digit_has_no_mark(seven):
    reading = read_with(page_of(candidate(0, 1, 0), images=seven), sure_of(7))
    assert reading.text == "7" and reading.confident and reading.marks() == []


def test_a_low_probability_is_marked_with_both_choices(seven):
    probabilities = np.zeros(10)
    probabilities[[7, 1]] = 0.6, 0.4
    reading = read_with(page_of(candidate(0, 1, 0), images=seven), probabilities)
    assert reading.text == "7" and not reading.confident
    assert reading.marks() == ["line 1, digit 1 (7): looks like 7 or 1 (0.84 / 0.16)"]  # by the second opinion


def test_views_that_disagree_are_marked(seven):
    page = page_of(candidate(0, 1, 0), images=seven)
    reading = Reading.of(page, np.stack([sure_of(7), sure_of(1, 0.9)]))
    assert reading.digits[0].doubtful and "looks like 7 or 1" in reading.digits[0].why


@pytest.mark.parametrize(
    ("given", "why"),
    [({"aspect": 2.5}, "2.5 times as wide as high"), ({"solidity": 0.95, "aspect": 1.0}, "a filled spot")],
    ids=["dash", "spot"],
)
def test_shapes_that_no_digit_has_are_written_as_a_question_mark(seven, given, why):
    reading = read_with(page_of(candidate(0, 1, 0, **given), images=seven), sure_of(7))
    assert reading.text == "?" and not reading.digits[0].is_digit
    assert why in reading.digits[0].why


def test_a_guess_among_ten_is_no_digit():
    reading = read_with(page_of(candidate(0, 1, 0)), np.full(10, 0.1))
    assert reading.text == "?" and "nothing in particular" in reading.marks()[0]


def test_probabilities_of_another_model_are_refused(seven):
    with pytest.raises(ValueError, match=r"shape \[2, 26\], expected \[2, 10\]"):
        Reading.of(page_of(candidate(0, 1, 0), images=seven), np.zeros((2, 26)))


def test_read_page_takes_any_classifier():
    asked = []

    def predict(images):
        asked.append(images.shape)
        return np.tile(sure_of(1), (len(images), 1))

    picture = Image.new("L", (120, 120), 255)
    assert read_page(find_digits(picture), predict).text == "" and asked == []
    ImageDraw.Draw(picture).line((60, 25, 60, 95), fill=0, width=8)
    assert read_page(find_digits(picture), predict).text == "1"
    assert asked == [(VIEWS, 28, 28)]


def test_a_notebook_shows_the_picture_and_the_text(seven):
    page = dataclasses.replace(page_of(candidate(0, 1, 0), images=seven), picture=np.zeros((40, 3000, 3), np.uint8))
    html = read_with(page, sure_of(7))._repr_html_()
    picture, text = re.fullmatch(r'<img src="data:image/png;base64,([^"]+)" alt=""><pre>(.*)</pre>', html).groups()
    assert Image.open(io.BytesIO(base64.b64decode(picture))).width == 1000
    assert text == "7"


def placed(*extents, signs=None, walls=(), left_out=(), digit):
    """A line with marks from place to place along it, in its heights; `signs` by the number of the mark."""
    marks = tuple(
        Candidate(i, i + 1, Box(0, 0, 10, 20), i, 0.6, 1.0, 0.3, extent, (signs or {}).get(i, ""))
        for i, extent in enumerate(extents)
    )
    images = np.repeat(digit[:1], len(marks) * VIEWS, axis=0)
    line = PageLine((0.0,) * len(marks), marks, walls)
    page = Page(np.zeros((40, 60, 3), np.uint8), images, (line,), left_out)
    return read_with(page, *[sure_of(7)] * len(marks))


CLOSE = ((0.0, 0.5), (0.6, 1.1), (1.2, 1.7))


@pytest.mark.parametrize(
    ("last", "text"), [((1.8, 2.3), "7777"), ((2.5, 3.0), "777 7"), ((4.5, 5.0), "777\t7")], ids=["", "word", "column"]
)
def test_wide_gaps_are_kept(seven, last, text):
    assert placed(*CLOSE, last, digit=seven).text == text


def test_of_two_digits_nobody_can_say_whether_they_are_far_apart(seven):
    assert placed((0.0, 0.5), (1.5, 2.0), digit=seven).text == "77"


def test_cells_are_parted_by_tabs_and_boxes_for_single_digits_are_not(seven):
    assert placed(*CLOSE, walls=(-0.1, 1.15, 4.0), digit=seven).text == "77\t7"
    boxes = ((0.0, 0.5), (1.5, 2.0), (3.0, 3.5))
    assert placed(*boxes, walls=(-0.5, 1.0, 2.5, 4.0), digit=seven).text == "777"


def test_signs_stand_in_the_text_and_not_among_the_digits(seven):
    reading = placed(*CLOSE, signs={1: "."}, digit=seven)
    assert reading.text == "7.7" and len(reading.digits) == 2 and reading.confident
    (line,) = reading.to_json()["lines"]
    assert line["text"] == "7.7" and [sign["text"] for sign in line["signs"]] == ["."]
    assert [sign.place for sign in reading.signs] == [1]


def test_signs_alone_are_left_out_and_not_passed_over(seven):
    reading = placed((0.0, 0.5), signs={0: "-"}, digit=seven)
    assert reading.text == "" and not reading.confident
    assert "without a digit" in reading.left_out[0].why


@pytest.mark.parametrize("may_be_digit", [True, False])
def test_what_may_be_a_digit_and_was_left_out_takes_the_confidence(seven, may_be_digit):
    stray = LeftOut(Box(3, 4, 5, 6), "too far off", may_be_digit)
    reading = placed(*CLOSE, left_out=(stray,), digit=seven)
    assert reading.confident is not may_be_digit
    assert reading.to_json()["left_out"] == [{"box": [3, 4, 5, 6], "why": "too far off", "may_be_digit": may_be_digit}]
    assert any("too far off" in mark for mark in reading.marks()) is may_be_digit


def test_signs_without_sense_are_marked_and_take_the_confidence(seven):
    reading = placed(*CLOSE, (1.8, 2.3), (2.4, 2.9), (3.0, 3.5), signs={1: ":", 3: ",", 4: "/"}, digit=seven)
    assert reading.text == "7:7,/7" and not reading.confident and not reading.fields[0].confident
    assert [sign.doubtful for sign in reading.signs] == [True] * 3
    assert reading.marks()[0].startswith("line 1, sign :: makes no number")
    assert reading.to_json()["lines"][0]["signs"][0]["doubtful"] is True


def test_a_sign_that_may_be_another_is_marked(seven):
    marks = tuple(
        Candidate(i, i + 1, Box(0, 0, 10, 20), i, 0.6, 1.0, 0.3, (0.6 * i, 0.6 * i + 0.5), sign, like)
        for i, (sign, like) in enumerate([("", ""), (".", ","), ("", "")])
    )
    images = np.repeat(seven[:1], len(marks) * VIEWS, axis=0)
    page = Page(np.zeros((40, 60, 3), np.uint8), images, (PageLine((0.0,) * 3, marks),))
    reading = read_with(page, *[sure_of(7)] * 3)
    assert reading.text == "7.7" and reading.marks() == ["line 1, sign .: a ., or a ,"]
    assert reading.numbers[0].value is None


def test_a_small_ring_before_a_per_cent_sign_may_be_its():
    marks = (
        Candidate(0, 1, Box(0, 0, 10, 20), 0, 0.6, 0.4, 0.3, (0.0, 0.4)),
        Candidate(1, 2, Box(10, 0, 20, 20), 1, 0.6, 1.0, 0.3, (0.3, 1.0), "%"),
    )
    page = Page(np.zeros((40, 60, 3), np.uint8), np.zeros((4, 28, 28), np.uint8), (PageLine((0.0,) * 2, marks),))
    assert read_with(page, sure_of(0), sure_of(0)).digits[0].doubtful

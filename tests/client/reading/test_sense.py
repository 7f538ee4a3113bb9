"""Words of digits and signs that are numbers, dates, times, phone numbers or sums, and others that are nothing."""

import numpy as np
import pytest

from inkling.client.reading.marks import ReadDigit, ReadSign
from inkling.client.reading.page import Box
from inkling.client.reading.sense import NO_DATE, NO_SENSE, NO_SUM, NO_TIME, SHORT, without_sense

BOX = Box(0, 0, 1, 1)
NO_FORM = np.zeros((28, 28), np.uint8)


def line_of(text):
    """A line's marks; a space before one parts it from the one before."""
    marks, before = [], ""
    for character in text:
        if character in " \t":
            before = character
            continue
        place = len(marks)
        if character.isdecimal() or character == "?":
            is_digit = character != "?"
            digit = ReadDigit(character, 1.0, (), BOX, NO_FORM, 0, not is_digit, is_digit, "", before, place)
            marks.append(digit)
        else:
            marks.append(ReadSign(character, BOX, 0, before, place))
        before = ""
    return marks


@pytest.mark.parametrize(
    "text",
    [
        *("5", "-5", "3.5", "1,234.50", "1.234,50", "12.-", "$578.81", "(5.20)", "0.5", "3.14159", "36%", "53.3%"),
        *("17.9.2027", "4/8/1991", "24/11/24", "2010-02-20", "31.1.", "12:30", "20:26-10:22", "16:9", "1/2", "3."),
        *(
            "(309)0289",
            "+853 5514",
            "007-297-3893",
            "0171/555",
            "12+5=17",
            "12 + 5 = 17",
            "1.5+2,5=4.00",
            "12-5=",
            "=17",
        ),
        *("?7.9.2027", "1?:30", "12+?=17"),
    ],
)
def test_what_people_write_makes_sense(text):
    assert without_sense(line_of(text)) == {}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        *(
            (text, NO_SENSE)
            for text in ("1:7-6552", "201,6-12-17", "05,11,2000", "11..2018", "004.8", "80+81-%61", "15:")
        ),
        *((text, NO_DATE) for text in ("18.56.2001", "0/4/1991", "2010-13-40")),
        *((text, NO_TIME) for text in ("14:78", "25:10")),
        *((text, SHORT) for text in ("11.112015", "1112.2015")),
        *((text, NO_SUM) for text in ("4+8-7=86", "12 + 5 = 18", "1.5+2=3")),
    ],
)
def test_what_makes_no_sense_is_marked(text, why):
    assert set(without_sense(line_of(text)).values()) == {why}


def test_a_sum_that_does_not_add_up_is_marked_at_its_equals_sign():
    assert without_sense(line_of("12+5=18")) == {4: NO_SUM}


def test_words_without_sense_do_not_touch_their_neighbours():
    assert set(without_sense(line_of("3.5 1:7-2 3.5"))) == {4, 6}


def test_a_long_word_is_told_at_once():
    line = line_of("12.345-" * 200 + "1")
    assert set(without_sense(line).values()) == {NO_SENSE}

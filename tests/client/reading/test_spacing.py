"""Which gaps of a line are spaces."""

from dataclasses import replace

import pytest

from inkling.client.reading.best_path import Choice
from inkling.client.reading.page import PageLine
from inkling.client.reading.spacing import COLUMN_GAP, GROUP_GAP, WORD_GAP, parted
from tests.client.reading.made_up import candidate

USUAL = 0.1  # of the line's height, between two digits


def read(text, *, space):
    """What parts the marks of a text, a space in it being a gap of that width."""
    chosen, right = [], 0.0
    for number, mark in enumerate(text.replace(" ", "")):
        left = right + (space if number == text.index(" ") else USUAL)
        right = left + 0.6
        sign = "" if mark.isdecimal() else mark
        chosen.append(replace(candidate(number, number + 1, number), extent=(left, right), sign=sign))
    return parted(PageLine((0.0,) * len(chosen), tuple(chosen)), [Choice(each, 1.0) for each in chosen])


@pytest.mark.parametrize("text", ["12 345", "+1234 567", "(030) 4567"])
def test_a_gap_much_wider_than_the_others_is_a_space(text):
    assert read(text, space=WORD_GAP + 0.1).index(" ") == text.index(" ")


@pytest.mark.parametrize("text", ["+1234 567", "(030) 4567"])
def test_a_phone_number_is_parted_by_narrower_gaps(text):
    assert read(text, space=GROUP_GAP + 0.05).index(" ") == text.index(" ")


@pytest.mark.parametrize("text", ["123 4567", "12+3 4567", "12) 34567"])
def test_other_numbers_are_not(text):
    assert not any(read(text, space=GROUP_GAP + 0.05))


def test_a_gap_as_wide_as_a_column_is_a_tab():
    assert read("12 345", space=COLUMN_GAP + 0.1)[2] == "\t"

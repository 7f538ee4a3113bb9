"""Signs that the second opinion knows by their shape, and those of the rules that it knows for digits."""

from dataclasses import replace

import numpy as np
import pytest

from inkling.client.reading.page import PageLine
from inkling.client.reading.second_opinion import SIGNS
from inkling.client.reading.sign_votes import with_sign_votes
from inkling.client.reading.votes import Votes
from tests.client.reading.made_up import candidate


def told(*marks):
    """What is made of marks beside each other: (what the second opinion is sure of, sign by the rules, height)."""
    candidates = [
        replace(candidate(i, i + 1, i, height=height), sign=sign, extent=(float(i), i + 0.9))
        for i, (_, sign, height) in enumerate(marks)
    ]
    signs = np.array([[float(known == sign) for sign in SIGNS] for known, _, _ in marks])
    strangers = np.array([9.0 if known in SIGNS else -9.0 for known, _, _ in marks])
    nothing = np.zeros((len(marks), 10))
    votes = Votes(np.zeros((len(marks), 3, 10)), nothing, nothing, strangers, signs, nothing)
    line = with_sign_votes(PageLine((0.0,) * len(marks), tuple(candidates)), votes)
    return "".join(each.sign or "0" for each in line.candidates), [each.like for each in line.candidates]


@pytest.mark.parametrize(
    ("marks", "read"),
    [
        ([("0", "", 1), ("%", "", 1)], "0%"),
        ([("%", "", 1), ("0", "", 1)], "00"),
        ([("$", "", 1.2), ("0", "", 1)], "$0"),
        ([("0", "", 1), ("$", "", 1.2)], "00"),
        ([("0", "", 1), ("+", "", 0.5), ("0", "", 1)], "0+0"),
        ([("0", "", 1), ("+", "", 1.3)], "00"),
        ([("(", "", 1.3), ("0", "", 1), (")", "", 1.3)], "(0)"),
        ([("(", "", 1.3), ("0", "", 1)], "00"),
    ],
    ids=["per cent", "none before", "dollar", "behind a digit", "plus", "too high", "brackets", "one bracket"],
)
def test_a_sign_stands_where_such_signs_stand(marks, read):
    assert told(*marks)[0] == read


def test_what_the_rules_and_the_second_opinion_take_for_a_plus_is_one():
    assert told(("0", "", 1), ("+", "+", 0.7), ("0", "", 1))[0] == "0+0"


def test_what_the_rules_take_for_a_plus_is_a_marked_digit_if_it_is_surely_one():
    assert told(("0", "", 1), ("9", "+", 0.7)) == ("00", ["", "+"])


def test_a_point_is_one_whatever_the_second_opinion_says():
    assert told(("0", "", 1), ("9", ".", 0.1))[0] == "0."


def test_a_per_cent_sign_takes_no_digit_in():
    one, sign = candidate(1, 2, 1), replace(candidate(2, 3, 2), sign="%")
    both = replace(candidate(1, 3, 3), extent=(1.0, 2.9))
    signs = np.zeros((4, len(SIGNS)))
    signs[3, SIGNS.index("%")] = 1.0
    nothing = np.zeros((4, 10))
    votes = Votes(np.zeros((4, 3, 10)), nothing, nothing, np.full(4, 9.0), signs, nothing)
    line = with_sign_votes(PageLine((0.0,) * 3, (candidate(0, 1, 0), one, sign, both)), votes)
    assert [each.sign for each in line.candidates] == ["", "", "%", ""]

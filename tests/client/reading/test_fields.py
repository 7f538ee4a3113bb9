"""Fields, tables and numbers of readings that are made up, and of a page that is drawn."""

from decimal import Decimal

import pytest

from inkling.client.reading.fields import Field, numbers_among, table_of
from inkling.client.reading.page import Box


def field(text, line, left, right, *, confident=True):
    return Field(text, Box(left, 40 * line, right, 40 * line + 20), line, confident)


def table(*fields):
    return table_of(fields, across=[(each.box.left, each.box.right) for each in fields])


def test_fields_below_each_other_are_a_column():
    found = table(field("1", 0, 0, 20), field("22", 0, 100, 140), field("3", 1, 5, 25), field("4", 1, 120, 141))
    assert found.texts == [["1", "22"], ["3", "4"]] and not found.has_header and found.confident


def test_where_nothing_stands_the_cell_is_empty():
    found = table(field("1", 0, 0, 20), field("2", 1, 100, 140), field("3", 2, 0, 20), field("4", 2, 100, 120))
    assert found.texts == [["1", ""], ["", "2"], ["3", "4"]]


def test_a_wide_field_below_two_columns_does_not_make_them_one():
    found = table(field("1", 0, 0, 20), field("2", 0, 100, 140), field("345678", 1, 0, 130))
    assert found.texts == [["1", "2"], ["345678", ""]]


def test_fields_aligned_on_either_side_are_one_column():
    found = table(field("123456", 0, 0, 120), field("1", 1, 0, 20), field("2", 2, 100, 120))
    assert found.texts == [["123456"], ["1"], ["2"]]


def test_a_first_row_of_words_is_the_header():
    words = [field("????", 0, 0, 40, confident=False), field("???", 0, 100, 140, confident=False)]
    found = table(*words, field("1", 1, 0, 20), field("2", 1, 100, 120))
    assert found.has_header and not found.confident and found.rows[1][0].confident


def test_csv_quotes_what_has_commas():
    assert table(field("1,5", 0, 0, 30), field("2", 0, 100, 120)).to_csv() == '"1,5",2\r\n'


@pytest.mark.parametrize(
    ("text", "value", "unit"),
    [
        ("42", "42", ""),
        ("-5", "-5", ""),
        ("+7", "7", ""),
        ("3.5", "3.5", ""),
        ("3,50", "3.50", ""),
        ("0.125", "0.125", ""),
        ("1,234.56", "1234.56", ""),
        ("1.234,56", "1234.56", ""),
        ("1,234,567", "1234567", ""),
        ("1234.567", "1234.567", ""),
        ("$604.78", "604.78", "$"),
        ("35%", "35", "%"),
    ],
)
def test_numbers_have_their_values(text, value, unit):
    (number,) = numbers_among([field(text, 0, 0, 100)])
    assert (number.value, number.unit, number.text) == (Decimal(value), unit, text)


@pytest.mark.parametrize("text", ["1,234", "12.500", "4?7"])
def test_a_number_with_two_meanings_has_no_value(text):
    (number,) = numbers_among([field(text, 0, 0, 100)])
    assert number.value is None and number.text == text


def test_a_number_with_a_doubtful_digit_has_no_value():
    (number,) = numbers_among([field("42", 0, 0, 40, confident=False)])
    assert number.value is None


@pytest.mark.parametrize("text", ["12.5.2020", "12:30", "3+4=7", "1/2/2003", "???", "123-4567", "("])
def test_what_is_no_number_is_not_among_them(text):
    assert numbers_among([field(text, 0, 0, 100)]) == []

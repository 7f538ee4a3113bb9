"""Whether the signs in what was read make sense: "17.9.2027" is a date, "1:7-6552" and "201,6-12-17" are nothing.

A sign changes what a number means, and a broken digit, a blot or a 1 that leans may pass for one. So each word must be
something that people write: a number, an amount, a date, a time, a phone number, a sum; and a sum must add up. What is
none of these is still written as it was read, its signs marked.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal

from .marks import NO_DIGIT, ReadDigit, ReadSign

Marks = Sequence[ReadDigit | ReadSign]

DIGIT = r"[\d?]"  # a mark that is no digit stands for one
WHOLE = rf"(?:0|(?!0){DIGIT}+)"
PLAIN = rf"{DIGIT}+"
GROUPED = rf"(?!0){DIGIT}{{1,3}}(?:,{DIGIT}{{3}})+(?:\.{DIGIT}+)?|(?!0){DIGIT}{{1,3}}(?:\.{DIGIT}{{3}})+(?:,{DIGIT}+)?"
# Atomic: "12.345" is one of two forms, and to try both for each of a long word's values would take for ever.
VALUE = rf"(?>(?:{GROUPED}|{WHOLE}[.,]{DIGIT}+|{PLAIN})(?!{DIGIT}))"
TERM = rf"(?:{VALUE}|\({VALUE}\))"
DAY = rf"{DIGIT}{{1,2}}"
DATE = rf"{DAY}([./-]){DAY}\1(?:{DIGIT}{{4}}|{DIGIT}{{2}})?|{DIGIT}{{4}}([./-]){DAY}\2{DAY}"
TIME = rf"{DIGIT}{{1,2}}:{DIGIT}{{2}}(?::{DIGIT}{{2}})?"
FORMS = tuple(
    re.compile(form)
    for form in (
        rf"\$?[+-]?\$?{VALUE}%?[,;]?|\(\$?{VALUE}%?\)",  # an amount; a negative one in brackets
        rf"{VALUE}[.,]-|{PLAIN}[.)]",  # "12.-", as in Switzerland; the number of a list
        DATE,
        rf"{TIME}(?:-{TIME})?",
        rf"{PLAIN}[:/]{PLAIN}",  # a ratio, a score, a fraction
        rf"\+?{PLAIN}(?:[-/]{PLAIN})*|\+?{DIGIT}*\({PLAIN}\){PLAIN}?(?:[-/]{PLAIN})*",  # a phone number
        rf"{PLAIN}(?:[-+]{PLAIN})+|=-?{VALUE}",  # a sum without its result, a result without its sum
        rf"-?{TERM}(?:[-+:/]{TERM})*=(?:-?{TERM})?",  # a sum
        r"[-+=:/]",  # a sign between two words
    )
)
SHORT_OF_DATE = re.compile(r"\d{1,2}[./-]\d{1,2}(?:19|20)\d{2}|\d{3,4}[./](?:19|20)\d{2}")  # "17.92027", "179.2027"
SUM = re.compile(r"([-+]?\d+(?:[.,]\d{1,2})?(?:[-+]\d+(?:[.,]\d{1,2})?)*)=(-?\d+(?:[.,]\d{1,2})?)")
DAYS, MONTHS, HOURS, MINUTES = 31, 12, 24, 59
NO_SENSE = "makes no number, date, time or sum of what it stands in"
SHORT = "makes a date that lacks a sign, or something else"
NO_DATE, NO_TIME, NO_SUM = "makes a date that there is not", "makes a time that there is not", "does not add up"


def without_sense(line: Marks) -> dict[int, str]:
    """Find the signs that make no sense where they stand.

    Args:
        line: its digits and signs, from left to right.

    Returns: why, by the sign's place in the line.
    """
    found: dict[int, str] = {}
    for word in _parts(line, "\t "):
        found |= _marked(word, _why(_text(word)))
    for field in _parts(line, "\t"):
        if _is_false_sum(_text(field)):
            found |= _marked([each for each in field if each.text == "="], NO_SUM)
    return found


def doubted(sign: ReadSign, why: str) -> ReadSign:
    """The sign, marked if there is a reason."""
    return replace(sign, doubtful=True, why=why) if why else sign


def _marked(part: Marks, why: str) -> dict[int, str]:
    return {each.place: why for each in part if isinstance(each, ReadSign)} if why else {}


def _parts(line: Marks, ends: str) -> list[list[ReadDigit | ReadSign]]:
    parts: list[list[ReadDigit | ReadSign]] = []
    for mark in line:
        if not parts or (mark.before and mark.before in ends):
            parts.append([])
        parts[-1].append(mark)
    return parts


def _text(part: Marks) -> str:
    return "".join(mark.text for mark in part)


def _why(word: str) -> str:
    if not any(form.fullmatch(word) for form in FORMS):
        return NO_SENSE
    if NO_DIGIT in word:
        return ""
    if SHORT_OF_DATE.fullmatch(word):
        return SHORT
    if re.fullmatch(DATE, word) and not _is_date([int(each) for each in re.split(r"[./-]", word) if each]):
        return NO_DATE
    if re.fullmatch(TIME, word) and not _is_time([int(each) for each in word.split(":")]):
        return NO_TIME
    return ""


def _is_date(parts: Sequence[int]) -> bool:
    """Whether two of the three, or of two, are a day and a month, in whatever order."""
    days_and_months = parts[1:] if parts[0] > DAYS else parts[:2]
    low, high = sorted(days_and_months)
    return 1 <= low <= MONTHS and high <= DAYS


def _is_time(parts: Sequence[int]) -> bool:
    return parts[0] <= HOURS and max(parts[1:]) <= MINUTES


def _is_false_sum(text: str) -> bool:
    match = SUM.fullmatch(text)
    return match is not None and _total(match[1]) != _total(match[2])


def _total(terms: str) -> Decimal:
    return sum((Decimal(term.replace(",", ".")) for term in re.findall(r"[-+]?[\d.,]+", terms)), Decimal(0))

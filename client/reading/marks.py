"""What is doubtful in a digit of the reading, and what is none: `judged`, and for words `without_words`.

A digit that is hard to tell is written and marked as doubtful; a shape that is not a digit is written as "?". The marks
come from symptoms, each with its own words in `ReadDigit.why`: a low probability, votes that differ (the two views of
the digit, as written and upright, and the second opinion), another way to cut the line that is nearly as good,
proportions that the digit does not have, a shape unlike all that people write for it, and one like a letter, a sign or
a drawing.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from .best_path import Choice, aspect_z_score
from .page import VIEWS, Box, Candidate, Page, PageLine
from .votes import KNOWN, Votes
from .zeros import why_no_zero

NO_DIGIT = "?"

# On pages made of MNIST's training digits (docs/reading.md): of the digits read rightly 1 in 100 is under the first
# limit and 1 in 1000 under the second; of those read wrongly more than half are under the first.
DOUBTFUL_BELOW, NO_DIGIT_BELOW = 0.85, 0.45
# Outlier scores: over those of 995 and of 999 in 1000 training images. These limits and the following were set by hand,
# by looking at what was marked on such pages, and at letters, scribbles and blots.
DOUBTFUL_SCORE, NO_DIGIT_SCORE = 1.12, 1.35
DOUBTFUL_LOGIT, NO_DIGIT_LOGIT = 0.0, 5.5  # of a stranger (`second_opinion`): 33 and 1 in 1000 digits are over
LIKE_A_LETTER = 3.0  # logit of a stranger from which a mark may be a letter: 1 in 100 of MNIST's digits is over
NO_WORD = -np.inf  # logit of a mark that says nothing of its word
LETTERS, STRANGE_WORD = 2, 1 / 3  # so many of a word's marks, and this share of them: then the others are letters, too
DOUBTFUL_ASPECT, NO_DIGIT_ASPECT = 2.8, 3.6  # standard deviations from the class's usual proportions
LEAST_MARGIN = 0.15  # nats to the next best way to cut the line
WIDEST = 2.0  # a digit's width over its height
FULLEST, NARROW = 0.85, 0.6  # share of its box that is ink; width over height of a 1, which may be as full as it likes
# A mark that hangs together and was cut: narrower than so many line heights, or half of it bars, it may be a letter.
NARROW_TO_CUT, CUT_TO_BARS, BARS = 0.9, 0.5, (1, 7)
CUT_WHY = "cut out of a mark that may be a letter"
RING_HEIGHT, RING_GAP = 0.62, 0.05  # of the line's height: of a ring that may be a per cent sign's; paper behind it
RING_WHY = "a digit, or a part of the per cent sign"
MANY_ONES = 8  # digits: a page of more 1s and nothing else may be a pattern
WIDE = 0.7  # width over height of the average digit, nearly: over it the reason says "wide"


@dataclass(frozen=True, slots=True, eq=False)
class ReadDigit:
    """One digit of a reading."""

    label: str
    probability: float  # of the label, 0 to 1
    probabilities: tuple[float, ...]  # of the ten classes
    box: Box  # in the upright picture
    image: NDArray[np.uint8]  # uint8 [28, 28], as written: the first of the views whose mean `probabilities` is
    line: int
    doubtful: bool  # hard to tell; still written in the text
    is_digit: bool  # if not, the text has "?" in its place
    why: str  # the reason for either mark; "" without
    before: str = ""  # what parts it from what stands before it in its line: nothing, a space or a tab
    place: int = 0  # in its line, among its digits and signs

    @property
    def text(self) -> str:
        """The label, or "?"."""
        return self.label if self.is_digit else NO_DIGIT


@dataclass(frozen=True, slots=True)
class ReadSign:
    """One sign of a reading: a point, comma, dash, slash, colon, plus, equals or per cent sign, or a bracket."""

    text: str
    box: Box  # in the picture
    line: int
    before: str = ""  # as of a digit
    place: int = 0  # as of a digit
    doubtful: bool = False  # hard to tell, or without sense where it stands; still written in the text
    why: str = ""  # the reason for the mark; "" without


def judged(choice: Choice, page: Page, votes: Votes, *, line: int) -> ReadDigit:
    """One digit of the path, marked if it is doubtful or none."""
    candidate = choice.candidate
    row = candidate.number
    probabilities, stranger = votes.together[row], float(votes.strangers[row])
    label = int(np.argmax(probabilities))
    score = float(votes.scores[row, label])
    known = votes.known[row, label] > KNOWN
    no_digit = _why_no_digit(candidate, probabilities, score, stranger, known=bool(known))
    doubt = no_digit or _why_doubtful(choice, probabilities, votes.each[row], score, stranger)
    if label == 0 and not doubt:
        doubt = why_no_zero(page.images[row * VIEWS + VIEWS - 1])
    return ReadDigit(
        label=str(label),
        probability=float(probabilities[label]),
        probabilities=tuple(map(float, probabilities)),
        box=candidate.box,
        image=page.images[candidate.number * VIEWS],
        line=line,
        doubtful=bool(doubt),
        is_digit=not no_digit,
        why=doubt,
    )


def doubtful_cuts(line: PageLine, chosen: Sequence[Choice], votes: Votes) -> set[int]:
    """Numbers of the candidates that a mark was cut into which may be a letter: an H is two bars, once it is cut."""
    found: set[int] = set()
    for parts in _cut_marks(line, chosen):
        left, right = parts[0].extent[0], max(part.extent[1] for part in parts)
        bars = sum(int(np.argmax(votes.together[part.number])) in BARS for part in parts)
        if len(parts) > 1 and (right - left < NARROW_TO_CUT or bars >= CUT_TO_BARS * len(parts)):
            found |= {part.number for part in parts}
    return found


def _cut_marks(line: PageLine, chosen: Sequence[Choice]) -> list[list[Candidate]]:
    """The digits of each mark that hangs together, as far as cuts through ink part them."""
    marks: list[list[Candidate]] = []
    for choice in chosen:
        candidate = choice.candidate
        if marks and line.cuts[candidate.start] > 0 and marks[-1][-1].stop == candidate.start:
            marks[-1].append(candidate)
        else:
            marks.append([candidate])
    return marks


def rings(chosen: Sequence[Choice]) -> set[int]:
    """Numbers of the candidates that stand so close before a per cent sign, and are so small, that they may be its."""
    return {
        before.candidate.number
        for before, sign in itertools.pairwise(chosen)
        if sign.candidate.sign == "%" and not before.candidate.sign and before.candidate.height < RING_HEIGHT
        if sign.candidate.extent[0] - before.candidate.extent[1] < RING_GAP
    }


def all_ones(digits: Sequence[ReadDigit]) -> list[ReadDigit]:
    """The digits, marked if they are many 1s and nothing else: what is left of bricks or a fence looks like that."""
    if len(digits) <= MANY_ONES or any(digit.label != "1" for digit in digits):
        return list(digits)
    why = "nothing but strokes on the page: 1s, or a pattern"
    return [digit if digit.doubtful else replace(digit, doubtful=True, why=why) for digit in digits]


def without_words(marks: Sequence[tuple[ReadDigit, float]]) -> list[ReadDigit]:
    """The digits, those marked that stand in a word: where a third of the marks are like letters, all are letters.

    Args:
        marks: each digit with its logit of being none.
    """
    words = _words(marks)
    clear = [word[0][0].line for word in words if not any(digit.doubtful for digit, _ in word)]
    result: list[ReadDigit] = []
    for word in words:
        is_word = _is_word(word, beside_number=word[0][0].line in clear)
        result += [_letter(digit) if is_word and digit.is_digit else digit for digit, _ in word]
    return result


def _is_word(word: list[tuple[ReadDigit, float]], *, beside_number: bool) -> bool:
    """Whether enough of it is like letters; beside a number that is clear a single one is enough."""
    letters = sum(logit > LIKE_A_LETTER or (not digit.is_digit and logit > NO_WORD) for digit, logit in word)
    surely = beside_number and any(logit > NO_DIGIT_LOGIT for _, logit in word)
    return surely or letters >= max(LETTERS, STRANGE_WORD * len(word))


def letter_logit(choice: Choice, line: PageLine, logit: float) -> float:
    """What a digit says of its word: nothing if it was cut out of a mark, badly perhaps, unless it is surely none."""
    cuts = (*line.cuts, 0.0)
    is_part = cuts[choice.candidate.start] > 0 or cuts[choice.candidate.stop] > 0
    return NO_WORD if is_part and logit < NO_DIGIT_LOGIT else logit


def _words(marks: Sequence[tuple[ReadDigit, float]]) -> list[list[tuple[ReadDigit, float]]]:
    """Runs of digits with no gap between them; a line's end ends a run."""
    words: list[list[tuple[ReadDigit, float]]] = []
    for mark in marks:
        if words and words[-1][-1][0].line == mark[0].line and not mark[0].before:
            words[-1].append(mark)
        else:
            words.append([mark])
    return words


def _letter(digit: ReadDigit) -> ReadDigit:
    return replace(digit, is_digit=False, doubtful=True, why="no digit: in a word with letters")


def _why_no_digit(
    candidate: Candidate, probabilities: NDArray[np.float64], score: float, stranger: float, *, known: bool
) -> str:
    label = int(np.argmax(probabilities))
    if candidate.aspect > WIDEST:
        return f"no digit: {candidate.aspect:.1f} times as wide as high"
    if candidate.solidity > FULLEST and candidate.aspect > NARROW:
        return "no digit: a filled spot"
    if abs(aspect_z_score(candidate, label)) > NO_DIGIT_ASPECT and not known:
        return f"no digit: a {label} would not be {candidate.aspect:.1f} times as wide as high"
    if probabilities[label] < NO_DIGIT_BELOW:
        return f"no digit: like nothing in particular, at most {label} ({probabilities[label]:.2f})"
    if score > NO_DIGIT_SCORE:
        return f"no digit: nobody writes a {label} like that"
    if stranger > NO_DIGIT_LOGIT:
        return "no digit: more like a letter, a sign or a drawing"
    return ""


def _why_doubtful(
    choice: Choice, probabilities: NDArray[np.float64], votes: NDArray[np.float64], score: float, stranger: float
) -> str:
    first, second = (int(i) for i in np.argsort(-probabilities)[:2])
    if probabilities[first] < DOUBTFUL_BELOW or len(set(votes.argmax(axis=1).tolist())) > 1:
        return f"looks like {first} or {second} ({probabilities[first]:.2f} / {probabilities[second]:.2f})"
    if abs(aspect_z_score(choice.candidate, first)) > DOUBTFUL_ASPECT:
        return f"unusually {'wide' if choice.candidate.aspect > WIDE else 'narrow'} for a {first}"
    if score > DOUBTFUL_SCORE:
        return f"an unusual {first}"
    if stranger > DOUBTFUL_LOGIT:
        return f"a {first}, or no digit"
    if choice.candidate.like:
        return f"a {first}, or a {choice.candidate.like}"
    if choice.margin < LEAST_MARGIN:
        return "touches its neighbour, and could be cut otherwise"
    return ""

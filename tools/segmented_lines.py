"""Composes lines of digits and cuts them as the reader does, with what each candidate is, for `tools.second_opinion`.

A reader that cuts more often than there are digits asks about halves of digits, digits with a part of their neighbour,
and two digits for one. A network that has to tell those from digits learns it from what the reader itself cuts out of
lines of which it is known where each digit lies (negative examples, as LeCun, Bottou, Bengio and Haffner, 1998,
section VI, give their recognizer).
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import ImageFont

from inkling.client.reading import cuts
from inkling.client.reading.ink import FULL_INK_AFTER, PAPER_UP_TO, Ink
from inkling.client.reading.mnist_form import upright
from inkling.client.reading.page import written_form
from inkling.client.reading.patches import InkPatch
from inkling.client.reading.second_opinion import SIGNS
from inkling.client.reading.text_lines import TextLine, find_lines
from tools.compose_page import digit_ink, mnist_digits
from tools.stroke_digits import stroke_digit

Floats = NDArray[np.float32]
Images = NDArray[np.uint8]  # uint8 [n, 28, 28]
Labels = NDArray[np.int64]
Random = np.random.Generator

NONE = 10  # the class of what is neither digit nor sign; signs follow, in the order of SIGNS
LETTERS = "ACEFGHJKMNPQRTUVWXYadefhkmnprtuwxy"  # unlike any digit
HEIGHT, DIGITS, MARGIN = (24, 72), (2, 6), 12  # px of the digits; how many in a line; px around it
BY_FONTS, TOUCHING, BROKEN, WITH_LETTER, WITH_SIGN = 0.65, 0.55, 0.25, 0.12, 0.25  # share of the lines
TOUCH, APART = (-0.16, 0.03), (0.02, 0.3)  # of the height, between two digits
OF_STROKES = [0.07, 0.37, *[0.07] * 8]  # share of each digit in lines of strokes: 1s are what is cut wrongly
HOLES, HOLE_SIZE = 1 / 600, (1.0, 2.6)  # of a broken pen: for each pixel of the line; px
# Shares of a candidate's ink and of a glyph's: it is the glyph from the first pair on, and none under the second.
WHOLE, PURE = 0.93, 0.93
PART, MIXED = 0.75, 0.8
BAR, LEAST_HEIGHT = 0.38, 0.55  # width over height: of what is narrower nobody can say that it is no 1; of the line's


def candidates(fonts: Sequence[Path], lines: int, random: Random) -> tuple[Images, Labels]:
    """Cut so many lines.

    Args:
        fonts: that write most of the lines, and MNIST's writers the others; without any, all are drawn from strokes.

    Returns: the candidates' forms, upright, and their labels: a digit's, or NONE.
    """
    forms, labels = [], []
    for _ in range(lines):
        glyphs, known = _line(fonts, random) if fonts else _line_of_strokes(random)
        for line, pen in _found(glyphs, random):
            unsigned = replace(line, patches=tuple(replace(patch, sign="") for patch in line.patches))
            for span in cuts.spans(cuts.segments(unsigned, line.stroke), line.height):
                label = _label(span.patch, glyphs * pen, known)
                if label is not None and (label != NONE or span.patch.height > LEAST_HEIGHT * line.height):
                    forms.append(upright(written_form(span.patch.ink, angle=line.angle, stroke=line.stroke)))
                    labels.append(label)
    return np.stack(forms), np.array(labels, np.int64)


def _line(fonts: Sequence[Path], random: Random) -> tuple[Floats, list[int]]:
    """Glyphs beside each other, float32 [n, h, w], each where it stands, and what they are."""
    height, count = random.uniform(*HEIGHT), int(random.integers(DIGITS[0], DIGITS[1] + 1))
    known = [int(label) for label in random.integers(0, 10, count)]
    by_font = random.random() < BY_FONTS
    texts = [str(label) for label in known]
    place, what = int(random.integers(count)), random.random()
    if by_font and what < WITH_LETTER:
        texts[place], known[place] = str(random.choice(list(LETTERS))), NONE
    elif by_font and what < WITH_LETTER + WITH_SIGN:
        sign = int(random.integers(len(SIGNS)))
        texts[place], known[place] = SIGNS[sign], NONE + 1 + sign
    inks = _by_font(fonts, texts, height, random) if by_font else _by_writer(known, height, random)
    return _beside(inks, height, random), known


def _line_of_strokes(random: Random) -> tuple[Floats, list[int]]:
    """As `_line`: digits as other hands draw them, whose long upstrokes reach their neighbours."""
    height, count = random.uniform(*HEIGHT), int(random.integers(DIGITS[0], DIGITS[1] + 1))
    known = [int(label) for label in random.choice(10, count, p=OF_STROKES)]
    drawn = [_cropped(stroke_digit(label, random)) for label in known]
    scales = [height * random.uniform(0.85, 1.1) / ink.shape[0] for ink in drawn]
    inks = [
        cv2.resize(ink, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
        for ink, scale in zip(drawn, scales, strict=True)
    ]
    return _beside([ink.astype(np.float32) for ink in inks], height, random), known


def _beside(inks: Sequence[Floats], height: float, random: Random) -> Floats:
    """Inks in a line, float32 [n, h, w], each where it stands."""
    gap = TOUCH if random.random() < TOUCHING else APART
    gaps = [int(random.uniform(*gap) * height) for _ in inks]
    room = (
        max(ink.shape[0] for ink in inks) + 2 * MARGIN + round(0.1 * height),
        sum(ink.shape[1] + max(between, 0) for ink, between in zip(inks, gaps, strict=True)) + 2 * MARGIN,
    )
    glyphs, left = np.zeros((len(inks), *room), np.float32), MARGIN
    bottom = room[0] - MARGIN
    for number, (ink, between) in enumerate(zip(inks, gaps, strict=True)):
        top = bottom - ink.shape[0] - int(random.uniform(0, 0.1) * height)
        glyphs[number, top : top + ink.shape[0], left : left + ink.shape[1]] = ink
        left += max(ink.shape[1] + between, 3)
    return glyphs


def _by_font(fonts: Sequence[Path], texts: Sequence[str], height: float, random: Random) -> list[Floats]:
    font = ImageFont.truetype(str(fonts[int(random.integers(len(fonts)))]), round(1.35 * height))
    slant, breadth = random.uniform(-0.15, 0.3), random.uniform(0.55, 1.25)
    pen = int(random.integers(0, max(2, round(0.06 * height))))
    inks = []
    for text in texts:
        mask = font.getmask(text, mode="L")
        ink = np.array(mask, np.float32).reshape(mask.size[::-1]) / 255
        if not ink.size or float(ink.sum()) < 20:  # the font has no such sign
            return _by_font(fonts, texts, height, random)
        pad = round(0.4 * ink.shape[0]) + 4
        ink = np.pad(ink, pad)
        middle = ink.shape[0] / 2
        shear = np.array([[breadth, -slant, slant * middle], [0, 1, 0]])
        drawn = cv2.warpAffine(ink, shear, (ink.shape[1], ink.shape[0]))
        if pen > 1:
            drawn = cv2.dilate(drawn, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (pen, pen)))
        inks.append(_cropped(drawn.astype(np.float32)))
    return inks


def _by_writer(known: Sequence[int], height: float, random: Random) -> list[Floats]:
    images, labels = mnist_digits("train")
    stroke, slant = random.uniform(0.3, 0.55), random.uniform(-0.1, 0.2)
    chosen = [int(random.choice(_of_label(labels, label))) for label in known]
    return [
        digit_ink(
            images[i],
            height=height * random.uniform(0.85, 1.1),
            slant=slant,
            degrees=random.uniform(-5, 5),
            stroke=stroke,
        )
        for i in chosen
    ]


def _of_label(labels: Labels, label: int) -> NDArray[np.int64]:
    """Numbers of the label's images, without those that are kept apart."""
    return np.flatnonzero(labels[:-5000] == label)


def _cropped(ink: Floats) -> Floats:
    rows, columns = np.flatnonzero(ink.max(axis=1) > 0.3), np.flatnonzero(ink.max(axis=0) > 0.3)
    return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _found(glyphs: Floats, random: Random) -> list[tuple[TextLine, Floats]]:
    """The lines that the reader finds, and where the pen left ink."""
    coverage = glyphs.max(axis=0)
    pen = np.ones_like(coverage)
    if random.random() < BROKEN:
        for _ in range(round(HOLES * coverage.size)):
            x, y = random.uniform(0, coverage.shape[1]), random.uniform(0, coverage.shape[0])
            radius = round(8 * random.uniform(*HOLE_SIZE))
            cv2.circle(pen, (round(8 * x), round(8 * y)), radius, 0.0, -1, cv2.LINE_AA, 3)
    blurred = cv2.GaussianBlur(coverage * pen, (0, 0), random.uniform(0.4, 1.4)).astype(np.float32)
    amount = np.clip((blurred - PAPER_UP_TO) / FULL_INK_AFTER, 0, 1).astype(np.float32)
    mask = blurred > 0.5
    if mask.sum() < 20:
        return []
    return [(line, pen) for line in find_lines(Ink(amount, mask, 1.0, 0.0)).lines]


def _label(patch: InkPatch, glyphs: Floats, known: Sequence[int]) -> int | None:
    """What a candidate is; None if that is open to doubt."""
    own = glyphs[:, patch.top : patch.bottom, patch.left : patch.right]
    shared = (np.minimum(own, patch.ink[: own.shape[1], : own.shape[2]]) > 0.5).sum(axis=(1, 2)).astype(np.float64)
    whole = shared / np.maximum((glyphs > 0.5).sum(axis=(1, 2)), 1)
    pure = shared / max(float((patch.ink > 0.5).sum()), 1.0)
    best = int(np.argmax(shared))
    if whole[best] >= WHOLE and pure[best] >= PURE:
        return known[best]
    is_bar = patch.width < BAR * patch.height  # of a 1, whatever it is a part of
    return NONE if not is_bar and (whole[best] < PART or pure[best] < MIXED) else None

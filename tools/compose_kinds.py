"""Composes pictures of the kinds that people take: pages on desks, forms, tables, dates, turned over, by broken pens.

The digits are MNIST's test digits, as in `tools.compose_page`, and the signs between them are drawn; or a font writes.
Everything follows from a seed.

    python -m tools.compose_kinds -o page.png --kind form --seed 3
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw, ImageFont

from tools.compose_page import ComposedPage, digit_ink, mnist_digits

Floats = NDArray[np.float32]
PAPER, INK = (249.0, 247.0, 240.0), (24.0, 26.0, 48.0)
DESKS = ((120, 85, 60), (40, 40, 42), (90, 60, 40), (150, 110, 80), (60, 70, 80))
NOTES = ((236, 231, 140), (250, 200, 160), (190, 225, 240))
SPACE, GAP = 0.8, (0.14, 0.28)  # of the digits' height
TOUCHING = (-0.1, -0.02)
BOARD, CHALK = (30.0, 60.0, 48.0), (215.0, 220.0, 210.0)
HOLES, HOLE_SIZE = 1 / 700, (1.0, 2.6)  # of a broken pen: for each pixel of the page; px
NO_CHARACTER = "\U0010fffd"  # that no font has
LABELS = ("Amount", "Order", "Date", "Total", "Name")
# Strokes of each sign: points x, y in the digits' height, from the upper left of its box; the line's middle is at 0.5.
SIGNS: dict[str, list[list[tuple[float, float]]]] = {
    ".": [[(0.05, 0.97), (0.06, 0.97)]],
    ",": [[(0.1, 0.93), (0.02, 1.17)]],
    "-": [[(0.0, 0.52), (0.42, 0.5)]],
    "/": [[(0.5, -0.15), (0.0, 1.2)]],
    ":": [[(0.05, 0.3), (0.06, 0.3)], [(0.05, 0.8), (0.06, 0.8)]],
    "+": [[(0.0, 0.52), (0.5, 0.52)], [(0.25, 0.27), (0.25, 0.78)]],
    "=": [[(0.0, 0.4), (0.48, 0.4)], [(0.0, 0.65), (0.48, 0.64)]],
    "(": [[(0.28, -0.12), (0.1, 0.15), (0.04, 0.5), (0.1, 0.85), (0.28, 1.12)]],
    ")": [[(0.0, -0.12), (0.18, 0.15), (0.24, 0.5), (0.18, 0.85), (0.0, 1.12)]],
    "%": [
        [(0.7, 0.0), (0.1, 1.0)],
        [(0.14, 0.06), (0.02, 0.2), (0.14, 0.36), (0.26, 0.2), (0.14, 0.06)],
        [(0.68, 0.62), (0.56, 0.78), (0.68, 0.94), (0.8, 0.78), (0.68, 0.62)],
    ],
}


@dataclass(frozen=True, slots=True)
class Hand:
    """Who writes."""

    random: np.random.Generator
    font: Path | None = None  # without one, MNIST's writers


def compose_kind(kind: str, seed: int, *, font: Path | None = None) -> ComposedPage:
    """Compose one picture.

    Args:
        kind: one of KINDS.
        seed: everything random follows from it.
        font: to write with; MNIST's test digits and drawn signs without.
    """
    hand = Hand(np.random.default_rng([seed, list(KINDS).index(kind)]), font)
    picture, text = KINDS[kind](hand)
    blurred = cv2.GaussianBlur(picture, (0, 0), 0.6) + hand.random.normal(0, hand.random.uniform(1, 4), picture.shape)
    return ComposedPage(np.clip(np.rint(blurred), 0, 255).astype(np.uint8), text, f"{kind} {seed}")


def line_ink(text: str, height: float, hand: Hand, *, gap: tuple[float, float] = GAP) -> Floats:
    """A line of digits, signs and spaces, float32 [1.7 height, w], 0 to 1, in the middle of its rows.

    Args:
        gap: between two of them, from and to, in heights; negative where they touch.
    """
    if hand.font is not None:
        return _font_ink(text, height, hand, gap)
    images, labels = mnist_digits("test")
    room = round(1.7 * height)
    line = np.zeros((room, round(height * 1.3 * (len(text) + 2))), np.float32)
    cursor = 0.0
    for character in text:
        if character == " ":
            cursor += SPACE * height
            continue
        if character in SIGNS:
            patch, top = _sign(character, height), 0
        else:
            image = images[hand.random.choice(np.flatnonzero(labels == int(character)))]
            size = height * hand.random.uniform(0.93, 1.07)
            patch = digit_ink(image, height=size, slant=hand.random.uniform(-0.06, 0.1), degrees=0, stroke=0.42)
            top = round((room - patch.shape[0]) / 2 + hand.random.uniform(-0.03, 0.03) * height)
        left = round(cursor)
        place = line[max(top, 0) : max(top, 0) + patch.shape[0], left : left + patch.shape[1]]
        np.maximum(place, patch[: place.shape[0]], out=place)
        cursor = left + patch.shape[1] + hand.random.uniform(*gap) * height
    return line[:, : round(cursor)]


def _font_ink(text: str, height: float, hand: Hand, gap: tuple[float, float]) -> Floats:
    """As `line_ink`, by a font: as it sets the line, unless the digits are to touch."""
    font = ImageFont.truetype(str(hand.font), 100)
    left, top, right, bottom = font.getbbox("0")
    font = font.font_variant(size=round(100 * height / (bottom - top)))
    pieces = list(text) if gap[0] < 0 else [text]
    image = Image.new("L", (round(height * 1.3 * (len(text) + 2)), round(1.7 * height)), 0)
    _, top, _, bottom = font.getbbox("0")
    cursor = 0.0
    for piece in pieces:
        left, _, right, _ = font.getbbox(piece)
        ink = Image.new("L", image.size, 0)
        ImageDraw.Draw(ink).text((cursor - left, 0.85 * height - (top + bottom) / 2), piece, font=font, fill=255)
        image = ImageChops.lighter(image, ink)
        cursor += right - left + hand.random.uniform(*gap) * height
    return (np.asarray(image, np.float32) / 255)[:, : round(cursor)].astype(np.float32)


def can_write(font: Path, text: str) -> bool:
    """Whether the font has each of the text's characters, and does not leave a gap or a box in its place."""
    face = ImageFont.truetype(str(font), 100)
    missing = bytes(face.getmask(NO_CHARACTER))
    masks = [face.getmask(character) for character in set(text)]
    return all(mask.getbbox() is not None and bytes(mask) != missing for mask in masks)


def _sign(character: str, height: float) -> Floats:
    """As high as a line."""
    strokes = SIGNS[character]
    width = max(x for stroke in strokes for x, _ in stroke)
    pen = max(2, round(0.1 * height))
    ink = np.zeros((round(1.7 * height), round(width * height) + 2 * pen), np.uint8)
    for stroke in strokes:
        points = [(round(x * height + pen), round((y + 0.35) * height)) for x, y in stroke]
        cv2.polylines(ink, [np.array(points, np.int32)], False, 255, pen, cv2.LINE_AA)
    return (ink.astype(np.float32) / 255).astype(np.float32)


def _number(hand: Hand, least: int = 4, most: int = 8) -> str:
    return "".join(map(str, hand.random.integers(0, 10, hand.random.integers(least, most + 1))))


def _page(lines: Sequence[str], hand: Hand, *, heights: Sequence[float] = (), paper: Sequence[float] = PAPER) -> Floats:
    """Lines below each other on paper, float32 [h, w, 3]."""
    usual = float(hand.random.uniform(30, 56))
    inks = [line_ink(line, size, hand) for line, size in zip(lines, heights or [usual] * len(lines), strict=True)]
    margin = round(usual)
    size = (sum(ink.shape[0] for ink in inks) + 2 * margin, max(ink.shape[1] for ink in inks) + 2 * margin)
    coverage = np.zeros(size, np.float32)
    top = margin
    for ink in inks:
        coverage[top : top + ink.shape[0], margin : margin + ink.shape[1]] = ink
        top += ink.shape[0]
    return _on(np.array(paper, np.float32), coverage)


def _on(paper: Floats, coverage: Floats) -> Floats:
    return (paper + coverage[..., None] * (np.array(INK, np.float32) - paper)).astype(np.float32)


def _three(hand: Hand) -> list[str]:
    return [_number(hand) for _ in range(3)]


def _plain(hand: Hand) -> tuple[Floats, str]:
    lines = _three(hand)
    return _page(lines, hand), "\n".join(lines)


def _mixed_sizes(hand: Hand) -> tuple[Floats, str]:
    lines = _three(hand)
    heights = hand.random.permutation(
        [hand.random.uniform(20, 28), hand.random.uniform(34, 46), hand.random.uniform(60, 84)]
    )
    return _page(lines, hand, heights=heights.tolist()), "\n".join(lines)


def _signs(make: Callable[[Hand], str]) -> Callable[[Hand], tuple[Floats, str]]:
    def compose(hand: Hand) -> tuple[Floats, str]:
        lines = [make(hand) for _ in range(3)]
        return _page(lines, hand), "\n".join(lines)

    return compose


def _date(hand: Hand) -> str:
    day, month, year = hand.random.integers(1, 29), hand.random.integers(1, 13), hand.random.integers(1990, 2030)
    return str(
        hand.random.choice([f"{day:02}.{month:02}.{year}", f"{day}/{month}/{year}", f"{year}-{month:02}-{day:02}"])
    )


def _amount(hand: Hand) -> str:
    whole, cents = hand.random.integers(1, 10_000), hand.random.integers(0, 100)
    return str(hand.random.choice([f"{whole}.{cents:02}", f"{whole},{cents:02}"]))


def _time(hand: Hand) -> str:
    return f"{hand.random.integers(0, 24):02}:{hand.random.integers(0, 60):02}"


def _phone(hand: Hand) -> str:
    area, rest = _number(hand, 3, 3), _number(hand, 4, 4)
    return str(hand.random.choice([f"({area}) {rest}", f"{area}-{rest}", f"+{area} {rest}"]))


def _sum(hand: Hand) -> str:
    one, other = hand.random.integers(1, 100, 2)
    return str(hand.random.choice([f"{one}+{other}={one + other}", f"{one + other}-{other}={one}"]))


def _per_cent(hand: Hand) -> str:
    return f"{hand.random.integers(1, 101)}%"


def _turned(quarters: int) -> Callable[[Hand], tuple[Floats, str]]:
    def compose(hand: Hand) -> tuple[Floats, str]:
        picture, text = _plain(hand)
        return np.ascontiguousarray(np.rot90(picture, quarters)), text

    return compose


def _askew(hand: Hand) -> tuple[Floats, str]:
    picture, text = _plain(hand)
    height, width = picture.shape[:2]
    turn = cv2.getRotationMatrix2D(
        (width / 2, height / 2), float(hand.random.choice([-1, 1]) * hand.random.uniform(8, 22)), 1.0
    )
    turn[:, 2] += (width * 0.2, height * 0.3)
    size = (round(width * 1.4), round(height * 1.6))
    return cv2.warpAffine(picture, turn, size, borderValue=PAPER).astype(np.float32), text


def _on_desk(papers: Sequence[Sequence[float]], degrees: float, bend: float) -> Callable[[Hand], tuple[Floats, str]]:
    """A page on a desk, turned by at most `degrees`, its corners moved by `bend` of its sides: perspective."""

    def compose(hand: Hand) -> tuple[Floats, str]:
        lines = _three(hand)
        page = _page(lines, hand, paper=papers[int(hand.random.integers(len(papers)))])
        height, width = page.shape[:2]
        around = 1 + hand.random.uniform(0.3, 0.9)
        size = (round(width * around), round(height * around))
        corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
        angle = np.deg2rad(hand.random.uniform(-degrees, degrees))
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        seen = (corners - corners.mean(axis=0)) * (1 + hand.random.uniform(-bend, bend, (4, 2)))
        seen = seen @ turn.T + np.array(size) / 2
        to_picture = cv2.getPerspectiveTransform(corners, seen.astype(np.float32))
        desk = np.broadcast_to(
            np.array(DESKS[int(hand.random.integers(len(DESKS)))], np.float32), (size[1], size[0], 3)
        )
        grained = desk + hand.random.normal(0, 5, (size[1], 1, 1))  # the grain of wood
        seen_page = cv2.warpPerspective(page, to_picture, size)
        there = cv2.warpPerspective(np.ones((height, width), np.float32), to_picture, size)[..., None]
        return (grained * (1 - there) + seen_page * there).astype(np.float32), "\n".join(lines)

    return compose


def _form(hand: Hand) -> tuple[Floats, str]:
    """Rows of boxes with a digit in each."""
    cell, count = int(hand.random.integers(48, 80)), int(hand.random.integers(5, 9))
    lines = [_number(hand, count, count) for _ in range(2)]
    coverage = np.zeros((round(cell * 3.8), cell * (count + 1)), np.float32)
    thickness = int(hand.random.integers(1, 4))
    for row, line in enumerate(lines):
        top = round(cell * (0.5 + 1.7 * row))
        for column, digit in enumerate(line):
            left = cell // 2 + column * cell
            cv2.rectangle(coverage, (left, top), (left + cell, top + cell), 1.0, thickness)
            _centred(coverage, line_ink(digit, cell * hand.random.uniform(0.42, 0.68), hand), left, top, cell, cell)
    return _on(np.array(PAPER, np.float32), coverage), "\n".join(lines)


def _table(hand: Hand) -> tuple[Floats, str]:
    width, height = 190, 92
    rows = [[_number(hand, 2, 4) for _ in range(3)] for _ in range(3)]
    coverage = np.zeros((3 * height + 60, 3 * width + 60), np.float32)
    for row, cells in enumerate(rows):
        for column, text in enumerate(cells):
            left, top = 30 + column * width, 30 + row * height
            cv2.rectangle(coverage, (left, top), (left + width, top + height), 0.8, 2)
            _centred(coverage, line_ink(text, hand.random.uniform(30, 36), hand), left, top, width, height)
    return _on(np.array(PAPER, np.float32), coverage), "\n".join("\t".join(cells) for cells in rows)


def _centred(coverage: Floats, ink: Floats, left: int, top: int, width: int, height: int) -> None:
    y, x = top + (height - ink.shape[0]) // 2, left + (width - ink.shape[1]) // 2
    place = coverage[max(y, 0) : y + ink.shape[0], max(x, 0) : x + ink.shape[1]]
    np.maximum(place, ink[max(-y, 0) :, max(-x, 0) :][: place.shape[0], : place.shape[1]], out=place)


def _columns(hand: Hand) -> tuple[Floats, str]:
    height = float(hand.random.uniform(30, 46))
    rows = [[_number(hand, 3, 5) for _ in range(2)] for _ in range(3)]
    coverage = np.zeros((round(height * 6), round(height * 22)), np.float32)
    for row, cells in enumerate(rows):
        for column, text in enumerate(cells):
            ink = line_ink(text, height, hand)
            y, x = round(height * (0.5 + 1.75 * row)), round(height * (1 + 11 * column))
            place = coverage[y : y + ink.shape[0], x : x + ink.shape[1]]
            np.maximum(place, ink[: place.shape[0]], out=place)
    return _on(np.array(PAPER, np.float32), coverage), "\n".join("\t".join(cells) for cells in rows)


def _touching(hand: Hand) -> tuple[Floats, str]:
    lines, height = _three(hand), float(hand.random.uniform(34, 62))
    return _below([line_ink(line, height, hand, gap=TOUCHING) for line in lines], round(height)), "\n".join(lines)


def _below(inks: Sequence[Floats], margin: int) -> Floats:
    """Lines below each other on paper, as they are given."""
    width = max(ink.shape[1] for ink in inks)
    rows = [np.pad(ink, ((0, 0), (margin, margin + width - ink.shape[1]))) for ink in inks]
    return _on(np.array(PAPER, np.float32), np.pad(np.vstack(rows), ((margin, margin), (0, 0))))


def _broken(hand: Hand) -> tuple[Floats, str]:
    """Written by a pen that leaves holes in its strokes."""
    picture, text = _plain(hand)
    height, width = picture.shape[0], picture.shape[1]
    holes = np.zeros((height, width), np.float32)
    for _ in range(round(holes.size * HOLES)):
        x, y, radius = (
            hand.random.uniform(0, width),
            hand.random.uniform(0, height),
            hand.random.uniform(*HOLE_SIZE),
        )
        cv2.circle(holes, (round(8 * x), round(8 * y)), round(8 * radius), 1.0, -1, cv2.LINE_AA, 3)
    return picture + holes[..., None] * (np.array(PAPER, np.float32) - picture), text


def _blackboard(hand: Hand) -> tuple[Floats, str]:
    picture, text = _plain(hand)
    coverage = (np.array(PAPER, np.float32) - picture).mean(axis=2) / (np.array(PAPER) - np.array(INK)).mean()
    board = np.array(BOARD, np.float32) + hand.random.normal(0, 5, (*coverage.shape, 1))
    return (board + coverage[..., None] * (np.array(CHALK, np.float32) - board)).astype(np.float32), text


def _label(hand: Hand) -> tuple[Floats, str]:
    """Two lines with a printed word before the number."""
    height = float(hand.random.uniform(34, 50))
    lines = [_number(hand, 5, 7) for _ in range(2)]
    inks = []
    for line in lines:
        printed = Image.new("L", (round(6 * height), round(1.7 * height)), 0)
        font = ImageFont.load_default(0.8 * height)
        ImageDraw.Draw(printed).text((0, 0.35 * height), str(hand.random.choice(LABELS)), font=font, fill=255)
        inks.append(np.hstack([np.asarray(printed, np.float32) / 255, line_ink(line, height, hand)]))
    return _below(inks, round(height)), "\n".join(lines)


KINDS: dict[str, Callable[[Hand], tuple[Floats, str]]] = {
    "plain": _plain,
    "desk": _on_desk([(248, 248, 244)], 4, 0.0),
    "note": _on_desk(NOTES, 8, 0.0),
    "perspective": _on_desk([(248, 248, 244)], 5, 0.12),
    "form": _form,
    "table": _table,
    "columns": _columns,
    "mixed sizes": _mixed_sizes,
    "askew": _askew,
    "turned 90": _turned(1),
    "turned 180": _turned(2),
    "turned 270": _turned(3),
    "date": _signs(_date),
    "amount": _signs(_amount),
    "time": _signs(_time),
    "phone": _signs(_phone),
    "sum": _signs(_sum),
    "per cent": _signs(_per_cent),
    "touching": _touching,
    "broken": _broken,
    "blackboard": _blackboard,
    "label": _label,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Write one picture and print its text."""
    parser = argparse.ArgumentParser(prog="python -m tools.compose_kinds", description=__doc__.partition("\n")[0])
    parser.add_argument("-o", "--output", type=Path, required=True, help="the picture to write")
    parser.add_argument("--kind", choices=list(KINDS), default="desk")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--font", type=Path, help="a font's file to write with")
    options = parser.parse_args(arguments)
    page = compose_kind(options.kind, options.seed, font=options.font)
    Image.fromarray(page.picture).save(options.output)
    print(page.text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

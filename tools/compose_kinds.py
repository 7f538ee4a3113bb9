"""Composes pictures of the kinds that people take: pages on desks, forms, tables, dates, amounts, pages turned over.

The digits are MNIST's test digits, as in `tools.compose_page`; the signs between them are drawn. Everything follows
from a seed.

    python -m tools.compose_kinds -o page.png --kind form --seed 3
"""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tools.compose_page import ComposedPage, digit_ink, mnist_digits

Floats = NDArray[np.float32]
Random = np.random.Generator
PAPER, INK = (249.0, 247.0, 240.0), (24.0, 26.0, 48.0)
DESKS = ((120, 85, 60), (40, 40, 42), (90, 60, 40), (150, 110, 80), (60, 70, 80))
NOTES = ((236, 231, 140), (250, 200, 160), (190, 225, 240))
SPACE, SIGN_GAP = 0.8, 0.14  # of the digits' height
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


def compose_kind(kind: str, seed: int) -> ComposedPage:
    """Compose one picture.

    Args:
        kind: one of KINDS.
        seed: everything random follows from it.
    """
    random = np.random.default_rng([seed, list(KINDS).index(kind)])
    picture, text = KINDS[kind](random)
    blurred = cv2.GaussianBlur(picture, (0, 0), 0.6) + random.normal(0, random.uniform(1, 4), picture.shape)
    return ComposedPage(np.clip(np.rint(blurred), 0, 255).astype(np.uint8), text, f"{kind} {seed}")


def line_ink(text: str, height: float, random: Random) -> Floats:
    """A line of digits, signs and spaces, float32 [1.7 height, w], 0 to 1, in the middle of its rows."""
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
            image = images[random.choice(np.flatnonzero(labels == int(character)))]
            size = height * random.uniform(0.93, 1.07)
            patch = digit_ink(image, height=size, slant=random.uniform(-0.06, 0.1), degrees=0, stroke=0.42)
            top = round((room - patch.shape[0]) / 2 + random.uniform(-0.03, 0.03) * height)
        left = round(cursor)
        place = line[max(top, 0) : max(top, 0) + patch.shape[0], left : left + patch.shape[1]]
        np.maximum(place, patch[: place.shape[0]], out=place)
        cursor = left + patch.shape[1] + random.uniform(SIGN_GAP, 2 * SIGN_GAP) * height
    return line[:, : round(cursor)]


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


def _number(random: Random, least: int = 4, most: int = 8) -> str:
    return "".join(map(str, random.integers(0, 10, random.integers(least, most + 1))))


def _page(
    lines: Sequence[str], random: Random, *, heights: Sequence[float] = (), paper: Sequence[float] = PAPER
) -> Floats:
    """Lines below each other on paper, float32 [h, w, 3]."""
    usual = float(random.uniform(30, 56))
    inks = [line_ink(line, size, random) for line, size in zip(lines, heights or [usual] * len(lines), strict=True)]
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


def _three(random: Random) -> list[str]:
    return [_number(random) for _ in range(3)]


def _plain(random: Random) -> tuple[Floats, str]:
    lines = _three(random)
    return _page(lines, random), "\n".join(lines)


def _mixed_sizes(random: Random) -> tuple[Floats, str]:
    lines = _three(random)
    heights = random.permutation([random.uniform(20, 28), random.uniform(34, 46), random.uniform(60, 84)])
    return _page(lines, random, heights=heights.tolist()), "\n".join(lines)


def _signs(make: Callable[[Random], str]) -> Callable[[Random], tuple[Floats, str]]:
    def compose(random: Random) -> tuple[Floats, str]:
        lines = [make(random) for _ in range(3)]
        return _page(lines, random), "\n".join(lines)

    return compose


def _date(random: Random) -> str:
    day, month, year = random.integers(1, 29), random.integers(1, 13), random.integers(1990, 2030)
    return str(random.choice([f"{day:02}.{month:02}.{year}", f"{day}/{month}/{year}", f"{year}-{month:02}-{day:02}"]))


def _amount(random: Random) -> str:
    whole, cents = random.integers(1, 10_000), random.integers(0, 100)
    return str(random.choice([f"{whole}.{cents:02}", f"{whole},{cents:02}"]))


def _time(random: Random) -> str:
    return f"{random.integers(0, 24):02}:{random.integers(0, 60):02}"


def _phone(random: Random) -> str:
    area, rest = _number(random, 3, 3), _number(random, 4, 4)
    return str(random.choice([f"({area}) {rest}", f"{area}-{rest}", f"+{area} {rest}"]))


def _sum(random: Random) -> str:
    one, other = random.integers(1, 100, 2)
    return str(random.choice([f"{one}+{other}={one + other}", f"{one + other}-{other}={one}"]))


def _per_cent(random: Random) -> str:
    return f"{random.integers(1, 101)}%"


def _turned(quarters: int) -> Callable[[Random], tuple[Floats, str]]:
    def compose(random: Random) -> tuple[Floats, str]:
        picture, text = _plain(random)
        return np.ascontiguousarray(np.rot90(picture, quarters)), text

    return compose


def _askew(random: Random) -> tuple[Floats, str]:
    picture, text = _plain(random)
    height, width = picture.shape[:2]
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), float(random.choice([-1, 1]) * random.uniform(8, 22)), 1.0)
    turn[:, 2] += (width * 0.2, height * 0.3)
    size = (round(width * 1.4), round(height * 1.6))
    return cv2.warpAffine(picture, turn, size, borderValue=PAPER).astype(np.float32), text


def _on_desk(papers: Sequence[Sequence[float]], degrees: float, bend: float) -> Callable[[Random], tuple[Floats, str]]:
    """A page on a desk, turned by at most `degrees`, its corners moved by `bend` of its sides: perspective."""

    def compose(random: Random) -> tuple[Floats, str]:
        lines = _three(random)
        page = _page(lines, random, paper=papers[int(random.integers(len(papers)))])
        height, width = page.shape[:2]
        around = 1 + random.uniform(0.3, 0.9)
        size = (round(width * around), round(height * around))
        corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
        angle = np.deg2rad(random.uniform(-degrees, degrees))
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        seen = (corners - corners.mean(axis=0)) * (1 + random.uniform(-bend, bend, (4, 2)))
        seen = seen @ turn.T + np.array(size) / 2
        to_picture = cv2.getPerspectiveTransform(corners, seen.astype(np.float32))
        desk = np.broadcast_to(np.array(DESKS[int(random.integers(len(DESKS)))], np.float32), (size[1], size[0], 3))
        grained = desk + random.normal(0, 5, (size[1], 1, 1))  # the grain of wood
        seen_page = cv2.warpPerspective(page, to_picture, size)
        there = cv2.warpPerspective(np.ones((height, width), np.float32), to_picture, size)[..., None]
        return (grained * (1 - there) + seen_page * there).astype(np.float32), "\n".join(lines)

    return compose


def _form(random: Random) -> tuple[Floats, str]:
    """Rows of boxes with a digit in each."""
    cell, count = int(random.integers(48, 80)), int(random.integers(5, 9))
    lines = [_number(random, count, count) for _ in range(2)]
    coverage = np.zeros((round(cell * 3.8), cell * (count + 1)), np.float32)
    thickness = int(random.integers(1, 4))
    for row, line in enumerate(lines):
        top = round(cell * (0.5 + 1.7 * row))
        for column, digit in enumerate(line):
            left = cell // 2 + column * cell
            cv2.rectangle(coverage, (left, top), (left + cell, top + cell), 1.0, thickness)
            _centred(coverage, line_ink(digit, cell * random.uniform(0.42, 0.68), random), left, top, cell, cell)
    return _on(np.array(PAPER, np.float32), coverage), "\n".join(lines)


def _table(random: Random) -> tuple[Floats, str]:
    width, height = 190, 92
    rows = [[_number(random, 2, 4) for _ in range(3)] for _ in range(3)]
    coverage = np.zeros((3 * height + 60, 3 * width + 60), np.float32)
    for row, cells in enumerate(rows):
        for column, text in enumerate(cells):
            left, top = 30 + column * width, 30 + row * height
            cv2.rectangle(coverage, (left, top), (left + width, top + height), 0.8, 2)
            _centred(coverage, line_ink(text, random.uniform(30, 36), random), left, top, width, height)
    return _on(np.array(PAPER, np.float32), coverage), "\n".join("\t".join(cells) for cells in rows)


def _centred(coverage: Floats, ink: Floats, left: int, top: int, width: int, height: int) -> None:
    y, x = top + (height - ink.shape[0]) // 2, left + (width - ink.shape[1]) // 2
    place = coverage[max(y, 0) : y + ink.shape[0], max(x, 0) : x + ink.shape[1]]
    np.maximum(place, ink[max(-y, 0) :, max(-x, 0) :][: place.shape[0], : place.shape[1]], out=place)


def _columns(random: Random) -> tuple[Floats, str]:
    height = float(random.uniform(30, 46))
    rows = [[_number(random, 3, 5) for _ in range(2)] for _ in range(3)]
    coverage = np.zeros((round(height * 6), round(height * 22)), np.float32)
    for row, cells in enumerate(rows):
        for column, text in enumerate(cells):
            ink = line_ink(text, height, random)
            y, x = round(height * (0.5 + 1.75 * row)), round(height * (1 + 11 * column))
            place = coverage[y : y + ink.shape[0], x : x + ink.shape[1]]
            np.maximum(place, ink[: place.shape[0]], out=place)
    return _on(np.array(PAPER, np.float32), coverage), "\n".join("\t".join(cells) for cells in rows)


KINDS: dict[str, Callable[[Random], tuple[Floats, str]]] = {
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
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Write one picture and print its text."""
    parser = argparse.ArgumentParser(prog="python -m tools.compose_kinds", description=__doc__.partition("\n")[0])
    parser.add_argument("-o", "--output", type=Path, required=True, help="the picture to write")
    parser.add_argument("--kind", choices=list(KINDS), default="desk")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    page = compose_kind(options.kind, options.seed)
    Image.fromarray(page.picture).save(options.output)
    print(page.text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

"""Composes pictures of handwritten numbers from MNIST digits, whose text is therefore known.

The digits are test digits, which no model has seen in training, unless training digits are asked for: what is fitted
to pages (`tools.reading_statistics`) must not be fitted to those that it is measured on. Each page draws a pen, a paper
and a camera at random: size, slant and stroke width of the writing, ink and paper colour (one page in four is light on
dark), gaps down to touching neighbours, ruled or squared paper, skew, uneven light, blur, noise and JPEG. Everything
follows from a seed.

    python -m tools.compose_page -o page.png --seed 13
    python -m tools.compose_page -o page.png --split train --difficulty hard --lines 5 3 7
"""

import argparse
import colorsys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

Floats = NDArray[np.float32]
Digits = tuple[NDArray[np.uint8], NDArray[np.int64]]  # images uint8 [n, 28, 28], labels int64 [n]
RGB = tuple[int, int, int]
Span = tuple[float, float]  # a uniform draw's ends
MNIST_SIDE, MNIST_BOX = 28, 20
# The file itself, so that an environment with the client alone can compose pages.
MNIST = Path(__file__).parents[1] / "train" / "mnist" / "mnist.npz"


@dataclass(frozen=True, kw_only=True, slots=True)
class Difficulty:
    """How a page may look; lengths are in heights of the page's digits."""

    height_px: Span  # of the digits, drawn once a page
    size_spread: float  # of one digit to the next, as a factor of 1 +- this
    slant: float  # shear of the page's hand, +- this; each digit differs from it by a third
    rotation_degrees: float  # of each digit, +- this
    stroke: Span  # grey level at which the digit's soft edge counts as ink: low is a broad pen
    gap: Span  # between the boxes of neighbours; negative overlaps
    margin: Span  # around the writing
    contrast: float  # least difference in luminance between ink and paper, 0 to 1
    ruled: float  # chance of ruled or squared paper
    skew_degrees: float  # of the whole page, +- this
    shadow: float  # most of the light that may be missing in the darkest place
    blur: Span  # sigma
    noise: Span  # sigma, of 255
    jpeg_quality: tuple[int, int]
    colours: tuple[RGB, RGB] | None = None  # of paper and ink; drawn at random without


CLEAN = Difficulty(
    height_px=(28, 110),
    size_spread=0.12,
    slant=0.15,
    rotation_degrees=4,
    stroke=(0.34, 0.5),
    gap=(0.06, 0.45),
    margin=(0.25, 1.2),
    contrast=0.45,
    ruled=0.0,
    skew_degrees=1.0,
    shadow=0.15,
    blur=(0.0, 0.012),
    noise=(0, 5),
    jpeg_quality=(85, 98),
)
HARD = Difficulty(
    height_px=(24, 130),
    size_spread=0.2,
    slant=0.3,
    rotation_degrees=8,
    stroke=(0.28, 0.58),
    gap=(-0.04, 0.4),
    margin=(0.12, 1.5),
    contrast=0.3,
    ruled=0.6,
    skew_degrees=4.0,
    shadow=0.55,
    blur=(0.0, 0.03),
    noise=(2, 14),
    jpeg_quality=(35, 90),
)
DIFFICULTIES = {"clean": CLEAN, "hard": HARD}


@dataclass(frozen=True, slots=True)
class ComposedPage:
    """A picture and what is written on it."""

    picture: NDArray[np.uint8]  # uint8 [height, width, 3] RGB
    text: str
    name: str  # difficulty, kind and seed, by which it can be made again


def compose(
    lines: Sequence[int], difficulty: Difficulty, *, seed: Sequence[int], name: str = "", split: str = "test"
) -> ComposedPage:
    """Write a page.

    Args:
        lines: for each line, how many random digits it has.
        seed: everything random follows from it.
        name: to know the page by.
        split: "test" or "train", the part of MNIST that the digits are of.
    """
    random = np.random.default_rng(seed)
    height = random.uniform(*difficulty.height_px)
    coverage, text = _write(lines, difficulty, mnist_digits(split), height=height, random=random)
    paper, ink = _colours(difficulty, random)
    canvas = np.broadcast_to(paper, (*coverage.shape, 3)).astype(np.float32)
    if random.random() < difficulty.ruled:
        canvas = _rule(canvas, height, paper=paper, random=random)
    canvas = canvas + coverage[..., None] * (ink - canvas)
    canvas = _skew(canvas, paper, degrees=random.uniform(-1, 1) * difficulty.skew_degrees)
    canvas = canvas * _light(canvas.shape[:2], difficulty.shadow, random)[..., None]
    sigma = random.uniform(*difficulty.blur) * height
    if sigma > 0.2:
        canvas = cv2.GaussianBlur(canvas, (0, 0), sigma).astype(np.float32)
    grain = random.normal(0, random.uniform(*difficulty.noise), canvas.shape)
    picture = np.clip(np.rint(canvas + grain), 0, 255).astype(np.uint8)
    return ComposedPage(_jpeg(picture, int(random.integers(*difficulty.jpeg_quality))), text, name)


def strings(kind: str, count: int, *, seed: int = 1, split: str = "test") -> list[ComposedPage]:
    """Compose `count` pictures of one line of 1 to 10 digits."""
    return [
        compose(
            [1 + index % 10],
            DIFFICULTIES[kind],
            seed=[seed, 1, kind == "hard", index],
            name=f"{kind} string {index}",
            split=split,
        )
        for index in range(count)
    ]


def pages(kind: str, count: int, *, seed: int = 1, split: str = "test") -> list[ComposedPage]:
    """Compose `count` pictures of 2 to 6 lines of 1 to 10 digits each."""
    lengths = np.random.default_rng([seed, 2])
    return [
        compose(
            lengths.integers(1, 11, size=lengths.integers(2, 7)).tolist(),
            DIFFICULTIES[kind],
            seed=[seed, 2, kind == "hard", index],
            name=f"{kind} page {index}",
            split=split,
        )
        for index in range(count)
    ]


@cache
def mnist_digits(split: str) -> Digits:
    """MNIST's 10,000 "test" images and labels, or its 60,000 for "train"."""
    with np.load(MNIST) as arrays:
        return arrays[f"x_{split}"], arrays[f"y_{split}"]


def _write(
    lines: Sequence[int], difficulty: Difficulty, digits: Digits, *, height: float, random: np.random.Generator
) -> tuple[Floats, str]:
    """The ink of the whole page, 0 to 1, and its text."""
    hand = random.uniform(-1, 1) * difficulty.slant
    stroke = random.uniform(*difficulty.stroke)
    spacing = random.uniform(*difficulty.gap)
    written = [
        _write_line(n, difficulty, digits, height=height, hand=hand, stroke=stroke, spacing=spacing, random=random)
        for n in lines
    ]
    left, right, top, bottom = (round(random.uniform(*difficulty.margin) * height) + 2 for _ in range(4))
    pitch = height * random.uniform(1.45, 2.1)
    indents = [round(random.uniform(0, 0.8) * height) if len(lines) > 1 else 0 for _ in lines]
    width = max(indent + line.shape[1] for indent, (line, _) in zip(indents, written, strict=True))
    page_height = round(pitch * (len(lines) - 1)) + max(line.shape[0] for line, _ in written)
    coverage = np.zeros((top + page_height + bottom, left + width + right), np.float32)
    for number, (indent, (line, _)) in enumerate(zip(indents, written, strict=True)):
        y, x = top + round(pitch * number), left + indent
        patch = coverage[y : y + line.shape[0], x : x + line.shape[1]]
        np.maximum(patch, line[: patch.shape[0]], out=patch)
    return coverage, "\n".join(text for _, text in written)


def _write_line(
    count: int,
    difficulty: Difficulty,
    digits: Digits,
    *,
    height: float,
    hand: float,
    stroke: float,
    spacing: float,
    random: np.random.Generator,
) -> tuple[Floats, str]:
    images, labels = digits
    chosen = random.integers(len(images), size=count)
    room = round(height * 1.5)
    line = np.zeros((room, round(height * 2.2) * (count + 1)), np.float32)
    cursor = 0.0
    for index in chosen:
        patch = digit_ink(
            images[index],
            height=height * (1 + random.uniform(-1, 1) * difficulty.size_spread),
            slant=hand + random.uniform(-1, 1) * difficulty.slant / 3,
            degrees=random.uniform(-1, 1) * difficulty.rotation_degrees,
            stroke=stroke,
        )
        y = round((room - patch.shape[0]) / 2 + random.uniform(-0.06, 0.06) * height)
        y = min(max(y, 0), room - patch.shape[0])
        x = max(round(cursor), 0)
        target = line[y : y + patch.shape[0], x : x + patch.shape[1]]
        np.maximum(target, patch, out=target)
        gap = spacing + random.uniform(-0.08, 0.08)
        cursor = x + patch.shape[1] + max(gap, difficulty.gap[0]) * height
    used = np.flatnonzero(line.any(axis=0))
    return line[:, : used[-1] + 1], "".join(map(str, labels[chosen]))


def digit_ink(image: NDArray[np.uint8], *, height: float, slant: float, degrees: float, stroke: float) -> Floats:
    """One digit's ink as written on paper.

    Args:
        image: uint8 [28, 28], of MNIST.
        height: of the digit, about, in pixels.
        slant: shear, columns to the right for each row upwards.
        degrees: by which it is turned.
        stroke: see `Difficulty.stroke`.

    Returns: float32 [h, w], 0 to 1, cut to its box, at most 1.5 `height` high.
    """
    scale = height / MNIST_BOX
    side = round(height * 2.2)
    angle = np.deg2rad(degrees)
    rotate = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    linear = scale * rotate @ np.array([[1.0, -slant], [0.0, 1.0]])
    middle = np.full(2, (MNIST_SIDE - 1) / 2)
    shift = np.full(2, (side - 1) / 2) - linear @ middle
    soft = image.astype(np.float32) / max(int(image.max()), 1)
    grown = cv2.warpAffine(soft, np.column_stack([linear, shift]), (side, side), flags=cv2.INTER_CUBIC)
    # MNIST's edges are about a pixel of 28 soft; on paper an edge is sharp, whatever the size of the writing.
    sharp = np.clip((grown - stroke) * max(1.0, scale * 0.8) + 0.5, 0, 1).astype(np.float32)
    rows, columns = np.flatnonzero(sharp.max(axis=1) > 0.3), np.flatnonzero(sharp.max(axis=0) > 0.3)
    if not len(rows):
        return digit_ink(image, height=height, slant=slant, degrees=degrees, stroke=stroke * 0.7)
    return sharp[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1][: round(height * 1.5)]


def _colours(difficulty: Difficulty, random: np.random.Generator) -> tuple[Floats, Floats]:
    if difficulty.colours is not None:
        paper, ink = difficulty.colours
        return np.array(paper, np.float32), np.array(ink, np.float32)
    dark_paper = random.random() < 0.25
    while True:
        light = _colour(random, saturation=(0.0, 0.25), value=(0.7, 1.0))
        dark = _colour(random, saturation=(0.0, 0.9), value=(0.05, 0.65))
        if _luminance(light) - _luminance(dark) >= difficulty.contrast * 255:
            return (dark, light) if dark_paper else (light, dark)


def _colour(random: np.random.Generator, *, saturation: Span, value: Span) -> Floats:
    rgb = colorsys.hsv_to_rgb(random.random(), random.uniform(*saturation), random.uniform(*value))
    return np.array(rgb, np.float32) * 255


def _luminance(colour: Floats) -> float:
    return float(colour @ np.array([0.299, 0.587, 0.114], np.float32))


def _rule(canvas: Floats, height: float, *, paper: Floats, random: np.random.Generator) -> Floats:
    """Rules across the page, and up and down on one page in three; fainter than the ink."""
    towards = np.array([60, 90, 170] if _luminance(paper) > 128 else [220, 225, 235], np.float32)
    rule = paper + random.uniform(0.25, 0.6) * (towards - paper)
    pitch = height * random.uniform(0.45, 1.6)
    thickness = max(1, round(height * random.uniform(0.01, 0.04)))
    canvas = canvas.copy()
    for y in np.arange(random.uniform(0, pitch), canvas.shape[0], pitch):
        canvas[int(y) : int(y) + thickness] = rule
    if random.random() < 1 / 3:
        for x in np.arange(random.uniform(0, pitch), canvas.shape[1], pitch):
            canvas[:, int(x) : int(x) + thickness] = rule
    return canvas


def _skew(canvas: Floats, paper: Floats, *, degrees: float) -> Floats:
    """The page, turned about its middle; what comes in at the corners is the page's own edge, drawn out."""
    height, width = canvas.shape[:2]
    turn = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1.0)
    grow = abs(np.tan(np.deg2rad(degrees)))
    turn[:, 2] += (round(height * grow / 2), round(width * grow / 2))
    size = (width + 2 * round(height * grow / 2), height + 2 * round(width * grow / 2))
    return cv2.warpAffine(canvas, turn, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE).astype(
        np.float32
    )


def _light(shape: tuple[int, int], shadow: float, random: np.random.Generator) -> Floats:
    """How much of the light arrives: a slope across the page and the soft edge of a shadow."""
    y, x = np.mgrid[0 : shape[0], 0 : shape[1]].astype(np.float32)
    y, x = y / shape[0] - 0.5, x / shape[1] - 0.5
    total = random.uniform(0, shadow)
    share = random.random()
    slope, edge = (x * np.cos(t) + y * np.sin(t) for t in random.uniform(0, 2 * np.pi, size=2))
    falling = slope / 1.42 + 0.5
    fallen = 1 / (1 + np.exp(-(edge - random.uniform(-0.3, 0.3)) / random.uniform(0.03, 0.2)))
    return (1 - total * (share * falling + (1 - share) * fallen)).astype(np.float32)


def _jpeg(picture: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    done, encoded = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert done
    decoded = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
    assert decoded is not None
    return np.ascontiguousarray(decoded[..., ::-1]).astype(np.uint8)


# A slightly hard page that is good to look at: blue ink on warm ruled paper, in the light of a lamp.
SHOWPIECE = Difficulty(
    height_px=(84, 96),
    size_spread=0.1,
    slant=0.12,
    rotation_degrees=3,
    stroke=(0.44, 0.5),
    gap=(0.08, 0.2),
    margin=(0.5, 0.8),
    contrast=0.45,
    ruled=1.0,
    skew_degrees=1.5,
    shadow=0.3,
    blur=(0.004, 0.01),
    noise=(3, 6),
    jpeg_quality=(85, 95),
    colours=((250, 243, 226), (32, 48, 120)),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write one picture and print its text."""
    parser = argparse.ArgumentParser(prog="python -m tools.compose_page", description=__doc__.partition("\n")[0])
    parser.add_argument("-o", "--output", type=Path, required=True, help="the picture to write")
    parser.add_argument("--seed", type=int, default=13)
    parser.add_argument("--difficulty", choices=["showpiece", *DIFFICULTIES], default="showpiece")
    parser.add_argument("--split", choices=["test", "train"], default="test", help="the part of MNIST to write with")
    parser.add_argument("--lines", type=int, nargs="+", default=[5, 4], metavar="DIGITS", help="digits on each line")
    options = parser.parse_args(arguments)
    difficulty = DIFFICULTIES.get(options.difficulty, SHOWPIECE)
    page = compose(options.lines, difficulty, seed=[options.seed], split=options.split)
    Image.fromarray(page.picture).save(options.output)
    print(page.text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

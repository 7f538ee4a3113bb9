"""How well pictures are read: strings and pages of MNIST test digits, clean and hard, through a published model.

    python -m benchmarks.reading                     all of it, with docs/reading_worst.png
    python -m benchmarks.reading --strings 50 --pages 10 --kinds 4

A digit counts as wrong if it is read as another, left out, marked as no digit, or put in where there is none: the edit
distance (Levenshtein, 1966) between what is written and what is read, line breaks included, over the number of digits.
A string counts as right if it is read without any error. Exits with 1 if a floor is missed.

Pages of other kinds (`tools.compose_kinds`: on desks, in forms, turned over, dates and amounts) are counted by line:
its digits, and all of it with its signs, spaces and tabs. A page is silently wrong if its digits are, and nothing on it
is marked.
"""

import argparse
import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from inkling.client.reading import Reading, find_digits, read_page
from tools import compose_kinds, compose_page
from tools.compose_page import ComposedPage

Predict = Callable[[NDArray[np.uint8]], NDArray[np.floating[Any]]]

FLOORS = {"clean": {"digits": 0.985, "strings": 0.93}, "hard": {"digits": 0.95}}
WORST = 10


@dataclass(frozen=True, slots=True)
class Result:
    """One picture, read."""

    page: ComposedPage
    reading: Reading
    seconds: float  # of CPU, the model included

    @property
    def errors(self) -> int:
        """Edits between what is written and what is read."""
        return edit_distance(self.page.text, self.reading.text)

    @property
    def digits(self) -> int:
        """How many are written."""
        return len(self.page.text.replace("\n", ""))

    @property
    def is_string(self) -> bool:
        """Whether the picture has one line."""
        return "\n" not in self.page.text


def edit_distance(written: str, read: str) -> int:
    """Count the fewest insertions, deletions and replacements that turn one into the other."""
    previous = list(range(len(read) + 1))
    for i, one in enumerate(written, 1):
        row = [i]
        for j, other in enumerate(read, 1):
            row.append(min(previous[j] + 1, row[-1] + 1, previous[j - 1] + (one != other)))
        previous = row
    return previous[-1]


def digit_accuracy(results: Sequence[Result]) -> float:
    """One minus edits over digits."""
    return 1 - sum(result.errors for result in results) / sum(result.digits for result in results)


def string_accuracy(results: Sequence[Result]) -> float:
    """Share of the single lines that are read without any error."""
    return float(np.mean([result.errors == 0 for result in results if result.is_string]))


def lines_right(result: Result, *, digits_only: bool) -> int:
    """How many of the lines written are among those read."""
    written, read = (
        [_digits(line) if digits_only else line for line in text.split("\n")]
        for text in (result.page.text, result.reading.text)
    )
    return sum((Counter(written) & Counter(read)).values())


def is_silently_wrong(result: Result) -> bool:
    """Whether the digits are read wrongly, and nothing is marked."""
    written, read = (
        list(filter(None, map(_digits, text.split("\n")))) for text in (result.page.text, result.reading.text)
    )
    return written != read and result.reading.confident


def _digits(line: str) -> str:
    return "".join(filter(str.isdecimal, line))


def letters() -> list[Image.Image]:
    """Printed letters that are shaped unlike any digit."""
    font = ImageFont.load_default(110)
    pictures = []
    for letter in "ACDEFGHJKMNPQRTUVWXYabdefhkmnprtuwxy":
        picture = Image.new("L", (200, 200), 255)
        ImageDraw.Draw(picture).text((60, 30), letter, font=font, fill=0)
        pictures.append(picture)
    return pictures


def scribbles(count: int = 36) -> list[Image.Image]:
    """Twelve random strokes on end, each time."""
    random = np.random.default_rng(0)
    pictures = []
    for _ in range(count):
        picture = Image.new("L", (200, 200), 255)
        points = [(float(x), float(y)) for x, y in random.uniform(40, 160, (12, 2))]
        ImageDraw.Draw(picture).line(points, fill=0, width=7, joint="curve")
        pictures.append(picture)
    return pictures


def load_model(folder: Path) -> Predict:
    """Load the newest version under `folder`, to be run by TensorFlow in this process.

    Returns: a function from uint8 [n, 28, 28] to probabilities, float32 [n, 10].
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tensorflow as tf

    newest = max((path for path in folder.iterdir() if path.name.isdecimal()), key=lambda path: int(path.name))
    model = tf.saved_model.load(str(newest))

    def predict(images: NDArray[np.uint8]) -> NDArray[np.floating[Any]]:
        probabilities: NDArray[np.float32] = model.signatures["serving_default"](images=tf.constant(images))[
            "probabilities"
        ].numpy()
        return probabilities

    return predict


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table and draw the worst pages."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reading", description=__doc__.partition("\n")[0])
    parser.add_argument("--model", type=Path, default=Path("models/mnist"), help="a model's folder in a repository")
    parser.add_argument("--strings", type=int, default=500)
    parser.add_argument("--pages", type=int, default=100)
    parser.add_argument("--kinds", type=int, default=12, help="pages of each other kind")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--worst", type=Path, default=Path("docs/reading_worst.png"), help="where to draw them")
    options = parser.parse_args(arguments)
    predict = load_model(options.model)
    results: dict[str, list[Result]] = {}
    for kind in compose_page.DIFFICULTIES:
        composed = compose_page.strings(kind, options.strings, seed=options.seed)
        composed += compose_page.pages(kind, options.pages, seed=options.seed)
        results[kind] = [_read(page, predict) for page in composed]
    _print_table(results)
    _print_kinds(options.kinds, options.seed, predict)
    for kind, pictures in (("letters", letters()), ("scribbles", scribbles())):
        told = sum(not read_page(find_digits(picture), predict).confident for picture in pictures)
        print(f"{kind}: {told} of {len(pictures)} are marked, or nothing is read")
    worst = sorted((r for each in results.values() for r in each), key=lambda r: -r.errors / max(r.digits, 4))[:WORST]
    draw_worst(worst).save(options.worst, optimize=True)
    print(f"the {WORST} worst: {options.worst}")
    missed = list(_missed(results))
    print("\n".join(missed) or "all floors are kept")
    return 1 if missed else 0


def _read(page: ComposedPage, predict: Predict) -> Result:
    begin = time.process_time()
    reading = read_page(find_digits(page.picture), predict)
    return Result(page, reading, time.process_time() - begin)


def _print_table(results: dict[str, list[Result]]) -> None:
    print("| pages | digits | right, by digit | right, by string | errors marked | right but marked | ms of CPU |")
    print("|---|---|---|---|---|---|---|")
    for kind, each in results.items():
        marked, wrong, needless, right = _marks(each)
        milliseconds = 1000 * float(np.median([r.seconds for r in each]))
        print(
            f"| {kind} | {sum(r.digits for r in each):,} | {digit_accuracy(each):.2%} | {string_accuracy(each):.1%} "
            f"| {marked} of {wrong} | {needless / max(right, 1):.1%} | {milliseconds:.0f} |"
        )


def _print_kinds(count: int, seed: int, predict: Predict) -> None:
    print("\n| kind | lines | right, by digits | right, as written | pages silently wrong | ms of CPU |")
    print("|---|---|---|---|---|---|")
    for kind in compose_kinds.KINDS if count else ():
        each = [_read(compose_kinds.compose_kind(kind, 1000 * seed + number), predict) for number in range(count)]
        lines = sum(result.page.text.count("\n") + 1 for result in each)
        by_digits, as_written = (sum(lines_right(r, digits_only=only) for r in each) for only in (True, False))
        silent = sum(map(is_silently_wrong, each))
        milliseconds = 1000 * float(np.median([result.seconds for result in each]))
        print(f"| {kind} | {lines} | {by_digits} | {as_written} | {silent} of {count} | {milliseconds:.0f} |")


def _marks(results: Sequence[Result]) -> tuple[int, int, int, int]:
    """Where as many digits were read as written: wrong ones marked, wrong ones, right ones marked, right ones."""
    marked = wrong = needless = right = 0
    for result in results:
        written = result.page.text.replace("\n", "")
        if len(written) != len(result.reading.digits):
            continue
        for truth, digit in zip(written, result.reading.digits, strict=True):
            if digit.label == truth:
                right += 1
                needless += digit.doubtful
            else:
                wrong += 1
                marked += digit.doubtful
    return marked, wrong, needless, right


def _missed(results: dict[str, list[Result]]) -> list[str]:
    found = []
    for kind, floors in FLOORS.items():
        measured = {"digits": digit_accuracy(results[kind]), "strings": string_accuracy(results[kind])}
        found += [
            f"{kind} {what}: {measured[what]:.2%} is under the floor of {floor:.1%}"
            for what, floor in floors.items()
            if measured[what] < floor
        ]
    return found


def draw_worst(results: Sequence[Result], *, width: int = 460) -> Image.Image:
    """The pictures with their readings drawn in, two in a row, what is written and what was read below each."""
    font = ImageFont.load_default(15)
    tiles = []
    for result in results:
        picture = result.reading.draw()
        picture.thumbnail((width, 260))
        lines = [
            f"{result.page.name}: " + result.page.text.replace("\n", " / "),
            "read as: " + result.reading.text.replace("\n", " / "),
        ]
        tile = Image.new("RGB", (width, picture.height + 48), "white")
        tile.paste(picture, (0, 0))
        ImageDraw.Draw(tile).multiline_text((2, picture.height + 4), "\n".join(lines), fill="black", font=font)
        tiles.append(tile)
    rows = [tiles[i : i + 2] for i in range(0, len(tiles), 2)]
    sheet = Image.new("RGB", (2 * width + 30, sum(max(t.height for t in row) + 10 for row in rows)), "white")
    top = 0
    for row in rows:
        for column, tile in enumerate(row):
            sheet.paste(tile, (column * (width + 30), top))
        top += max(tile.height for tile in row) + 10
    return sheet.quantize(128)


if __name__ == "__main__":
    raise SystemExit(main())

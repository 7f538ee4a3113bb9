"""How well pictures are read: strings and pages of MNIST test digits, clean and hard, through a published model.

    python -m benchmarks.reading                     all of it, with docs/reading_worst.png
    python -m benchmarks.reading --strings 50 --pages 10 --kinds 4
    python -m benchmarks.reading --fonts folder      the kinds also written by fonts: TEST_FONTS of tools.second_opinion

A digit counts as wrong if it is read as another, left out, marked as no digit, or put in where there is none: the edit
distance (Levenshtein, 1966) between what is written and what is read, line breaks included, over the number of digits.
A string counts as right if it is read without any error. Exits with 1 if a floor is missed.

Pages of other kinds (`tools.compose_kinds`: on desks, in forms, turned over, dates and amounts) are counted by line:
its digits, and all of it with its signs, spaces and tabs. A page is silently wrong if its digits are, or its signs on
the kinds that have some, and nothing on it is marked. Where scikit-learn is installed, its `load_digits` (43 Turkish
writers, 8 x 8 pixels) are read one by one.
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

from benchmarks.reading_pictures import letters, other_hands, scribbles, shapes
from inkling.client.reading import Reading, find_digits, read_page
from tools import compose_kinds, compose_page
from tools.compose_page import ComposedPage
from tools.second_opinion import TEST_FONTS

Predict = Callable[[NDArray[np.uint8]], NDArray[np.floating[Any]]]

FLOORS = {"clean": {"digits": 0.985, "strings": 0.93}, "hard": {"digits": 0.95}}
MOST_SILENT = 0.01  # of the pages of all kinds
MOST_LETTERS, LEAST_OF_OTHER_HANDS = 0.03, 0.96  # read without a mark; of `load_digits` right
# Least share of the lines of kinds written by fonts: as written where they have signs, else by their digits.
KIND_FLOORS = {
    ("plain",): 1.0,
    ("desk", "note"): 22 / 24,
    ("form",): 15 / 16,
    ("mixed sizes",): 1.0,
    ("turned 90", "turned 180", "turned 270"): 44 / 48,
    ("date", "amount", "time", "phone"): 86 / 96,
    ("sum", "per cent"): 40 / 48,
    ("touching",): 10 / 24,
    ("broken",): 14 / 24,
    ("blackboard",): 22 / 24,
    ("label",): 14 / 16,
}
WITH_SIGNS = ("date", "amount", "time", "phone", "sum", "per cent")
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
    def lines(self) -> int:
        """How many are written."""
        return self.page.text.count("\n") + 1

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


def is_silently_wrong(kind: str, result: Result) -> bool:
    """Whether the digits, or on pages with signs digits and signs, are read wrongly, and nothing is marked."""
    part = _marks_of if kind in WITH_SIGNS else _digits
    written, read = (
        list(filter(None, map(part, text.split("\n")))) for text in (result.page.text, result.reading.text)
    )
    return written != read and result.reading.confident


def _marks_of(line: str) -> str:
    return "".join(line.split())


def _digits(line: str) -> str:
    return "".join(filter(str.isdecimal, line))


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
    parser.add_argument("--only", nargs="+", choices=compose_kinds.KINDS, help="these kinds; all by default")
    parser.add_argument("--fonts", type=Path, help="folder with NAME-latin-400-normal.woff of each test font")
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
    missed = list(_missed(results))
    if options.kinds:
        missed += _measure_kinds(options, predict)
    missed += _measure_strange(predict) + _measure_other_hands(predict)
    worst = sorted((r for each in results.values() for r in each), key=lambda r: -r.errors / max(r.digits, 4))[:WORST]
    draw_worst(worst).save(options.worst, optimize=True)
    print(f"the {WORST} worst: {options.worst}")
    print("\n".join(missed) or "all floors are kept")
    return 1 if missed else 0


def _measure_kinds(options: argparse.Namespace, predict: Predict) -> list[str]:
    """Print the tables of the kinds; what is under its floor."""
    kinds = options.only or list(compose_kinds.KINDS)
    first = 1000 * options.seed
    by_mnist = _kinds(kinds, range(first, first + options.kinds), predict)
    _print_kinds("MNIST's test digits", by_mnist)
    if not options.fonts:
        return _too_silent(by_mnist)
    fonts = [options.fonts / f"{name}-latin-400-normal.woff" for name in TEST_FONTS]
    by_fonts = _kinds(kinds, range(first, first + options.kinds), predict, fonts=fonts)
    _print_kinds("fonts", by_fonts)
    return _too_silent(by_mnist) + _too_silent(by_fonts) + _kinds_missed(by_fonts)


def _kinds(
    kinds: Sequence[str], seeds: Sequence[int], predict: Predict, *, fonts: Sequence[Path] = ()
) -> dict[str, list[Result]]:
    """Pages of each kind, read; by a font after the other, or by MNIST's writers."""

    def composed(kind: str, seed: int) -> ComposedPage:
        able = able_fonts(kind, fonts, seed)
        return compose_kinds.compose_kind(kind, seed, font=able[0] if able else None)

    return {kind: [_read(composed(kind, seed), predict) for seed in seeds] for kind in kinds}


def able_fonts(kind: str, fonts: Sequence[Path], seed: int) -> list[Path]:
    """The fonts, from the seed's on, that have the signs of pages of this kind: some lack the per cent sign."""
    first = seed % max(len(fonts), 1)
    signs = "%" if kind == "per cent" else ""
    return [font for font in [*fonts[first:], *fonts[:first]] if compose_kinds.can_write(font, signs)]


def _right(kind: str, results: Sequence[Result]) -> int:
    return sum(lines_right(result, digits_only=kind not in WITH_SIGNS) for result in results)


def _kinds_missed(results: dict[str, list[Result]]) -> list[str]:
    found = []
    for kinds, floor in KIND_FLOORS.items():
        measured = [kind for kind in kinds if kind in results]
        lines = sum(result.lines for kind in measured for result in results[kind])
        right = sum(_right(kind, results[kind]) for kind in measured)
        if right < floor * lines:
            found.append(f"{', '.join(measured)}: {right} of {lines} lines are under the floor of {floor:.0%}")
    return found


def _too_silent(results: dict[str, list[Result]]) -> list[str]:
    pages = sum(map(len, results.values()))
    silent = sum(is_silently_wrong(kind, result) for kind, each in results.items() for result in each)
    print(f"silently wrong: {silent} of {pages} pages")
    if silent <= MOST_SILENT * pages:
        return []
    return [f"silently wrong: {silent} of {pages} pages are over the limit of {MOST_SILENT:.0%}"]


def _measure_strange(predict: Predict) -> list[str]:
    """Print what is made of what is no digit; what is over its limit."""
    missed = []
    for kind, pictures in (("letters", letters()), ("scribbles", scribbles()), ("shapes", shapes())):
        sure = sum(read_page(find_digits(picture), predict).confident for picture in pictures)
        print(f"{kind}: {sure} of {len(pictures)} are read without a mark")
        if kind == "letters" and sure > MOST_LETTERS * len(pictures):
            missed.append(f"{kind}: {sure} of {len(pictures)} are over the limit of {MOST_LETTERS:.0%}")
    return missed


def _measure_other_hands(predict: Predict) -> list[str]:
    """Print how `load_digits` are read; what is under the floor."""
    try:
        pictures, labels = other_hands()
    except ImportError:
        print("load_digits: not measured; pip install scikit-learn")
        return []
    readings = [read_page(find_digits(picture), predict) for picture in pictures]
    right = [reading.text == str(label) for reading, label in zip(readings, labels, strict=True)]
    silent = sum(reading.confident and not ok for reading, ok in zip(readings, right, strict=True))
    share = float(np.mean(right))
    print(f"load_digits: {share:.2%} of {len(right):,} right, {silent} of {len(right) - sum(right)} errors unmarked")
    if share >= LEAST_OF_OTHER_HANDS:
        return []
    return [f"load_digits: {share:.2%} is under the floor of {LEAST_OF_OTHER_HANDS:.0%}"]


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


def _print_kinds(writers: str, results: dict[str, list[Result]]) -> None:
    print(f"\n| kind, by {writers} | lines | right, by digits | right, as written | pages silently wrong | ms of CPU |")
    print("|---|---|---|---|---|---|")
    for kind, each in results.items():
        lines = sum(result.lines for result in each)
        by_digits, as_written = (sum(lines_right(r, digits_only=only) for r in each) for only in (True, False))
        silent = sum(is_silently_wrong(kind, result) for result in each)
        milliseconds = 1000 * float(np.median([result.seconds for result in each]))
        print(f"| {kind} | {lines} | {by_digits} | {as_written} | {silent} of {len(each)} | {milliseconds:.0f} |")


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

"""Makes the page reader's constants again, from MNIST's training digits, and compares them with those in the code.

    python -m tools.reading_statistics                                classes' proportions and subspaces: seconds
    python -m tools.reading_statistics --costs --model models/mnist   the path's costs as well: minutes

Proportions (`best_path.ASPECT_MEAN`, `ASPECT_SPREAD`): by class, mean and standard deviation of the natural log of
width over height, of the box of what is brighter than `ASPECT_LEVEL`, over all training images as they are.

Subspaces (`digit_subspaces.npz`): as `tools.digit_subspaces` makes them.

Costs (`best_path.Costs`): minimised is the edit distance between what is written on composed pages of training digits
and the labels on the best path, line breaks included. A coordinate descent multiplies and divides one cost at a time,
by 2, then by 1.4, then by 1.15, and keeps what lessens the errors; only `doubt` stays, since a path depends on the
costs' ratios alone. Errors are whole numbers, so the descent can end on a plateau: it begins once at the code's costs
and once at costs of 1, which know nothing. All are then measured on other pages of training digits, as the errors on
pages that were searched on flatter what was found.

Exits with 1 if proportions or subspaces are not those in the code.
"""

import argparse
import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.reading import Predict, edit_distance, load_model
from inkling.client.reading import best_path, marks, novelty
from inkling.client.reading.best_path import Costs
from inkling.client.reading.mnist_form import upright
from inkling.client.reading.page import Candidate, PageLine, find_digits
from inkling.client.reading.votes import votes_on_page
from inkling.train import data
from tools import compose_page, digit_subspaces

FACTORS = (2.0, 1.4, 1.15)
SEARCHED = [field.name for field in fields(Costs) if field.name != "doubt"]
SEARCH_SEED, HELD_OUT_SEED = 7, 8


@dataclass(frozen=True, slots=True)
class AskedPage:
    """A page of known text, and what the classifier says of its candidates."""

    text: str
    lines: tuple[PageLine, ...]
    probabilities: NDArray[np.float64]  # float64 [n, 10], mean of a candidate's votes
    scores: NDArray[np.float64]  # float64 [n, 10], outlier scores
    strangers: NDArray[np.float64] | None = None  # float64 [n], logits of being no digit

    def read(self, costs: Costs) -> str:
        """The labels on the best path, whether or not they would be marked."""
        lines = []
        for line in self.lines:
            path = best_path.best_path(line, self.probabilities, self.scores, costs, strangers=self.strangers)
            lines.append("".join(self._text(choice.candidate) for choice in path))
        return "\n".join(line for line in lines if line)

    def _text(self, candidate: Candidate) -> str:
        return candidate.sign or str(int(self.probabilities[candidate.number].argmax()))


def log_aspects(images: NDArray[np.uint8], *, level: int) -> NDArray[np.float64]:
    """Natural log of width over height, of the box of what is brighter than `level`.

    Args:
        images: uint8 [n, height, width], with something brighter on each.

    Returns: float64 [n].
    """
    bright = images > level
    width, height = (_extent(bright.max(axis=axis)) for axis in (1, 2))
    return np.log(width / height)


def proportions(images: NDArray[np.uint8], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Mean and standard deviation of the log aspect by class, float64 [2, 10]."""
    aspects = log_aspects(images, level=best_path.ASPECT_LEVEL)
    by_class = [aspects[labels == label] for label in range(10)]
    return np.array([[values.mean() for values in by_class], [values.std() for values in by_class]])


def asked_pages(predict: Predict, *, strings: int, pages: int, seed: int) -> list[AskedPage]:
    """Compose pages of training digits, half of them hard, and ask the classifier about them once."""
    asked = []
    for kind in compose_page.DIFFICULTIES:
        composed = compose_page.strings(kind, strings, seed=seed, split="train")
        for each in composed + compose_page.pages(kind, pages, seed=seed, split="train"):
            page = find_digits(each.picture)
            if not len(page.images):
                asked.append(AskedPage(each.text, (), np.empty((0, 10)), np.empty((0, 10))))
                continue
            votes = votes_on_page(page, predict(page.images))
            asked.append(AskedPage(each.text, page.lines, votes.together, votes.scores, votes.strangers))
    return asked


def errors(pages: Sequence[AskedPage], costs: Costs) -> int:
    """Edits between what is written and what is read, over all pages."""
    return sum(edit_distance(page.text, page.read(costs)) for page in pages)


def search(pages: Sequence[AskedPage], start: Costs) -> tuple[Costs, int]:
    """Descend from `start` to costs that no factor on a single one of them betters, and the errors there."""
    best, least = start, errors(pages, start)
    for factor in FACTORS:
        moves = [(name, by) for name in SEARCHED for by in (factor, 1 / factor)]
        in_vain = 0  # moves in a row
        for name, by in itertools.cycle(moves):
            tried = replace(best, **{name: getattr(best, name) * by})
            count = errors(pages, tried)
            if count < least:
                best, least, in_vain = tried, count, 0
            else:
                in_vain += 1
            if in_vain == len(moves):
                break
    return best, least


def main(arguments: Sequence[str] | None = None) -> int:
    """Print what is found beside what stands in the code."""
    parser = argparse.ArgumentParser(prog="python -m tools.reading_statistics", description=__doc__.partition("\n")[0])
    parser.add_argument("--costs", action="store_true", help="search the path's costs as well; takes minutes")
    parser.add_argument("--model", type=Path, default=Path("models/mnist"), help="a model's folder in a repository")
    parser.add_argument("--strings", type=int, default=40, help="pages of one line to search on, of each difficulty")
    parser.add_argument("--pages", type=int, default=12, help="pages of several lines, of each difficulty")
    options = parser.parse_args(arguments)
    dataset = data.load()
    images, labels = np.asarray(dataset.train_images), np.asarray(dataset.train_labels)
    same = _compare_proportions(images, labels)
    same &= _compare_subspaces(images, labels)
    if options.costs:
        _compare_costs(load_model(options.model), strings=options.strings, pages=options.pages)
    return 0 if same else 1


def _compare_proportions(images: NDArray[np.uint8], labels: NDArray[np.int64]) -> bool:
    found = proportions(images, labels)
    stands = np.array([best_path.ASPECT_MEAN, best_path.ASPECT_SPREAD])
    print("log of width over height, by class: in the code, found")
    for label in range(10):
        print(
            f"  {label}  mean {stands[0, label]:5.2f} {found[0, label]:7.4f}"
            f"   spread {stands[1, label]:4.2f} {found[1, label]:6.4f}"
        )
    same = bool((np.abs(found - stands) <= 0.005).all())
    print("  the same to two decimals" if same else "  NOT the same to two decimals")
    return same


def _compare_subspaces(images: NDArray[np.uint8], labels: NDArray[np.int64]) -> bool:
    found = digit_subspaces.stored_arrays(images, labels)
    with np.load(digit_subspaces.FILE, allow_pickle=False) as stored:
        off = {name: _difference(stored[name], found[name]) for name in found}
    print(f"{digit_subspaces.FILE.name}: largest difference from what is found, of 8-bit integers and of distances")
    for name, difference in off.items():
        print(f"  {name:<10} {difference:.2g}")
    forms = np.concatenate([images[labels == label][:500] for label in range(10)])
    scores = novelty.outlier_scores(np.stack([upright(form) for form in forms]))
    own = scores[np.arange(len(forms)), np.repeat(np.arange(10), 500)]
    for limit in (best_path.USUAL_SCORE, 1.0, marks.DOUBTFUL_SCORE, marks.NO_DIGIT_SCORE):
        print(f"  {(own < limit).mean():.1%} of 5,000 training images have an outlier score under {limit}")
    return off["means"] <= 1 and off["directions"] <= 1 and max(off["usual"], off["mean_scale"]) < 1e-5


def _difference(one: NDArray[Any], other: NDArray[Any]) -> float:
    """The largest between the elements of rows [..., k], each row turned round if that brings it nearer."""
    one, other = (np.atleast_1d(array).astype(np.float64) for array in (one, other))
    return float(np.minimum(np.abs(one - other).max(axis=-1), np.abs(one + other).max(axis=-1)).max())


def _compare_costs(predict: Predict, *, strings: int, pages: int) -> None:
    searched_on = asked_pages(predict, strings=strings, pages=pages, seed=SEARCH_SEED)
    held_out = asked_pages(predict, strings=2 * strings, pages=2 * pages, seed=HELD_OUT_SEED)
    digits = [sum(len(page.text.replace("\n", "")) for page in group) for group in (searched_on, held_out)]
    print(f"costs: errors on pages searched on ({digits[0]:,} digits) and on others ({digits[1]:,} digits)")
    ones = replace(best_path.DEFAULT, **dict.fromkeys(SEARCHED, 1.0))
    for name, start in (("in the code", best_path.DEFAULT), ("all 1", ones)):
        _print_costs(name, start, errors(searched_on, start), errors(held_out, start))
        begin = time.process_time()
        found, least = search(searched_on, start)
        _print_costs(f"found from {name}", found, least, errors(held_out, found))
        print(f"    ({time.process_time() - begin:.0f} s of CPU)")


def _print_costs(name: str, costs: Costs, *numbers: int) -> None:
    values = "  ".join(f"{field.name} {getattr(costs, field.name):.3g}" for field in fields(Costs))
    print(f"  {name}: {' and '.join(map(str, numbers))} errors\n    {values}", flush=True)


def _extent(inked: NDArray[np.bool_]) -> NDArray[np.int64]:
    """From the first to the last True of each row of [n, side], both included."""
    side = inked.shape[1]
    return side - inked.argmax(axis=1) - inked[:, ::-1].argmax(axis=1)


if __name__ == "__main__":
    raise SystemExit(main())

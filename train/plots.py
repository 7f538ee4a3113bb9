"""Pictures of a run: the learning curve, the confusion matrix, the mistakes, and the augmentation's contact sheet.

Colours are from the Okabe-Ito palette, which colour-blind readers can tell apart.
"""

import functools
import io
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure  # not pyplot, which looks for a display and keeps every figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from numpy.typing import NDArray

from .config import LOOKS, Augmentation
from .corruptions import Robustness, suite
from .data import Dataset, augment
from .evaluate import Evaluation

BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#999999"
DPI = 110
MOST_MISTAKES = 40
MOST_COUNTED_CLASSES = 40  # a matrix of more has no room for counts
MOST_NAMED_CLASSES = 60  # nor has one of more for every name
LONGEST_NAME = 14  # characters
LARGEST_SIDE = 20.0  # inches: 2,200 px, some 60 MB while it is drawn


def png(figure: Figure) -> bytes:
    """The figure as a PNG file's content."""
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=DPI)
    return buffer.getvalue()


def drawable(names: Sequence[str]) -> list[str]:
    """Class names as a picture can show them: shortened, and by their number where the font has not their letters.

    A dollar sign would begin a formula, and an unfinished one ends the drawing with an exception.
    """
    known = _characters()
    shown = []
    for number, name in enumerate(names):
        text = name if set(name) <= known and name.strip() else f"class {number}"
        shortened = text if len(text) <= LONGEST_NAME else f"{text[: LONGEST_NAME - 1]}…"
        shown.append(shortened.replace("$", r"\$"))
    return shown


@functools.cache
def _characters() -> frozenset[str]:
    """What matplotlib's own font can draw."""
    font = get_font(findfont(FontProperties()))
    return frozenset(map(chr, font.get_charmap())) - {"\n", "\t", "\r"}


def learning_curve(history: Sequence[dict[str, Any]], title: str) -> bytes:
    """Loss, error and learning rate against epochs, from the lines of metrics.jsonl; a PNG file's content."""
    steps = [line for line in history if "loss" in line]
    epochs = [line for line in history if "validation_loss" in line]
    x = [line["epoch"] for line in steps]
    figure = Figure(figsize=(13, 4), layout="constrained")
    axes = figure.subplots(1, 3)
    for axis, (train, validation, label) in zip(
        axes, [("loss", "validation_loss", "loss (nats)"), ("accuracy", "validation_accuracy", "error")], strict=False
    ):
        invert = label == "error"
        raw = np.array([1 - line[train] if invert else line[train] for line in steps])
        axis.plot(x, raw, color=GREY, alpha=0.35, linewidth=0.8)
        axis.plot(x, _smoothed(raw), color=BLUE, label="training (augmented, with dropout)")
        if epochs:
            y = [1 - line[validation] if invert else line[validation] for line in epochs]
            at = [line["epoch"] for line in epochs]
            axis.plot(at, y, "o-", color=ORANGE, markersize=4, label="validation (averaged weights)")
        axis.set(xlabel="epoch", ylabel=label, yscale="log")
        axis.grid(alpha=0.25, which="both")
        axis.legend(fontsize=8, loc="upper right")
    axes[0].yaxis.set_minor_formatter(_within_a_decade(axes[0], lambda value: f"{value:.2g}"))
    axes[1].yaxis.set_major_formatter(lambda value, _: _percent(value))
    axes[1].yaxis.set_minor_formatter(_within_a_decade(axes[1], _percent))
    axes[2].plot(x, [line["learning_rate"] for line in steps], color=BLUE)
    axes[2].set(xlabel="epoch", ylabel="learning rate", ylim=(0, None))
    axes[2].grid(alpha=0.25)
    figure.suptitle(title)
    return png(figure)


def _percent(value: float) -> str:
    return f"{100 * value:.2g} %"


def _within_a_decade(axis: Axes, text: Callable[[float], str]) -> Callable[[float, Any], str]:
    """Names the ticks between the powers of ten, at 2 and 5 times one, where the axis spans hardly any of these."""

    def name(value: float, _: Any) -> str:
        low, high = axis.get_ylim()
        leading = round(value / 10 ** np.floor(np.log10(value)))
        wanted = range(2, 10) if high < 4 * low else (2, 5)
        return text(value) if high < 100 * low and leading in wanted else ""

    return name


def _smoothed(values: NDArray[np.float64]) -> NDArray[np.float64]:
    width = max(1, len(values) // 40)
    padded = np.pad(values, (width // 2, width - 1 - width // 2), mode="edge")
    return np.convolve(padded, np.ones(width) / width, mode="valid")


def confusion_matrix(evaluation: Evaluation, class_names: tuple[str, ...]) -> bytes:
    """Counts of true against predicted classes, mistakes shaded; a PNG file's content."""
    counts = np.array(evaluation.confusion)
    mistakes = counts - np.diag(np.diag(counts))
    names = drawable(class_names)
    side = min(LARGEST_SIDE, max(6.0, 0.55 * len(names) + 1.5))
    figure = Figure(figsize=(side, side), layout="constrained")
    axis = figure.subplots()
    axis.imshow(np.ma.masked_equal(mistakes, 0), cmap="Oranges", vmin=0, vmax=max(1, mistakes.max()) * 1.4)
    if len(names) <= MOST_COUNTED_CLASSES:
        for row, column in np.argwhere(counts):
            correct = row == column
            text = f"{counts[row, column]:,}"
            axis.text(column, row, text, ha="center", va="center", color=BLUE if correct else "black", fontsize=9)
    ticks = range(0, len(names), -(-len(names) // MOST_NAMED_CLASSES))
    axis.set(xticks=ticks, yticks=ticks, yticklabels=[names[tick] for tick in ticks])
    long = max(map(len, names)) > 3
    axis.set_xticklabels([names[tick] for tick in ticks], rotation=90 if long else 0)
    axis.set(xlabel="predicted", ylabel="true")
    total = f"{mistakes.sum():,} mistakes in {counts.sum():,} test images ({evaluation.accuracy:.2%} right)"
    axis.set_title(total, fontsize=11)
    return png(figure)


def mistakes(dataset: Dataset, probabilities: NDArray[np.float32]) -> bytes:
    """The misread test images, the most confident first, what was read and what was meant; a PNG file's content.

    Args:
        probabilities: float32 [n, classes], of a model for the test images.
    """
    images, labels, names = dataset.test_images, dataset.test_labels, drawable(dataset.class_names)
    colours = _colours(dataset)
    predicted = probabilities.argmax(axis=1)
    wrong = np.flatnonzero(predicted != labels)
    worst = wrong[np.argsort(-probabilities[wrong, predicted[wrong]], kind="stable")][:MOST_MISTAKES]
    columns = 10
    rows = max(1, -(-len(worst) // columns))
    figure = Figure(figsize=(1.25 * columns, 1.6 * rows + 0.6), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    for axis in grid.flat:
        axis.axis("off")
    for axis, index in zip(grid.flat, worst, strict=False):
        axis.imshow(images[index], cmap=colours, vmin=0, vmax=255)
        read, meant = names[predicted[index]], names[labels[index]]
        axis.set_title(f"{read} ({probabilities[index, predicted[index]]:.0%})\nis {meant}", fontsize=9)
    figure.suptitle(f"{len(worst)} of {len(wrong)} mistakes, the most confident first" if len(wrong) else "no mistakes")
    return png(figure)


def robustness(measured: Robustness, dataset: Dataset) -> bytes:
    """Accuracy under each corruption, beside a few test images as it leaves them; a PNG file's content."""
    shown = dict(suite(dataset.test_images[:8], dark_on_light=dataset.is_dark_on_light))
    figure = Figure(figsize=(10, 0.42 * len(shown) + 1), layout="constrained")
    images, bars = figure.subplots(1, 2, width_ratios=(1, 1.4))
    rows = [np.concatenate(list(changed), axis=1) for changed in shown.values()]
    images.imshow(np.concatenate(rows), cmap=_colours(dataset), vmin=0, vmax=255, aspect="auto")
    images.axis("off")
    values = [measured.accuracy[name] for name in shown]
    colours = [GREY if name == "identity" else BLUE for name in shown]
    bars.barh(range(len(shown)), values, color=colours)
    for row, value in enumerate(values):
        bars.text(0.01, row, f"{value:.1%}", va="center", color="white", fontsize=8)
    bars.set(yticks=range(len(shown)), yticklabels=list(shown), xlim=(0, 1), ylim=(len(shown) - 0.5, -0.5))
    bars.axvline(measured.mean, color=ORANGE)
    bars.set_title(f"accuracy; mean of the corruptions {measured.mean:.1%}", fontsize=10)
    return png(figure)


def _colours(dataset: Dataset) -> str:
    """The colour map that shows a set as ink on paper."""
    return "gray" if dataset.is_dark_on_light else "gray_r"


def contact_sheet(dataset: Dataset, augmentation: Augmentation, *, seed: int, columns: int = 8) -> bytes:
    """One training image of each class beside augmented versions of it, one an epoch; a PNG file's content."""
    _, first = np.unique(dataset.train_labels[np.arange(dataset.originals)], return_index=True)
    examples = np.sort(first)[:20]
    examples = examples[np.argsort(dataset.train_labels[examples], kind="stable")]
    originals = dataset.train_images[examples]
    epoch = np.tile(np.arange(columns), len(examples))
    index = np.repeat(examples, columns)
    changes = augment.sample_changes(augmentation, seed=seed, epoch=epoch, index=index, image_size=dataset.image_size)
    repeated = np.repeat(originals, columns, axis=0)
    moved = augment.apply_changes(augmentation, repeated, changes, background=dataset.background).numpy()
    moved = moved.clip(0, 1).reshape(len(examples), columns, *dataset.image_shape)
    figure = Figure(figsize=(0.95 * (columns + 1), 0.95 * len(examples) + 0.9), layout="constrained")
    grid = figure.subplots(len(examples), columns + 1, squeeze=False)
    colours = _colours(dataset)
    for axes, original, versions in zip(grid, originals, moved, strict=True):
        axes[0].imshow(original, cmap=colours, vmin=0, vmax=255)
        for axis, version in zip(axes[1:], versions, strict=True):
            axis.imshow(version, cmap=colours, vmin=0, vmax=1)
    for axis in grid.flat:
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_color("#dddddd")
    for axis in grid[:, 0]:
        axis.spines[:].set_color(BLUE)
    grid[0, 0].set_title("original", fontsize=9, color=BLUE)
    grid[0, 1].set_title("augmented", fontsize=9, loc="left")
    figure.suptitle(describe(augmentation), fontsize=10)
    return png(figure)


def describe(augmentation: Augmentation) -> str:
    """The policy's name and strengths, in one line."""
    parts = [
        (augmentation.rotation_degrees, f"rotation ±{augmentation.rotation_degrees:g}°"),
        (augmentation.scale, f"scale ±{augmentation.scale:.0%}"),
        (augmentation.shear, f"shear ±{augmentation.shear:g}"),
        (augmentation.shift_px, f"shift ±{augmentation.shift_px:g} px"),
        (augmentation.elastic_px, f"elastic {augmentation.elastic_px:g} px"),
        (augmentation.horizontal_flip, "horizontal flip"),
        (augmentation.vertical_flip, "vertical flip"),
        (augmentation.look_share, f"on {augmentation.look_share:.0%} of the images {', '.join(_looks(augmentation))}"),
    ]
    strengths = ", ".join(text for strength, text in parts if strength)
    return f"policy {augmentation.policy}: {strengths or 'images as they are'}"


def _looks(augmentation: Augmentation) -> list[str]:
    return [
        f"{name.removesuffix('_px')} {getattr(augmentation, name):g}" for name in LOOKS if getattr(augmentation, name)
    ]

"""Pictures of a run: the learning curve, the confusion matrix, the mistakes, and the augmentation's contact sheet.

Colours are from the Okabe-Ito palette, which colour-blind readers can tell apart.
"""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure  # not pyplot, which looks for a display and keeps every figure
from numpy.typing import NDArray

from .config import Augmentation
from .data import Dataset, augment
from .evaluate import Evaluation

BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#999999"
MOST_MISTAKES = 40


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=110)
    return buffer.getvalue()


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
    axes[1].yaxis.set_major_formatter(lambda value, _: f"{value:.2g}" if value < 0.01 else f"{value:.0%}")
    axes[1].yaxis.set_minor_formatter(lambda value, _: "")
    axes[2].plot(x, [line["learning_rate"] for line in steps], color=BLUE)
    axes[2].set(xlabel="epoch", ylabel="learning rate", ylim=(0, None))
    axes[2].grid(alpha=0.25)
    figure.suptitle(title)
    return _png(figure)


def _smoothed(values: NDArray[np.float64]) -> NDArray[np.float64]:
    width = max(1, len(values) // 40)
    padded = np.pad(values, (width // 2, width - 1 - width // 2), mode="edge")
    return np.convolve(padded, np.ones(width) / width, mode="valid")


def confusion_matrix(evaluation: Evaluation, class_names: tuple[str, ...]) -> bytes:
    """Counts of true against predicted classes, mistakes shaded; a PNG file's content."""
    counts = np.array(evaluation.confusion)
    mistakes = counts - np.diag(np.diag(counts))
    side = max(6.0, 0.55 * len(class_names) + 1.5)
    figure = Figure(figsize=(side, side), layout="constrained")
    axis = figure.subplots()
    axis.imshow(np.ma.masked_equal(mistakes, 0), cmap="Oranges", vmin=0, vmax=max(1, mistakes.max()) * 1.4)
    if len(class_names) <= 40:
        for row, column in np.argwhere(counts):
            correct = row == column
            text = f"{counts[row, column]:,}"
            axis.text(column, row, text, ha="center", va="center", color=BLUE if correct else "black", fontsize=9)
    ticks = range(len(class_names))
    axis.set(xticks=ticks, yticks=ticks, xticklabels=class_names, yticklabels=class_names)
    axis.set(xlabel="predicted", ylabel="true")
    total = f"{mistakes.sum():,} mistakes in {counts.sum():,} test images ({evaluation.accuracy:.2%} right)"
    axis.set_title(total, fontsize=11)
    return _png(figure)


def mistakes(
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    probabilities: NDArray[np.float32],
    class_names: tuple[str, ...],
) -> bytes:
    """The misread images, the most confident first, with what was read and what was meant; a PNG file's content.

    Args:
        images: uint8 [n, height, width].
        labels: int64 [n].
        probabilities: float32 [n, classes], of a model for these images.
    """
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
        axis.imshow(255 - images[index], cmap="gray", vmin=0, vmax=255)
        read, meant = class_names[predicted[index]], class_names[labels[index]]
        axis.set_title(f"{read} ({probabilities[index, predicted[index]]:.0%})\nis {meant}", fontsize=9)
    figure.suptitle(f"{len(worst)} of {len(wrong)} mistakes, the most confident first" if len(wrong) else "no mistakes")
    return _png(figure)


def contact_sheet(dataset: Dataset, augmentation: Augmentation, *, seed: int, columns: int = 8) -> bytes:
    """One training image of each class beside augmented versions of it, one an epoch; a PNG file's content."""
    _, first = np.unique(dataset.train_labels, return_index=True)
    examples = np.sort(first)[:20]
    examples = examples[np.argsort(dataset.train_labels[examples], kind="stable")]
    epoch = np.tile(np.arange(columns), len(examples))
    index = np.repeat(examples, columns)
    moves = augment.sample_transforms(augmentation, seed=seed, epoch=epoch, index=index, image_size=dataset.image_size)
    moved = augment.apply_transforms(dataset.train_images[index], *moves).numpy()
    moved = moved.reshape(len(examples), columns, *dataset.image_size)
    figure = Figure(figsize=(0.95 * (columns + 1), 0.95 * len(examples) + 0.9), layout="constrained")
    grid = figure.subplots(len(examples), columns + 1, squeeze=False)
    for axes, example, versions in zip(grid, examples, moved, strict=True):
        axes[0].imshow(255 - dataset.train_images[example], cmap="gray", vmin=0, vmax=255)
        for axis, version in zip(axes[1:], versions, strict=True):
            axis.imshow(1 - version, cmap="gray", vmin=0, vmax=1)
    for axis in grid.flat:
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_color("#dddddd")
    for axis in grid[:, 0]:
        axis.spines[:].set_color(BLUE)
    grid[0, 0].set_title("original", fontsize=9, color=BLUE)
    grid[0, 1].set_title("augmented", fontsize=9, loc="left")
    figure.suptitle(describe(augmentation), fontsize=10)
    return _png(figure)


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
    ]
    strengths = ", ".join(text for strength, text in parts if strength)
    return f"policy {augmentation.policy}: {strengths or 'images as they are'}"

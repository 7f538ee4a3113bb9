"""Labels as sets come with them, made class numbers from 0."""

from collections.abc import Callable, Mapping
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from .image_folder import natural

MOST_CLASSES = 10_000

Fail = Callable[[str], NoReturn]
Labels = Mapping[str, NDArray[np.generic]]  # by part


def class_numbers(
    labels: Labels, names: tuple[str, ...], fail: Fail
) -> tuple[dict[str, NDArray[np.int64]], tuple[str, ...], list[str]]:
    """The labels of both parts as class numbers, int64 [n] from 0 to the number of classes - 1, every one in use.

    Args:
        labels: class numbers [n] or [n, 1], one-hot rows [n, classes], or names [n].
        names: of the classes, if the set tells them.
        fail: raises DataError.

    Returns: the numbers; the classes' names; what was converted, as sentences.
    """
    columns = {part: _one_column(array) for part, array in labels.items()}
    notes: list[str] = []
    if all(array.dtype.kind in "USO" and array.ndim == 1 for array in columns.values()) and not names:
        columns, names = _numbered(columns, fail)
    if all(array.ndim == 2 for array in columns.values()):
        columns = {part: _of_rows(array, f"y_{part}", fail) for part, array in columns.items()}
        notes.append("labels were one-hot rows: made class numbers")
    numbers = {part: _whole_numbers(array, f"y_{part}", fail) for part, array in columns.items()}
    if not names and len(numbers["train"]) and (first := _counts_from(numbers["train"])):
        numbers = {part: array - first for part, array in numbers.items()}
        names = tuple(str(first + number) for number in range(int(numbers["train"].max()) + 1))
        notes.append(f"labels count from {first}: moved to count from 0, with their numbers as names")
    for part, array in numbers.items():
        _check_range(array, f"y_{part}", fail)
    names = names or tuple(map(str, range(int(numbers["train"].max(initial=0)) + 1)))
    return numbers, names, notes


def check_classes(labels: Mapping[str, NDArray[np.int64]], class_names: tuple[str, ...], fail: Fail) -> None:
    """Call `fail` if a class has no training image, or a label no class."""
    counts = np.bincount(labels["train"], minlength=len(class_names))
    if labels["test"].max() >= len(counts):
        fail(f"test label {labels['test'].max()} is out of range: the training labels are 0 to {len(counts) - 1}")
    if len(counts) > len(class_names):
        fail(f"training label {len(counts) - 1} is out of range: the set names {len(class_names)} classes")
    if len(counts) < 2 or not counts.all():
        empty = int(np.argmin(counts)) if len(counts) > 1 else 1
        name = class_names[empty] if empty < len(class_names) else empty
        fail(f"class {name} is empty: no training image has it; add some, or number the labels without gaps")


def _one_column(array: NDArray[np.generic]) -> NDArray[np.generic]:
    return array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array


def _numbered(labels: Labels, fail: Fail) -> tuple[dict[str, NDArray[np.generic]], tuple[str, ...]]:
    """Names as numbers, in natural order, 2 before 10."""
    texts = {part: [_text(name) for name in array.tolist()] for part, array in labels.items()}
    names = tuple(sorted(set(texts["train"]), key=natural))
    numbers = {name: number for number, name in enumerate(names)}
    if unknown := sorted(set(texts["test"]) - set(names)):
        fail(f"y_test has the label {unknown[0]!r}, which y_train does not have")
    return {part: np.array([numbers[name] for name in of]) for part, of in texts.items()}, names


def _text(name: object) -> str:
    return name.decode(errors="replace") if isinstance(name, bytes) else str(name)


def _of_rows(array: NDArray[np.generic], name: str, fail: Fail) -> NDArray[np.generic]:
    numeric = array.dtype.kind in "buif"
    if not numeric or not ((array == 0) | (array == 1)).all() or not (array.sum(axis=1) == 1).all():
        fail(
            f"{name} has shape {array.shape}, expected [n]: one class number for each image; of rows of scores take "
            "labels.argmax(axis=1)"
        )
    return array.argmax(axis=1)


def _whole_numbers(array: NDArray[np.generic], name: str, fail: Fail) -> NDArray[np.int64]:
    if array.ndim != 1:
        fail(f"{name} has shape {array.shape}, expected [n]: one class number for each image")
    if array.dtype.kind not in "buif":
        fail(f"{name} is {array.dtype}, expected integers, or names in both parts")
    if array.dtype.kind == "f" and not (np.isfinite(array).all() and (array == np.rint(array)).all()):
        fail(f"{name} has NaN or fractions, expected integers")
    return array.astype(np.int64)


def _counts_from(labels: NDArray[np.int64]) -> int:
    """The first label, if labels run from there without a gap; otherwise 0."""
    found = np.unique(labels)
    return int(found[0]) if found[0] > 0 and found[-1] - found[0] == len(found) - 1 > 0 else 0


def _check_range(labels: NDArray[np.int64], name: str, fail: Fail) -> None:
    if len(labels) and not 0 <= labels.min() <= labels.max() < MOST_CLASSES:
        bad = int(labels.min() if labels.min() < 0 else labels.max())
        fail(f"{name} has label {bad}, which is out of range: labels count from 0, one number for each class")

"""What moves the validation error: each field's effect, by least squares over a sweep's runs that went to the end."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .space import Choice, Range, Space
from .sweep import State, shown_value


@dataclass(frozen=True, slots=True)
class Effect:
    """How the error differs between two values of a field, all others alike."""

    field: str
    first: Any
    second: Any
    change: float  # of the share of validation images that are misread: negative is better
    error: float  # standard error of it


def effects(states: Sequence[State], space: Space) -> list[Effect]:
    """The effects, those that help most first; none if there are too few runs to tell.

    A range counts from its low end to its high one, a list from its first value to each other. Runs that ended early
    are left out, so that a sweep with `--no-asha` says most.
    """
    done = [state for state in states if state.status == "done"]
    columns = [(name, first, second) for name, values in space.items() for first, second in _pairs(values)]
    if len(done) < len(columns) + 2:
        return []
    design = np.array([[1.0, *(_share(space[name], state, name, to) for name, _, to in columns)] for state in done])
    if np.linalg.matrix_rank(design) < design.shape[1]:
        return []  # two fields were always changed together
    errors = np.array([1 - state.epochs[-1].accuracy for state in done])
    changes, deviations = _least_squares(design, errors)
    found = [Effect(*column, *figures) for *figures, column in zip(changes, deviations, columns, strict=True)]
    return sorted(found, key=lambda effect: effect.change)


def _pairs(values: Choice | Range) -> list[tuple[Any, Any]]:
    if isinstance(values, Range):
        return [(values.low, values.high)]
    return [(values.values[0], other) for other in values.values[1:]]


def _share(values: Choice | Range, state: State, name: str, second: Any) -> float:
    """How far a run's value lies from the first to the second: for a list 0 or 1."""
    value = state.trial.values[name]
    if isinstance(values, Choice):
        return float(value == second)
    if values.is_log:
        return math.log(value / values.low) / math.log(values.high / values.low)
    return float((value - values.low) / (values.high - values.low))


def _least_squares(design: NDArray[np.float64], errors: NDArray[np.float64]) -> tuple[list[float], list[float]]:
    """The coefficients but for the constant, and their standard errors."""
    inverse = np.linalg.inv(design.T @ design)
    coefficients = inverse @ design.T @ errors
    rest = errors - design @ coefficients
    variance = rest @ rest / (len(errors) - design.shape[1])
    return coefficients[1:].tolist(), np.sqrt(variance * np.diag(inverse))[1:].tolist()


def text(found: Sequence[Effect], num_runs: int) -> str:
    """The effects as lines of text for a terminal."""
    head = f"what moves the error on held-out images, by least squares over {num_runs} runs (points, ± standard error):"
    lines = [
        f"  {effect.field:<20} {shown_value(effect.first):>14} to {shown_value(effect.second):<14} "
        f"{100 * effect.change:+.3f} ± {100 * effect.error:.3f}"
        for effect in found
    ]
    return "\n".join([head, *lines])

"""A sweep as one picture: parallel coordinates, a line for each setting through its values to its validation loss."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..plots import GREY, drawable, png
from .space import Range, Space
from .sweep import shown_value
from .table import Row

COLOURS = colormaps["cividis"]  # which colour-blind readers can tell apart; dark is good
LABELS = 5  # on an axis of numbers


@dataclass(frozen=True, slots=True)
class Scale:
    """One vertical axis: where its values lie, from 0 at the bottom to 1, and the labels beside it."""

    title: str
    places: Mapping[Any, float]
    labels: Sequence[tuple[float, str]]


def parallel_coordinates(rows: Sequence[Row], space: Space, title: str) -> bytes:
    """A line for each setting: those that went to the end coloured by their loss, the others thin; a PNG's content."""
    shown = [row for row in rows if row.epochs and math.isfinite(row.loss)]
    scales = [_scale(name, [row.values[name] for row in shown], values) for name, values in space.items()]
    losses = _number_scale("validation loss (nats)", [row.loss for row in shown], is_log=True)
    figure = Figure(figsize=(max(6.0, 1.9 * (len(scales) + 1)), 4.6), layout="constrained")
    axis = figure.subplots()
    for number, scale in enumerate([*scales, losses]):
        _draw_axis(axis, number, scale)
    for row in reversed(shown):  # the best on top
        places = [scale.places[row.values[scale.title]] for scale in scales] + [losses.places[row.loss]]
        done = row.status == "done"
        colour = COLOURS(places[-1]) if done else GREY
        axis.plot(places, color=colour, linewidth=1.8 if done else 0.7, linestyle="-" if done else ":", alpha=0.9)
    axis.set(xlim=(-0.3, len(scales) + 0.6), ylim=(-0.06, 1.12))
    axis.axis("off")
    figure.suptitle(f"{title}: dark lines are good, dotted ones ended early", fontsize=10)
    return png(figure)


def _scale(name: str, drawn: Sequence[Any], values: Any) -> Scale:
    if isinstance(values, Range):
        return _number_scale(name, drawn, is_log=values.is_log)
    step = 1 / max(1, len(values.values) - 1)
    places = {value: number * step for number, value in enumerate(values.values)}
    names = drawable([shown_value(value) for value in values.values])
    return Scale(name, places, list(zip(places.values(), names, strict=True)))


def _number_scale(name: str, drawn: Sequence[float], *, is_log: bool) -> Scale:
    positions = {value: math.log(max(value, 1e-12)) if is_log else float(value) for value in drawn}
    low, high = min(positions.values()), max(positions.values())
    span = high - low or 1.0
    places = {value: (position - low) / span for value, position in positions.items()}
    marks = [low + span * number / (LABELS - 1) for number in range(LABELS)]
    labels = [((mark - low) / span, f"{math.exp(mark) if is_log else mark:.3g}") for mark in marks]
    return Scale(name, places, labels)


def _draw_axis(axis: Axes, number: int, scale: Scale) -> None:
    axis.plot([number, number], [0, 1], color="black", linewidth=0.8)
    axis.text(number, 1.05, scale.title, ha="center", fontsize=9)
    for place, label in scale.labels:
        # On white, so that a line behind it leaves it legible.
        white = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.8}
        axis.text(number + 0.04, place, label, va="center", fontsize=7, color="black", bbox=white, zorder=3)

"""What came of a sweep: a table of its settings, best first, for a terminal and as files."""

import csv
import io
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .sweep import State, Sweep, shown_value

MOST_SHOWN = 30  # settings on the terminal; the files have all
OUTCOMES = ("done", "stopped", "unfinished", "diverged", "failed")  # from what counts most


@dataclass(frozen=True, slots=True)
class Row:
    """One setting, with the runs of all its seeds."""

    states: Sequence[State]

    @property
    def values(self) -> dict[str, Any]:
        """What the sweep sets."""
        return self.states[0].trial.values

    @property
    def status(self) -> str:
        """The worst of its runs'."""
        return max((state.status for state in self.states), key=OUTCOMES.index)

    @property
    def epochs(self) -> int:
        """Epochs that all of its runs have."""
        return min(len(state.epochs) for state in self.states)

    @property
    def loss(self) -> float:
        """Mean validation loss at the last epoch that all of its runs have, in nats; infinite if there is none."""
        return float(np.mean(self._losses())) if self.epochs else math.inf

    @property
    def loss_error(self) -> float | None:
        """Standard error of the mean loss; None for one run."""
        losses = self._losses()
        return float(np.std(losses, ddof=1) / math.sqrt(len(losses))) if len(losses) > 1 else None

    @property
    def accuracy(self) -> float | None:
        """Mean validation accuracy at the same epoch; None if there is none."""
        return (
            float(np.mean([state.epochs[self.epochs - 1].accuracy for state in self.states])) if self.epochs else None
        )

    def _losses(self) -> list[float]:
        return [state.epochs[self.epochs - 1].loss for state in self.states] if self.epochs else []


def rows(states: Sequence[State]) -> list[Row]:
    """The settings, best first: those that went to the end before those that did not, by their loss."""
    by_setting: dict[int, list[State]] = {}
    for state in states:
        by_setting.setdefault(state.trial.number, []).append(state)
    return sorted(map(Row, by_setting.values()), key=_rank)


def _rank(row: Row) -> tuple[int, int, float]:
    return OUTCOMES.index(row.status), 0 if row.status == "done" else -row.epochs, row.loss


def text(found: Sequence[Row]) -> str:
    """The table for a terminal."""
    names = list(found[0].values)
    head = ["run", *names, "epochs", "validation loss", "accuracy", ""]
    lines = [head, *(_cells(row, names) for row in found[:MOST_SHOWN])]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    shown = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    more = len(found) - MOST_SHOWN
    return "\n".join([*shown, *([f"and {more} more"] if more > 0 else [])])


def _cells(row: Row, names: list[str]) -> list[str]:
    runs = row.states[0].trial.run + (f" to -seed{len(row.states) - 1}" if len(row.states) > 1 else "")
    error = f" ± {row.loss_error:.4f}" if row.loss_error is not None else ""
    return [
        runs,
        *(shown_value(row.values[name]) for name in names),
        f"{row.epochs}/{row.states[0].trial.config.epochs}",
        f"{row.loss:.4f}{error}" if row.epochs else "-",
        f"{row.accuracy:.2%}" if row.accuracy is not None else "-",
        "" if row.status == "done" else row.status,
    ]


def write(sweep: Sweep, states: Sequence[State]) -> None:
    """Put the table into the sweep's folder, one line for each run, as CSV and as JSON."""
    records = [_record(state) for row in rows(states) for state in row.states]
    sweep.folder.write_json("table.json", records)
    sheet = io.StringIO()
    writer = csv.DictWriter(sheet, fieldnames=list(records[0]))
    writer.writeheader()
    writer.writerows({name: _plain(value) for name, value in record.items()} for record in records)
    sweep.folder.write("table.csv", sheet.getvalue().encode())


def _record(state: State) -> dict[str, Any]:
    last = state.epochs[-1] if state.epochs else None
    values = json.loads(json.dumps(state.trial.values))  # lists for tuples
    return {
        "run": state.trial.run,
        "setting": state.trial.number,
        "seed": state.trial.config.seed,
        **{name: value for name, value in values.items()},
        "epochs": len(state.epochs),
        "of_epochs": state.trial.config.epochs,
        "validation_loss": last.loss if last else None,
        "validation_accuracy": last.accuracy if last else None,
        "status": state.status,
        "why": state.why,
    }


def _plain(value: Any) -> Any:
    """A value as a cell has it: drawn numbers whole, lists as `--over` takes them."""
    return shown_value(value) if isinstance(value, list) else value

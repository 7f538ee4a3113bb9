"""One trial, in the process that Ray gives it: a run, trained by the loop that `train` has, which reports its epochs.

TensorFlow is imported late here, since a trial may say which of its kernels it computes by.
"""

import contextlib
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ray import tune

from .. import quiet, runs
from ..data import Dataset
from ..progress import Event, Validated
from ..storage import RunFolder
from .sweep import Epoch, Sweep, Trial, epochs_of, mark

LONGEST_REASON = 300  # characters


@dataclass(frozen=True, slots=True)
class Shared:
    """What each trial's process is told of the sweep."""

    sweep: Sweep
    trials: dict[str, Trial]
    num_gpus: int  # that each process may take: whole ones, which others may share


class _Over(Exception):
    """The trial has all of its epochs; the test set, which the loop would come to next, is not the sweep's."""


def train_trial(parameters: dict[str, Any], *, dataset: Dataset, sweep: Shared) -> None:
    """What Ray runs for each trial: go on with its run, or begin it, and report each epoch."""
    trial = sweep.trials[parameters["run"]]
    with contextlib.suppress(_Over):
        _train(trial, sweep, dataset)


def _train(trial: Trial, shared: Shared, dataset: Dataset) -> None:
    sweep = shared.sweep
    for epoch in epochs_of(RunFolder(sweep.folder.storage, trial.run)):
        _report(trial, epoch, again=True)
    quiet.import_tensorflow(onednn=trial.config.onednn)
    from .. import job  # with TensorFlow, in the trial's process only
    from ..loop import TrainingDiverged

    run = runs.begin(trial.config, sweep.job_of(trial), ignore, dataset=dataset)
    epochs = Epochs(functools.partial(_report, trial, again=False))
    try:
        job.train_here(run, epochs.emit, on_checkpoint=epochs.on_checkpoint, num_gpus=shared.num_gpus)
    except TrainingDiverged as error:
        mark(sweep.folder, trial.run, "diverged", str(error)[:LONGEST_REASON])


def _report(trial: Trial, epoch: Epoch, *, again: bool) -> None:
    tune.report(
        {
            "epoch": epoch.number,
            "validation_loss": epoch.loss,
            "validation_accuracy": epoch.accuracy,
            "again": again,  # an earlier start of the sweep has shown it
        }
    )
    if epoch.number >= trial.config.epochs:
        raise _Over


class Epochs:
    """Reports an epoch once its checkpoint is written: ASHA may end the trial while it reports."""

    def __init__(self, report: Callable[[Epoch], None]) -> None:
        self._report = report
        self._waiting: Epoch | None = None

    def emit(self, event: Event) -> None:
        """Take the loop's events."""
        if isinstance(event, Validated):
            self._waiting = Epoch(event.epoch, event.loss, event.accuracy)

    def on_checkpoint(self, path: str | None, metrics: dict[str, float]) -> None:
        """Take note of a checkpoint of the loop's."""
        if self._waiting:
            epoch, self._waiting = self._waiting, None
            self._report(epoch)


def ignore(event: Event) -> None:
    """Take an event that nobody is shown."""

"""A sweep's trials, told to a tracker by the driver: the trials' processes need neither its client nor its secrets.

What a trial has measured the driver reads in the trial's folder, epoch by epoch.
"""

import json
from collections.abc import Callable

from .. import report
from ..data import Dataset
from ..progress import Event, Logged
from ..runs import Run
from ..storage import RunFolder
from ..tracking.feed import Feed
from ..tracking.mlflow import METRICS
from ..tracking.tracker import Status
from ..tracking.trackers import STOP_S, feeds_of
from .sweep import Sweep, Trial

NO_STEP = -1


class TrackedTrials:
    """The trackers of every trial that is under way."""

    def __init__(
        self,
        sweep: Sweep,
        dataset: Dataset,
        emit: Callable[[Event], None],
        *,
        feeds_of: Callable[..., list[Feed]] = feeds_of,
    ) -> None:
        """Nothing is told yet.

        Args:
            emit: takes messages for the display.
            feeds_of: has what hands a run's events to its trackers, as `trackers.feeds_of` does.
        """
        self._sweep, self._dataset, self._emit, self._feeds_for = sweep, dataset, emit, feeds_of
        self._feeds: dict[str, list[Feed]] = {}
        self._told: dict[str, int] = {}  # the last step of each trial
        self._origin: dict[str, str] = {}

    def measured(self, trial: Trial) -> None:
        """Tell what the trial has measured since."""
        feeds = self._feeds_of(trial)
        last = self._told.get(trial.run, NO_STEP)
        lines = [json.loads(line) for line in self._folder(trial).read(METRICS).splitlines()] if feeds else []
        for line in lines:
            if line["step"] > last:
                figures = {name: value for name, value in line.items() if name not in ("step", "epoch")}
                for feed in feeds:
                    feed.put(Logged(line["step"], figures))
        self._told[trial.run] = max((line["step"] for line in lines), default=last)

    def ended(self, trial: Trial, status: Status) -> None:
        """Tell that the trial is over."""
        for feed in self._feeds.pop(trial.run, []):
            feed.close(status, timeout_s=STOP_S)

    def close(self) -> None:
        """Tell that what is under way was stopped."""
        for feeds in self._feeds.values():
            for feed in feeds:
                feed.close("stopped", timeout_s=STOP_S)
        self._feeds.clear()

    def _folder(self, trial: Trial) -> RunFolder:
        return RunFolder(self._sweep.folder.storage, trial.run)

    def _feeds_of(self, trial: Trial) -> list[Feed]:
        if trial.run not in self._feeds:
            run = Run(trial.config, self._sweep.job_of(trial), self._dataset, self._folder(trial))
            # Of the data, which are the same for all trials, a checksum: taken once.
            self._origin = self._origin or {**report.origin(run), "sweep": self._sweep.folder.name}
            self._feeds[trial.run] = self._feeds_for(run, self._emit, self._origin, tensorboard=False)
        return self._feeds[trial.run]

"""Trials on Ray Tune: each is a run in a process of its own, trained by the loop that `train` has.

Tune gives out CPUs and GPUs and starts what died again; its ASHA says which trials end early. What a sweep knows lies
in its trials' folders and not in Tune's: Tune's own snapshots leave out what ASHA has seen, so a sweep that goes on
tells it anew.
https://github.com/ray-project/ray/blob/ray-2.60.0/python/ray/tune/execution/tune_controller.py (__getstate__)
"""

import contextlib
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler

from ..cluster.connection import connected
from ..cluster.launch import TrainingFailed
from ..cluster.nodes import ClusterTooSmall, node_resources
from ..data import Dataset
from ..progress import Event, Message
from ..threads import in_thread
from .sweep import State, Sweep, Trial, mark, shown, state_of, states
from .tracked import TrackedTrials
from .trial import LONGEST_REASON, Shared, ignore, train_trial

RAY_FOLDER = "ray"  # in the sweep's folder, for what Tune writes
# Tune's own tables of results are written once more by callbacks that nobody asked for.
TUNE_DEFAULTS = {"TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1", "RAY_AIR_NEW_OUTPUT": "0"}


def train_all(sweep: Sweep, dataset: Dataset, emit: Callable[[Event], None]) -> None:
    """Train all trials that are not over, each to its end or until ASHA ends it.

    Raises: ClusterTooSmall, ClusterUnreachable, TrainingFailed.
    """
    found = states(sweep)
    waiting = [state.trial for state in found if not state.is_over]
    if not waiting:
        return
    os.environ.update({name: value for name, value in TUNE_DEFAULTS.items() if name not in os.environ})
    tracked = TrackedTrials(sweep, dataset, emit)
    ray = connected(sweep.config.address, onednn=sweep.base.onednn, verbose=sweep.config.verbose)
    with contextlib.closing(tracked), ray:
        resources = _resources(sweep)
        sweep.folder.remove(RAY_FOLDER)  # of a start that was killed
        by_name = {trial.run: trial for trial in waiting}
        tell = Tell(sweep, by_name, emit, tracked)
        tuner = _tuner(sweep, dataset, by_name, scheduler_of(sweep, found), resources, tell)
        try:
            in_thread(tuner.fit)
        except Exception as error:
            resume = sweep.config.resume_command()
            raise TrainingFailed(f"Ray Tune failed: {error}; go on with: {resume}") from error
    sweep.folder.remove(RAY_FOLDER)


def _resources(sweep: Sweep) -> dict[str, float]:
    """What each trial gets, as Tune names it; raises ClusterTooSmall if no node has that."""
    nodes = node_resources()
    most = {kind: max((node.get(kind, 0) for node in nodes), default=0) for kind in ("CPU", "GPU")}
    cpus, gpus = sweep.config.cpus_per_trial, sweep.config.gpus_per_trial
    gpus = min(most["GPU"], 1.0) if gpus is None else gpus
    if any(node.get("CPU", 0) >= cpus and node.get("GPU", 0) >= gpus for node in nodes):
        return {"cpu": cpus, "gpu": gpus}
    raise ClusterTooSmall(
        f"a trial wants {cpus} CPUs and {gpus:g} GPUs, and no node has that (at most {most['CPU']:g} CPUs, "
        f"{most['GPU']:g} GPUs); give less by --cpus-per-trial and --gpus-per-trial"
    )


def _tuner(
    sweep: Sweep,
    dataset: Dataset,
    by_name: dict[str, Trial],
    scheduler: TrialScheduler,
    resources: dict[str, float],
    tell: "Tell",
) -> tune.Tuner:
    folder = sweep.folder
    shared = Shared(sweep, by_name, math.ceil(resources["gpu"]))
    trainable = tune.with_parameters(train_trial, dataset=dataset, sweep=shared)
    return tune.Tuner(
        tune.with_resources(trainable, resources),
        param_space={"run": tune.grid_search(list(by_name))},
        tune_config=tune.TuneConfig(
            scheduler=scheduler,
            reuse_actors=False,  # TensorFlow's threads and devices are set once in a process
            trial_name_creator=_run_of,
            trial_dirname_creator=_run_of,
        ),
        run_config=tune.RunConfig(
            name=RAY_FOLDER,
            storage_path=folder.path,
            storage_filesystem=folder.filesystem,
            failure_config=tune.FailureConfig(max_failures=sweep.config.max_failures),
            callbacks=[tell],
            verbose=1 if sweep.config.verbose else 0,
        ),
    )


def _run_of(trial: Any) -> str:
    return str(trial.config["run"])


def scheduler_of(sweep: Sweep, found: Sequence[State]) -> TrialScheduler:
    """What ends trials early, if anything does; it knows what earlier starts of the sweep have measured."""
    if not sweep.config.asha:
        return FIFOScheduler()
    asha = ASHAScheduler(
        time_attr="epoch",
        metric="validation_loss",
        mode="min",
        max_t=max(state.trial.config.epochs for state in found),
        grace_period=sweep.config.grace_epochs,
        reduction_factor=sweep.config.reduction_factor,
    )
    for state in found:
        if state.is_over:
            _tell(asha, state)
    return asha


@dataclass(frozen=True, slots=True)
class Past:
    """A trial that is over, as ASHA asks for it."""

    trial_id: str


def _tell(asha: ASHAScheduler, state: State) -> None:
    """Have ASHA know what an earlier start of the sweep has measured."""
    past = Past(state.trial.run)
    asha.on_trial_add(None, past)
    for epoch in state.epochs:
        asha.on_trial_result(None, past, {"epoch": epoch.number, "validation_loss": epoch.loss})
    asha.on_trial_remove(None, past)


class Tell(tune.Callback):
    """Tells the driver's display and trackers how trials come along, and writes down which end early."""

    def __init__(
        self, sweep: Sweep, trials: dict[str, Trial], emit: Callable[[Event], None], tracked: TrackedTrials
    ) -> None:
        self._sweep, self._trials, self._emit, self._tracked = sweep, trials, emit, tracked

    def __getstate__(self) -> dict[str, Any]:
        # Tune writes all that it was given into its folder, and neither a display nor a thread can be pickled.
        return self.__dict__ | {"_emit": ignore, "_tracked": None}

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **_: Any) -> None:
        """Show an epoch."""
        if result["again"]:
            return
        ours = self._trials[_run_of(trial)]
        self._tracked.measured(ours)
        self._emit(
            Message(
                f"{ours.run}  epoch {result['epoch']}/{ours.config.epochs}  validation loss "
                f"{result['validation_loss']:.4f}  validation accuracy {result['validation_accuracy']:.2%}  "
                f"{shown(ours.values)}"
            )
        )

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        """Write down that a trial was ended early, unless it says why itself."""
        state = state_of(self._sweep, self._trials[_run_of(trial)])
        self._tracked.ended(state.trial, "finished" if state.status == "done" else "stopped")
        if state.is_over:
            return
        mark(self._sweep.folder, state.trial.run, "stopped")
        self._emit(Message(f"{state.trial.run}  stopped at epoch {len(state.epochs)}/{state.trial.config.epochs}"))

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        """Write down that a trial has failed for good."""
        run, why = _run_of(trial), _reason(trial)
        mark(self._sweep.folder, run, "failed", why)
        self._tracked.ended(self._trials[run], "failed")
        self._emit(Message(f"{run}  failed: {why}"))


def _reason(trial: Any) -> str:
    path = trial.error_file
    lines = Path(path).read_text().strip().splitlines() if path and Path(path).exists() else []
    return (lines[-1].strip() if lines else "its process ended")[:LONGEST_REASON]

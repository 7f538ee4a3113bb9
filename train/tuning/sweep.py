"""A sweep: its settings, its trials, and its folder, `<storage>/<name>/`.

    sweep.json                     how it was begun, so that it can go on
    trials/<run>.json              a trial that came to an end early: stopped or failed, and why
    table.csv, table.json          all trials
    parallel_coordinates.png

Each trial is a run of its own, `<storage>/<name>-<trial>/`, which `train --resume` and `publish` take as any other.
"""

import dataclasses
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any

import tyro

from ..config import JobConfig, ReadOptions, TrainConfig, check, check_track, program
from ..data.sources import READ_OPTIONS
from ..progress import Event, Message
from ..runs import RunError, whole
from ..storage import RunFolder
from .space import parse, settings, with_values

FILE = "sweep.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepConfig(ReadOptions):
    """What a sweep varies, how many trials it makes, and where they run."""

    over: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()  # FIELD=VALUES, once for each field that varies
    trials: int | None = None  # settings to draw; every combination if not given, of lists only
    seeds: int = 1  # runs of each setting, with the seeds from --seed on; the table has their mean and its error
    asha: bool = True  # end trials early that are worse than others were at the same epoch
    grace_epochs: int = 1  # epochs that each trial gets at the least
    reduction_factor: float = 3.0  # of so many trials at the same epoch one goes on
    cpus_per_trial: int = 1  # CPUs for each trial
    gpus_per_trial: float | None = None  # GPUs for each trial, 0.25 too; if not given, one where there are any
    name: str = ""  # the sweep's name; `sweep` and the time if not given
    storage: str = "runs"  # folder or URI (s3://, gs://, ...) for the runs
    resume: str = ""  # name of an unfinished sweep to go on with, with its own settings
    data: str | None = None  # IDX folder, .npz or image folder, or a URI of one; MNIST if not given
    model_dir: str = "models"  # where a trial that is finished by --resume is published
    model_name: str = "mnist"  # its name there
    track: str = ""  # tell each trial to MLflow too: mlflow, or mlflow:URI of a server or a store, without a password
    address: str = "local"  # Ray cluster: local starts one here; auto, HOST:PORT or ray://HOST:PORT join one
    max_failures: int = 3  # of a trial's process, after which the trial is given up
    verbose: bool = False  # show the logs of Ray and TensorFlow, and whole tracebacks

    def __post_init__(self) -> None:
        ReadOptions.__post_init__(self)
        least = {
            "trials": 1,
            "seeds": 1,
            "grace_epochs": 1,
            "cpus_per_trial": 1,
            "gpus_per_trial": 0,
            "max_failures": 0,
        }
        for name, number in least.items():
            value = getattr(self, name)
            check(self, name, value is None or value >= number, f"{number} or more")
        check_track(self.track)
        check(self, "reduction_factor", self.reduction_factor > 1, "a number above 1")

    def resume_command(self) -> str:
        """What to type to go on with the sweep."""
        default = SweepConfig()
        places = ("storage", "track", "address", "cpus_per_trial", "gpus_per_trial")
        changed = {name: getattr(self, name) for name in places if getattr(self, name) != getattr(default, name)}
        flags = [f"--{name.replace('_', '-')} {value}" for name, value in changed.items()]
        return " ".join([f"{program()} sweep --resume {self.name}", *flags])


@dataclass(frozen=True, slots=True)
class Trial:
    """One run of a sweep."""

    run: str  # its name
    number: int  # of its setting
    values: dict[str, Any]  # what the sweep sets
    config: TrainConfig


@dataclass(frozen=True, slots=True)
class Sweep:
    """A sweep that was begun."""

    base: TrainConfig
    config: SweepConfig
    folder: RunFolder

    def trials(self) -> list[Trial]:
        """All of its trials; raises ValueError if the config cannot have what one of them sets."""
        space = parse(self.config.over, self.base)
        each = settings(space, trials=self.config.trials, seed=self.base.seed)
        return [trial for number, values in enumerate(each) for trial in self._seeds(number, values)]

    def _seeds(self, number: int, values: dict[str, Any]) -> Iterator[Trial]:
        try:
            config = with_values(self.base, values)
        except ValueError as error:
            raise ValueError(f"trial {number} would set {shown(values)}: {error}") from None
        for seed in range(self.config.seeds):
            suffix = f"-seed{seed}" if self.config.seeds > 1 else ""
            run = f"{self.folder.name}-{number:03d}{suffix}"
            yield Trial(run, number, values, dataclasses.replace(config, seed=self.base.seed + seed))

    def job_of(self, trial: Trial) -> JobConfig:
        """Where a trial runs: in the process that Ray gives it."""
        ours = self.config
        return JobConfig(
            name=trial.run,
            storage=self.folder.storage,
            data=ours.data,
            model_dir=ours.model_dir,
            model_name=ours.model_name,
            track=ours.track,
            in_process=True,
            cpus_per_worker=ours.cpus_per_trial,
            **{name: getattr(ours, name) for name in READ_OPTIONS},
        )


def shown(values: dict[str, Any]) -> str:
    """Settings on one line, as `--over` takes them."""
    return " ".join(f"{name}={shown_value(value)}" for name, value in values.items())


def shown_value(value: Any) -> str:
    """A value as `--over` takes it."""
    if isinstance(value, tuple | list):
        return "x".join(map(shown_value, value))
    return f"{value:g}" if isinstance(value, float) else str(value).lower()


def begin(base: TrainConfig, config: SweepConfig, emit: Callable[[Event], None]) -> Sweep:
    """Open the sweep `config.name`: a new one, or one that was begun before and goes on.

    Raises: RunError; ValueError if its settings make no sense.
    """
    folder = RunFolder(config.storage, config.name)
    if config.resume:
        sweep = _resumed(folder, config)
    else:
        # Trials run in folders of Ray's.
        data = whole(config.data) if config.data else None
        sweep = Sweep(base, dataclasses.replace(config, data=data, model_dir=whole(config.model_dir)), folder)
        if not base.validation_size:
            raise ValueError("--validation-size 0 holds no images out, and a sweep compares trials by these")
        _claim(sweep, emit)
    trials = sweep.trials()
    epochs = max(trial.config.epochs for trial in trials)
    if config.asha and sweep.config.grace_epochs > epochs:
        raise ValueError(f"--grace-epochs {sweep.config.grace_epochs} is more than the trials' epochs, {epochs}")
    return sweep


# What a sweep is, beside what its trials share; the rest is where it runs.
_OWN = (
    "over",
    "trials",
    "seeds",
    "asha",
    "grace_epochs",
    "reduction_factor",
    "data",
    "model_dir",
    "model_name",
    *READ_OPTIONS,
)


def _claim(sweep: Sweep, emit: Callable[[Event], None]) -> None:
    sweep.trials()  # before anything is written
    ours = _to_json(sweep)
    if sweep.folder.exists("config.json"):
        raise RunError(f"{sweep.folder.name!r} is a run, and no sweep; choose another --name")
    if sweep.folder.create_json(FILE, ours):
        return
    stored = sweep.folder.read_json(FILE)
    different = [
        f"{name}={part.get(name)!r} then, {now[name]!r} now"
        for part, now in ((stored["sweep"], ours["sweep"]), (stored["train"], ours["train"]))
        for name in now
        if part.get(name) != now[name] and name != "model_dir"
    ]
    if different:
        raise RunError(
            f"sweep {sweep.folder.name!r} was begun with other settings ({'; '.join(different)}); go on with them by "
            f"`{sweep.config.resume_command()}`, or choose another --name"
        )
    emit(Message(f"sweep {sweep.folder.name} was begun before; going on"))


def _to_json(sweep: Sweep) -> dict[str, Any]:
    own = {name: getattr(sweep.config, name) for name in _OWN}
    values = {"train": sweep.base.to_json(), "sweep": own}
    parsed: dict[str, Any] = json.loads(json.dumps(values))  # lists for tuples, as they are read back
    return parsed


def _resumed(folder: RunFolder, config: SweepConfig) -> Sweep:
    if not folder.exists(FILE):
        sweeps = [name for name in folder.siblings() if RunFolder(config.storage, name).exists(FILE)]
        raise RunError(f"there is no sweep {folder.name!r} in {config.storage}; it has: {', '.join(sweeps) or 'none'}")
    stored = folder.read_json(FILE)
    own = stored["sweep"] | {"over": tuple(stored["sweep"]["over"])}
    if config.trials and own["trials"]:
        own["trials"] = max(config.trials, own["trials"])
    if own["trials"] != stored["sweep"]["trials"]:
        folder.write_json(FILE, stored | {"sweep": own})
    return Sweep(TrainConfig.from_json(stored["train"]), dataclasses.replace(config, **own), folder)


def check_data(sweep: Sweep, checksum: str) -> None:
    """Write down which data a new sweep is about; raises RunError if one that goes on has others now."""
    stored = sweep.folder.read_json(FILE)
    if "data_sha256" not in stored:
        sweep.folder.write_json(FILE, stored | {"data_sha256": checksum})
    elif stored["data_sha256"] != checksum:
        raise RunError(
            f"sweep {sweep.folder.name!r} was begun with other data; put these back, or choose another --name"
        )


def mark(folder: RunFolder, run: str, status: str, why: str = "") -> None:
    """Write down that a trial came to an end before its last epoch."""
    folder.write_json(f"trials/{run}.json", {"status": status, "why": why})


@dataclass(frozen=True, slots=True)
class Epoch:
    """A trial's measurement at an epoch's end, on the images that it holds out."""

    number: int  # from 1
    loss: float
    accuracy: float


@dataclass(frozen=True, slots=True)
class State:
    """How far a trial has come."""

    trial: Trial
    epochs: list[Epoch]
    status: str  # done, stopped, diverged, failed or unfinished
    why: str = ""  # it diverged or failed

    @property
    def is_over(self) -> bool:
        """Whether the sweep is done with it; what made one fail may be mended when the sweep goes on."""
        return self.status in ("done", "stopped", "diverged")

    @property
    def loss(self) -> float:
        """Its last validation loss, in nats; infinite if there is none."""
        return self.epochs[-1].loss if self.epochs else math.inf


def states(sweep: Sweep) -> list[State]:
    """How far each trial has come, by what lies in the folders."""
    return [state_of(sweep, trial) for trial in sweep.trials()]


def state_of(sweep: Sweep, trial: Trial) -> State:
    """How far one trial has come."""
    epochs = epochs_of(RunFolder(sweep.folder.storage, trial.run))
    if len(epochs) >= trial.config.epochs:
        return State(trial, epochs, "done")
    marker = f"trials/{trial.run}.json"
    if sweep.folder.exists(marker):
        marked = sweep.folder.read_json(marker)
        return State(trial, epochs, marked["status"], marked["why"])
    return State(trial, epochs, "unfinished")


def epochs_of(folder: RunFolder) -> list[Epoch]:
    """What a run measured at the end of each epoch so far."""
    if not folder.exists("metrics.jsonl"):
        return []
    lines = map(json.loads, folder.read("metrics.jsonl").splitlines())
    measured = [line for line in lines if "validation_loss" in line]
    return [
        Epoch(number, line["validation_loss"], line["validation_accuracy"])
        for number, line in enumerate(measured, start=1)
    ]

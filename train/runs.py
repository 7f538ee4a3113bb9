"""A run: begun, gone on with, or opened again. `config.json` in its folder says what it trains, and on what data."""

import dataclasses
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import data
from .config import JobConfig, TrainConfig
from .data import Dataset
from .data.shards import check_training_part, is_remote
from .data.sources import READ_OPTIONS
from .progress import Event, Message
from .storage import RunFolder


class RunError(RuntimeError):
    """The run cannot be begun, gone on with or published; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Run:
    """What a job works on."""

    config: TrainConfig
    job: JobConfig
    dataset: Dataset  # whole: the loop holds the validation images out
    folder: RunFolder


def begin(
    config: TrainConfig,
    job: JobConfig,
    emit: Callable[[Event], None],
    *,
    by_machine: frozenset[str] = frozenset(),
    fit: Callable[[TrainConfig, Dataset], TrainConfig] | None = None,
    dataset: Dataset | None = None,
) -> Run:
    """Open the run `job.name` to train it: a new one, or one that was begun before and goes on.

    Args:
        emit: takes messages for the display.
        by_machine: the fields of `config` that this machine chose and nobody asked for; a run that was begun with other
            values of these goes on with those.
        fit: settles the config of a new run once its data are read.
        dataset: the data of `job`, if they are read already.

    Raises: RunError, data.DataError.
    """
    _check_kept(job)
    folder = RunFolder(job.storage, job.name)
    if job.begin_anew:
        _forget(folder)
    is_new = not folder.exists("config.json")
    config, job = _settle(folder, config, job, emit, by_machine=by_machine)
    dataset = dataset or data.load(job.data, job)
    for note in dataset.notes:
        emit(Message(f"{dataset.source}: {note}"))
    if not is_remote(dataset):  # what machines fetch from a bucket, each of them checks
        check_training_part(dataset, lambda text: emit(Message(text)))
    if is_new and fit:
        config = fit(config, dataset)
    emit(Message(f"run {folder.name}: recipe {config.recipe}, {config.epochs} epochs, files in {folder}/"))
    run = Run(config, job, dataset, folder)
    _claim(run)
    return run


def reopen(name: str, storage: str) -> Run:
    """Open the run `name` as it was begun, whether it is complete or not.

    Raises: RunError, data.DataError.
    """
    folder = RunFolder(storage, name)
    if not folder.exists("config.json"):
        raise RunError(f"there is no run {name!r} in {storage}; it has: {', '.join(folder.siblings()) or 'none'}")
    stored = folder.read_json("config.json")
    job = _as_begun(JobConfig(name=name, storage=storage), stored["job"])
    dataset = data.load(job.data, job)
    if dataset.checksum() != stored["job"]["data_sha256"]:
        raise RunError(
            f"{job.data or 'MNIST'} is not what run {name!r} was trained on any more; put the old data back there"
        )
    return Run(TrainConfig.from_json(stored["train"]), job, dataset, folder)


def _check_kept(job: JobConfig) -> None:
    """Refuse to write into the folder of a submitted Ray job, which Ray deletes when the job ends."""
    if "/runtime_resources/working_dir_files/" not in f"{Path.cwd()}/":
        return
    for flag, place in (("--storage", job.storage), ("--model-dir", job.model_dir)):
        if "://" not in place and not Path(place).is_absolute():
            raise RunError(
                f"{flag} {place} would lie in this submitted job's own folder, which Ray deletes at its end; "
                "give a whole path on a disk that all nodes mount, or a URI such as s3://bucket/path"
            )


def _forget(folder: RunFolder) -> None:
    """Delete the settings of a run that has no checkpoint; raises RunError if it has one."""
    if folder.names("checkpoints"):
        raise RunError(
            f"run {folder.name!r} has checkpoints, which --begin-anew would leave without their settings; delete "
            f"{folder}/ if nobody needs them, or choose another --name"
        )
    folder.remove("config.json")


def _settle(
    folder: RunFolder, config: TrainConfig, job: JobConfig, emit: Callable[[Event], None], *, by_machine: frozenset[str]
) -> tuple[TrainConfig, JobConfig]:
    """The settings that count: the run's own if it was begun before."""
    if not folder.exists("config.json"):
        if job.resume:
            names = ", ".join(folder.siblings()) or "none"
            raise RunError(f"there is no run {job.name!r} to resume in {job.storage}; it has: {names}")
        return config, job
    stored = folder.read_json("config.json")
    began = TrainConfig.from_json(stored["train"])
    if folder.exists("report.json") and "published" in folder.read_json("report.json"):
        raise RunError(
            f"run {folder.name!r} is complete (see {folder}/report.json); publish it again with "
            f"`{job.publish_command()}`, or train anew under another --name"
        )
    if job.resume:
        return began, _as_begun(job, stored["job"])
    config = dataclasses.replace(config, **{name: getattr(began, name) for name in by_machine})
    different = [
        f"{field.name}={getattr(began, field.name)!r} then, {getattr(config, field.name)!r} now"
        for field in dataclasses.fields(TrainConfig)
        if getattr(began, field.name) != getattr(config, field.name)
    ]
    if different:
        raise RunError(
            f"run {folder.name!r} was begun with other settings ({'; '.join(different)}); "
            f"go on with them by `{job.resume_command()}`, or choose another --name{_or_anew(folder)}"
        )
    emit(Message(f"run {folder.name} was begun before; going on"))
    return config, job


def _or_anew(folder: RunFolder) -> str:
    no_step = not folder.names("checkpoints")
    return "; it has no checkpoint, so --begin-anew forgets it, unless it still runs somewhere" if no_step else ""


def _as_begun(job: JobConfig, stored: dict[str, Any]) -> JobConfig:
    """`job` with what the run was begun with, but for another --model-dir that was asked for now."""
    return dataclasses.replace(
        job,
        data=stored["data"],
        **{name: stored[name] for name in READ_OPTIONS if name in stored},  # version 0.1 had none
        model_name=stored["model_name"],
        model_dir=stored["model_dir"] if job.model_dir == JobConfig().model_dir else job.model_dir,
        publish=stored["publish"] and job.publish,
    )


def whole(path: str | Path) -> str:
    """A path that means the same from every folder; a URI as it is."""
    return str(path) if "://" in str(path) else str(Path(path).expanduser().absolute())


def _claim(run: Run) -> None:
    """Write the run's settings down, or check that they and its data are those it was begun with."""
    config, job, name = run.config, run.job, run.folder.name
    held_out = run.dataset.held_out(config.validation_size, config.seed)
    settings = {
        "data": whole(job.data) if job.data else None,
        **{name: getattr(job, name) for name in READ_OPTIONS},
        "data_sha256": run.dataset.checksum(),
        "held_out_sha256": hashlib.sha256(held_out.astype("<i8").tobytes()).hexdigest(),
        "model_dir": whole(job.model_dir),
        "model_name": job.model_name,
        "publish": job.publish,
    }
    if run.folder.create_json("config.json", {"train": config.to_json(), "job": settings}):
        return
    stored = run.folder.read_json("config.json")
    if TrainConfig.from_json(stored["train"]) != config:
        raise RunError(f"run {name!r} was begun with other settings just now; choose another --name")
    if stored["job"]["data_sha256"] != settings["data_sha256"]:
        raise RunError(
            f"run {name!r} was begun with other data; give the same --data, or choose another --name"
            f"{_or_anew(run.folder)}"
        )
    # Version 0.1 drew the held-out images by NumPy's generator, and did not write down which.
    if len(held_out) and stored["job"].get("held_out_sha256") != settings["held_out_sha256"]:
        raise RunError(
            f"run {name!r} was begun by a version of Inkling that holds other images out for validation, and going on "
            "would train on those; go on with that version, publish the last checkpoint by "
            f"`{job.publish_command()}`, or begin anew under another --name"
        )

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


def begin(config: TrainConfig, job: JobConfig, emit: Callable[[Event], None], *, precision_given: bool = True) -> Run:
    """Open the run `job.name` to train it: a new one, or one that was begun before and goes on.

    Args:
        emit: takes messages for the display.
        precision_given: whether `config.precision` was asked for; if the machine chose it, a run that was begun in
            another one goes on in that.

    Raises: RunError, data.DataError.
    """
    _check_kept(job)
    folder = RunFolder(job.storage, job.name)
    config, job = _settle(folder, config, job, emit, precision_given=precision_given)
    emit(Message(f"run {folder.name}: recipe {config.recipe}, {config.epochs} epochs, files in {folder}/"))
    run = Run(config, job, data.load(job.data), folder)
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
    dataset = data.load(job.data)
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


def _settle(
    folder: RunFolder, config: TrainConfig, job: JobConfig, emit: Callable[[Event], None], *, precision_given: bool
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
    if not precision_given:
        config = dataclasses.replace(config, precision=began.precision)
    different = [
        f"{field.name}={getattr(began, field.name)!r} then, {getattr(config, field.name)!r} now"
        for field in dataclasses.fields(TrainConfig)
        if getattr(began, field.name) != getattr(config, field.name)
    ]
    if different:
        raise RunError(
            f"run {folder.name!r} was begun with other settings ({'; '.join(different)}); "
            f"go on with them by `{job.resume_command()}`, or choose another --name"
        )
    emit(Message(f"run {folder.name} was begun before; going on"))
    return config, job


def _as_begun(job: JobConfig, stored: dict[str, Any]) -> JobConfig:
    """`job` with what the run was begun with, but for another --model-dir that was asked for now."""
    return dataclasses.replace(
        job,
        data=Path(stored["data"]) if stored["data"] else None,
        model_name=stored["model_name"],
        model_dir=stored["model_dir"] if job.model_dir == JobConfig().model_dir else job.model_dir,
        publish=stored["publish"] and job.publish,
    )


def _claim(run: Run) -> None:
    """Write the run's settings down, or check that they and its data are those it was begun with."""
    config, job, name = run.config, run.job, run.folder.name
    held_out = run.dataset.held_out(config.validation_size, config.seed)
    settings = {
        "data": str(job.data.absolute()) if job.data else None,
        "data_sha256": run.dataset.checksum(),
        "held_out_sha256": hashlib.sha256(held_out.astype("<i8").tobytes()).hexdigest(),
        "model_dir": job.model_dir if "://" in job.model_dir else str(Path(job.model_dir).absolute()),
        "model_name": job.model_name,
        "publish": job.publish,
    }
    if run.folder.create_json("config.json", {"train": config.to_json(), "job": settings}):
        return
    stored = run.folder.read_json("config.json")
    if TrainConfig.from_json(stored["train"]) != config:
        raise RunError(f"run {name!r} was begun with other settings just now; choose another --name")
    if stored["job"]["data_sha256"] != settings["data_sha256"]:
        raise RunError(f"run {name!r} was begun with other data; give the same --data, or choose another --name")
    # Version 0.1 drew the held-out images by NumPy's generator, and did not write down which.
    if len(held_out) and stored["job"].get("held_out_sha256") != settings["held_out_sha256"]:
        raise RunError(
            f"run {name!r} was begun by a version of Inkling that holds other images out for validation, and going on "
            "would train on those; go on with that version, publish the last checkpoint by "
            f"`{job.publish_command()}`, or begin anew under another --name"
        )

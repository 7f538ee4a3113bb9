"""Checkpoints: the state between two steps as checksummed NumPy arrays, the same for any number of workers.

    <run>/checkpoints/step_00001234/state.npz         every variable by name, no pickle
                                    metrics.jsonl     the run's history up to this step
                                    checkpoint.json   step, metrics and the other files' SHA-256; written last

A checkpoint without a sound `checkpoint.json` does not exist. One whose files do not match it is damaged, and the one
before it is used.
"""

import hashlib
import io
import json
import logging
import zipfile
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .storage import RunFolder

logger = logging.getLogger(__name__)

FOLDER = "checkpoints"
SCORE = "validation_accuracy"  # the metric that makes a checkpoint the best


class DamagedCheckpoint(ValueError):
    """The checkpoint cannot be used; the message says which file and why."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The state after `step` steps."""

    step: int
    arrays: dict[str, NDArray[Any]]  # the variables, by the names of TrainState.variables
    metrics: dict[str, float]
    history: list[dict[str, Any]]  # the lines of metrics.jsonl up to this step


def path_of(step: int) -> str:
    """The folder of the checkpoint at `step`, relative to the run's."""
    return f"{FOLDER}/step_{step:08d}"


def save(run: RunFolder, checkpoint: Checkpoint) -> str:
    """Write a checkpoint; returns its folder, relative to the run's."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **checkpoint.arrays)
    history = "".join(json.dumps(line) + "\n" for line in checkpoint.history)
    files = {"state.npz": buffer.getvalue(), "metrics.jsonl": history.encode()}
    folder = path_of(checkpoint.step)
    run.remove(f"{folder}/checkpoint.json")  # a damaged one of this step must not vouch for half of the new files
    for name, content in files.items():
        run.write(f"{folder}/{name}", content)
    seal = {
        "step": checkpoint.step,
        "metrics": checkpoint.metrics,
        "sha256": {name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
    }
    run.write_json(f"{folder}/checkpoint.json", seal)
    return folder


def load(run: RunFolder, step: int) -> Checkpoint:
    """Read the checkpoint at `step`.

    Raises: DamagedCheckpoint; OSError if the storage did not answer, which says nothing about the checkpoint.
    """
    folder = path_of(step)
    try:
        seal = run.read_json(f"{folder}/checkpoint.json")
        files = {name: run.read(f"{folder}/{name}") for name in seal["sha256"]}
        for name, sha256 in seal["sha256"].items():
            if hashlib.sha256(files[name]).hexdigest() != sha256:
                raise DamagedCheckpoint(f"{run}/{folder}/{name} does not match its checksum ({len(files[name])} bytes)")
        with np.load(io.BytesIO(files["state.npz"]), allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        history = [json.loads(line) for line in files["metrics.jsonl"].splitlines()]
    except DamagedCheckpoint:
        raise
    except (FileNotFoundError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise DamagedCheckpoint(f"{run}/{folder} is incomplete ({error})") from error
    return Checkpoint(seal["step"], arrays, seal["metrics"], history)


def steps(run: RunFolder) -> list[int]:
    """The steps that have a checkpoint folder, oldest first; damaged ones included."""
    names = run.names(FOLDER)
    return [int(name.removeprefix("step_")) for name in names if name.removeprefix("step_").isdecimal()]


def latest(run: RunFolder) -> tuple[Checkpoint | None, list[str]]:
    """The newest checkpoint that is whole, if there is one, and what was wrong with those that were passed over."""
    problems: list[str] = []
    for step in reversed(steps(run)):
        try:
            return load(run, step), problems
        except DamagedCheckpoint as error:
            problems.append(str(error))
    return None, problems


def best_step(run: RunFolder) -> int | None:
    """The step of the checkpoint with the highest validation accuracy, the later one of equals; None without any."""
    scores = {}
    for step in steps(run):
        try:
            seal = run.read_json(f"{path_of(step)}/checkpoint.json")
        except (FileNotFoundError, ValueError):
            continue
        if SCORE in seal["metrics"]:
            scores[step] = seal["metrics"][SCORE]
    return max(scores, key=lambda step: (scores[step], step), default=None)


def remove_after(run: RunFolder, step: int) -> None:
    """Delete the checkpoints later than `step`: damaged ones, which would count among those that `prune` keeps."""
    for later in steps(run):
        if later > step:
            run.remove(path_of(later))


def prune(run: RunFolder, keep: int) -> None:
    """Delete all but the last `keep` checkpoints and the best."""
    best = best_step(run)
    for step in steps(run)[:-keep]:
        if step != best:
            run.remove(path_of(step))

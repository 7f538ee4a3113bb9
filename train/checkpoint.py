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


def save(folder: RunFolder, checkpoint: Checkpoint) -> str:
    """Write a checkpoint; returns its folder, relative to the run's."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **checkpoint.arrays)
    history = "".join(json.dumps(line) + "\n" for line in checkpoint.history)
    files = {"state.npz": buffer.getvalue(), "metrics.jsonl": history.encode()}
    path = path_of(checkpoint.step)
    folder.remove(f"{path}/checkpoint.json")  # a damaged one of this step must not vouch for half of the new files
    for name, content in files.items():
        folder.write(f"{path}/{name}", content)
    seal = {
        "step": checkpoint.step,
        "metrics": checkpoint.metrics,
        "sha256": {name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
    }
    folder.write_json(f"{path}/checkpoint.json", seal)
    return path


def load(folder: RunFolder, step: int) -> Checkpoint:
    """Read the checkpoint at `step`.

    Raises: DamagedCheckpoint; OSError if the storage did not answer, which says nothing about the checkpoint.
    """
    path = path_of(step)
    try:
        seal = folder.read_json(f"{path}/checkpoint.json")
        files = {name: folder.read(f"{path}/{name}") for name in seal["sha256"]}
        for name, sha256 in seal["sha256"].items():
            if hashlib.sha256(files[name]).hexdigest() != sha256:
                raise DamagedCheckpoint(
                    f"{folder}/{path}/{name} does not match its checksum ({len(files[name])} bytes)"
                )
        with np.load(io.BytesIO(files["state.npz"]), allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        history = [json.loads(line) for line in files["metrics.jsonl"].splitlines()]
    except DamagedCheckpoint:
        raise
    except (FileNotFoundError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise DamagedCheckpoint(f"{folder}/{path} is incomplete ({error})") from error
    return Checkpoint(seal["step"], arrays, seal["metrics"], history)


def steps(folder: RunFolder) -> list[int]:
    """The steps that have a checkpoint folder, oldest first; damaged ones included."""
    names = folder.names(FOLDER)
    return [int(name.removeprefix("step_")) for name in names if name.removeprefix("step_").isdecimal()]


def latest(folder: RunFolder) -> tuple[Checkpoint | None, list[str]]:
    """The newest checkpoint that is whole, if there is one, and what was wrong with those that were passed over."""
    problems: list[str] = []
    for step in reversed(steps(folder)):
        try:
            return load(folder, step), problems
        except DamagedCheckpoint as error:
            problems.append(str(error))
    return None, problems


def best_step(folder: RunFolder) -> int | None:
    """The step of the checkpoint with the highest validation accuracy, the later one of equals; None without any."""
    scores = {}
    for step in steps(folder):
        try:
            seal = folder.read_json(f"{path_of(step)}/checkpoint.json")
        except (FileNotFoundError, ValueError):
            continue
        if SCORE in seal["metrics"]:
            scores[step] = seal["metrics"][SCORE]
    return max(scores, key=lambda step: (scores[step], step), default=None)


def remove_after(folder: RunFolder, step: int) -> None:
    """Delete the checkpoints later than `step`: damaged ones, which would count among those that `prune` keeps."""
    for later in steps(folder):
        if later > step:
            folder.remove(path_of(later))


def prune(folder: RunFolder, keep: int) -> None:
    """Delete all but the last `keep` checkpoints and the best."""
    best = best_step(folder)
    for step in steps(folder)[:-keep]:
        if step != best:
            folder.remove(path_of(step))

"""From a finished run to what a person takes away: figures, pictures, `mnist.h5`, and the published SavedModel."""

import dataclasses
import importlib.metadata
import os
import platform
import subprocess
import tomllib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from . import export, plots
from .checkpoint import Checkpoint
from .config import TrainConfig
from .data import Dataset
from .evaluate import Evaluation
from .model import build_model
from .storage import RunFolder

PACKAGES = ("tensorflow", "keras", "ray", "numpy")


def model_of(config: TrainConfig, checkpoint: Checkpoint, dataset: Dataset) -> keras.Model:
    """The model with the checkpoint's averaged weights."""
    model = build_model(config, image_size=dataset.image_size, num_classes=len(dataset.class_names))
    for variable in model.weights:
        variable.assign(checkpoint.arrays[f"averaged/{variable.path}"])
    return model


def write_results(
    run: RunFolder,
    config: TrainConfig,
    dataset: Dataset,
    checkpoint: Checkpoint,
    probabilities: NDArray[np.float32],
    *,
    model_name: str,
    training_seconds: float,
) -> Evaluation:
    """Write `report.json`, the pictures and `<model_name>.h5` into the run's folder.

    Args:
        probabilities: float32 [num test images, classes], as the run's workers computed them.
    """
    evaluation = Evaluation.of(probabilities, dataset.test_labels)
    title = f"{run.name}: {evaluation.accuracy:.2%} on {evaluation.num_examples:,} test images"
    run.write("learning_curve.png", plots.learning_curve(checkpoint.history, title))
    run.write("confusion_matrix.png", plots.confusion_matrix(evaluation, dataset.class_names))
    run.write(
        "mistakes.png",
        plots.mistakes(dataset.test_images, dataset.test_labels, probabilities, dataset.class_names),
    )
    run.write(f"{model_name}.h5", export.h5_bytes(model_of(config, checkpoint, dataset)))
    run.write_json(
        "report.json",
        {
            "step": checkpoint.step,
            "training_seconds": round(training_seconds, 1),
            "class_names": dataset.class_names,
            "test": dataclasses.asdict(evaluation),
        },
    )
    return evaluation


def model_card(
    config: TrainConfig,
    dataset: Dataset,
    checkpoint: Checkpoint,
    evaluation: Evaluation,
    *,
    model: keras.Model,
    run: str,
) -> dict[str, Any]:
    """What somebody who meets the model later must know, as JSON values."""
    return {
        "description": f"Reads one handwritten character from a {dataset.image_size} image, white ink on black.",
        "run": run,
        "step": checkpoint.step,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "parameters": model.count_params(),
        "class_names": dataset.class_names,
        "metrics": dataclasses.asdict(evaluation),
        "data": {
            "source": Path(dataset.source).name,
            "sha256": dataset.checksum(),
            "train_images": len(dataset.train_labels),
            "test_images": len(dataset.test_labels),
        },
        "seed": config.seed,
        "config": config.to_json(),
        "versions": {
            "inkling": _own_version(),
            "python": platform.python_version(),
            **{name: _version(name) for name in PACKAGES},
        },
        "git_revision": _git_revision(),
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _own_version() -> str | None:
    project = Path(__file__).resolve().parent / "pyproject.toml"
    if (installed := _version("inkling-train")) or not project.exists():
        return installed
    return str(tomllib.loads(project.read_text())["project"]["version"])  # a working directory that Ray has unpacked


def _git_revision() -> str | None:
    if told := os.environ.get("INKLING_REVISION"):
        return told
    root = Path(__file__).resolve().parents[1]

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(root), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        # Installed into somebody's project, the project's revision is not ours.
        ours = Path(git("rev-parse", "--show-toplevel")) == root
        return git("describe", "--always", "--dirty", "--abbrev=40") if ours else None
    except (OSError, subprocess.CalledProcessError):
        return None  # installed, or shipped to a cluster, where INKLING_REVISION can tell

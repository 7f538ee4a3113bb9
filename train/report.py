"""From a finished run to what a person takes away: figures, pictures, `mnist.h5`, and the published model's card."""

import dataclasses
import importlib.metadata
import os
import platform
import subprocess
import tomllib
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import keras

from . import plots
from .checkpoint import Checkpoint
from .corruptions import Robustness
from .data import Dataset
from .evaluate import Evaluation
from .loop import Outcome
from .network.model import build_model
from .predictor import predictor_of
from .progress import Drawn, Event, Message, Tested
from .publishing import export
from .runs import Run
from .storage import RunFolder

ROBUSTNESS_IMAGES = 500
MOST_CONFUSED_CLASSES = 200  # whose matrix a card has; with more the report alone: servers read cards of up to 1 MiB
PACKAGES = ("tensorflow", "keras", "ray", "numpy")


def model_of(run: Run, state: Checkpoint) -> keras.Model:
    """The model with the averaged weights of a checkpoint."""
    dataset = run.dataset
    model = build_model(
        run.config,
        image_size=dataset.image_size,
        num_classes=len(dataset.class_names),
        channels=dataset.channels,
    )
    for variable in model.weights:
        variable.assign(state.arrays[f"averaged/{variable.path}"])
    return model


def write_results(run: Run, state: Checkpoint, outcome: Outcome, emit: Callable[[Event], None]) -> Evaluation:
    """Write `report.json`, the pictures and `<model_name>.h5` into the run's folder.

    Args:
        state: the run's last checkpoint.
        emit: takes what was measured and drawn, and a message for each picture that cannot be drawn; a run does not
            fail over one.
    """
    dataset, folder, probabilities = run.dataset, run.folder, outcome.test_probabilities
    evaluation = Evaluation.of(probabilities, dataset.test_labels)
    title = f"{folder.name}: {evaluation.accuracy:.2%} on {evaluation.num_examples:,} test images"
    _write_picture(folder, "learning_curve.png", lambda: plots.learning_curve(state.history, title), emit)
    _write_picture(
        folder, "confusion_matrix.png", lambda: plots.confusion_matrix(evaluation, dataset.class_names), emit
    )
    _write_picture(folder, "mistakes.png", lambda: plots.mistakes(dataset, probabilities), emit)
    model = model_of(run, state)
    folder.write(f"{run.job.model_name}.h5", export.h5_bytes(model))
    robustness = measure_robustness(model, dataset)
    emit(Tested(state.step, _test_figures(evaluation, robustness)))
    folder.write_json(
        "report.json",
        {
            "step": state.step,
            "training_seconds": round(outcome.training_seconds, 1),
            "timed_steps": outcome.timed_steps,
            "hardware": outcome.hardware,
            "parameters": model.count_params(),
            "git_revision": _git_revision(),
            "version": _own_version(),
            "class_names": dataset.class_names,
            "test": dataclasses.asdict(evaluation),
            "robustness": dataclasses.asdict(robustness),
        },
    )
    return evaluation


def _test_figures(evaluation: Evaluation, robustness: Robustness) -> dict[str, float]:
    return {
        "test_accuracy": evaluation.accuracy,
        "test_loss": evaluation.loss,
        "test_expected_calibration_error": evaluation.expected_calibration_error,
        "robustness_mean": robustness.mean,
    }


def measure_robustness(model: keras.Model, dataset: Dataset) -> Robustness:
    """On a part of the test set, so that a run ends in seconds; `train evaluate --suite robust` takes all of it."""
    return Robustness.of(predictor_of(model), dataset, most=ROBUSTNESS_IMAGES)


def _robustness_of(run: Run, state: Checkpoint, model: keras.Model) -> dict[str, Any]:
    """What the run's report says of this checkpoint, measured now if it says nothing."""
    told = run.folder.read_json("report.json") if run.folder.exists("report.json") else {}
    if told.get("step") == state.step and "robustness" in told:
        return dict(told["robustness"])
    return dataclasses.asdict(measure_robustness(model, run.dataset))


def _write_picture(folder: RunFolder, name: str, draw: Callable[[], bytes], emit: Callable[[Event], None]) -> None:
    try:
        content = draw()
    except Exception as error:  # hours of training weigh more than a picture, whatever is wrong with it
        emit(Message(f"{name} cannot be drawn ({type(error).__name__}: {error}); everything else is written"))
        return
    folder.write(name, content)
    emit(Drawn(name, content))


def origin(run: Run) -> dict[str, str]:
    """What a run was started from, in a few words each."""
    return {
        "version": _own_version() or "",
        "git_revision": _git_revision() or "",
        "recipe": run.config.recipe,
        "data": Path(run.dataset.source).name,
        "data_sha256": run.dataset.checksum(),
    }


def model_card(run: Run, state: Checkpoint, evaluation: Evaluation, model: keras.Model) -> dict[str, Any]:
    """What a later user of the model must know, as JSON values."""
    dataset = run.dataset
    ink = ", dark ink on light paper" if dataset.is_dark_on_light else ", white ink on black"
    kind = f" image{ink}" if dataset.channels == 1 else " colour image"
    return {
        "description": f"Reads one handwritten character from a {dataset.image_size}{kind}.",
        "channels": dataset.channels,
        "polarity": "dark on light" if dataset.is_dark_on_light else "light on dark",
        "background": dataset.background,
        "run": run.folder.name,
        "step": state.step,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "parameters": model.count_params(),
        "class_names": dataset.class_names,
        "metrics": _metrics(evaluation),
        "robustness": _robustness_of(run, state, model),
        "data": {
            "source": Path(dataset.source).name,
            "sha256": dataset.checksum(),
            "train_images": len(dataset.train_labels),
            "test_images": len(dataset.test_labels),
            "read_as": dataset.notes,
        },
        "seed": run.config.seed,
        "config": run.config.to_json(),
        "versions": {
            "inkling": _own_version(),
            "python": platform.python_version(),
            **{name: _version(name) for name in PACKAGES},
        },
        "git_revision": _git_revision(),
    }


def _metrics(evaluation: Evaluation) -> dict[str, Any]:
    metrics = dataclasses.asdict(evaluation)
    if len(evaluation.confusion) > MOST_CONFUSED_CLASSES:
        del metrics["confusion"]
    return metrics


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
        # Installed into another project, the project's revision is not ours.
        ours = Path(git("rev-parse", "--show-toplevel")) == root
        return git("describe", "--always", "--dirty", "--abbrev=40") if ours else None
    except (OSError, subprocess.CalledProcessError):
        return None  # installed, or shipped to a cluster, where INKLING_REVISION can tell

"""The digit model that the tests of several packages read with, published as a server finds it.

    python -m tests.digit_models publish FOLDER     what the tests do: FOLDER/mnist/1 from tests/digit_model/mnist.h5
    python -m tests.digit_models train              train those weights anew, in minutes, if the recipe below changes

The weights are kept, since training them took a quarter of all tests' time; what trains, trains in tests/train.
"""

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).parents[1]
KEPT = ROOT / "tests" / "digit_model"
CACHE = ROOT / ".cache" / "digit_models"
# Half the filters of the quick recipe and half its epochs: 99.2 % of the real MNIST's test images. One epoch with all
# filters takes as long, and reads one digit of the tests' pictures with a probability of 0.6, so that rounding decides
# what it is; this model has 0.87 for its least sure one. The rest makes it the same on every machine, up to rounding.
TRAINING = [
    "--in-process", "--epochs", "3", "--widths", "16", "16", "32", "32", "--min-accuracy", "0.985",
    "--precision", "float32", "--deterministic", "--seed", "0", "--cpus-per-worker", "2", "--name", "digit-model",
]  # fmt: skip
PACKAGES = ("tensorflow", "keras", "numpy")


def digit_models() -> Path:
    """A model repository with `mnist/1`; not to be written to."""
    CACHE.mkdir(parents=True, exist_ok=True)
    folder = CACHE / _key()
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # of two test runs, one publishes and the other waits for its model
        if not folder.exists():
            with tempfile.TemporaryDirectory(dir=CACHE) as unfinished:
                _run("tests.digit_models", "publish", f"{unfinished}/models", cwd=ROOT)
                Path(unfinished, "models").rename(folder)
    return folder


def _key() -> str:
    """A hash of all that the published files follow from."""
    whole = hashlib.sha256()
    package = ROOT / "train"
    for path in sorted([*package.rglob("*.py"), *KEPT.iterdir()]):
        whole.update(f"{path.relative_to(ROOT)} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    whole.update(repr([(name, metadata.version(name)) for name in PACKAGES]).encode())
    return whole.hexdigest()[:16]


def _run(module: str, *arguments: str, cwd: Path) -> None:
    # Without a time-out of its own: pytest's is longer.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)])}
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments], cwd=cwd, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def publish(folder: Path) -> None:
    """Publish the kept weights as `folder`/mnist/1, by the code that publishes a run's."""
    import keras

    from inkling.train import data
    from inkling.train.predictor import predict
    from inkling.train.publishing import publish as publishing
    from inkling.train.publishing.verify_savedmodel import verify

    card = json.loads((KEPT / "model_card.json").read_text())
    images = data.load().test_images[:500]
    model = keras.models.load_model(KEPT / "mnist.h5", compile=False)
    candidate = publishing.Candidate(
        model=model,
        class_names=tuple(card["class_names"]),
        card=card,
        accuracy=card["metrics"]["accuracy"],
        test_images=images,
        test_probabilities=predict(model, images),
    )
    publishing.publish(candidate, str(folder), model_name="mnist", min_accuracy=0.985, verify=verify)


def train() -> None:
    """Train the weights and keep them."""
    with tempfile.TemporaryDirectory() as scratch:
        _run("train", *TRAINING, cwd=Path(scratch))
        shutil.copy(Path(scratch, "runs/digit-model/mnist.h5"), KEPT)
        shutil.copy(Path(scratch, "models/mnist/1/model_card.json"), KEPT)


if __name__ == "__main__":
    publish(Path(sys.argv[2])) if sys.argv[1] == "publish" else train()

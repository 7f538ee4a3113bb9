"""The digit model that the tests of several packages read with: trained when first asked for, and kept in .cache/."""

import fcntl
import hashlib
import os
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).parents[1]
CACHE = ROOT / ".cache" / "digit_models"
# Half the filters of the quick recipe and half its epochs: 99.3 % of the real MNIST's test images. One epoch with all
# filters takes as long, and reads one digit of the tests' pictures with a probability of 0.6, so that rounding decides
# what it is; this model has 0.87 for its least sure one. The rest makes it the same on every machine, up to rounding.
TRAINING = [
    "--in-process", "--epochs", "3", "--widths", "16", "16", "32", "32", "--min-accuracy", "0.985",
    "--precision", "float32", "--deterministic", "--seed", "0", "--cpus-per-worker", "2",
]  # fmt: skip
PACKAGES = ("tensorflow", "keras", "numpy")


def digit_models() -> Path:
    """A model repository with `mnist/1`; not to be written to."""
    CACHE.mkdir(parents=True, exist_ok=True)
    folder = CACHE / _key()
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # of two test runs, one trains and the other waits for its model
        if not folder.exists():
            with tempfile.TemporaryDirectory(dir=CACHE) as unfinished:
                _train(Path(unfinished))
                (Path(unfinished) / "models").rename(folder)
    return folder


def _key() -> str:
    """A hash of all that the weights follow from."""
    whole = hashlib.sha256()
    package = ROOT / "train"
    for path in sorted([*package.rglob("*.py"), *package.rglob("*.npz")]):
        whole.update(f"{path.relative_to(package)} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    whole.update(repr(TRAINING).encode())
    whole.update(repr([(name, metadata.version(name)) for name in PACKAGES]).encode())
    whole.update(repr(os.environ.get("TF_ENABLE_ONEDNN_OPTS")).encode())  # other kernels, which round differently
    return whole.hexdigest()[:16]


def _train(folder: Path) -> None:
    # Without a time-out of its own: pytest's is longer, and training says what it waits for.
    command = [sys.executable, "-m", "train", *TRAINING]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

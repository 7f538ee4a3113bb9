"""What tests of several packages need: a really trained digit model, as a server finds it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# The tests are about this code on any machine, and run beside each other: of processes that share a GPU, the first
# takes its memory. Those of tests/train/test_gpu.py undo this.
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"


@pytest.fixture(scope="session")
def digit_models(tmp_path_factory) -> Path:
    """A model repository with `mnist/1`, trained for one epoch on the real MNIST: about 98.5 % accurate."""
    folder = tmp_path_factory.mktemp("digit_models")
    command = [sys.executable, "-m", "train", "--in-process", "--epochs", "1", "--min-accuracy", "0.97"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=290)
    assert done.returncode == 0, done.stderr
    return folder / "models"

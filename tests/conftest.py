"""What tests of several packages need: their environment, and a really trained digit model, as a server finds it."""

import os
import shutil
from pathlib import Path

import pytest

# The tests are about this code on any machine, and run beside each other: of processes that share a GPU, the first
# takes its memory. Those of tests/train/test_gpu.py undo this.
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
# TensorFlow leaves oneDNN off on CPUs without AVX-512, where training with it is 2.6 times as fast. It is read when
# TensorFlow is imported, here and in the processes that tests start.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

from tests import digit_models as kept

# These start Ray clusters, which take ports of the machine that no flag of theirs chooses.
ONE_AFTER_THE_OTHER = {"test_ray.py": "ray", "test_faults.py": "ray"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """With pytest-xdist, give a file's tests to one process: they share servers and trained models."""
    for item in items:
        name = ONE_AFTER_THE_OTHER.get(item.path.name, str(item.path))
        item.add_marker(pytest.mark.xdist_group(name))


@pytest.fixture(scope="session")
def digit_models(tmp_path_factory) -> Path:
    """A model repository with `mnist/1`, trained for one epoch on the real MNIST: about 98.5 % accurate."""
    folder = tmp_path_factory.mktemp("digit_models") / "models"
    shutil.copytree(kept.digit_models(), folder)
    return folder

"""`python -m train shard` as a Ray job of its own, and training on what it wrote. Real processes."""

import json

import numpy as np
import pytest

from inkling.train import checkpoint
from inkling.train.storage import RunFolder
from tests.patience import wait_until
from tests.train.ray_processes import SMALL, Job

pytestmark = pytest.mark.process

SHARD = ["shard", "--copies", "3", "--shard-mb", "0.1"]


def shard(folder, digits_file, *arguments):
    return Job(folder, *SHARD, digits_file, *arguments)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def written(digits_file, tmp_path_factory):
    folder = tmp_path_factory.mktemp("written")
    status, output = shard(folder, digits_file, "-o", "set").wait()
    assert status == 0, output
    assert output.splitlines()[-1] == "set  4,000 training and 203 test images"
    return folder / "set"


@pytest.mark.slow
def test_a_job_that_is_killed_and_started_again_writes_the_same_bytes(written, digits_file, tmp_path):
    job = shard(tmp_path, digits_file, "-o", tmp_path / "set")
    wait_until(lambda: len(list(tmp_path.glob("set/*.npy"))) > 5 or job.process.poll() is not None, job.output)
    job.kill()
    assert not (tmp_path / "set/manifest.json").exists()
    status, output = shard(tmp_path, digits_file, "-o", tmp_path / "set").wait()
    assert status == 0, output
    manifests = [json.loads((folder / "manifest.json").read_text()) for folder in (written, tmp_path / "set")]
    assert manifests[0] == manifests[1] and contents(written) == contents(tmp_path / "set")


@pytest.mark.slow
def test_two_workers_train_on_shards_and_survive_the_loss_of_one(written, tmp_path):
    flags = [*SMALL, "--data", written, "--epochs", "2", "--no-publish", "--num-workers", "2", "--cpus-per-worker", "1"]
    undisturbed = Job(tmp_path, *flags, "--name", "one")
    status, output = undisturbed.wait()
    assert status == 0, output
    assert "1,000 training images in 32 shards, with 3 augmented versions of each" in output
    assert "checking 32 shards of" in output
    harmed = Job(tmp_path, *flags, "--name", "two")
    wait_until(lambda: list(tmp_path.glob("runs/two/checkpoints/*/checkpoint.json")) or harmed.process.poll())
    harmed.train_workers()[1].kill()
    status, output = harmed.wait()
    assert status == 0 and "going on from step" in output, output
    one, two = (checkpoint.latest(RunFolder(str(tmp_path / "runs"), name))[0] for name in ("one", "two"))
    assert one.step == two.step
    for name, value in one.arrays.items():
        np.testing.assert_array_equal(two.arrays[name], value, err_msg=name)

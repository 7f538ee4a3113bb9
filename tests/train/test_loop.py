"""Promise 2: a resumed run is the run. The loop in this process; `test_ray.py` kills real workers."""

import dataclasses
import json
import pickle
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from inkling.train import checkpoint, data
from inkling.train.config import ShardConfig
from inkling.train.data import example_order
from inkling.train.data.example_order import ExampleOrder
from inkling.train.loop import Paused, TrainingDiverged, train
from inkling.train.progress import Advance, Validated
from inkling.train.sharding import writing
from inkling.train.step import TrainState
from inkling.train.storage import RunFolder
from tests.patience import PATIENCE_S
from tests.ports import free_port
from tests.train.ray_processes import ROOT

pytestmark = pytest.mark.training


class Stop(Exception):
    pass


def train_run(config, dataset, strategy, folder, name="run", stop_at=None, copy_at=(), **changes):
    """Train in this process.

    With `stop_at`, break off right after the checkpoint at that step. Those at `copy_at` leave a copy of the folder,
    which is what a run has that is killed there, beside it: `run-STEP`.
    """
    run, events = RunFolder(str(folder), name), []

    def on_checkpoint(path, metrics):
        if metrics["step"] == stop_at:
            raise Stop
        if metrics["step"] in copy_at:
            shutil.copytree(run.local, folder / f"{name}-{metrics['step']}")

    outcome = train(config, dataset, strategy, run, emit=events.append, on_checkpoint=on_checkpoint, **changes)
    return run, outcome, events


@pytest.fixture(scope="module")
def undisturbed(small_config, digits, one_replica, tmp_path_factory):
    config = dataclasses.replace(small_config, dropout=(0.2, 0.3))
    folder = tmp_path_factory.mktemp("undisturbed")
    return config, *train_run(config, digits, one_replica, folder, copy_at=(14, 19, 21, 35))


def broken_off(undisturbed, step, folder):
    """Put the run, as it was at that step, into the folder."""
    run = undisturbed[1].local
    shutil.copytree(run.with_name(f"{run.name}-{step}"), folder / run.name)


def assert_same_weights(run, other):
    ours, theirs = checkpoint.latest(run)[0], checkpoint.latest(other)[0]
    assert ours.step == theirs.step
    for name, value in ours.arrays.items():
        np.testing.assert_array_equal(theirs.arrays[name], value, err_msg=name)
    drop = {"images_per_s"}
    for one, two in zip(ours.history, theirs.history, strict=True):
        assert {k: v for k, v in one.items() if k not in drop} == {k: v for k, v in two.items() if k not in drop}


def test_a_run_reports_checkpoints_and_finishes(undisturbed, digits):
    config, run, outcome, events = undisturbed
    total = ExampleOrder(900, config.global_batch_size, 0).first_step_after(config.epochs)
    assert outcome.step == total == 38
    assert outcome.test_probabilities.shape == (203, 10)
    np.testing.assert_allclose(outcome.test_probabilities.sum(axis=1), 1, rtol=1e-5)
    assert [event.step for event in events if isinstance(event, Advance)] == list(range(1, 39))
    assert [(e.epoch, e.epochs, e.step) for e in events if isinstance(e, Validated)] == [(1, 2, 19), (2, 2, 38)]
    lines = [json.loads(line) for line in run.read("metrics.jsonl").splitlines()]
    assert [line["step"] for line in lines if "loss" in line] == list(range(1, 39))
    assert [line["step"] for line in lines if "validation_accuracy" in line] == [19, 38]


@pytest.mark.parametrize("stop_at", [14, 19, 35], ids=["mid-epoch", "epoch's end", "last epoch"])
def test_a_resumed_run_ends_with_the_same_bits(undisturbed, digits, one_replica, tmp_path, stop_at):
    config, whole, *_ = undisturbed
    broken_off(undisturbed, stop_at, tmp_path)
    run, _, events = train_run(config, digits, one_replica, tmp_path)
    assert f"going on from step {stop_at} " in events[0].text
    assert_same_weights(run, whole)


@pytest.fixture(scope="module")
def in_shards(digits, tmp_path_factory):
    """The set as it is, and with two augmented versions of each image, in shards of 51 images."""

    def write(copies):
        folder = tmp_path_factory.mktemp("shards") / "set"
        writing.write_set([digits], writing.folder_of(str(folder)), ShardConfig(shard_mb=0.04, copies=copies))
        return data.load(folder)

    return write(0), write(2)


def test_a_set_in_shards_trains_to_the_bits_of_the_same_set_in_memory(undisturbed, in_shards, one_replica, tmp_path):
    config, whole, *_ = undisturbed
    run, *_ = train_run(config, in_shards[0], one_replica, tmp_path)
    assert_same_weights(run, whole)


@pytest.fixture(scope="module")
def undisturbed_with_copies(small_config, in_shards, one_replica, tmp_path_factory):
    """A run over windows of a quarter of the examples, of which two thirds are images that augmentation has made."""
    config = dataclasses.replace(small_config, dropout=(0.2, 0.3), checkpoint_every_steps=10)
    dataset = dataclasses.replace(in_shards[1], window=640)
    folder = tmp_path_factory.mktemp("with_copies")
    return config, dataset, *train_run(config, dataset, one_replica, folder, copy_at=(10, 60, 110))


@pytest.mark.parametrize("stop_at", [10, 60, 110])
def test_a_run_on_shards_resumed_anywhere_ends_with_the_same_bits(
    undisturbed_with_copies, one_replica, tmp_path, stop_at
):
    config, dataset, whole, outcome, _ = undisturbed_with_copies
    assert outcome.step == 113
    example_order.window_order.cache_clear()
    broken_off((config, whole), stop_at, tmp_path)
    run, _, events = train_run(config, pickle.loads(pickle.dumps(dataset)), one_replica, tmp_path)
    assert f"going on from step {stop_at} " in events[0].text
    assert_same_weights(run, whole)


def test_a_paused_run_has_a_checkpoint_at_just_that_step(undisturbed, digits, one_replica, tmp_path):
    config, whole, *_ = undisturbed
    run, paused, _ = train_run(config, digits, one_replica, tmp_path, pause_at=lambda step: 9 if step > 3 else None)
    assert paused == Paused(9) and checkpoint.steps(run)[-1] == 9
    run, again, _ = train_run(config, digits, one_replica, tmp_path, pause_at=lambda step: 9)  # nothing to do
    assert again == Paused(9)
    run, outcome, _ = train_run(config, digits, one_replica, tmp_path, pause_at=lambda step: None)
    assert outcome.step == 38
    assert_same_weights(run, whole)


def test_a_run_resumed_on_two_replicas_ends_within_rounding(small_config, digits, one_replica, two_replicas, tmp_path):
    # Adam turns rounding into steps of the learning rate's size where a gradient is nearly 0: keep those small.
    config = dataclasses.replace(small_config, learning_rate=3e-4)
    _, outcome, _ = train_run(config, digits, one_replica, tmp_path, name="one")
    with pytest.raises(Stop):
        train_run(config, digits, one_replica, tmp_path, name="both", stop_at=14)
    _, resumed, _ = train_run(config, digits, two_replicas, tmp_path, name="both")
    np.testing.assert_allclose(resumed.test_probabilities, outcome.test_probabilities, atol=5e-3)


def test_a_damaged_checkpoint_is_passed_over_and_named(undisturbed, digits, one_replica, tmp_path):
    config, whole, *_ = undisturbed
    broken_off(undisturbed, 21, tmp_path)
    run = RunFolder(str(tmp_path), "run")
    state = run.local / checkpoint.path_of(21) / "state.npz"
    state.write_bytes(state.read_bytes()[:1000])
    run, _, events = train_run(config, digits, one_replica, tmp_path)
    assert "damaged checkpoint passed over" in events[0].text and "step_00000021/state.npz" in events[0].text
    assert "(1000 bytes)" in events[0].text and "going on from step 19 " in events[1].text
    assert_same_weights(run, whole)


def test_a_finished_run_only_evaluates_again(undisturbed, digits, one_replica):
    config, run, outcome, _ = undisturbed
    _, again, events = train_run(config, digits, one_replica, run.root, name=run.name)
    assert "going on from step 38 " in events[0].text and len(events) == 1
    np.testing.assert_allclose(again.test_probabilities, outcome.test_probabilities, atol=1e-6)


def test_a_loss_that_is_not_finite_stops_the_run(small_config, digits, one_replica, tmp_path):
    config = dataclasses.replace(small_config, learning_rate=1e25)
    with pytest.raises(
        TrainingDiverged, match=r"at step \d+, learning rate .*e\+2\d; last good .*: none was saved yet;"
    ):
        train_run(config, digits, one_replica, tmp_path)


@pytest.mark.parametrize(
    ("last_finite", "told"),
    [(12, r"the loss became .* at step 1[34], "), (14, "gamma is not finite after step 14, ")],
    ids=["between checkpoints", "where one is due"],
)
def test_a_run_that_diverges_names_its_last_good_checkpoint(
    small_config, digits, one_replica, tmp_path, last_finite, told
):
    class Overflowing(TrainState):
        def move_average(self, decay):
            gamma = self.model.get_layer("conv1_norm").gamma.value
            now = self.optimizer.iterations.value >= last_finite
            gamma.assign(tf.where(now, tf.fill(gamma.shape, np.inf), gamma))

    with pytest.raises(TrainingDiverged, match=told + r".*last good checkpoint: .*/checkpoints/step_0*7;"):
        train_run(small_config, digits, one_replica, tmp_path, make_state=Overflowing)


def test_one_long_call_gives_what_many_short_ones_give(undisturbed, digits, one_replica, tmp_path):
    config, whole, *_ = undisturbed
    config = dataclasses.replace(config, log_every_steps=50, checkpoint_every_steps=500)
    run, *_ = train_run(config, digits, one_replica, tmp_path)
    ours, theirs = checkpoint.latest(run)[0], checkpoint.latest(whole)[0]
    for name, value in ours.arrays.items():
        np.testing.assert_array_equal(theirs.arrays[name], value, err_msg=name)


WORKER = """
import json, os, sys
from types import SimpleNamespace
from inkling.train import loop, strategy

rank, port = int(sys.argv[1]), sys.argv[2].split(",")
cluster = {"worker": [f"127.0.0.1:{one}" for one in port]}
os.environ["TF_CONFIG"] = json.dumps({"cluster": cluster, "task": {"type": "worker", "index": rank}})
both = strategy.make_strategy()
loop.check_steps_agree(SimpleNamespace(step=7), both)
print("agreed", flush=True)
loop.check_steps_agree(SimpleNamespace(step=(7, 14)[rank]), both)
print("agreed again", flush=True)
"""


def test_workers_that_would_go_on_from_different_steps_stop():
    ports = f"{free_port()},{free_port()}"
    command, pipe = [sys.executable, "-c", WORKER], subprocess.PIPE
    workers = [
        subprocess.Popen([*command, str(rank), ports], cwd=ROOT, stdout=pipe, stderr=pipe, text=True)
        for rank in range(2)
    ]
    for worker in workers:
        output, told = worker.communicate(timeout=PATIENCE_S)
        assert output == "agreed\n", told
        assert worker.returncode and "different checkpoints" in told

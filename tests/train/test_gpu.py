"""Training on a real GPU, against the same on the CPU. Skipped where there is no GPU that TensorFlow can use."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.patience import PATIENCE_S

pytestmark = pytest.mark.process

ROOT = Path(__file__).parents[2]
ON_CPU = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
ON_GPU = {name: value for name, value in ON_CPU.items() if name != "CUDA_VISIBLE_DEVICES"}
SMALL = [
    "--in-process",
    "--epochs",
    "1",
    "--validation-size",
    "56000",
    "--min-accuracy",
    "0.1",
    "--log-every-steps",
    "1",
]


def python(*arguments, folder, environment=ON_GPU):
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=PATIENCE_S
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module", autouse=True)
def gpu(tmp_path_factory):
    script = "import tensorflow as tf; print(len(tf.config.list_physical_devices('GPU')))"
    if not int(python("-c", script, folder=tmp_path_factory.mktemp("gpu")).split()[-1]):
        pytest.skip("TensorFlow finds no GPU here")


def losses(folder):
    (run,) = (folder / "runs").iterdir()
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return np.array([line["loss"] for line in lines if "loss" in line])


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_an_epoch_learns_and_its_model_is_the_same_without_a_gpu(tmp_path, precision):
    settings = ["--epochs", "1", "--precision", precision, "--min-accuracy", "0.97"]
    python("-m", "train", "--in-process", *settings, folder=tmp_path)
    evaluate = ["-m", "train", "evaluate", "models/mnist", "--json"]
    with_gpu = json.loads(python(*evaluate, folder=tmp_path))
    without = json.loads(python(*evaluate, folder=tmp_path, environment={**ON_CPU, "CUDA_VISIBLE_DEVICES": "-1"}))
    assert with_gpu["accuracy"] > 0.98
    assert without["accuracy"] == pytest.approx(with_gpu["accuracy"], abs=3e-4)


def test_the_loss_falls_as_on_the_cpu(tmp_path):
    settings = [*SMALL, "--precision", "float32", "--dropout", "0", "0", "--learning-rate", "3e-4"]
    for name in ("gpu", "cpu"):
        (tmp_path / name).mkdir()
    python("-m", "train", *settings, folder=tmp_path / "gpu")
    hidden = {**ON_CPU, "CUDA_VISIBLE_DEVICES": "-1"}
    python("-m", "train", *settings, folder=tmp_path / "cpu", environment=hidden)
    found, expected = losses(tmp_path / "gpu"), losses(tmp_path / "cpu")
    assert expected[-1] < 0.7 * expected[0]
    np.testing.assert_allclose(found, expected, rtol=0.02)  # what the order of the sums makes of 31 steps


def test_a_set_on_the_gpu_trains_as_one_on_the_host(tmp_path):
    settings = [*SMALL, "--precision", "float32", "--dropout", "0", "0", "--learning-rate", "3e-4"]
    for name, on_device in (("gpu", "True"), ("host", "False")):
        (tmp_path / name).mkdir()
        python("-m", "train", *settings, "--on-device", on_device, folder=tmp_path / name)
    np.testing.assert_allclose(losses(tmp_path / "gpu"), losses(tmp_path / "host"), rtol=0.02)


SLOPES = """
import numpy as np
import tensorflow as tf
from tests.train.slopes import slopes_by_definition
from inkling.train.network.batch_norm import fused_gradients

random = np.random.default_rng(0)
x, upstream = (random.normal(1, 2, (32, 14, 14, 8)) for _ in range(2))
mean, variance = x.mean((0, 1, 2)) + 0.1, x.var((0, 1, 2)) * 1.2
gamma = random.normal(size=8)
gamma32, mean32, variance32 = (tf.constant(value, tf.float32) for value in (gamma, mean, variance))
for dtype, tolerance in ((tf.float32, 1e-4), (tf.float16, 1e-2), (tf.bfloat16, 5e-2)):
    tensors = [tf.cast(value, dtype) for value in (upstream, x)]
    found = fused_gradients(*tensors, gamma32, mean=mean32, variance=variance32, epsilon=1e-3, on_gpu=True)
    expected = slopes_by_definition(*(tf.cast(t, tf.float64) for t in reversed(tensors)), gamma, mean, variance, 1e-3)
    for slope, value in zip(found, expected):
        np.testing.assert_allclose(tf.cast(slope, tf.float64), value, rtol=tolerance, atol=tolerance)
"""


def test_the_kernels_gradient_of_batch_norm_is_the_definitions(tmp_path):
    python("-c", SLOPES, folder=tmp_path)


TWO_REPLICAS = """
import dataclasses, sys
import numpy as np
import tensorflow as tf
from inkling.train import config, data
from inkling.train.loop import check_replicas_agree
from inkling.train.step import TrainState, make_steps

(gpu,) = tf.config.list_physical_devices("GPU")[:1]
tf.config.set_visible_devices([gpu], "GPU")
tf.config.set_logical_device_configuration(gpu, [tf.config.LogicalDeviceConfiguration(memory_limit=4096)] * 2)
tf.config.experimental.enable_tensor_float_32_execution(False)
quick = dataclasses.replace(config.quick(), dropout=(0.0, 0.0), learning_rate=3e-4, jit_compile=False)
curves = []
for devices in (["GPU:0"], ["GPU:0", "GPU:1"]):
    strategy = tf.distribute.MirroredStrategy(devices)
    with strategy.scope():
        state = TrainState(quick, image_size=(28, 28), num_classes=10, total_steps=100)
    run_steps, _ = make_steps(quick, state, strategy, data.load(), on_device=sys.argv[1] == "device", most=30)
    curves.append(run_steps(30).loss)
    check_replicas_agree(state, strategy)
# Round-off grows from step to step; statistics of one replica's images alone would be off by percents at the first.
np.testing.assert_allclose(curves[1][:8], curves[0][:8], rtol=2e-3)
assert curves[0][-1] < 0.7 * curves[0][0], curves[0]
"""


@pytest.mark.parametrize("place", ["device", "host"])
def test_two_replicas_of_one_gpu_take_the_same_steps_as_one(tmp_path, place):
    # Not compiled: XLA wants a GPU for each replica.
    python("-c", TWO_REPLICAS, place, folder=tmp_path)


def test_ray_gives_the_worker_its_gpu_or_none(tmp_path):
    pytest.importorskip("ray")
    for gpus, told in (("1", "1 GPU each"), ("0", "each")):
        command = [sys.executable, "-m", "train", *SMALL[1:], "--gpus-per-worker", gpus, "--name", f"with-{gpus}"]
        done = subprocess.run(command, cwd=tmp_path, env=ON_GPU, capture_output=True, text=True, timeout=PATIENCE_S)
        assert done.returncode == 0, done.stderr
        (line,) = [line for line in done.stderr.splitlines() if line.startswith("Ray: ")]
        assert line.endswith(told) and ("GPU" in line) == (gpus == "1")
        assert "TensorFlow finds" not in done.stderr  # fewer GPUs than Ray granted

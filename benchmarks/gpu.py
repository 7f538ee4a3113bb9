"""How busy training keeps a GPU, beside Keras' `fit`; and how long it takes to 99.5 %.

    python -m benchmarks.gpu                     all of it, and the GPU's tests; under 8 minutes on one card
    python -m benchmarks.gpu --only device       a part of the table
    python -m benchmarks.gpu --seeds 0 --no-tests

Needs TensorFlow with CUDA (`pip install './train[gpu]'`, or `python -m benchmarks.gpu_kit` for a machine without a
network), and no Ray. Every contender is a process of its own. All of them start and compile at once, and then have the
card to themselves, one after the other, for the seconds that they are timed for.
"""

import argparse
import dataclasses
import fcntl
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from inkling.train import config as configs
from inkling.train import quiet
from inkling.train.config import POLICIES, Precision, TrainConfig

SECONDS = 2.0  # that each contender is timed for


@dataclass(frozen=True, slots=True)
class Contender:
    """One way to train; `way` is a key of WAYS."""

    name: str
    way: str
    precision: Precision = "bfloat16"
    batch: int = 1024
    recipe: configs.Recipe = "quick"
    augmented: bool = True

    @property
    def config(self) -> TrainConfig:
        base = configs.RECIPES[self.recipe]()
        changed = dataclasses.replace(base, precision=self.precision, global_batch_size=self.batch)
        return changed if self.augmented else dataclasses.replace(changed, augmentation=POLICIES["none"])


CONTENDERS = [
    Contender("device, batch 1024, bfloat16", "device"),
    Contender("device, batch 1024, bfloat16, no augmentation", "device", augmented=False),
    Contender("Keras fit as it comes, batch 128, float32", "fit", precision="float32", batch=128),
    Contender("host, batch 128, float16", "host", precision="float16", batch=128),
    Contender("device, batch 128, bfloat16", "device", batch=128),
    Contender("device, batch 1024, float32", "device", precision="float32"),
    Contender("device, batch 1024, float16", "device", precision="float16"),
    Contender("device, batch 512, bfloat16", "device", batch=512),
    Contender("device, batch 2048, bfloat16", "device", batch=2048),
    Contender("host, batch 1024, bfloat16", "host"),
    Contender("Keras fit as it comes, batch 1024, bfloat16", "fit"),
    Contender("best on the device, batch 128, bfloat16", "device", recipe="best", batch=128),
]


def on_device(config: TrainConfig, lock: Path) -> float:
    """Images/s of Inkling's loop with the set on the device."""
    return _loop(config, lock, on_device=True)


def on_host(config: TrainConfig, lock: Path) -> float:
    """Images/s of Inkling's loop with the set on the host, as it was before and still is for CPUs."""
    return _loop(config, lock, on_device=False)


def _loop(config: TrainConfig, lock: Path, *, on_device: bool) -> float:
    from inkling.train import data, strategy
    from inkling.train.step import TrainState, make_steps

    dataset = data.load()
    with (devices := strategy.make_strategy()).scope():
        state = TrainState(config, image_size=dataset.image_size, num_classes=10, total_steps=100_000)
    run_steps, at_once = make_steps(config, state, devices, dataset, on_device=on_device)
    return _timed(lambda: run_steps(at_once), at_once * config.global_batch_size, lock)


def keras_fit(config: TrainConfig, lock: Path) -> float:
    """Images/s of Keras' `Model.fit` on the batches of Inkling's input pipeline."""
    import keras
    import tensorflow as tf

    from inkling.train import data
    from inkling.train.data.pipeline import replica_batches
    from inkling.train.network.model import build_model

    if config.precision != "float32":
        keras.mixed_precision.set_global_policy(f"mixed_{config.precision}")
    model = build_model(config, image_size=(28, 28), num_classes=10)
    model.compile(keras.optimizers.Adam(3e-3), "sparse_categorical_crossentropy", metrics=["accuracy"])
    steps = tf.data.Dataset.range(10_000_000)
    batches = replica_batches(config, data.load(), steps, replicas=range(1), num_replicas=1, ahead=os.cpu_count() or 1)
    plain = batches.map(lambda images, labels, seed: (images, labels))
    return _timed(lambda: model.fit(plain, steps_per_epoch=300, verbose=0), 300 * config.global_batch_size, lock)


WAYS: dict[str, Callable[[TrainConfig, Path], float]] = {"device": on_device, "host": on_host, "fit": keras_fit}


def _timed(chunk: Callable[[], Any], images: int, lock: Path) -> float:
    """Images/s of calls that take `images` each, while no other process is timed."""
    start = time.monotonic()
    chunk()
    print(f"first call: {time.monotonic() - start:.1f} s", file=sys.stderr)
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        chunk()
        start, calls = time.monotonic(), 0
        while time.monotonic() - start < SECONDS:
            chunk()
            calls += 1
        return calls * images / (time.monotonic() - start)


def measure(contender: Contender, lock: Path) -> dict[str, float]:
    """In a process of its own: measure, and tell images/s and the peak of the card's memory."""
    quiet.import_tensorflow(onednn=None)
    import tensorflow as tf

    from inkling.train import strategy

    strategy.configure_tensorflow(
        num_threads=os.cpu_count() or 1, cpu_replicas=1, seed=0, deterministic=False, num_gpus=1
    )
    speed = WAYS[contender.way](contender.config, lock)
    gpu = tf.config.list_logical_devices("GPU")
    peak = tf.config.experimental.get_memory_info("GPU:0")["peak"] if gpu else 0
    return {"images_per_s": speed, "peak_gb": peak / 1e9}


def table(only: str) -> None:
    """Measure the contenders whose name contains `only`, and print them."""
    chosen = [contender for contender in CONTENDERS if only in contender.name]
    with tempfile.TemporaryDirectory() as folder:
        lock = Path(folder) / "card"
        command = [sys.executable, "-m", "benchmarks.gpu", "--lock", str(lock), "--one"]
        started = []
        for contender in chosen:
            started.append(subprocess.Popen([*command, contender.name], stdout=subprocess.PIPE, text=True))
            time.sleep(0.5)  # the first ones come first
        print(f"{'way to train':50} images/s   peak GB", flush=True)
        for contender, process in zip(chosen, started, strict=True):
            told = process.communicate()[0].splitlines()
            if process.returncode:
                print(f"{contender.name:50} failed with status {process.returncode}", flush=True)
                continue
            found = json.loads(told[-1])
            print(f"{contender.name:50} {found['images_per_s']:8,.0f}   {found['peak_gb']:7.2f}", flush=True)


def accuracies(recipe: str, seeds: list[int]) -> None:
    """Train runs of a recipe side by side, then one alone on the card for its seconds, and print what they reached."""
    with tempfile.TemporaryDirectory() as folder:
        together = [_run(recipe, seed, Path(folder) / f"{seed}") for seed in seeds[1:]]
        for process in together:
            process.wait()
        _run(recipe, seeds[0], Path(folder) / f"{seeds[0]}").wait()
        reports = [_report(Path(folder) / f"{seed}") for seed in seeds]
        found = [report["test"]["accuracy"] for report in reports]
        spread = f" ± {stdev(found):.3%} (seeds {seeds})" if len(found) > 1 else f" (seed {seeds[0]})"
        times = _seconds_of_steps(Path(folder) / f"{seeds[0]}")
        print(f"{recipe}: {mean(found):.3%}{spread}: {', '.join(f'{value:.2%}' for value in found)}")
        print(
            f"{recipe}: {times:.2f} s of steps, the first call, which compiles, at the speed of the others", flush=True
        )


def _run(recipe: str, seed: int, folder: Path) -> "subprocess.Popen[bytes]":
    folder.mkdir()
    root = Path(__file__).parents[1]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])}
    flags = ["--recipe", recipe, "--seed", str(seed), "--name", "run", "--in-process", "--no-publish"]
    command = [sys.executable, "-m", "train", *flags, "--min-accuracy", "0"]
    with (folder / "log").open("wb") as log:
        return subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)


def _report(folder: Path) -> dict[str, Any]:
    path = folder / "runs" / "run" / "report.json"
    if not path.exists():
        raise SystemExit((folder / "log").read_text()[-2000:])
    return dict(json.loads(path.read_text()))


def _seconds_of_steps(folder: Path) -> float:
    lines = [json.loads(line) for line in (folder / "runs" / "run" / "metrics.jsonl").read_text().splitlines()]
    calls = [line for line in lines if "images_per_s" in line]
    total = json.loads((folder / "runs" / "run" / "report.json").read_text())["step"]
    config = json.loads((folder / "runs" / "run" / "config.json").read_text())["train"]
    first = calls[0]["images_per_s"]  # all lines of a call have its speed
    others = [line for line in calls if line["images_per_s"] != first]
    steps = [b["step"] - a["step"] for a, b in zip(calls, calls[1:], strict=False) if b["images_per_s"] != first]
    spent = sum(n * config["global_batch_size"] / line["images_per_s"] for n, line in zip(steps, others, strict=True))
    return float(spent * total / sum(steps))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--only", default="", help="only contenders whose name contains this")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2, 3, 4], help="of the runs to 99.5 %%")
    parser.add_argument("--tests", action=argparse.BooleanOptionalAction, default=True, help="run the GPU's tests")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--lock", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        (contender,) = [contender for contender in CONTENDERS if contender.name == arguments.one]
        print(json.dumps(measure(contender, arguments.lock)))
        return
    table(arguments.only)
    if arguments.seeds:
        accuracies("fast", arguments.seeds)
    if arguments.tests:
        raise SystemExit(subprocess.call([sys.executable, "-m", "pytest", "-q", "-rs", "tests/train/test_gpu.py"]))


if __name__ == "__main__":
    main()

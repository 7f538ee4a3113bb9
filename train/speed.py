"""How fast this machine trains, measured in seconds before a run begins, and how many epochs fit a given time.

    python -m inkling.train.speed '{"epochs": 6, ...}' HEIGHT WIDTH CHANNELS CLASSES THREADS    prints images/s

It measures in a process of its own: TensorFlow's threads are set once in a process, and the run sets its own.
"""

import dataclasses
import json
import os
import subprocess
import sys
import time

from . import quiet
from .config import TrainConfig
from .data import Dataset

MEASURED_S = 4.0  # of steps, after those that compile
IMAGES = 4096  # of noise, which costs what digits cost
FEWEST_EPOCHS = 3  # that reach 99.3 % of MNIST's test images with the quick recipe (docs/training.md)
# Validation, statistics of batch norm, checkpoints, the test set and publishing: what a run does beside steps.
SHARE_OF_STEPS = 0.85


def images_per_s(config: TrainConfig, dataset: Dataset, *, num_threads: int) -> float:
    """Measure the training step on this machine, with its input pipeline; takes some 20 seconds.

    Args:
        dataset: only its images' shape and its number of classes count.
        num_threads: CPU threads that the run will have.

    Raises: RuntimeError if the measurement fails; its last line says why.
    """
    command = [sys.executable, "-m", f"{__package__}.speed", json.dumps(config.to_json())]
    numbers = [*dataset.image_size, dataset.channels, len(dataset.class_names), num_threads]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run([*command, *map(str, numbers)], env=environment, capture_output=True, text=True)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise RuntimeError(f"the speed of this machine could not be measured ({lines[-1]}); give --epochs instead")
    return float(done.stdout.split()[-1])


def fitted(config: TrainConfig, *, minutes: float, speed: float, num_examples: int) -> tuple[TrainConfig, str]:
    """`config` with as many of its epochs as fit, and a line that says what was chosen and why.

    Args:
        minutes: for the whole run.
        speed: images/s, as measured.
        num_examples: that an epoch trains on.
    """
    fit = int(minutes * 60 * SHARE_OF_STEPS * speed / num_examples)
    epochs = min(config.epochs, max(fit, FEWEST_EPOCHS))
    plain = config.plain_epochs * epochs // config.epochs
    chosen = dataclasses.replace(
        config, epochs=epochs, plain_epochs=plain, warmup_epochs=config.warmup_epochs * epochs / config.epochs
    )
    took = epochs * num_examples / speed / SHARE_OF_STEPS / 60
    whole = config.epochs * num_examples / speed / SHARE_OF_STEPS / 60
    if epochs == config.epochs:
        return config, f"{speed:,.0f} images/s here: all {epochs} epochs fit, in about {took:.0f} minutes"
    why = f"fit {minutes:g} minutes" if fit >= epochs else f"are the fewest, and take more than {minutes:g} minutes"
    return chosen, (
        f"{speed:,.0f} images/s here: {epochs} epochs {why} (about {took:.0f}); "
        f"--epochs {config.epochs} would take about {whole:.0f} and be more accurate"
    )


def _measure(config: TrainConfig, image_shape: tuple[int, ...], num_classes: int, num_threads: int) -> float:
    import numpy as np

    from . import strategy
    from .step import TrainState, make_steps

    strategy.configure_tensorflow(
        num_threads=num_threads, cpu_replicas=1, seed=config.seed, deterministic=config.deterministic
    )
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (IMAGES, *image_shape), np.uint8)
    labels = np.arange(IMAGES) % num_classes
    noise = Dataset(images, labels, images[:1], labels[:1], tuple(map(str, range(num_classes))), "noise")
    with (devices := strategy.make_strategy()).scope():
        state = TrainState(
            config,
            image_size=noise.image_size,
            num_classes=num_classes,
            total_steps=10_000,
            channels=noise.channels,
        )
    run_steps, at_once = make_steps(config, state, devices, noise)
    run_steps(at_once)  # compiles
    start, steps = time.monotonic(), 0
    while time.monotonic() - start < MEASURED_S:
        run_steps(at_once)
        steps += at_once
    return steps * config.global_batch_size / (time.monotonic() - start)


def main() -> None:
    """Print images/s."""
    settings, *numbers = sys.argv[1:]
    height, width, channels, num_classes, num_threads = map(int, numbers)
    image_shape = (height, width) if channels == 1 else (height, width, channels)
    config = TrainConfig.from_json(json.loads(settings))
    quiet.import_tensorflow(onednn=config.onednn)
    print(_measure(config, image_shape, num_classes, num_threads))


if __name__ == "__main__":
    main()

"""How fast training is, beside what a person would pick instead: same model, same batches, one run.

    python -m benchmarks.train_throughput                      all contenders, three rounds; about 10 minutes on 2 cores
    python -m benchmarks.train_throughput --seconds 2 --rounds 1   a first look

Every contender runs in Ray Train's `TensorflowTrainer` and takes the same augmented batches from Inkling's input
pipeline. "Inkling" is the loop as `python -m train` runs it here: in bfloat16 on a CPU that multiplies it in hardware,
with oneDNN's kernels on every CPU. All others compute in float32, so that only the way to train differs between them;
they have oneDNN's kernels too, but for "as it comes", where TensorFlow chooses by the CPU. Rounds visit all contenders
in turn, so a machine that slows down slows all of them; figures are medians over rounds, and ratios are taken within a
round.
"""

import argparse
import dataclasses
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import ray.train
import ray.train.collective

from inkling.train import config as configs
from inkling.train import data, quiet
from inkling.train.config import TrainConfig
from inkling.train.data import Dataset

WARM_UP_STEPS = 12  # compile, fill the caches
CHUNK_STEPS = 10  # steps between two looks at the clock


@dataclass(frozen=True, slots=True)
class Contender:
    """One way to train; `measure(config, dataset, seconds)` returns images/s over all workers."""

    name: str
    measure: Callable[[TrainConfig, Dataset, float], float]
    global_batch_size: int = 128
    num_workers: int = 1
    cpus: int = 2  # for each worker
    precision: configs.Precision = "float32"
    onednn: bool = True  # if not, TensorFlow chooses by the CPU, as it comes


@dataclass(frozen=True, slots=True)
class Claim:
    """`name` should be at least `floor` times as fast as `other`."""

    name: str
    other: str
    floor: float


def loop(config: TrainConfig, dataset: Dataset, seconds: float, *, constant: bool = False) -> float:
    """Inkling's loop; with `constant`, on one batch again and again, which costs no input pipeline."""
    from inkling.train import strategy as strategies
    from inkling.train.data.pipeline import training_batches
    from inkling.train.step import TrainState, make_run_steps

    threads = int(os.environ["OMP_NUM_THREADS"])  # what Ray granted
    place = ray.train.get_context()
    strategies.keep_to_own_cpus(place.get_local_rank(), local_workers=place.get_local_world_size(), num_cpus=threads)
    strategies.configure_tensorflow(num_threads=threads, cpu_replicas=1, seed=0, deterministic=False)
    strategy = strategies.make_strategy()
    with strategy.scope():
        state = TrainState(config, image_size=dataset.image_size, num_classes=10, total_steps=10_000)
    run_steps = make_run_steps(config, state, strategy)
    batches = training_batches(config, dataset, strategy, first_step=0)
    if constant:
        import tensorflow as tf

        one = next(iter(batches))
        batches = strategy.distribute_datasets_from_function(lambda context: tf.data.Dataset.from_tensors(one).repeat())
    iterator = iter(batches)
    run_steps(iterator, WARM_UP_STEPS)
    return _timed(lambda: run_steps(iterator, CHUNK_STEPS), config, seconds)


def constant_data(config: TrainConfig, dataset: Dataset, seconds: float) -> float:
    """Inkling's loop without its input pipeline."""
    return loop(config, dataset, seconds, constant=True)


def keras_fit(config: TrainConfig, dataset: Dataset, seconds: float, *, jit_compile: bool | str = "auto") -> float:
    """Keras 3's `Model.fit`, in one worker."""
    import keras

    from inkling.train.network.model import build_model

    model = build_model(config, image_size=dataset.image_size, num_classes=10)
    model.compile(
        keras.optimizers.Adam(3e-3), "sparse_categorical_crossentropy", metrics=["accuracy"], jit_compile=jit_compile
    )
    return _timed_fit(model, _plain_batches(config, dataset, worker=0, num_workers=1), config, seconds)


def keras_fit_without_xla(config: TrainConfig, dataset: Dataset, seconds: float) -> float:
    """Keras 3's `Model.fit(jit_compile=False)`, in one worker."""
    return keras_fit(config, dataset, seconds, jit_compile=False)


def ray_example(config: TrainConfig, dataset: Dataset, seconds: float) -> float:
    """As Ray's TensorFlow guide has it: legacy Keras, `fit` in the scope of a MultiWorkerMirroredStrategy."""
    import tensorflow as tf
    import tf_keras

    context = ray.train.get_context()
    worker, num_workers = context.get_world_rank(), context.get_world_size()
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    with strategy.scope():
        model = _legacy_model(config)
        model.compile(tf_keras.optimizers.Adam(3e-3), "sparse_categorical_crossentropy", metrics=["accuracy"])
    batches = strategy.distribute_datasets_from_function(
        lambda _: _plain_batches(config, dataset, worker=worker, num_workers=num_workers)
    )
    return _timed_fit(model, batches, config, seconds)


def _legacy_model(config: TrainConfig) -> Any:
    from tf_keras import Sequential, layers, regularizers

    def convolution(filters: int) -> list[Any]:
        l2 = regularizers.L2(config.l2)
        conv = layers.Conv2D(filters, 3, padding="same", activation="relu", kernel_regularizer=l2)
        return [conv, layers.BatchNormalization()]

    one, two, three, four = config.widths
    stack = [*convolution(one), *convolution(two), layers.MaxPooling2D(), layers.Dropout(config.dropout[0])]
    stack += [*convolution(three), *convolution(four), layers.MaxPooling2D(), layers.Dropout(config.dropout[1])]
    return Sequential([layers.Input((28, 28, 1)), *stack, layers.Flatten(), layers.Dense(10, activation="softmax")])


def _plain_batches(config: TrainConfig, dataset: Dataset, *, worker: int, num_workers: int) -> Any:
    import tensorflow as tf

    from inkling.train.data.pipeline import replica_batches

    steps = tf.data.Dataset.range(1_000_000)
    batches = replica_batches(config, dataset, steps, replicas=range(worker, worker + 1), num_replicas=num_workers)
    return batches.map(lambda images, labels, seed: (images, labels))


def _timed_fit(model: Any, batches: Any, config: TrainConfig, seconds: float) -> float:
    """The last of three calls of `fit`: the first one compiles, the second one's speed says how long the third is."""
    model.fit(batches, steps_per_epoch=WARM_UP_STEPS, verbose=0)
    start = time.monotonic()
    model.fit(batches, steps_per_epoch=CHUNK_STEPS, verbose=0)
    # Workers must agree on the number of steps, and their clocks do not: the first worker's decides.
    steps = max(CHUNK_STEPS, int(seconds / (time.monotonic() - start) * CHUNK_STEPS))
    steps = ray.train.collective.broadcast_from_rank_zero(steps)
    start = time.monotonic()
    model.fit(batches, steps_per_epoch=steps, verbose=0)
    return steps * config.global_batch_size / (time.monotonic() - start)


def _timed(chunk: Callable[[], Any], config: TrainConfig, seconds: float) -> float:
    start = time.monotonic()
    chunk()
    chunks = max(1, int(seconds / (time.monotonic() - start)))
    chunks = ray.train.collective.broadcast_from_rank_zero(chunks)
    start = time.monotonic()
    for _ in range(chunks):
        chunk()
    return chunks * CHUNK_STEPS * config.global_batch_size / (time.monotonic() - start)


AS_IT_COMES: configs.Precision = "bfloat16" if quiet.trains_in_bfloat16() else "float32"
CONTENDERS = [
    Contender("Inkling", loop, precision=AS_IT_COMES),
    Contender("Model.fit as it comes", keras_fit, onednn=False),
    Contender("Model.fit", keras_fit),
    Contender("Ray's example as it comes, 1 worker", ray_example, onednn=False),
    Contender("Inkling, float32", loop),
    Contender("Inkling, float32, constant data", constant_data),
    Contender("Model.fit(jit_compile=False)", keras_fit_without_xla),
    Contender("Ray's example, 1 worker", ray_example),
    Contender("Inkling, float32, 2 workers", loop, num_workers=2, cpus=1),
    Contender("Ray's example, 2 workers", ray_example, num_workers=2, cpus=1),
    Contender("Inkling, float32, batch 256", loop, global_batch_size=256),
    Contender("Inkling, float32, batch 256, 2 workers", loop, global_batch_size=256, num_workers=2, cpus=1),
]
CLAIMS = [
    Claim("Inkling", "Model.fit as it comes", 1.7),
    Claim("Inkling", "Ray's example as it comes, 1 worker", 1.0),
    Claim("Inkling, float32", "Model.fit", 1.0),
    Claim("Inkling, float32", "Model.fit(jit_compile=False)", 1.0),
    Claim("Inkling, float32", "Ray's example, 1 worker", 1.0),
    Claim("Inkling, float32, 2 workers", "Ray's example, 2 workers", 1.0),
    Claim("Inkling, float32", "Inkling, float32, constant data", 0.95),
    Claim("Inkling, float32, batch 256, 2 workers", "Inkling, float32, batch 256", 0.95),
]


def cpu() -> str:
    """The processor's name, and those of its features that decide how fast it trains."""
    lines = [line.split(":", 1) for line in Path("/proc/cpuinfo").read_text().splitlines() if ":" in line]
    values = {name.strip(): value.strip() for name, value in lines}
    wanted = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16")
    return f"{values.get('model name')}; {', '.join(flag for flag in wanted if flag in values['flags'].split())}"


def measure(contender: Contender, dataset: Any, seconds: float) -> float:
    """Run one contender on workers of its own; returns images/s."""
    from ray.train.tensorflow import TensorflowTrainer  # imports TensorFlow, which main() does quietly first

    config = dataclasses.replace(
        configs.quick(), global_batch_size=contender.global_batch_size, precision=contender.precision
    )

    def worker(settings: dict[str, Any]) -> float:
        return contender.measure(config, ray.get(settings["dataset"]), seconds)

    trainer = TensorflowTrainer(
        worker,
        train_loop_config={"dataset": dataset},
        scaling_config=ray.train.ScalingConfig(
            num_workers=contender.num_workers, resources_per_worker={"CPU": contender.cpus}
        ),
        run_config=ray.train.RunConfig(
            logging_config=ray.train.LoggingConfig(log_level="ERROR"),
            worker_runtime_env={"env_vars": {quiet.ONEDNN: "1"} if contender.onednn else {}},
        ),
    )
    return float(trainer.fit().return_value)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.train_throughput", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--seconds", type=float, default=8.0, help="to measure each contender for, each round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="only contenders whose name contains this")
    arguments = parser.parse_args()
    quiet.import_tensorflow(onednn=None)
    print(f"CPU: {cpu()}")
    ray.init(
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        num_cpus=2,
        runtime_env={"env_vars": {"TF_CPP_MIN_LOG_LEVEL": "3"}},
    )
    dataset = ray.put(data.load())
    contenders = [contender for contender in CONTENDERS if arguments.only in contender.name]
    figures: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    for number in range(arguments.rounds):
        for contender in contenders:
            figures[contender.name].append(measure(contender, dataset, arguments.seconds))
            print(f"round {number + 1}  {contender.name:40} {figures[contender.name][-1]:8,.0f} images/s", flush=True)
    print(f"\n{'way to train':40} images/s (median of {arguments.rounds})")
    for name, values in figures.items():
        print(f"{name:40} {statistics.median(values):8,.0f}")
    print(f"\n{'ratio, median over rounds':80} floor")
    for claim in CLAIMS:
        if {claim.name, claim.other} <= figures.keys():
            ratios = [a / b for a, b in zip(figures[claim.name], figures[claim.other], strict=True)]
            print(f"{claim.name + ' / ' + claim.other:72} {statistics.median(ratios):7.2f} {claim.floor:5.2f}")


if __name__ == "__main__":
    main()

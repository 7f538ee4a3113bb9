"""Sets that stay on a disk: which format to keep them in, and what training from them costs beside a set in memory.

    python -m benchmarks.shards formats           reads from each format, random and one after the other; two minutes
    python -m benchmarks.shards make DIR          MNIST as shards: 60 thousand, 1 million and 5 million images; 4.9 GB
    python -m benchmarks.shards steps DIR         images/s and memory of the training step on each, in turns
    python -m benchmarks.shards mixing            what windows do to the accuracy; a quarter of an hour on 2 cores

`formats` compares plain arrays read by `pread`, the same arrays as memory maps, ArrayRecord by Grain's data source and
Parquet by pyarrow, each in a process of its own, which tells its memory as well. ArrayRecord needs
`pip install grain array-record`, without which it is left out. The files have just been written, so all are read from
the system's cache: what is compared is the cost of a read, not the disk.

`steps` starts one process for each set and lets them train one after the other, round after round; ratios are taken
within a round. Memory is what /proc tells of the process at the end. With `--group`, the folder of a memory
cgroup that you have given a limit, those on shards train under that, the system's cache of their files included.

`mixing` trains a network of a quarter of the size on MNIST, mixed as a whole and in windows of a fifteenth of it, once
as MNIST is and once sorted by class, so that each block of a window holds one class.
"""

import argparse
import dataclasses
import importlib.util
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inkling.train import config as configs
from inkling.train import data
from inkling.train.config import ShardConfig
from inkling.train.data.shards import ArrayFile, Place, ShardedRows
from inkling.train.sharding import writing

BATCH = 128
SHARD_ROWS = 60_000
PIXELS = 28 * 28
SMALL_WINDOW = 4096  # 64 blocks, where a set in shards has 4,096 in a window
COPIES = {"60 thousand": 0, "1 million": 16, "5 million": 83}  # of MNIST's 60,000 training images
MEMORY = ("RssAnon", "RssFile", "VmHWM")

Read = Callable[[NDArray[np.int64]], NDArray[np.uint8]]


def memory_mb() -> dict[str, float]:
    """This process's resident memory: anonymous, of files, and the most it had in all."""
    lines = Path("/proc/self/status").read_text().splitlines()
    told = dict(line.split(":", 1) for line in lines)
    return {name: int(told[name].split()[0]) / 1000 for name in MEMORY}


def shard_files(folder: Path, suffix: str) -> list[Path]:
    """The files of one format."""
    return sorted(folder.glob(f"*.{suffix}"))


def write_npy(folder: Path, number: int, images: NDArray[np.uint8]) -> None:
    """NumPy's own format."""
    np.save(folder / f"{number:05d}.npy", images)


def write_arrayrecord(folder: Path, number: int, images: NDArray[np.uint8]) -> None:
    """ArrayRecord, a record for each image, uncompressed, each by itself as Grain advises for random access."""
    from array_record.python.array_record_module import ArrayRecordWriter

    writer = ArrayRecordWriter(str(folder / f"{number:05d}.arrayrecord"), "group_size:1,uncompressed")
    for image in images:
        writer.write(image.tobytes())
    writer.close()


def write_parquet(folder: Path, number: int, images: NDArray[np.uint8]) -> None:
    """Parquet, a row for each image, groups of 1,000 rows."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    column = pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(PIXELS), len(images), [None, pa.py_buffer(images.tobytes())]
    )
    pq.write_table(
        pa.table({"image": column}), folder / f"{number:05d}.parquet", row_group_size=1000, compression="none",
        use_dictionary=False,
    )  # fmt: skip


def read_by_pread(folder: Path) -> Read:
    """What Inkling does."""
    files = [ArrayFile(path.name, SHARD_ROWS, "") for path in shard_files(folder, "npy")]
    return ShardedRows(Place(str(folder)), files, "|u1", (28, 28)).__getitem__


def read_by_map(folder: Path) -> Read:
    """The same files as memory maps."""
    maps = [np.load(path, mmap_mode="r") for path in shard_files(folder, "npy")]

    def read(index: NDArray[np.int64]) -> NDArray[np.uint8]:
        images = np.empty((len(index), 28, 28), np.uint8)
        shards = index // SHARD_ROWS
        for shard in np.unique(shards):
            images[shards == shard] = maps[shard][index[shards == shard] % SHARD_ROWS]
        return images

    return read


def read_by_grain(folder: Path) -> Read:
    """ArrayRecord through Grain's data source."""
    from grain.sources import ArrayRecordDataSource

    source: Any = ArrayRecordDataSource([str(path) for path in shard_files(folder, "arrayrecord")])

    def read(index: NDArray[np.int64]) -> NDArray[np.uint8]:
        records = source.__getitems__(index.tolist())
        return np.frombuffer(b"".join(records), np.uint8).reshape(-1, 28, 28)

    return read


def read_by_parquet(folder: Path) -> Read:
    """Parquet: the row groups that hold the images, decoded, and the images out of them."""
    import pyarrow.parquet as pq

    files = [pq.ParquetFile(path, memory_map=True) for path in shard_files(folder, "parquet")]

    def group(number: int) -> NDArray[np.uint8]:
        table = files[number * 1000 // SHARD_ROWS].read_row_group(number % (SHARD_ROWS // 1000))
        rows = b"".join(chunk.buffers()[1].to_pybytes() for chunk in table["image"].chunks)
        return np.frombuffer(rows, np.uint8).reshape(-1, 28, 28)

    def read(index: NDArray[np.int64]) -> NDArray[np.uint8]:
        groups = {number: group(number) for number in np.unique(index // 1000).tolist()}
        return np.stack([groups[i // 1000][i % 1000] for i in index.tolist()])

    return read


FORMATS: dict[str, tuple[Callable[[Path, int, NDArray[np.uint8]], None], Callable[[Path], Read]]] = {
    "arrays, pread": (write_npy, read_by_pread),
    "arrays, memory map": (write_npy, read_by_map),
    "ArrayRecord, Grain": (write_arrayrecord, read_by_grain),
    "Parquet": (write_parquet, read_by_parquet),
}


def compare_formats(shards: int, seconds: float) -> None:
    """Print a line for each format."""
    images = data.load().train_images[np.arange(SHARD_ROWS)]
    print(f"{shards * SHARD_ROWS:,} images, batches of {BATCH}, from the system's cache")
    print(f"{'format':22} {'random/s':>10} {'in turn/s':>10} {'MB':>6} {'anonymous MB':>13} {'of files MB':>12}")
    for name, (write, _) in FORMATS.items():
        if "Grain" in name and not importlib.util.find_spec("grain"):
            print(f"{name:22} not installed")
            continue
        with tempfile.TemporaryDirectory(prefix="inkling-formats-") as folder:
            for number in range(shards):
                write(Path(folder), number, images)
            size = sum(path.stat().st_size for path in Path(folder).iterdir()) / 1e6
            told = subprocess.run(
                [sys.executable, "-m", "benchmarks.shards", "read", name, folder, str(seconds)],
                check=True, stdout=subprocess.PIPE, text=True,
            ).stdout  # fmt: skip
            found = json.loads(told.splitlines()[-1])
            print(
                f"{name:22} {found['random']:10,.0f} {found['in turn']:10,.0f} {size:6,.0f} {found['RssAnon']:13,.0f} "
                f"{found['RssFile']:12,.0f}"
            )


def read_format(name: str, folder: Path, seconds: float) -> None:
    """Print the reads/s of one format and this process's memory beyond what it had before, as JSON."""
    before = memory_mb()
    open_for_reading = FORMATS[name][1]
    count = len(list(folder.iterdir())) * SHARD_ROWS
    read = open_for_reading(folder)
    random = np.random.default_rng(0)
    found = {
        "in turn": _reads_per_s(read, lambda n: (np.arange(BATCH) + n * BATCH) % count, seconds),
        "random": _reads_per_s(read, lambda n: random.integers(0, count, BATCH), seconds),
    }
    after = memory_mb()
    print(json.dumps(found | {kind: after[kind] - before[kind] for kind in MEMORY}))


def _reads_per_s(read: Read, batch: Callable[[int], NDArray[np.int64]], seconds: float) -> float:
    start, number = time.monotonic(), 0
    while time.monotonic() - start < seconds:
        read(batch(number))
        number += 1
    return number * BATCH / (time.monotonic() - start)


def make(folder: Path) -> None:
    """Write the sets that `steps` trains on, in this process; started again it goes on."""
    mnist = data.load()
    for name, copies in COPIES.items():
        target = writing.folder_of(str(folder / name.replace(" ", "-")))
        print(target, flush=True)
        writing.write_set([mnist], target, ShardConfig(copies=copies), tell=print)


def compare_steps(folder: Path, rounds: int, seconds: float, *, only: str, group: str) -> None:
    """Print images/s and memory of the training step on a set in memory and on each of the sets in `folder`.

    Args:
        only: what a set's name must contain.
        group: folder of a memory cgroup, whose limit those on shards are under together; empty: none.
    """
    sources = {"60 thousand, in memory": "-"} | {name: str(folder / name.replace(" ", "-")) for name in COPIES}
    there = {name: source for name, source in sources.items() if source == "-" or only in name}
    trainers = {name: _Trainer(source, seconds, "" if source == "-" else group) for name, source in there.items()}
    for trainer in trainers.values():
        trainer.wait()
    speeds: dict[str, list[float]] = {name: [] for name in trainers}
    for _ in range(rounds):
        for name, trainer in trainers.items():
            speeds[name].append(trainer.train())
    base = speeds["60 thousand, in memory"]
    print(
        f"{'set':24} {'images/s':>9} {'ratio':>6} {'lowest':>7} {'anonymous MB':>13} {'of files MB':>12} {'peak MB':>8}"
    )
    for name, trainer in trainers.items():
        ratios = [one / other for one, other in zip(speeds[name], base, strict=True)]
        memory = trainer.end()
        print(
            f"{name:24} {statistics.median(speeds[name]):9,.0f} {statistics.median(ratios):6.2f} {min(ratios):7.2f} "
            f"{memory['RssAnon']:13,.0f} {memory['RssFile']:12,.0f} {memory['VmHWM']:8,.0f}"
        )


class _Trainer:
    """A process that trains on one set when it is asked to."""

    def __init__(self, source: str, seconds: float, group: str) -> None:
        command = [sys.executable, "-m", "benchmarks.shards", "train", source, str(seconds), group]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def wait(self) -> None:
        """Until it has compiled."""
        self._answer()

    def train(self) -> float:
        """Images/s over some seconds."""
        self._stdin.write("train\n")
        self._stdin.flush()
        return float(self._answer()["images_per_s"])

    def end(self) -> dict[str, float]:
        """Its memory, in MB; it ends."""
        self._stdin.close()
        memory = self._answer()
        self._process.wait()
        return memory

    @property
    def _stdin(self) -> io.TextIOBase:
        assert self._process.stdin
        return self._process.stdin  # type: ignore[return-value]

    def _answer(self) -> dict[str, float]:
        assert self._process.stdout
        answer: dict[str, float] = json.loads(self._process.stdout.readline())
        return answer


def train_when_asked(source: str, seconds: float, group: str) -> None:
    """Train on one set as a run does, for some seconds with each line that comes in."""
    from inkling.train import quiet

    if group:
        Path(group, "cgroup.procs").write_text(str(os.getpid()))
    config = configs.quick()
    quiet.import_tensorflow(onednn=True)
    from inkling.train import strategy
    from inkling.train.data.pipeline import training_batches
    from inkling.train.step import TrainState, make_run_steps

    threads = os.cpu_count() or 1
    strategy.configure_tensorflow(num_threads=threads, cpu_replicas=1, seed=0, deterministic=False)
    dataset, *_ = data.load(None if source == "-" else source).hold_out(config.validation_size, config.seed)
    with (devices := strategy.make_strategy()).scope():
        state = TrainState(config, image_size=dataset.image_size, num_classes=10, total_steps=10_000)
    run_steps = make_run_steps(config, state, devices)
    batches = iter(training_batches(config, dataset, devices, first_step=0))
    run_steps(batches, config.log_every_steps)
    print(json.dumps({}), flush=True)
    for _ in sys.stdin:
        start, steps = time.monotonic(), 0
        while time.monotonic() - start < seconds:
            run_steps(batches, 10)
            steps += 10
        speed = steps * config.global_batch_size / (time.monotonic() - start)
        print(json.dumps({"images_per_s": speed}), flush=True)
    print(json.dumps(memory_mb()), flush=True)


def compare_mixing(epochs: int, seed: int, only: str) -> None:
    """Print the test accuracy of a small network by how an epoch mixes MNIST's examples."""
    from inkling.train import quiet

    quiet.import_tensorflow(onednn=True)
    from inkling.train import loop, strategy
    from inkling.train.evaluate import Evaluation
    from inkling.train.storage import RunFolder

    config = dataclasses.replace(configs.quick(), epochs=epochs, seed=seed, widths=(16, 16, 32, 32))
    threads = os.cpu_count() or 1
    strategy.configure_tensorflow(num_threads=threads, cpu_replicas=1, seed=seed, deterministic=False)
    mnist = data.load()
    by_class = np.argsort(np.asarray(mnist.train_labels), kind="stable")
    in_order = dataclasses.replace(
        mnist, train_images=mnist.train_images[by_class], train_labels=mnist.train_labels[by_class]
    )
    for name, (dataset, window) in {
        "whole": (mnist, None),
        "windows": (mnist, SMALL_WINDOW),
        "whole, stored by class": (in_order, None),
        "windows, stored by class": (in_order, SMALL_WINDOW),
    }.items():
        if only not in name:
            continue
        with tempfile.TemporaryDirectory(prefix="inkling-mixing-") as folder:
            outcome = loop.train(
                config,
                dataclasses.replace(dataset, window=window),
                strategy.make_strategy(),
                RunFolder(folder, "run"),
                emit=lambda event: None,
                on_checkpoint=lambda path, metrics: None,
            )
        assert isinstance(outcome, loop.Outcome)
        accuracy = Evaluation.of(outcome.test_probabilities, mnist.test_labels).accuracy
        print(f"{name:26} seed {seed}  {accuracy:.2%}", flush=True)


def main() -> None:
    """Run what the first argument says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    formats = commands.add_parser("formats")
    formats.add_argument("--shards", type=int, default=10, help=f"of {SHARD_ROWS:,} images")
    formats.add_argument("--seconds", type=float, default=3.0)
    commands.add_parser("make").add_argument("folder", type=Path)
    steps = commands.add_parser("steps")
    steps.add_argument("folder", type=Path)
    steps.add_argument("--rounds", type=int, default=5)
    steps.add_argument("--seconds", type=float, default=10.0)
    steps.add_argument("--only", default="", help="the sets with this in their names")
    steps.add_argument("--group", default="", help="a memory cgroup's folder, which trainers on shards join")
    mixing = commands.add_parser("mixing")
    mixing.add_argument("--epochs", type=int, default=3)
    mixing.add_argument("--seed", type=int, default=0)
    mixing.add_argument("--only", default="", help="the orders with this in their names")
    read = commands.add_parser("read", description="one format; `formats` starts it")
    read.add_argument("name")
    read.add_argument("folder", type=Path)
    read.add_argument("seconds", type=float)
    train = commands.add_parser("train", description="one set; `steps` starts it")
    train.add_argument("source")
    train.add_argument("seconds", type=float)
    train.add_argument("group")
    flags = parser.parse_args()
    if flags.command == "formats":
        compare_formats(flags.shards, flags.seconds)
    elif flags.command == "make":
        make(flags.folder)
    elif flags.command == "steps":
        compare_steps(flags.folder, flags.rounds, flags.seconds, only=flags.only, group=flags.group)
    elif flags.command == "mixing":
        compare_mixing(flags.epochs, flags.seed, flags.only)
    elif flags.command == "read":
        read_format(flags.name, flags.folder, flags.seconds)
    else:
        train_when_asked(flags.source, flags.seconds, flags.group)


if __name__ == "__main__":
    main()

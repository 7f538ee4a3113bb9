"""A set of shards, written by all CPUs of a Ray cluster: `python -m train shard`."""

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import ray

from ..cluster.connection import connected, last_line
from ..cluster.launch import TrainingFailed
from ..cluster.nodes import check_nodes_see
from ..config import ShardConfig
from ..data import Dataset
from ..storage import RunFolder
from .making import Chunk, Shard
from .writing import JOB, Make, Task, write_set

AHEAD = 2  # shards for each CPU that are under way, at most: their images are in memory
# One thread for each shard, as Ray counts CPUs, and no GPU: it is done before one has been set up.
ENVIRONMENT = {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1", "CUDA_VISIBLE_DEVICES": "-1"}


def run_job(
    sources: Sequence[Dataset],
    folder: RunFolder,
    config: ShardConfig,
    *,
    address: str,
    verbose: bool,
    tell: Callable[[str], None],
) -> dict[str, Any]:
    """Write a set over all workers of a Ray cluster; returns its manifest.

    Args:
        address: of the cluster; `local` starts one on this machine.
        tell: takes lines for the display.

    Raises: what `write_set` and `connected` raise; TrainingFailed if a worker fails, with its error.
    """
    tell("starting Ray" if address == "local" else f"joining the Ray cluster at {address}")
    with connected(address, onednn=None, verbose=verbose):
        return write_set(sources, folder, config, each=functools.partial(over_workers, folder), tell=tell)


def over_workers(folder: RunFolder, make: Make, tasks: Iterable[Task]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Make the shards on the cluster's CPUs, a few at a time, so that a source may be larger than memory.

    A shard whose worker or node dies is made by another one.
    """
    if folder.local:
        check_nodes_see(f"{folder.path}/{JOB}", f"the set's folder {folder}", "--output")
    remote = ray.remote(make_on_worker).options(num_cpus=1, runtime_env={"env_vars": ENVIRONMENT})
    most = AHEAD * max(1, int(ray.cluster_resources().get("CPU", 1)))
    pending: set[Any] = set()
    last: Chunk | None = None
    try:
        for chunk, shard in tasks:
            if chunk is not last:  # one copy of the originals serves all that are made of them
                last, held = chunk, ray.put(chunk)
            if len(pending) >= most:
                yield _first_of(pending)
            pending.add(remote.remote(make, held, shard))
        while pending:
            yield _first_of(pending)
    except ray.exceptions.RayTaskError as error:
        raise TrainingFailed(f"a shard could not be written: {last_line(error)}") from error


def _first_of(pending: set[Any]) -> tuple[str, dict[str, Any]]:
    done, _ = ray.wait(list(pending), num_returns=1)
    pending.remove(done[0])
    made: tuple[str, dict[str, Any]] = ray.get(done[0])
    return made


def make_on_worker(make: Make, chunk: Chunk, shard: Shard) -> tuple[str, dict[str, Any]]:
    """What Ray runs on a worker for each shard."""
    return shard.name, make(chunk, shard)

"""How many workers a Ray cluster gets, with what resources, and whether it has room for them now."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import ray
from ray.autoscaler.sdk import request_resources
from ray.util.placement_group import placement_group, remove_placement_group

from .progress import Event, Message

WAIT_POLL_S = 2.0  # between two looks at a cluster that is too small
PLACE_TIMEOUT_S = 5.0  # for a free cluster to find places for the workers


class ClusterTooSmall(RuntimeError):
    """The cluster cannot hold the workers; the message says what was asked for and what there is."""


@dataclass(frozen=True, slots=True)
class Workers:
    """How many workers, and what each is given."""

    num_workers: int
    cpus: int
    gpus: int
    placement: Literal["PACK", "SPREAD"] = "PACK"  # on as few nodes as hold them, or on as many as there are

    def resources(self) -> dict[str, float]:
        """What Ray reserves for one worker."""
        return {"CPU": float(self.cpus)} | ({"GPU": float(self.gpus)} if self.gpus else {})

    def __str__(self) -> str:
        gpus = f" and {_count(self.gpus, 'GPU')}" if self.gpus else ""
        return f"{_count(self.num_workers, 'worker')} with {_count(self.cpus, 'CPU')}{gpus} each"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' if number != 1 else ''}"


def plan_workers(
    nodes: Sequence[dict[str, float]],
    *,
    num_workers: int | None,
    cpus: int | None,
    gpus: int | None,
    global_batch_size: int,
) -> Workers:
    """Fill in what was not asked for: a worker on each node, with what the smallest node has.

    Args:
        nodes: each node's resources, as Ray names them.
        num_workers, cpus, gpus: what was asked for; None leaves it to the cluster. With the size of a worker given but
            not their number, there are as many as fit.

    Raises: ClusterTooSmall if the nodes cannot hold the workers.
    """
    with_gpu = [node for node in nodes if node.get("GPU", 0) >= 1]
    wanted = with_gpu if with_gpu and gpus != 0 else [node for node in nodes if node.get("CPU", 0) >= 1]
    one_a_node = cpus is None and gpus is None
    per_node = -(-num_workers // max(1, len(wanted))) if num_workers else 1

    def share(resource: str) -> int:
        return int(min((node.get(resource, 0) for node in wanted), default=0)) // per_node

    if gpus is None and with_gpu and not share("GPU"):
        there = int(sum(node["GPU"] for node in with_gpu))
        raise ClusterTooSmall(
            f"asked for {num_workers} workers, but the cluster has {_count(there, 'GPU')}; ask for at most as many "
            "workers, or train on the CPUs with --gpus-per-worker 0"
        )
    gpus = share("GPU") if gpus is None else gpus
    cpus = max(1, share("CPU")) if cpus is None else cpus
    places = sum(int(min(node.get("CPU", 0) / cpus, node.get("GPU", 0) / gpus if gpus else 1e9)) for node in nodes)
    if num_workers is None:
        replicas = max(1, gpus)
        most = len(wanted) if one_a_node else places
        fitting = [n for n in range(most, 0, -1) if global_batch_size % (n * replicas) == 0]
        num_workers = fitting[0] if fitting else 1
    asked = Workers(num_workers, cpus, gpus, "SPREAD" if one_a_node else "PACK")
    if num_workers > places:
        total = {name: int(sum(node.get(name, 0) for node in nodes)) for name in ("CPU", "GPU")}
        raise ClusterTooSmall(
            f"asked for {asked}, but the cluster has {len(nodes)} node(s) with {total['CPU']} CPUs and "
            f"{total['GPU']} GPUs in all, room for {places}; ask for less (--num-workers, --cpus-per-worker, "
            "--gpus-per-worker), add nodes, or pass --wait"
        )
    return asked


def wait_for_workers(plan: Callable[[], Workers], *, wait: bool, emit: Callable[[Event], None]) -> Workers:
    """Return `plan()`; while the cluster is too small for it or busy, either say so and wait, or raise at once.

    Raises: ClusterTooSmall.
    """
    told = ""
    while True:
        try:
            workers = plan()
            _check_free(workers)
            return workers
        except ClusterTooSmall as error:
            if not wait:
                raise
            if str(error) != told:
                told = str(error)
                emit(Message(f"waiting for the cluster: {told}"))
            time.sleep(WAIT_POLL_S)


@contextmanager
def requested_nodes(num_workers: int | None, cpus: int | None, gpus: int | None, *, wait: bool) -> Iterator[None]:
    """While waiting, ask the cluster's autoscaler, if it has one, for room for the workers."""
    if not wait:
        yield
        return
    bundle = {"CPU": cpus or 1} | ({"GPU": gpus} if gpus else {})
    request_resources(bundles=[bundle] * (num_workers or 1))
    try:
        yield
    finally:
        request_resources(bundles=[])  # or the nodes would be kept when the workers are gone


def node_resources() -> list[dict[str, float]]:
    """The resources of each live node."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _check_free(workers: Workers) -> None:
    # Asked of the scheduler, since what is free in all may lie in crumbs on many nodes.
    places = placement_group([workers.resources()] * workers.num_workers, strategy=workers.placement)
    try:
        if not places.wait(PLACE_TIMEOUT_S):
            free = ray.available_resources()
            raise ClusterTooSmall(
                f"asked for {workers}, but the cluster has no room for them now: another job has the rest "
                f"({free.get('CPU', 0):g} CPUs and {free.get('GPU', 0):g} GPUs are free, over all nodes); stop it, "
                "ask for less, or pass --wait"
            )
    finally:
        remove_placement_group(places)

"""How many workers a Ray cluster gets, with what resources, and whether it has room for them now."""

import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import ray
from ray.autoscaler.sdk import request_resources
from ray.util.placement_group import placement_group, remove_placement_group
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from ..progress import Event, Message

WAIT_POLL_S = 2.0  # between two looks at a cluster that is too small
PLACE_TIMEOUT_S = 5.0  # for a free cluster to find places for the workers


class ClusterTooSmall(RuntimeError):
    """The cluster cannot hold the workers; the message says what was asked for and what there is."""


@dataclass(frozen=True, slots=True)
class WorkerPlan:
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
) -> WorkerPlan:
    """Fill in what was not asked for: a worker on each node, with what the smallest node has.

    Args:
        nodes: each node's resources, as Ray names them.
        num_workers: what was asked for; None leaves it to the cluster. With the size of a worker given but not their
            number, there are as many as fit.
        cpus: CPUs for each worker, or None.
        gpus: GPUs for each worker, or None.
        global_batch_size: what the workers' replicas must divide evenly, if the number is left to the cluster.

    Raises: ClusterTooSmall if the nodes cannot hold the workers.
    """
    with_gpu = [node for node in nodes if node.get("GPU", 0) >= 1]
    usable = with_gpu if with_gpu and gpus != 0 else [node for node in nodes if node.get("CPU", 0) >= 1]
    one_a_node = cpus is None and gpus is None
    per_node = -(-num_workers // max(1, len(usable))) if num_workers else 1
    if gpus is None:
        gpus = _share(usable, "GPU", per_node)
        if with_gpu and not gpus:
            there = int(sum(node["GPU"] for node in with_gpu))
            raise ClusterTooSmall(
                f"asked for {num_workers} workers, but the cluster has {_count(there, 'GPU')}; ask for at most as many "
                "workers, or train on the CPUs with --gpus-per-worker 0"
            )
    if cpus is None:
        cpus = max(1, _share(usable, "CPU", per_node))
    places = _places(nodes, cpus, gpus)
    if num_workers is None:
        num_workers = _fitting_number(len(usable) if one_a_node else places, max(1, gpus), global_batch_size)
    plan = WorkerPlan(num_workers, cpus, gpus, "SPREAD" if one_a_node else "PACK")
    if num_workers > places:
        total = {name: int(sum(node.get(name, 0) for node in nodes)) for name in ("CPU", "GPU")}
        raise ClusterTooSmall(
            f"asked for {plan}, but the cluster has {len(nodes)} node(s) with {total['CPU']} CPUs and "
            f"{total['GPU']} GPUs in all, room for {places}; ask for less (--num-workers, --cpus-per-worker, "
            "--gpus-per-worker), add nodes, or pass --wait"
        )
    return plan


def plan_elastic(
    nodes: Sequence[dict[str, float]],
    *,
    least: int,
    most: int,
    cpus: int | None,
    gpus: int | None,
    global_batch_size: int,
) -> WorkerPlan:
    """As many workers from `least` to `most` as the nodes hold and as divide the global batch evenly.

    Without a worker's size there is one on each node, more only where `least` asks for them.

    Raises: ClusterTooSmall if not even `least` fit; ValueError if no number of workers divides the batch.
    """
    with_gpu = [node for node in nodes if node.get("GPU", 0) >= 1]
    usable = len(with_gpu if with_gpu and gpus != 0 else [node for node in nodes if node.get("CPU", 0) >= 1])
    top = min(most, max(least, usable)) if cpus is None and gpus is None else most
    refused: Exception = ValueError(
        f"global_batch_size={global_batch_size} does not split evenly over any number of workers from {least} to "
        f"{most}; choose another --global-batch-size"
    )
    for number in range(top, least - 1, -1):
        try:
            plan = plan_workers(nodes, num_workers=number, cpus=cpus, gpus=gpus, global_batch_size=global_batch_size)
        except ClusterTooSmall as error:
            refused = error
            continue
        if global_batch_size % (plan.num_workers * max(1, plan.gpus)) == 0:
            return plan
    raise refused


def _share(nodes: Sequence[dict[str, float]], resource: str, workers_per_node: int) -> int:
    """What each of a node's workers gets of a resource, on every node alike: the smallest node decides."""
    return int(min((node.get(resource, 0) for node in nodes), default=0)) // workers_per_node


def _places(nodes: Sequence[dict[str, float]], cpus: int, gpus: int) -> int:
    """How many workers of this size fit on the nodes."""
    return sum(int(min(node.get("CPU", 0) / cpus, node.get("GPU", 0) / gpus if gpus else math.inf)) for node in nodes)


def _fitting_number(most: int, replicas_per_worker: int, global_batch_size: int) -> int:
    """The largest number of workers up to `most` whose replicas divide the global batch evenly; 1 if none does."""
    numbers = range(most, 0, -1)
    return next((number for number in numbers if global_batch_size % (number * replicas_per_worker) == 0), 1)


def wait_for_workers(plan: Callable[[], WorkerPlan], *, wait: bool, emit: Callable[[Event], None]) -> WorkerPlan:
    """Return `plan()`; while the cluster is too small for it or busy, either say so and wait, or raise at once.

    Raises: ClusterTooSmall.
    """
    told = ""
    while True:
        try:
            planned = plan()
            _check_free(planned)
            return planned
        except ClusterTooSmall as error:
            if not wait:
                raise
            if str(error) != told:
                told = str(error)
                emit(Message(f"waiting for the cluster: {told}"))
            time.sleep(WAIT_POLL_S)


@contextmanager
def requested_nodes(num_workers: int | None, cpus: int | None, gpus: int | None, *, wait: bool) -> Iterator[None]:
    """While the context lasts, ask the cluster's autoscaler, if it has one, for room for the workers, or if `wait` is
    false for nothing."""
    if not wait:
        yield
        return
    request_nodes(num_workers, cpus, gpus)
    try:
        yield
    finally:
        request_resources(bundles=[])  # or the nodes would be kept when the workers are gone


def request_nodes(num_workers: int | None, cpus: int | None, gpus: int | None) -> None:
    """Ask the cluster's autoscaler for room for the workers, in place of all that was asked for before."""
    bundle = {"CPU": cpus or 1} | ({"GPU": gpus} if gpus else {})
    request_resources(bundles=[bundle] * (num_workers or 1))


def node_resources() -> list[dict[str, float]]:
    """The resources of each live node that is not about to leave."""
    leaving = _draining()
    return [node["Resources"] for node in ray.nodes() if node["Alive"] and node["NodeID"] not in leaving]


def on_node(node_id: str) -> NodeAffinitySchedulingStrategy:
    """Where to place an actor or a task that must be on just that node."""
    return NodeAffinitySchedulingStrategy(node_id, soft=False)


def node_ids() -> frozenset[str]:
    """Which nodes live."""
    return frozenset(node["NodeID"] for node in ray.nodes() if node["Alive"])


def _draining() -> frozenset[str]:
    """The nodes that are being drained: `ray drain-node`, the autoscaler's and KubeRay's notice before they go."""
    if ray.util.client.ray.is_connected():
        return frozenset()  # through ray:// nobody tells
    return frozenset(ray._private.state.state.get_draining_nodes())


def _check_free(plan: WorkerPlan) -> None:
    # Asked of the scheduler, since what is free in all may be fragmented over many nodes.
    places = placement_group([plan.resources()] * plan.num_workers, strategy=plan.placement)
    try:
        if not places.wait(PLACE_TIMEOUT_S):
            free = ray.available_resources()
            raise ClusterTooSmall(
                f"asked for {plan}, but the cluster has no room for them now: another job has the rest "
                f"({free.get('CPU', 0):g} CPUs and {free.get('GPU', 0):g} GPUs are free, over all nodes); stop it, "
                "ask for less, or pass --wait"
            )
    finally:
        remove_placement_group(places)


def check_nodes_see(path: str, what: str, flag: str) -> None:
    """Raise ValueError unless every node that can hold a worker has the file `path`, which the driver has.

    Args:
        what: it is, for the message.
        flag: that names its folder.
    """

    @ray.remote(num_cpus=0, max_retries=0)
    def sees(path: str) -> bool:
        return os.path.exists(path)

    # A driver that came by ray:// is on no node.
    here = None if ray.util.client.ray.is_connected() else ray.get_runtime_context().get_node_id()
    nodes = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU", 0) >= 1]
    nodes = [node for node in nodes if node["NodeID"] != here]
    found = ray.get([sees.options(scheduling_strategy=on_node(node["NodeID"])).remote(path) for node in nodes])
    blind = [node["NodeManagerAddress"] for node, seen in zip(nodes, found, strict=True) if not seen]
    if blind:
        raise ValueError(
            f"node {', '.join(blind)} does not see {what}: {flag} must be a folder that this machine and all nodes "
            f"mount, or a URI such as s3://bucket/{'set' if flag != '--storage' else 'runs'}"
        )

"""When an elastic run pauses, and at which step: another number of workers would fit on the cluster than it has."""

import time
from collections.abc import Callable

import ray

from .nodes import ClusterTooSmall, WorkerPlan, on_node

WATCH_S = 5.0  # between two looks whether the cluster holds more or fewer workers


class Pauses:
    """Watches the cluster while a run trains, and has it pause when another number of workers would fit."""

    def __init__(self, plan: Callable[[], WorkerPlan], current: WorkerPlan, *, request: Callable[[], None]) -> None:
        """Begin to watch.

        Args:
            plan: what the cluster could give the run now.
            current: what the run has.
            request: asks the autoscaler for all that the run could take.
        """
        self._plan, self._current, self._request = plan, current, request
        self._next, self._seen = time.monotonic() + WATCH_S, 0
        # On the driver's node, as the queue of events: it outlives the nodes that come and go.
        here = on_node(ray.get_runtime_context().get_node_id())
        self.steps = ray.remote(PauseStep).options(num_cpus=0, scheduling_strategy=here).remote()

    def look(self) -> None:
        """Look at the cluster, if it is time to."""
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + WATCH_S
        self._request()  # again: Ray Train asks for the workers that it has, every 20 s, and the last word counts
        try:
            changed = self._plan().num_workers != self._current.num_workers
        except (ClusterTooSmall, ValueError):
            changed = True
        # Seen twice, since a node that comes is there some seconds before its CPUs are.
        self._seen = self._seen + 1 if changed else 0
        if self._seen == 2:
            self.steps.pause.remote()


class PauseStep:
    """At which step all workers pause: an actor of one run, which each worker asks before every call of steps.

    Workers train in lockstep, so none is further than one call ahead of another; a pause two calls ahead of the
    furthest is known to all before they are there.
    """

    def __init__(self) -> None:
        self._furthest, self._wanted = 0, False
        self._step: int | None = None

    def pause(self) -> None:
        """Have the workers pause soon."""
        self._wanted = True

    def ask(self, step: int, steps_per_call: int) -> int | None:
        """Tell that a worker is at `step`; returns at which one to pause, or None."""
        self._furthest = max(self._furthest, step)
        if self._wanted and self._step is None:
            self._step = self._furthest + 2 * steps_per_call
        return self._step

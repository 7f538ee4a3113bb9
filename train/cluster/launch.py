"""Put the training loop on Ray: run it in Ray Train's workers, to the end of a run.

Ray starts the workers, wires TF_CONFIG, restarts them when one dies and keeps the books of checkpoints. What is trained
lies in `train.loop`, which knows nothing of Ray; what to show travels to the driver through a Ray queue.
"""

import functools
import time
from collections.abc import Callable
from typing import Any

import ray
import ray.train
from ray.train.tensorflow import TensorflowTrainer
from ray.util.queue import Queue

from ..data.shards import MANIFEST, shared_folder
from ..loop import Outcome, Paused, TrainingDiverged
from ..progress import Event, Message
from ..runs import Run
from ..threads import in_thread
from .connection import last_line
from .elastic import Pauses
from .nodes import (
    WorkerPlan,
    check_nodes_see,
    node_ids,
    node_resources,
    on_node,
    plan_elastic,
    plan_workers,
    request_nodes,
    requested_nodes,
    wait_for_workers,
)
from .worker import Diverged, WorkerSettings, train_worker

SILENCE_S = 60.0  # without a word from the workers, after which the run says what it waits for
RAY_SNAPSHOT = "checkpoint_manager_snapshot.json"


class TrainingFailed(RuntimeError):
    """The workers failed more often than allowed; the message names the worker and its error."""


def train(run: Run, emit: Callable[[Event], None]) -> Outcome:
    """Train a run to the end on Ray's workers, as many as its job asks for; while `connected`.

    Raises: ClusterTooSmall, TrainingFailed, TrainingDiverged; ValueError if the job's settings do not suit the workers.
    """
    job = run.job
    least, most = job.worker_bounds or (None, None)
    if least != most:
        # To the end: a cluster grows to what is asked for, and by one that has fewer the run is not held up.
        with requested_nodes(most, job.cpus_per_worker, job.gpus_per_worker, wait=True):
            return _train_elastic(run, emit)
    with requested_nodes(least, job.cpus_per_worker, job.gpus_per_worker, wait=job.wait):
        plan = _settled_plan(run, emit, wait=job.wait)
    outcome = _fit(run, plan, emit)
    assert isinstance(outcome, Outcome)  # nobody asked it to pause
    return outcome


def _train_elastic(run: Run, emit: Callable[[Event], None]) -> Outcome:
    """Train on as many workers as the cluster holds, and on more or fewer when nodes come or leave.

    Each change is a pause: the workers write a checkpoint at a step that all of them know beforehand, and others go on
    from it. A node that leaves with a notice costs no step; one that is lost costs those since the last checkpoint.
    """
    failures, job = 0, run.job
    most = job.worker_bounds[1] if job.worker_bounds else None
    request = functools.partial(request_nodes, most, job.cpus_per_worker, job.gpus_per_worker)
    while True:
        plan = _settled_plan(run, emit, wait=True)
        nodes = node_ids()
        pauses = Pauses(functools.partial(_plan, run), plan, request=request)
        try:
            result = _fit(run, plan, emit, pauses=pauses)
        except TrainingFailed as error:
            lost = nodes - node_ids()
            failures += not lost
            if failures > run.job.max_failures:
                raise
            emit(Message(f"{f'{len(lost)} node(s) left' if lost else error}; going on with what is there"))
            continue
        if isinstance(result, Outcome):
            return result
        emit(Message(f"paused at step {result.step:,}: the cluster has changed"))


def _plan(run: Run) -> WorkerPlan:
    """What the cluster could give this run now, if nobody else had any of it."""
    config, job = run.config, run.job
    bounds = job.worker_bounds
    sizes: dict[str, Any] = {
        "cpus": job.cpus_per_worker,
        "gpus": job.gpus_per_worker,
        "global_batch_size": config.global_batch_size,
    }
    if bounds and bounds[0] < bounds[1]:
        return plan_elastic(node_resources(), least=bounds[0], most=bounds[1], **sizes)
    return plan_workers(node_resources(), num_workers=bounds[0] if bounds else None, **sizes)


def _settled_plan(run: Run, emit: Callable[[Event], None], *, wait: bool) -> WorkerPlan:
    """The workers that the run gets now; raises ClusterTooSmall, or ValueError if its settings do not suit them."""
    config, job = run.config, run.job
    plan = wait_for_workers(functools.partial(_plan, run), wait=wait, emit=emit)
    _check_seen(run)
    if plan.num_workers > 1 and job.cpu_replicas > 1:
        raise ValueError(f"--cpu-replicas {job.cpu_replicas} splits a single worker, and there are {plan.num_workers}")
    config.check_jit_compile(num_gpus=plan.gpus, num_replicas=plan.num_workers * plan.gpus)
    config.per_replica_batch_size(plan.num_workers * (plan.gpus or job.cpu_replicas))
    emit(Message(f"Ray: {plan}"))
    return plan


def _check_seen(run: Run) -> None:
    """Raise ValueError unless every node that can hold a worker sees the folders of the run and of its data."""
    if run.folder.local is not None:
        check_nodes_see(f"{run.folder.path}/config.json", f"the run's folder {run.folder}", "--storage")
    if folder := shared_folder(run.dataset):
        check_nodes_see(f"{folder}/{MANIFEST}", f"the shards in {folder}", "--data")


def _fit(
    run: Run, plan: WorkerPlan, emit: Callable[[Event], None], *, pauses: Pauses | None = None
) -> Outcome | Paused:
    """Run `train_worker` on Ray's workers until it is done or pauses, passing on its events."""
    resume = f"go on with: {run.job.resume_command()}"
    # Ray's own list of checkpoints is not kept over drivers: it is written in place, so a crash can leave half of it,
    # and it refuses a folder that a checkpoint was deleted from (_assert_checkpoints_exist). Ours are found by looking.
    # https://github.com/ray-project/ray/blob/ray-2.60.0/python/ray/train/v2/_internal/execution/checkpoint/checkpoint_manager.py
    run.folder.remove(RAY_SNAPSHOT)
    # On the driver's node: on another, that node's end would be the run's.
    here = on_node(ray.get_runtime_context().get_node_id())
    queue = Queue(actor_options={"num_cpus": 0, "scheduling_strategy": here})
    trainer = _trainer(run, plan, queue, pauses)
    silence = _Silence(plan, emit)

    def meanwhile() -> None:
        silence.look(events=_drain(queue, emit))
        if pauses:
            pauses.look()

    try:
        ended = in_thread(trainer.fit, meanwhile=meanwhile)
    except ray.exceptions.RayError as error:
        raise TrainingFailed(f"Ray failed: {last_line(error)}; {resume}") from error
    except ray.train.TrainingFailedError as error:
        run.folder.remove(RAY_SNAPSHOT)
        raise TrainingFailed(
            f"{_explain(error)}; the run gave up after --max-failures {run.job.max_failures}; when that is mended, "
            f"{resume}"
        ) from error
    run.folder.remove(RAY_SNAPSHOT)
    result: Outcome | Paused | Diverged = ended.return_value
    if isinstance(result, Diverged):
        raise TrainingDiverged(result.message)
    return result


def _trainer(run: Run, plan: WorkerPlan, queue: Queue, pauses: Pauses | None) -> TensorflowTrainer:
    settings = WorkerSettings(
        config=run.config,
        dataset=ray.put(run.dataset),
        storage=run.folder.storage,
        name=run.folder.name,
        num_threads=plan.cpus,
        num_gpus=plan.gpus,
        cpu_replicas=run.job.cpu_replicas,
        on_device=run.job.on_device,
        queue=queue,
        pause_step=pauses.steps if pauses else None,
    )
    # An elastic run begins anew by itself, with as many workers as are left; Ray would wait for the same number.
    retries = 0 if pauses else run.job.max_failures
    return TensorflowTrainer(
        functools.partial(train_worker, settings),
        scaling_config=ray.train.ScalingConfig(
            num_workers=plan.num_workers,
            use_gpu=plan.gpus > 0,
            resources_per_worker=plan.resources(),
            placement_strategy=plan.placement,
        ),
        run_config=ray.train.RunConfig(
            name=run.folder.name,
            storage_path=run.folder.root,
            storage_filesystem=run.folder.filesystem,
            failure_config=ray.train.FailureConfig(max_failures=retries),
            callbacks=[_FailureMessages(queue)],
            logging_config=ray.train.LoggingConfig(log_level="INFO" if run.job.verbose else "ERROR"),
        ),
    )


def _drain(queue: Queue, emit: Callable[[Event], None]) -> int:
    """Pass on what waits in the queue; returns how many events that were."""
    waiting: int = queue.qsize()
    for event in queue.get_nowait_batch(waiting) if waiting else []:
        emit(event)
    return waiting


class _Silence:
    """Says what a run waits for when nothing comes from its workers, as after the loss of a node."""

    def __init__(self, plan: WorkerPlan, emit: Callable[[Event], None]) -> None:
        self._plan, self._emit = plan, emit
        self._last, self._interval = time.monotonic(), SILENCE_S

    def look(self, *, events: int) -> None:
        """Tell it that `events` came since the last look."""
        now = time.monotonic()
        if events:
            self._last, self._interval = now, SILENCE_S
        elif now - self._last > self._interval:
            self._interval *= 2
            nodes = node_resources()
            there, free = (int(sum(node.get("CPU", 0) for node in nodes)), ray.available_resources())
            self._emit(
                Message(
                    f"nothing from the workers for {now - self._last:.0f} s: the run needs {self._plan}; the cluster "
                    f"has {len(nodes)} node(s) with {there} CPUs, of which {free.get('CPU', 0):g} are free"
                )
            )


def _explain(error: ray.train.TrainingFailedError) -> str:
    failures = getattr(error, "worker_failures", {})
    if not failures:
        return str(error)
    return "; ".join(f"worker {rank}: {last_line(failure)}" for rank, failure in sorted(failures.items()))


class _FailureMessages(ray.train.UserCallback):
    """Tells the driver's display that workers failed; Ray calls it in its controller."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        for rank, error in sorted(worker_exceptions.items()):
            self._queue.put(Message(f"worker {rank} failed: {last_line(error)}"))

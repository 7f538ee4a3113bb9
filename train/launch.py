"""Put the training loop on Ray: find or start a cluster, and run the loop in Ray Train's workers.

Ray starts the workers, wires TF_CONFIG, restarts them when one dies and keeps the books of checkpoints. What is trained
lies in `loop.py`, which knows nothing of Ray; what to show travels to the driver through a Ray queue.
"""

import logging
import os
import shutil
import socket
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray
import ray.train
from ray.train.tensorflow import TensorflowTrainer
from ray.util.queue import Queue
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from .cluster import Workers
from .config import TrainConfig
from .data import Dataset
from .progress import Event, Message
from .storage import RunFolder

POLL_S = 0.2  # between two looks at the event queue
CONNECT_TIMEOUT_S = 10.0
RAY_SNAPSHOT = "checkpoint_manager_snapshot.json"
# A worker that does not answer for this long is dead. Ray waits 10 minutes, which a frozen process is not worth.
RAY_DEFAULTS = {"RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S": "60", "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "1"}


class ClusterUnreachable(RuntimeError):
    """No Ray cluster answers at the address, or it does not let us in; the message says what to try."""


class TrainingFailed(RuntimeError):
    """The workers failed more often than allowed; the message names the worker and its error."""


def connect(address: str, *, verbose: bool) -> None:
    """Start Ray on this machine (`local`) or join a cluster (`auto`, `host:port`, `ray://host:port`).

    Raises: ClusterUnreachable.
    """
    for name, value in RAY_DEFAULTS.items():
        os.environ.setdefault(name, value)
    level = logging.INFO if verbose else logging.ERROR
    environment: dict[str, Any] = {"env_vars": {"TF_CPP_MIN_LOG_LEVEL": "0" if verbose else "2"}}
    options: dict[str, Any] = {}
    staged = tempfile.TemporaryDirectory()  # until ray.init has sent it
    if address == "local":
        options["include_dashboard"] = False
    else:
        # The cluster's nodes need TensorFlow and Ray, not this repository: its code travels with the job.
        environment["py_modules"] = [str(_shipped_package(Path(staged.name)))]
        environment["excludes"] = ["mnist/mnist.npz", "**/__pycache__"]  # data goes through the object store
        if not verbose:
            os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "error")  # or it tells each try to connect
    try:
        _check_listening(address)
        with staged:
            ray.init(
                address=address,
                runtime_env=environment,
                log_to_driver=verbose,
                logging_level=level,
                **options,
            )
    except (OSError, ray.exceptions.AuthenticationError) as error:
        raise ClusterUnreachable(
            f"no Ray cluster answers at {address} ({_last_line(error)}); start one with `ray start --head`, correct "
            "--address, or leave it out to use this machine alone; a cluster with token authentication wants "
            "RAY_AUTH_MODE=token and its token in RAY_AUTH_TOKEN or ~/.ray/auth_token"
        ) from error


def _shipped_package(staged: Path) -> Path:
    """The folder that workers import this package from, under the name that the driver has it by.

    In a checkout that is `train` and the folder itself; installed it is `inkling.train`, and Ray, which takes a
    folder's own name for the package's, gets a copy of it in `staged/inkling`.
    """
    folder = Path(__file__).parent
    *namespace, _ = __name__.split(".")
    if len(namespace) == 1:
        return folder
    skip = shutil.ignore_patterns("mnist.npz", "__pycache__")
    shutil.copytree(folder, staged.joinpath(*namespace), ignore=skip)
    return staged / namespace[0]


def _check_listening(address: str) -> None:
    """Raise OSError at once if nobody listens at HOST:PORT; Ray itself tries for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host, int(port)), timeout=CONNECT_TIMEOUT_S).close()


def check_storage(run: RunFolder) -> None:
    """Raise ValueError unless every node that can hold a worker sees the run's folder, which the driver sees."""
    if run.local is None:
        return

    @ray.remote(num_cpus=0, max_retries=0)
    def sees(path: str) -> bool:
        return os.path.exists(path)

    # A driver that came by ray:// is on no node.
    here = None if ray.util.client.ray.is_connected() else ray.get_runtime_context().get_node_id()
    nodes = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU", 0) >= 1]
    nodes = [node for node in nodes if node["NodeID"] != here]
    path = f"{run.path}/config.json"
    found = ray.get([sees.options(scheduling_strategy=_on_node(node["NodeID"])).remote(path) for node in nodes])
    blind = [node["NodeManagerAddress"] for node, seen in zip(nodes, found, strict=True) if not seen]
    if blind:
        raise ValueError(
            f"node {', '.join(blind)} does not see the run's folder {run}: --storage must be a folder that this "
            "machine and all nodes mount, or a URI such as s3://bucket/runs"
        )


def _on_node(node_id: str) -> NodeAffinitySchedulingStrategy:
    return NodeAffinitySchedulingStrategy(node_id, soft=False)


def fit(
    config: TrainConfig,
    dataset: Dataset,
    run: RunFolder,
    workers: Workers,
    *,
    cpu_replicas: int,
    max_failures: int,
    resume_command: str,
    verbose: bool,
    emit: Callable[[Event], None],
) -> dict[str, Any]:
    """Run `train_worker` on Ray's workers until it is done, passing on its events; returns what the chief returned.

    Raises: TrainingFailed when more than `max_failures` worker failures came.
    """
    # Ray's own list of checkpoints is not kept over drivers: it is written in place, so a crash can leave half of it,
    # and it refuses a folder from which a checkpoint was deleted. Ours are found by looking.
    run.remove(RAY_SNAPSHOT)
    # On the driver's node: on another, that node's end would be the run's.
    here = _on_node(ray.get_runtime_context().get_node_id())
    queue = Queue(actor_options={"num_cpus": 0, "scheduling_strategy": here})
    trainer = TensorflowTrainer(
        train_worker,
        train_loop_config={
            "config": config.to_json(),
            "dataset": ray.put(dataset),
            "storage": run.storage,
            "name": run.name,
            "cpu_replicas": cpu_replicas,
            "num_threads": workers.cpus,
            "num_gpus": workers.gpus,
            "queue": queue,
        },
        scaling_config=ray.train.ScalingConfig(
            num_workers=workers.num_workers,
            use_gpu=workers.gpus > 0,
            resources_per_worker=workers.resources(),
            placement_strategy=workers.placement,
        ),
        run_config=ray.train.RunConfig(
            name=run.name,
            storage_path=run.root,
            storage_filesystem=run.filesystem,
            failure_config=ray.train.FailureConfig(max_failures=max_failures),
            callbacks=[_FailureMessages(queue)],
            logging_config=ray.train.LoggingConfig(log_level="INFO" if verbose else "ERROR"),
        ),
    )
    outcome: list[Any] = []

    def call() -> None:
        try:
            outcome.append(trainer.fit())
        except BaseException as error:  # handed over to the thread that asked
            outcome.append(error)

    # Not in the main thread: Ray would take over Ctrl-C there, and the display needs one.
    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(POLL_S)
        try:
            _drain(queue, emit)
        except ray.exceptions.RayError as error:
            raise TrainingFailed(f"Ray failed: {_last_line(error)}; go on with: {resume_command}") from error
    run.remove(RAY_SNAPSHOT)
    result = outcome[0]
    if isinstance(result, ray.train.TrainingFailedError):
        raise TrainingFailed(
            f"{_explain(result)}; the run gave up after --max-failures {max_failures}; when that is mended, go on "
            f"with: {resume_command}"
        ) from result
    if isinstance(result, ray.exceptions.RayError):
        raise TrainingFailed(f"Ray failed: {_last_line(result)}; go on with: {resume_command}") from result
    if isinstance(result, BaseException):
        raise result
    return dict(result.return_value)


def _drain(queue: Queue, emit: Callable[[Event], None]) -> None:
    waiting = queue.qsize()
    for event in queue.get_nowait_batch(waiting) if waiting else []:
        emit(event)


def _explain(error: ray.train.TrainingFailedError) -> str:
    failures = getattr(error, "worker_failures", {})
    if not failures:
        return str(error)
    return "; ".join(f"worker {rank}: {_last_line(failure)}" for rank, failure in sorted(failures.items()))


def _last_line(error: BaseException) -> str:
    cause = getattr(error, "cause", None) or error
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    return f"{type(cause).__name__}: {lines[-1] if lines else ''}"[:400]


class _FailureMessages(ray.train.UserCallback):
    """Tells the driver's display that workers failed; Ray calls it in its controller."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        for rank, error in sorted(worker_exceptions.items()):
            self._queue.put(Message(f"worker {rank} failed: {_last_line(error)}"))


_MISSING_GPUS = (
    "Ray granted each worker {granted} GPUs, but TensorFlow finds {found}: without its CUDA libraries "
    "(pip install '.[gpu]') it trains on the CPUs; --gpus-per-worker 0 leaves the GPUs to others"
)


def train_worker(settings: dict[str, Any]) -> dict[str, Any]:
    """What Ray runs on every worker; returns the loop's outcome, or why it stopped."""
    import tensorflow as tf

    from . import loop, strategy

    config = TrainConfig.from_json(settings["config"])
    place = ray.train.get_context()
    strategy.keep_to_own_cpus(
        place.get_local_rank(), local_workers=place.get_local_world_size(), num_cpus=settings["num_threads"]
    )
    strategy.configure_tensorflow(
        num_threads=settings["num_threads"],
        cpu_replicas=settings["cpu_replicas"],
        seed=config.seed,
        deterministic=config.deterministic,
        num_gpus=settings["num_gpus"],
    )
    found = len(tf.config.get_visible_devices("GPU"))
    if found < settings["num_gpus"] and place.get_world_rank() == 0:
        settings["queue"].put(Message(_MISSING_GPUS.format(granted=settings["num_gpus"], found=found)))
    run = RunFolder(settings["storage"], settings["name"])

    def on_checkpoint(folder: str | None, metrics: dict[str, float]) -> None:
        written = ray.train.Checkpoint(f"{run.path}/{folder}", run.filesystem) if folder else None
        ray.train.report(metrics, checkpoint=written, checkpoint_upload_mode=ray.train.CheckpointUploadMode.NO_UPLOAD)

    try:
        outcome = loop.train(
            config,
            ray.get(settings["dataset"]),
            strategy.make_strategy(),
            run,
            emit=settings["queue"].put,
            on_checkpoint=on_checkpoint,
        )
    except loop.TrainingDiverged as error:
        return {"stopped": str(error)}  # not raised: the same steps again would end the same way
    return {"outcome": outcome}

"""Put the training loop on Ray: find or start a cluster, and run the loop in Ray Train's workers.

Ray starts the workers, wires TF_CONFIG, restarts them when one dies and keeps the books of checkpoints. What is trained
lies in `loop.py`, which knows nothing of Ray; what to show travels to the driver through a Ray queue.
"""

import functools
import json
import logging
import os
import shutil
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import ray.train
import tensorflow as tf
from ray._private import services
from ray._private.ray_logging import global_worker_stdstream_dispatcher
from ray._private.runtime_env.constants import RAY_JOB_CONFIG_JSON_ENV_VAR
from ray.train.tensorflow import TensorflowTrainer
from ray.util.queue import Queue

from . import cluster, loop, quiet, strategy
from .cluster import WorkerPlan
from .config import TrainConfig
from .data.shards import MANIFEST, shared_folder
from .elastic import Pauses
from .loop import Outcome, Paused, TrainingDiverged
from .progress import Event, Message
from .runs import Run
from .storage import RunFolder

POLL_S = 0.2  # between two looks at the event queue
SILENCE_S = 60.0  # without a word from the workers, after which the run says what it waits for
CONNECT_TIMEOUT_S = 10.0
START_TIMEOUT_S = 180.0  # for a node on this machine to come up
RAY_SNAPSHOT = "checkpoint_manager_snapshot.json"
# A worker that does not answer for this long is dead. Ray waits 10 minutes, which a frozen process is not worth:
# https://docs.ray.io/en/master/train/user-guides/debugging.html
RAY_DEFAULTS = {"RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S": "60", "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "1"}


class ClusterUnreachable(RuntimeError):
    """No Ray cluster answers at the address, or it does not let us in; the message says what to try."""


class TrainingFailed(RuntimeError):
    """The workers failed more often than allowed; the message names the worker and its error."""


@contextmanager
def connected(address: str, *, onednn: bool | None, verbose: bool) -> Iterator[None]:
    """Ray while the context lasts: started on this machine (`local`), or a cluster that is joined.

    Args:
        address: `local`, `auto`, `host:port` or `ray://host:port`.
        onednn: whether the workers' CPU kernels are oneDNN's; None leaves it to TensorFlow.

    Raises: ClusterUnreachable.
    """
    _connect(address, onednn=onednn, verbose=verbose)
    try:
        yield
    finally:
        ray.shutdown()


def _connect(address: str, *, onednn: bool | None, verbose: bool) -> None:
    for name, value in RAY_DEFAULTS.items():
        os.environ.setdefault(name, value)
    level = logging.INFO if verbose else logging.ERROR
    variables = {"TF_CPP_MIN_LOG_LEVEL": "0" if verbose else "2"}
    if onednn is not None:
        variables[quiet.ONEDNN] = str(int(onednn))
    environment: dict[str, Any] = {"env_vars": variables}
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
        with staged:
            _check_listening(address)
            with _own_signal_handlers(), patience() if address == "local" else nullcontext():
                ray.init(
                    address=address,
                    runtime_env=_beside_the_jobs_own(environment),
                    log_to_driver=verbose,
                    logging_level=level,
                    **options,
                )
        if not verbose:
            # The last log lines of a lost node, pages of them; that it is lost is said in a line of ours.
            global_worker_stdstream_dispatcher.remove_handler("ray_print_logs")
    except (OSError, ray.exceptions.AuthenticationError) as error:
        raise ClusterUnreachable(
            f"no Ray cluster answers at {address} ({last_line(error)}); start one with `ray start --head`, correct "
            "--address, or leave it out to use this machine alone; a cluster with token authentication wants "
            "RAY_AUTH_MODE=token and its token in RAY_AUTH_TOKEN or ~/.ray/auth_token"
        ) from error
    except Exception as error:
        # Beside these two Ray raises bare exceptions, as when its processes do not answer within 30 s.
        if type(error) is not Exception and not isinstance(error, RuntimeError | ValueError):
            raise
        verb = "start" if address == "local" else "join the cluster"
        raise ClusterUnreachable(f"Ray could not {verb}: {last_line(error)}; --verbose shows all it says") from error


def _beside_the_jobs_own(environment: dict[str, Any]) -> dict[str, Any]:
    """`environment` without what the runtime environment of a submitted Ray job sets, in which this process runs.

    Ray refuses two values for one field or variable, and its refusal shows all variables, secrets among them:
    https://github.com/ray-project/ray/blob/ray-2.60.0/python/ray/_private/worker.py#L1789
    """
    job = json.loads(os.environ.get(RAY_JOB_CONFIG_JSON_ENV_VAR, "{}")).get("runtime_env") or {}
    ours = {name: value for name, value in environment.items() if name == "env_vars" or name not in job}
    variables = {name: value for name, value in ours["env_vars"].items() if name not in job.get("env_vars", {})}
    return ours | {"env_vars": variables}


@contextmanager
def _own_signal_handlers() -> Iterator[None]:
    """Keep SIGTERM as it was: `ray.init` has it end the process with status 15, without a hint how to go on.

    https://github.com/ray-project/ray/blob/ray-2.60.0/python/ray/_private/worker.py#L1679
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, handler)


@contextmanager
def patience() -> Iterator[None]:
    """Let a node that starts here take START_TIMEOUT_S: Ray gives up after 30 s, which a busy machine may need.

    https://github.com/ray-project/ray/blob/ray-2.60.0/python/ray/_private/node.py#L428
    """
    get_node = services.get_node

    def ask_again(gcs_address: str, node_id: str) -> Any:
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                return get_node(gcs_address, node_id)
            except RuntimeError:  # not there yet
                if time.monotonic() > deadline:
                    raise
                time.sleep(POLL_S)

    services.get_node = ask_again
    try:
        yield
    finally:
        services.get_node = get_node


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
    """Raise OSError at once if nothing listens at HOST:PORT; Ray itself tries for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host, int(port)), timeout=CONNECT_TIMEOUT_S).close()


def train(run: Run, emit: Callable[[Event], None]) -> Outcome:
    """Train a run to the end on Ray's workers, as many as its job asks for; while `connected`.

    Raises: ClusterTooSmall, TrainingFailed, TrainingDiverged; ValueError if the job's settings do not suit the workers.
    """
    job = run.job
    least, most = job.worker_bounds or (None, None)
    if least != most:
        # To the end: a cluster grows to what is asked for, and by one that has fewer the run is not held up.
        with cluster.requested_nodes(most, job.cpus_per_worker, job.gpus_per_worker, wait=True):
            return _train_elastic(run, emit)
    with cluster.requested_nodes(least, job.cpus_per_worker, job.gpus_per_worker, wait=job.wait):
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
    request = functools.partial(cluster.request_nodes, most, job.cpus_per_worker, job.gpus_per_worker)
    while True:
        plan = _settled_plan(run, emit, wait=True)
        nodes = cluster.node_ids()
        pauses = Pauses(functools.partial(_plan, run), plan, request=request)
        try:
            result = _fit(run, plan, emit, pauses=pauses)
        except TrainingFailed as error:
            lost = nodes - cluster.node_ids()
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
        return cluster.plan_elastic(cluster.node_resources(), least=bounds[0], most=bounds[1], **sizes)
    return cluster.plan_workers(cluster.node_resources(), num_workers=bounds[0] if bounds else None, **sizes)


def _settled_plan(run: Run, emit: Callable[[Event], None], *, wait: bool) -> WorkerPlan:
    """The workers that the run gets now; raises ClusterTooSmall, or ValueError if its settings do not suit them."""
    config, job = run.config, run.job
    plan = cluster.wait_for_workers(functools.partial(_plan, run), wait=wait, emit=emit)
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
    found = ray.get([sees.options(scheduling_strategy=cluster.on_node(node["NodeID"])).remote(path) for node in nodes])
    blind = [node["NodeManagerAddress"] for node, seen in zip(nodes, found, strict=True) if not seen]
    if blind:
        raise ValueError(
            f"node {', '.join(blind)} does not see {what}: {flag} must be a folder that this machine and all nodes "
            f"mount, or a URI such as s3://bucket/{'set' if flag != '--storage' else 'runs'}"
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerSettings:
    """What each worker is told. It is pickled, so its class must be importable where the worker runs."""

    config: TrainConfig
    dataset: ray.ObjectRef  # of the whole Dataset
    storage: str  # of the run's folder
    name: str  # the run's
    num_threads: int  # CPUs that Ray granted
    num_gpus: int  # GPUs that Ray granted
    cpu_replicas: int
    on_device: bool | None
    queue: Queue  # takes events for the driver's display
    pause_step: Any = None  # the actor that knows at which step to pause, an elastic.PauseStep; None: nobody asks


@dataclass(frozen=True, slots=True)
class Diverged:
    """What a worker returns in place of an Outcome; raised, it would have Ray take the same steps again."""

    message: str


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
    here = cluster.on_node(ray.get_runtime_context().get_node_id())
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
    run.folder.remove(RAY_SNAPSHOT)
    if isinstance(ended, ray.train.TrainingFailedError):
        raise TrainingFailed(
            f"{_explain(ended)}; the run gave up after --max-failures {run.job.max_failures}; when that is mended, "
            f"{resume}"
        ) from ended
    if isinstance(ended, ray.exceptions.RayError):
        raise TrainingFailed(f"Ray failed: {last_line(ended)}; {resume}") from ended
    if isinstance(ended, BaseException):
        raise ended
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


def in_thread(call: Callable[[], Any], *, meanwhile: Callable[[], None]) -> Any:
    """What `call` returns or raises, raised or not; `meanwhile` is called again and again until it ends."""
    ended: list[Any] = []

    def run() -> None:
        try:
            ended.append(call())
        except BaseException as error:  # handed over to the thread that asked
            ended.append(error)

    # Not in the main thread: Ray would take over Ctrl-C there (https://github.com/ray-project/ray/pull/53600), and the
    # display needs one.
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(POLL_S)
        meanwhile()
    return ended[0]


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
            nodes = cluster.node_resources()
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


def last_line(error: BaseException) -> str:
    """The last line of an error, or of what caused it in another process, with its class."""
    cause = getattr(error, "cause", None) or error
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    return f"{type(cause).__name__}: {lines[-1] if lines else ''}"[:400]


class _FailureMessages(ray.train.UserCallback):
    """Tells the driver's display that workers failed; Ray calls it in its controller."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        for rank, error in sorted(worker_exceptions.items()):
            self._queue.put(Message(f"worker {rank} failed: {last_line(error)}"))


_MISSING_GPUS = (
    "Ray granted each worker {granted} GPUs, but TensorFlow finds {found}: without its CUDA libraries "
    "(pip install './train[gpu]') it trains on the CPUs; --gpus-per-worker 0 leaves the GPUs to others"
)


def train_worker(settings: WorkerSettings) -> Outcome | Paused | Diverged:
    """What Ray runs on every worker."""
    config, queue = settings.config, settings.queue
    place = ray.train.get_context()
    strategy.keep_to_own_cpus(
        place.get_local_rank(), local_workers=place.get_local_world_size(), num_cpus=settings.num_threads
    )
    strategy.configure_tensorflow(
        num_threads=settings.num_threads,
        cpu_replicas=settings.cpu_replicas,
        seed=config.seed,
        deterministic=config.deterministic,
        num_gpus=settings.num_gpus,
    )
    found = len(tf.config.get_visible_devices("GPU"))
    if found < settings.num_gpus and place.get_world_rank() == 0:
        queue.put(Message(_MISSING_GPUS.format(granted=settings.num_gpus, found=found)))
    folder = RunFolder(settings.storage, settings.name)

    def on_checkpoint(path: str | None, metrics: dict[str, float]) -> None:
        written = ray.train.Checkpoint(f"{folder.path}/{path}", folder.filesystem) if path else None
        ray.train.report(metrics, checkpoint=written, checkpoint_upload_mode=ray.train.CheckpointUploadMode.NO_UPLOAD)

    def pause_at(step: int) -> int | None:
        found: int | None = ray.get(settings.pause_step.ask.remote(step, config.log_every_steps))
        return found

    try:
        return loop.train(
            config,
            ray.get(settings.dataset),
            strategy.make_strategy(),
            folder,
            emit=queue.put,
            on_checkpoint=on_checkpoint,
            pause_at=pause_at if settings.pause_step else None,
            on_device=settings.on_device,
        )
    except TrainingDiverged as error:
        return Diverged(str(error))

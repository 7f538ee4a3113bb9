"""One training job from beginning to end: data, run folder, training, results, published model."""

import dataclasses
import os
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import checkpoint, data, quiet
from .config import TrainConfig, check
from .data import Dataset
from .progress import Event, Message
from .storage import NAME, RunFolder

if TYPE_CHECKING:
    from .evaluate import Evaluation


class JobError(RuntimeError):
    """The job cannot go on; the message says why and what to do."""


@dataclass(frozen=True, kw_only=True, slots=True)
class JobConfig:
    """Where a job runs and where its files go; nothing here changes what is trained."""

    name: str = ""  # the run's name, for its files in <storage>/<name>/; made from recipe and time without
    storage: str = "runs"  # folder or URI (s3://, gs://, ...) for checkpoints and results
    data: Path | None = None  # IDX folder, .npz or image folder; MNIST without
    model_dir: str = "models"  # model repository to publish into: a folder or URI
    model_name: str = "mnist"  # the model's name in the repository
    publish: bool = True  # publish the trained model
    resume: str = ""  # name of an unfinished run to go on with, with its own settings
    address: str = "local"  # Ray cluster: local starts one here; auto, HOST:PORT or ray://HOST:PORT join one
    num_workers: int | None = None  # Ray workers; one on each node, or as many as fit with --cpus-per-worker given
    cpus_per_worker: int | None = None  # CPUs for each worker; its node's CPUs, shared
    gpus_per_worker: int | None = None  # GPUs for each worker; its node's GPUs, shared
    cpu_replicas: int = 1  # replicas in each worker without GPUs, to try multi-GPU code on a CPU
    max_failures: int = 3  # worker failures after which the run gives up
    wait: bool = False  # wait until the cluster can hold the workers
    in_process: bool = False  # train in this process, without Ray
    verbose: bool = False  # show the logs of Ray and TensorFlow, and whole tracebacks

    def __post_init__(self) -> None:
        limits = {"num_workers": 1, "cpus_per_worker": 1, "gpus_per_worker": 0, "cpu_replicas": 1, "max_failures": 0}
        for name, least in limits.items():
            value = getattr(self, name)
            check(self, name, value is None or value >= least, f"{least} or more")
        if self.in_process:
            for name in ("num_workers", "gpus_per_worker", "address", "wait"):
                given = getattr(self, name) != JobConfig.__dataclass_fields__[name].default
                check(self, name, not given, "nothing beside --in-process, which trains without Ray")
        named = NAME.fullmatch(self.model_name) is not None
        check(self, "model_name", named, "letters, digits, '.', '_' and '-', 100 at most")

    def resume_command(self) -> str:
        """What to type to go on with the run."""
        default = JobConfig()
        places = (
            "storage",
            "address",
            "num_workers",
            "cpus_per_worker",
            "gpus_per_worker",
            "cpu_replicas",
            "in_process",
        )
        changed = {name: getattr(self, name) for name in places if getattr(self, name) != getattr(default, name)}
        flags = [
            "--" + name.replace("_", "-") + (f" {shlex.quote(str(value))}" if value is not True else "")
            for name, value in changed.items()
        ]
        return " ".join([f"python -m train --resume {self.name}", *flags])

    def publish_command(self) -> str:
        """What to type to publish the finished run again."""
        elsewhere = f" --storage {shlex.quote(self.storage)}" if self.storage != JobConfig().storage else ""
        return f"python -m train publish {self.name}{elsewhere}"


@dataclass(frozen=True, slots=True)
class JobResult:
    """What a finished job made."""

    run: RunFolder
    evaluation: "Evaluation"
    published: str | None  # the version's folder


def run_job(
    config: TrainConfig, job: JobConfig, emit: Callable[[Event], None], *, precision_given: bool = True
) -> JobResult:
    """Train, write the results and publish.

    A run that exists already goes on where it stopped.

    Args:
        precision_given: whether somebody asked for `config.precision`; if the machine chose it, a run that was begun
            on another goes on in its own.

    Raises: JobError, data.DataError, and what `loop`, `launch` and `publish` raise.
    """
    _check_kept(job)
    run = RunFolder(job.storage, job.name)
    config, job = _settle(run, config, job, emit, precision_given=precision_given)
    emit(Message(f"run {run.name}: recipe {config.recipe}, {config.epochs} epochs, files in {run}/"))
    dataset = data.load(job.data)
    _claim(run, config, job, dataset)
    if job.in_process:
        return _finish(run, config, job, dataset, _train_here(config, job, dataset, run, emit), emit)
    # Finished before Ray is left: leaving a submitted job's Ray deletes the folder that it runs in.
    with _ray(job):
        return _finish(run, config, job, dataset, _train_on_ray(config, job, dataset, run, emit), emit)


def _check_kept(job: JobConfig) -> None:
    """Refuse to write into the folder of a submitted Ray job, which Ray deletes when the job ends."""
    if "/runtime_resources/working_dir_files/" not in f"{Path.cwd()}/":
        return
    for flag, place in (("--storage", job.storage), ("--model-dir", job.model_dir)):
        if "://" not in place and not Path(place).is_absolute():
            raise JobError(
                f"{flag} {place} would lie in this submitted job's own folder, which Ray deletes at its end; "
                "give a whole path on a disk that all nodes mount, or a URI such as s3://bucket/path"
            )


def _settle(
    run: RunFolder, config: TrainConfig, job: JobConfig, emit: Callable[[Event], None], *, precision_given: bool
) -> tuple[TrainConfig, JobConfig]:
    """The settings that count: the run's own ones if it was begun before."""
    if not run.exists("config.json"):
        if job.resume:
            names = ", ".join(run.siblings()) or "none"
            raise JobError(f"there is no run {job.name!r} to resume in {job.storage}; it has: {names}")
        return config, job
    stored = run.read_json("config.json")
    began = TrainConfig.from_json(stored["train"])
    if run.exists("report.json") and "published" in run.read_json("report.json"):
        raise JobError(
            f"run {run.name!r} is complete (see {run}/report.json); publish it again with "
            f"`{job.publish_command()}`, or train anew under another --name"
        )
    if job.resume:
        return began, _as_begun(job, stored["job"])
    if not precision_given:
        config = dataclasses.replace(config, precision=began.precision)
    different = [
        f"{field.name}={getattr(began, field.name)!r} then, {getattr(config, field.name)!r} now"
        for field in dataclasses.fields(TrainConfig)
        if getattr(began, field.name) != getattr(config, field.name)
    ]
    if different:
        raise JobError(
            f"run {run.name!r} was begun with other settings ({'; '.join(different)}); "
            f"go on with them by `{job.resume_command()}`, or choose another --name"
        )
    emit(Message(f"run {run.name} was begun before; going on"))
    return config, job


def _as_begun(job: JobConfig, stored: dict[str, Any]) -> JobConfig:
    """`job` with what the run was begun with, but for another --model-dir that was asked for now."""
    return dataclasses.replace(
        job,
        data=Path(stored["data"]) if stored["data"] else None,
        model_name=stored["model_name"],
        model_dir=stored["model_dir"] if job.model_dir == JobConfig().model_dir else job.model_dir,
        publish=stored["publish"] and job.publish,
    )


def _claim(run: RunFolder, config: TrainConfig, job: JobConfig, dataset: Dataset) -> None:
    """Write the run's settings down, or check that they and its data are those it was begun with."""
    settings = {
        "data": str(job.data.absolute()) if job.data else None,
        "data_sha256": dataset.checksum(),
        "model_dir": job.model_dir if "://" in job.model_dir else str(Path(job.model_dir).absolute()),
        "model_name": job.model_name,
        "publish": job.publish,
    }
    if run.create_json("config.json", {"train": config.to_json(), "job": settings}):
        return
    stored = run.read_json("config.json")
    if TrainConfig.from_json(stored["train"]) != config:
        raise JobError(f"run {run.name!r} was begun with other settings just now; choose another --name")
    if stored["job"]["data_sha256"] != settings["data_sha256"]:
        raise JobError(f"run {run.name!r} was begun with other data; give the same --data, or choose another --name")


def _train_here(
    config: TrainConfig, job: JobConfig, dataset: Dataset, run: RunFolder, emit: Callable[[Event], None]
) -> dict[str, Any]:
    quiet.import_tensorflow(verbose=job.verbose)
    import tensorflow as tf

    from . import loop, strategy

    gpus = len(tf.config.list_physical_devices("GPU"))
    _check_jit(config, gpus=gpus, replicas=gpus)
    strategy.configure_tensorflow(
        num_threads=job.cpus_per_worker or os.cpu_count() or 1,
        cpu_replicas=job.cpu_replicas,
        seed=config.seed,
        deterministic=config.deterministic,
    )
    try:
        outcome = loop.train(
            config, dataset, strategy.make_strategy(), run, emit=emit, on_checkpoint=lambda folder, metrics: None
        )
    except loop.TrainingDiverged as error:
        return {"stopped": str(error)}
    return {"outcome": outcome}


@contextmanager
def _ray(job: JobConfig) -> Iterator[None]:
    quiet.import_tensorflow(verbose=job.verbose)
    import ray  # with TensorFlow it takes seconds to import, which --help need not pay

    from . import launch

    launch.connect(job.address, verbose=job.verbose)
    try:
        yield
    finally:
        ray.shutdown()


def _train_on_ray(
    config: TrainConfig, job: JobConfig, dataset: Dataset, run: RunFolder, emit: Callable[[Event], None]
) -> dict[str, Any]:
    from . import cluster, launch

    def plan() -> "cluster.Workers":
        return cluster.plan_workers(
            cluster.node_resources(),
            num_workers=job.num_workers,
            cpus=job.cpus_per_worker,
            gpus=job.gpus_per_worker,
            global_batch_size=config.global_batch_size,
        )

    with cluster.requested_nodes(job.num_workers, job.cpus_per_worker, job.gpus_per_worker, wait=job.wait):
        workers = cluster.wait_for_workers(plan, wait=job.wait, emit=emit)
    launch.check_storage(run)
    if workers.num_workers > 1 and job.cpu_replicas > 1:
        raise ValueError(
            f"--cpu-replicas {job.cpu_replicas} splits a single worker, and there are {workers.num_workers}"
        )
    _check_jit(config, gpus=workers.gpus, replicas=workers.num_workers * workers.gpus)
    config.per_replica_batch_size(workers.num_workers * (workers.gpus or job.cpu_replicas))
    emit(Message(f"Ray: {workers}"))
    return launch.fit(
        config,
        dataset,
        run,
        workers,
        cpu_replicas=job.cpu_replicas,
        max_failures=job.max_failures,
        resume_command=job.resume_command(),
        verbose=job.verbose,
        emit=emit,
    )


def _check_jit(config: TrainConfig, *, gpus: int, replicas: int) -> None:
    if config.jit_compile and not gpus:
        raise ValueError("--jit-compile compiles the step with XLA for a GPU, and there are none here; leave it out")
    if config.jit_compile and replicas > 1:
        raise ValueError(
            f"--jit-compile compiles the step of a single replica with XLA, and there would be {replicas}; leave it out"
        )


def _finish(
    run: RunFolder,
    config: TrainConfig,
    job: JobConfig,
    dataset: Dataset,
    trained: dict[str, Any],
    emit: Callable[[Event], None],
) -> JobResult:
    if "stopped" in trained:
        raise JobError(trained["stopped"])
    from . import report

    outcome = trained["outcome"]
    final = checkpoint.load(run, outcome.step)
    emit(Message("writing the report"))
    evaluation = report.write_results(
        run,
        config,
        dataset,
        final,
        outcome.test_probabilities,
        model_name=job.model_name,
        training_seconds=outcome.training_seconds,
    )
    published = None
    if job.publish:
        emit(Message("publishing"))
        published = publish_checkpoint(run, config, dataset, final, model_dir=job.model_dir, model_name=job.model_name)
    # The last thing: a run that was stopped before it is not complete, and finishes when it is started again.
    run.write_json("report.json", {**run.read_json("report.json"), "published": published})
    return JobResult(run, evaluation, published)


def publish_checkpoint(
    run: RunFolder,
    config: TrainConfig,
    dataset: Dataset,
    state: checkpoint.Checkpoint,
    *,
    model_dir: str,
    model_name: str,
) -> str:
    """Evaluate the model in this process, as it will be published, and publish it; returns where."""
    quiet.import_tensorflow()
    from . import publish, report
    from .evaluate import Evaluation
    from .predictor import predict

    model = report.model_of(config, state, dataset)
    probabilities = predict(model, dataset.test_images)
    evaluation = Evaluation.of(probabilities, dataset.test_labels)
    return publish.publish(
        model,
        model_dir,
        model_name=model_name,
        class_names=dataset.class_names,
        card=report.model_card(config, dataset, state, evaluation, model=model, run=run.name),
        accuracy=evaluation.accuracy,
        min_accuracy=config.min_accuracy,
        test_images=dataset.test_images,
        test_probabilities=probabilities,
    )


def publish_run(
    name: str, *, storage: str, which: str, model_dir: str, model_name: str | None, min_accuracy: float | None
) -> str:
    """Publish the model of the run `name`; returns where.

    Args:
        which: the checkpoint: `last`, `best` or a step.
        model_name, min_accuracy: the run's own if None.

    Raises: JobError, data.DataError, checkpoint.DamagedCheckpoint, publish.PublishRefused.
    """
    run = RunFolder(storage, name)
    if not run.exists("config.json"):
        raise JobError(f"there is no run {name!r} in {storage}; it has: {', '.join(run.siblings()) or 'none'}")
    stored = run.read_json("config.json")
    config = TrainConfig.from_json(stored["train"])
    if min_accuracy is not None:
        config = dataclasses.replace(config, min_accuracy=min_accuracy)
    steps = checkpoint.steps(run)
    step = {"last": steps[-1] if steps else None, "best": checkpoint.best_step(run)}.get(which, which)
    if step is None or not str(step).isdecimal() or int(step) not in steps:
        raise JobError(f"run {name!r} has no checkpoint {which!r}; it has: {', '.join(map(str, steps)) or 'none'}")
    path = stored["job"]["data"]
    dataset = data.load(Path(path) if path else None)
    if dataset.checksum() != stored["job"]["data_sha256"]:
        raise JobError(
            f"{path or 'MNIST'} is not what run {name!r} was trained on any more; put the old data back there"
        )
    return publish_checkpoint(
        run,
        config,
        dataset,
        checkpoint.load(run, int(step)),
        model_dir=model_dir,
        model_name=model_name or stored["job"]["model_name"],
    )

"""One training job from beginning to end: training, results, published model. `runs.begin` comes before it."""

import os
from collections.abc import Callable
from dataclasses import dataclass

import tensorflow as tf

from . import checkpoint, loop, report, strategy
from .checkpoint import Checkpoint
from .evaluate import Evaluation
from .loop import Outcome
from .predictor import predict
from .progress import Event, Message, Published
from .publishing import publish
from .runs import Run, RunError
from .storage import RunFolder
from .tracking.trackers import tracked


@dataclass(frozen=True, slots=True)
class JobResult:
    """What a finished job made."""

    folder: RunFolder
    evaluation: Evaluation
    published: str | None  # the version's folder


def run_job(run: Run, emit: Callable[[Event], None]) -> JobResult:
    """Train, from the beginning or from where the run stopped, write the results and publish.

    Raises: what `loop.train`, `cluster.launch.train` and `publish.publish` raise.
    """
    with tracked(run, emit, origin=report.origin(run)) as emit:
        return _run_job(run, emit)


def _run_job(run: Run, emit: Callable[[Event], None]) -> JobResult:
    if run.job.in_process:
        return _finish(run, train_here(run, emit), emit)
    # Ray takes seconds to import, and --in-process does without it.
    from .cluster import connection, launch

    emit(Message("starting Ray" if run.job.address == "local" else f"joining the Ray cluster at {run.job.address}"))
    # Finished before Ray is left: leaving a submitted job's Ray deletes the folder that it runs in.
    with connection.connected(run.job.address, onednn=run.config.onednn, verbose=run.job.verbose):
        return _finish(run, launch.train(run, emit), emit)


def train_here(
    run: Run,
    emit: Callable[[Event], None],
    *,
    on_checkpoint: Callable[[str | None, dict[str, float]], None] = lambda path, metrics: None,
    num_gpus: int | None = None,
) -> Outcome:
    """Train a run to the end in this process, which must not have used TensorFlow before.

    Args:
        on_checkpoint: called at every checkpoint with its folder, relative to the run's, and its metrics.
        num_gpus: GPUs to take at most; None takes all.

    Raises: TrainingDiverged; ValueError if the run's settings do not suit this machine.
    """
    gpus = len(tf.config.list_physical_devices("GPU")[:num_gpus])
    run.config.check_jit_compile(num_gpus=gpus, num_replicas=gpus)
    strategy.configure_tensorflow(
        num_threads=run.job.cpus_per_worker or os.cpu_count() or 1,
        cpu_replicas=run.job.cpu_replicas,
        seed=run.config.seed,
        deterministic=run.config.deterministic,
        num_gpus=num_gpus,
    )
    outcome = loop.train(
        run.config,
        run.dataset,
        strategy.make_strategy(),
        run.folder,
        emit=emit,
        on_checkpoint=on_checkpoint,
        on_device=run.job.on_device,
    )
    assert isinstance(outcome, Outcome)  # nobody asked it to pause
    return outcome


def _finish(run: Run, outcome: Outcome, emit: Callable[[Event], None]) -> JobResult:
    final = checkpoint.load(run.folder, outcome.step)
    emit(Message("writing the report"))
    evaluation = report.write_results(run, final, outcome, emit)
    published = None
    if run.job.publish:
        emit(Message("publishing"))
        published = _publish(run, final, emit)
    # The last thing: a run that was stopped before it is not complete, and finishes when it is started again.
    run.folder.write_json("report.json", {**run.folder.read_json("report.json"), "published": published})
    return JobResult(run.folder, evaluation, published)


def publish_run(
    run: Run, emit: Callable[[Event], None], *, which: str, oci: str = "", sign: publish.Sign | None = None
) -> str:
    """Publish the model of a run at one of its checkpoints; returns where.

    Args:
        emit: takes what a tracker of the run has to say.
        which: the checkpoint: `last`, `best` (by validation accuracy) or a step.
        oci: a repository of OCI images to publish into, in place of the run's model directory.
        sign: signs the version; None: it stays unsigned.

    Raises: RunError, checkpoint.DamagedCheckpoint, publish.PublishRefused.
    """
    steps = checkpoint.steps(run.folder)
    step = {"last": steps[-1] if steps else None, "best": checkpoint.best_step(run.folder)}.get(which, which)
    if step is None or not str(step).isdecimal() or int(step) not in steps:
        raise RunError(
            f"run {run.folder.name!r} has no checkpoint {which!r}; it has: {', '.join(map(str, steps)) or 'none'}"
        )
    with tracked(run, emit, origin=report.origin(run), tensorboard=False) as emit:
        return _publish(run, checkpoint.load(run.folder, int(step)), emit, oci=oci, sign=sign)


def _publish(
    run: Run,
    state: Checkpoint,
    emit: Callable[[Event], None],
    *,
    oci: str = "",
    sign: publish.Sign | None = None,
) -> str:
    """Evaluate the model in this process, as it will be published, and publish it; returns where."""
    dataset = run.dataset
    model = report.model_of(run, state)
    probabilities = predict(model, dataset.test_images)
    evaluation = Evaluation.of(probabilities, dataset.test_labels)
    candidate = publish.Candidate(
        model=model,
        class_names=dataset.class_names,
        card=report.model_card(run, state, evaluation, model),
        accuracy=evaluation.accuracy,
        test_images=dataset.test_images,
        test_probabilities=probabilities,
        dark_on_light=dataset.is_dark_on_light and dataset.channels == 1,  # light rims of photographs are no paper
    )
    place = publish.publish(
        candidate,
        run.job.model_dir,
        model_name=run.job.model_name,
        min_accuracy=run.config.min_accuracy,
        oci=oci,
        sign=sign,
    )
    emit(Published(run.job.model_name, place))
    return place

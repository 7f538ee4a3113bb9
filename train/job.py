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
from .progress import Event, Message
from .publishing import publish
from .runs import Run, RunError
from .storage import RunFolder


@dataclass(frozen=True, slots=True)
class JobResult:
    """What a finished job made."""

    folder: RunFolder
    evaluation: Evaluation
    published: str | None  # the version's folder


def run_job(run: Run, emit: Callable[[Event], None]) -> JobResult:
    """Train, from the beginning or from where the run stopped, write the results and publish.

    Raises: what `loop.train`, `launch.train` and `publish.publish` raise.
    """
    if run.job.in_process:
        return _finish(run, _train_here(run, emit), emit)
    from . import launch  # Ray takes seconds to import, and --in-process does without it

    emit(Message("starting Ray" if run.job.address == "local" else f"joining the Ray cluster at {run.job.address}"))
    # Finished before Ray is left: leaving a submitted job's Ray deletes the folder that it runs in.
    with launch.connected(run.job.address, onednn=run.config.onednn, verbose=run.job.verbose):
        return _finish(run, launch.train(run, emit), emit)


def _train_here(run: Run, emit: Callable[[Event], None]) -> Outcome:
    gpus = len(tf.config.list_physical_devices("GPU"))
    run.config.check_jit_compile(num_gpus=gpus, num_replicas=gpus)
    strategy.configure_tensorflow(
        num_threads=run.job.cpus_per_worker or os.cpu_count() or 1,
        cpu_replicas=run.job.cpu_replicas,
        seed=run.config.seed,
        deterministic=run.config.deterministic,
    )
    outcome = loop.train(
        run.config,
        run.dataset,
        strategy.make_strategy(),
        run.folder,
        emit=emit,
        on_checkpoint=lambda path, metrics: None,
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
        published = _publish(run, final)
    # The last thing: a run that was stopped before it is not complete, and finishes when it is started again.
    run.folder.write_json("report.json", {**run.folder.read_json("report.json"), "published": published})
    return JobResult(run.folder, evaluation, published)


def publish_run(run: Run, *, which: str, sign: publish.Sign | None = None) -> str:
    """Publish the model of a run at one of its checkpoints; returns where.

    Args:
        which: the checkpoint: `last`, `best` (by validation accuracy) or a step.
        sign: signs the version; None: it stays unsigned.

    Raises: RunError, checkpoint.DamagedCheckpoint, publish.PublishRefused.
    """
    steps = checkpoint.steps(run.folder)
    step = {"last": steps[-1] if steps else None, "best": checkpoint.best_step(run.folder)}.get(which, which)
    if step is None or not str(step).isdecimal() or int(step) not in steps:
        raise RunError(
            f"run {run.folder.name!r} has no checkpoint {which!r}; it has: {', '.join(map(str, steps)) or 'none'}"
        )
    return _publish(run, checkpoint.load(run.folder, int(step)), sign)


def _publish(run: Run, state: Checkpoint, sign: publish.Sign | None = None) -> str:
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
    )
    return publish.publish(
        candidate,
        run.job.model_dir,
        model_name=run.job.model_name,
        min_accuracy=run.config.min_accuracy,
        sign=sign,
    )

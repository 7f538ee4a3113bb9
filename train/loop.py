"""The training loop, as every worker runs it: steps, checkpoints, validation, and at the end the test set.

`train` is called once by each worker of the run, or once by a single process. It goes on from the run's last whole
checkpoint if there is one, so starting, restarting after a failure and resuming are the same thing.
"""

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from . import checkpoint
from .checkpoint import Checkpoint
from .config import TrainConfig
from .data import Dataset
from .data.example_order import ExampleOrder
from .data.on_device import MOST_STEPS
from .data.shards import check_training_part, is_remote
from .evaluate import Evaluation, make_predict
from .network.precise_batch_norm import NUM_IMAGES, NUM_IMAGES_BETWEEN, make_recalibrate
from .progress import Advance, Event, Message, Saved, Validated
from .step import StepMetrics, TrainState, make_steps
from .storage import RunFolder
from .strategy import gather, hardware, is_chief


class TrainingDiverged(RuntimeError):
    """The loss is not finite any more; the message names the step, the learning rate and the last checkpoint."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a finished run hands back, beside its last checkpoint."""

    step: int
    test_probabilities: NDArray[np.float32]  # [num test images, num_classes], of the averaged weights
    training_seconds: float  # in steps, in this process; the first ones compile
    timed_steps: int  # how many these were: all of the run's, unless it went on from a checkpoint
    hardware: str  # of this process's replicas, and how many replicas there were


@dataclass(frozen=True, slots=True)
class Paused:
    """A run that was asked to stop, with a checkpoint at just this step."""

    step: int


def train(
    config: TrainConfig,
    dataset: Dataset,
    strategy: tf.distribute.Strategy,
    folder: RunFolder,
    *,
    emit: Callable[[Event], None],
    on_checkpoint: Callable[[str | None, dict[str, float]], None],
    make_state: Callable[..., TrainState] = TrainState,
    pause_at: Callable[[int], int | None] | None = None,
    on_device: bool | None = None,
) -> "Outcome | Paused":
    """Train to the end, from the beginning or from the run's last checkpoint.

    Args:
        dataset: the whole set; the validation images are held out here.
        folder: the run's.
        emit: takes events for the display; only the chief's are sent.
        on_checkpoint: called on every worker at every checkpoint with the checkpoint's folder, relative to the run's
            (None on all but the chief), and its metrics.
        make_state: makes the state that is trained, with the arguments of `TrainState`.
        pause_at: asked before every call of steps, with the step: at which later step to pause, the same one on all
            workers; None goes on.
        on_device: whether the training set lies on the devices and is augmented there; None: on GPUs.

    Raises: TrainingDiverged.
    """
    emit = emit if is_chief(strategy) else _ignore
    if is_remote(dataset):
        check_training_part(dataset, lambda text: emit(Message(text)))
    dataset, validation_images, validation_labels = dataset.hold_out(config.validation_size, config.seed)
    order = ExampleOrder(len(dataset.train_labels), config.global_batch_size, config.seed)
    total_steps = order.first_step_after(config.epochs)
    with strategy.scope():
        state = make_state(
            config,
            image_size=dataset.image_size,
            num_classes=len(dataset.class_names),
            total_steps=total_steps,
            channels=dataset.channels,
        )
    ledger = _Ledger(folder, state, strategy, keep=config.keep_checkpoints)
    ledger.resume(emit)
    predict = make_predict(state.averaged, strategy)
    recalibrate = make_recalibrate(state.averaged, strategy)
    if state.step < total_steps:
        # `pause_at` counts on calls of that length.
        most = config.log_every_steps if pause_at else min(MOST_STEPS, config.checkpoint_every_steps)
        run_steps, steps_per_call = make_steps(config, state, strategy, dataset, on_device=on_device, most=most)
    clock = _Clock(total_steps, config, order)
    step = first_step = state.step
    paused_at: int | None = None
    while step < total_steps:
        paused_at = pause_at(step) if pause_at else None
        if paused_at is not None and step >= paused_at:
            break
        epoch = step * config.global_batch_size // order.num_examples
        epoch_end = order.first_step_after(epoch + 1)
        until = min(
            (step // config.log_every_steps) * config.log_every_steps + steps_per_call,
            (step // config.checkpoint_every_steps + 1) * config.checkpoint_every_steps,
            epoch_end,
            *([] if paused_at is None else [paused_at]),
        )
        results = run_steps(until - step)  # moves the state on to step `until`
        _check_finite(results, step, state, folder)
        for advance in clock.advances(state, results, step):
            ledger.add(advance.step, advance.epoch, advance.figures)
            emit(advance)
        step = until
        if step == epoch_end:
            count = NUM_IMAGES if step == total_steps else NUM_IMAGES_BETWEEN
            recalibrate(dataset.some_originals(count), count)
            if len(validation_labels):
                evaluation = Evaluation.of(predict(validation_images), validation_labels)
                validated = Validated(
                    step, epoch + 1, config.epochs, advance.loss, evaluation.loss, evaluation.accuracy
                )
                ledger.add(step, advance.epoch, validated.figures)
                ledger.metrics = validated.figures
                emit(validated)
        if step in (epoch_end, paused_at) or step % config.checkpoint_every_steps == 0:
            score = ledger.metrics if step == epoch_end else {}
            began = time.perf_counter()
            saved = ledger.save(score)
            if saved:
                emit(Saved(step, time.perf_counter() - began))
            on_checkpoint(saved, {"step": step, "loss": advance.loss, **score})
            clock.pause()
    if step < total_steps:
        return Paused(step)
    return Outcome(step, predict(dataset.test_images), clock.seconds, step - first_step, hardware(strategy))


class _Ledger:
    """What a run has to show so far: the lines of its log and its last validation, which each checkpoint carries."""

    def __init__(self, folder: RunFolder, state: TrainState, strategy: tf.distribute.Strategy, *, keep: int) -> None:
        self._folder, self._state, self._strategy, self._keep = folder, state, strategy, keep
        self._lines: list[dict[str, Any]] = []
        self.metrics: dict[str, float] = {}

    def resume(self, emit: Callable[[Event], None]) -> None:
        """Set the state to the last whole checkpoint, if there is one; what came after it is removed."""
        found, problems = checkpoint.latest(self._folder)
        for problem in problems:
            emit(Message(f"damaged checkpoint passed over: {problem}"))
        if found:
            self._state.restore(found.arrays, found.step)
            self._lines, self.metrics = found.history, found.metrics
            path = checkpoint.path_of(found.step)
            emit(Message(f"going on from step {found.step:,} ({self._folder}/{path})"))
        check_steps_agree(self._state, self._strategy)
        if is_chief(self._strategy):
            checkpoint.remove_after(self._folder, self._state.step)

    def add(self, step: int, epoch: float, figures: dict[str, float]) -> None:
        """Add a line to the log."""
        self._lines.append({"step": step, "epoch": epoch, **figures})

    def save(self, score: dict[str, float]) -> str | None:
        """Write a checkpoint; returns its folder, relative to the run's, or None on all workers but the chief."""
        state = self._state
        check_replicas_agree(state, self._strategy)
        arrays = state.arrays()
        bad = [name for name, array in arrays.items() if not np.isfinite(array).all()]
        if bad:  # the loss shows it a step later only, when this would be the last checkpoint
            what = f"{bad[0]} is not finite after step {state.step:,}"
            raise TrainingDiverged(_divergence(what, state.step - 1, state, self._folder))
        if not is_chief(self._strategy):
            return None
        saved = checkpoint.save(self._folder, Checkpoint(state.step, arrays, score, self._lines))
        self._folder.write("metrics.jsonl", self._folder.read(f"{saved}/metrics.jsonl"))
        checkpoint.prune(self._folder, self._keep)
        return saved


def _check_finite(results: StepMetrics, first: int, state: TrainState, folder: RunFolder) -> None:
    bad = np.flatnonzero(~np.isfinite(results.loss))
    if len(bad):
        step = first + int(bad[0])
        what = f"the loss became {results.loss[bad[0]]} at step {step + 1:,}"
        raise TrainingDiverged(_divergence(what, step, state, folder))


def _divergence(what: str, step: int, state: TrainState, folder: RunFolder) -> str:
    steps = checkpoint.steps(folder)
    last_good = f"{folder}/{checkpoint.path_of(steps[-1])}" if steps else "none was saved yet"
    return (
        f"{what}, learning rate {float(state.schedule(step)):.2e}; last good checkpoint: {last_good}; start a new run "
        "with a lower --learning-rate or a longer --warmup-epochs"
    )


def check_steps_agree(state: TrainState, strategy: tf.distribute.Strategy) -> None:
    """Raise RuntimeError unless all workers go on from the same step.

    Each looks for the last checkpoint by itself, and a shared disk may show one of them an older listing.
    """
    steps = gather(strategy, [state.step] * len(strategy.extended.worker_devices))
    if len(set(steps)) != 1:
        raise RuntimeError(f"the workers found different checkpoints to go on from, at the steps {sorted(set(steps))}")


def check_replicas_agree(state: TrainState, strategy: tf.distribute.Strategy) -> None:
    """Compare all replicas' copies of all variables; raises RuntimeError unless they are equal bit by bit.

    `tf.distribute` keeps mirrored variables equal only if every update was: a batch-norm statistic taken from one
    replica's images, say, goes its own way without a word.
    """
    if strategy.num_replicas_in_sync == 1:
        return
    local = [strategy.experimental_local_results(variable.value) for variable in state.variables().values()]
    digests = []
    for copies in zip(*local, strict=True):
        digest = hashlib.sha256()
        for copy in copies:
            digest.update(copy.numpy().tobytes())
        digests.append(int.from_bytes(digest.digest()[:8], "little", signed=True))
    everyone = gather(strategy, digests)
    if len(set(everyone)) != 1:
        raise RuntimeError(f"the replicas' variables differ before the checkpoint at step {state.step}: {everyone}")


class _Clock:
    """Measures the speed of the steps, without what comes between them: validation and checkpoints."""

    def __init__(self, total_steps: int, config: TrainConfig, order: ExampleOrder) -> None:
        self._total_steps, self._config, self._order = total_steps, config, order
        self._start = self._last = time.monotonic()
        self._seconds_per_step = 0.0

    @property
    def seconds(self) -> float:
        return self._last - self._start

    def pause(self) -> None:
        """Leave out the time since the last `advances`."""
        self._start += (now := time.monotonic()) - self._last
        self._last = now

    def advances(self, state: TrainState, results: StepMetrics, first: int) -> list[Advance]:
        """What to show of a call of steps that just ended and began at step `first`: one for each line of the log."""
        now = time.monotonic()
        spent = (now - self._last) / len(results.loss)
        self._last = now
        smoothed = self._seconds_per_step
        self._seconds_per_step = 0.8 * smoothed + 0.2 * spent if smoothed and smoothed < 3 * spent else spent
        every = self._config.log_every_steps
        ends = [*range((first // every + 1) * every, state.step, every), state.step]
        return [
            self._advance(state, results, slice(start - first, end - first), end, spent)
            for start, end in zip([first, *ends], ends, strict=False)
        ]

    def _advance(self, state: TrainState, results: StepMetrics, part: slice, step: int, spent: float) -> Advance:
        return Advance(
            step=step,
            total_steps=self._total_steps,
            epoch=round(step * self._config.global_batch_size / self._order.num_examples, 4),
            epochs=self._config.epochs,
            images_per_s=self._config.global_batch_size / spent,
            loss=float(results.loss[part].mean(dtype=np.float64)),
            accuracy=float(results.accuracy[part].mean(dtype=np.float64)),
            learning_rate=float(state.schedule(step - 1)),
            seconds_left=self._seconds_per_step * (self._total_steps - step),
        )


def _ignore(event: Event) -> None:
    pass

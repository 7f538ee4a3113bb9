"""One optimizer step on all replicas of a `tf.distribute` strategy, and the state that it moves on.

The same step serves one CPU, several GPUs of one worker (`MirroredStrategy`) and several workers
(`MultiWorkerMirroredStrategy`). Many steps run inside one `tf.function`, so Python is off the path between them.
"""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from .config import TrainConfig
from .data import Dataset
from .data.colour import Background
from .data.on_device import MOST_STEPS, Call, DeviceBatches, batch_of
from .data.pipeline import training_batches
from .network.model import build_model, logits_model
from .strategy import runs_on_gpus


def replica_loss(
    labels: tf.Tensor, logits: tf.Tensor, *, global_batch_size: int, label_smoothing: float = 0.0
) -> tf.Tensor:
    """This replica's share of the global mean cross-entropy.

    Args:
        labels: int64 [b], class numbers.
        logits: float32 [b, num_classes], not normalised.
        label_smoothing: share of each label spread evenly over all classes (Szegedy et al., CVPR 2016).

    Returns: float32 [], in nats. Summed over replicas it is the mean over the global batch.
    """
    targets = tf.one_hot(labels, logits.shape[-1], on_value=1.0 - label_smoothing, off_value=0.0)
    targets += label_smoothing / logits.shape[-1]
    losses = tf.nn.softmax_cross_entropy_with_logits(targets, logits)
    # The global size, not ours: the optimizer sums gradients over replicas.
    # https://www.tensorflow.org/tutorials/distribute/custom_training
    return tf.reduce_sum(losses) / global_batch_size


class TrainState:
    """All that a run is, between two steps: weights, their moving average, optimizer slots, step. Make it in scope."""

    def __init__(
        self,
        config: TrainConfig,
        *,
        image_size: tuple[int, int],
        num_classes: int,
        total_steps: int,
        channels: int = 1,
    ) -> None:
        """Fresh weights for images of `image_size` pixels (height, width) and `channels`, 1 or 3."""
        build = functools.partial(
            build_model, config, image_size=image_size, num_classes=num_classes, channels=channels
        )
        self.model, self.averaged = build(for_training=True), build()
        self.averaged.set_weights(self.model.get_weights())
        steps_per_epoch = total_steps / config.epochs
        warmup_steps = round(config.warmup_epochs * steps_per_epoch)
        self.schedule = keras.optimizers.schedules.CosineDecay(
            0.0 if warmup_steps else config.learning_rate,
            max(total_steps - warmup_steps, 1),
            warmup_target=config.learning_rate if warmup_steps else None,
            warmup_steps=warmup_steps,
        )
        self.optimizer = keras.optimizers.Adam(self.schedule, name="adam")
        if config.precision == "float16":
            self.optimizer = keras.optimizers.LossScaleOptimizer(self.optimizer, name="loss_scale")
        self.optimizer.build(self.model.trainable_variables)
        self.step = 0
        self._averaging = [
            (target.value, source.value)
            for target, source in zip(self.averaged.weights, self.model.weights, strict=True)
        ]

    def variables(self) -> dict[str, keras.Variable]:
        """Every variable that a checkpoint holds, by a name that does not depend on the number of workers."""
        named = {f"model/{variable.path}": variable for variable in self.model.weights}
        named |= {f"averaged/{variable.path}": variable for variable in self.averaged.weights}
        return named | {f"optimizer/{i:03d}/{v.path}": v for i, v in enumerate(self.optimizer.variables)}

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The variables' values on this worker's first replica."""
        return {name: np.asarray(variable.numpy()) for name, variable in self.variables().items()}

    def restore(self, arrays: dict[str, NDArray[Any]], step: int) -> None:
        """Go back to what `arrays()` returned at `step`; raises ValueError if those are not this state's variables."""
        if missing := self.variables().keys() - arrays.keys():
            raise ValueError(
                f"the checkpoint at step {step} lacks {min(missing)}: another version of Inkling wrote it; go on with "
                "that one, or choose another --name"
            )
        for name, variable in self.variables().items():
            variable.assign(arrays[name])
        self.step = step

    def move_average(self, decay: float) -> None:
        """Move the averaged weights, batch-norm statistics included, towards the current ones; in replica context."""
        # A long memory would be full of the initial weights early on; the ramp is tf.train.ExponentialMovingAverage's.
        steps = tf.cast(self.optimizer.iterations, tf.float32)
        decay = tf.minimum(decay, (1.0 + steps) / (10.0 + steps)) if decay else tf.constant(0.0)
        for average, variable in self._averaging:
            average.assign(average * decay + variable * (1.0 - decay))


@dataclass(frozen=True, slots=True)
class StepMetrics:
    """Means over the global batch, one number for each step: float32 [num_steps]."""

    loss: NDArray[np.float32]  # cross-entropy and weight decay, in nats
    accuracy: NDArray[np.float32]  # on the augmented images, with dropout


def make_steps(
    config: TrainConfig,
    state: TrainState,
    strategy: tf.distribute.Strategy,
    dataset: Dataset,
    *,
    on_device: bool | None = None,
    most: int = MOST_STEPS,
) -> tuple[Callable[[int], StepMetrics], int]:
    """Compile the training step for a set.

    Args:
        dataset: what is trained on.
        on_device: whether it lies on the devices and is augmented there; None: on GPUs.
        most: steps of a call where the set lies on the devices; made a whole number of lines of the log.

    Returns: `run_steps(num_steps)`, which takes that many steps from `state.step` on, moves `state` on by them and
        returns their metrics; and how many steps it takes at most.
    """
    if runs_on_gpus(strategy) if on_device is None else on_device:
        of_epoch = math.ceil(len(dataset.train_labels) / config.global_batch_size)
        most_steps = math.ceil(min(most, of_epoch) / config.log_every_steps) * config.log_every_steps
        compiled = compiles(config, strategy)
        device_batches = DeviceBatches(config, dataset, strategy, most_steps=most_steps, compiled=compiled)
        run_device_steps = make_device_steps(config, state, strategy, background=dataset.background)
        return functools.partial(run_device_steps, device_batches), most_steps
    batches = iter(training_batches(config, dataset, strategy, first_step=state.step))
    return functools.partial(make_run_steps(config, state, strategy), batches), config.log_every_steps


def make_run_steps(
    config: TrainConfig, state: TrainState, strategy: tf.distribute.Strategy
) -> Callable[[Any, int], StepMetrics]:
    """Compile the training step for batches that the host makes.

    Returns: `run_steps(iterator, num_steps)`, which takes that many steps on what `training_batches` yields, moves
        `state` on by them, `state.step` included, and returns their metrics.
    """
    step = _replica_step(config, state, strategy)
    if compiles(config, strategy):
        step = tf.function(step, jit_compile=True)

    @tf.function
    def run(iterator: Any, num_steps: tf.Tensor) -> tf.Tensor:
        results = tf.TensorArray(tf.float32, num_steps, element_shape=[2])
        for i in tf.range(num_steps):
            metrics = strategy.run(step, args=next(iterator))
            results = results.write(i, tf.add_n(strategy.experimental_local_results(metrics)))
        # Once for all steps: a reduction over workers in each would have the faster one wait again.
        return _sum_over_workers(strategy, results.stack())

    def run_steps(iterator: Any, num_steps: int) -> StepMetrics:
        results = run(iterator, tf.constant(num_steps)).numpy()
        state.step += num_steps
        return StepMetrics(results[:, 0], results[:, 1])

    return run_steps


def make_device_steps(
    config: TrainConfig, state: TrainState, strategy: tf.distribute.Strategy, *, background: Background
) -> Callable[[DeviceBatches, int], StepMetrics]:
    """Compile the training step for a set that lies on the devices: one replica's call of many steps is one program.

    XLA does not compile what replicas exchange; with several of them the steps are not compiled.

    Args:
        background: the pixel value of empty paper, 0 to 255; of each channel in colour.

    Returns: `run_steps(batches, num_steps)`, as `make_run_steps` does it, for `batches.steps` steps at most.
    """
    step = _replica_step(config, state, strategy)

    def device_step(call: Call, number: tf.Tensor) -> tf.Tensor:
        return step(*batch_of(config, call, number, background=background))

    @tf.function(jit_compile=compiles(config, strategy))
    def run(call: Call, num_steps: tf.Tensor, most_steps: int) -> tf.Tensor:
        results = tf.TensorArray(tf.float32, most_steps, element_shape=[2])
        for i in tf.range(num_steps):
            metrics = strategy.run(device_step, args=(call, i))
            results = results.write(i, tf.add_n(strategy.experimental_local_results(metrics)))
        return _sum_over_workers(strategy, results.stack())

    def run_steps(batches: DeviceBatches, num_steps: int) -> StepMetrics:
        call = batches.call(state.step, num_steps)
        results = run(call, tf.constant(num_steps), batches.steps).numpy()[:num_steps]
        state.step += num_steps
        return StepMetrics(results[:, 0], results[:, 1])

    return run_steps


def compiles(config: TrainConfig, strategy: tf.distribute.Strategy) -> bool:
    """Whether XLA compiles the step."""
    if config.jit_compile is None:
        return runs_on_gpus(strategy) and strategy.num_replicas_in_sync == 1
    return config.jit_compile


def _replica_step(
    config: TrainConfig, state: TrainState, strategy: tf.distribute.Strategy
) -> Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor]:
    """A step as each replica takes it, on a batch as `training_batches` yields it; returns loss and accuracy."""
    logits_of = logits_model(state.model)
    num_replicas = strategy.num_replicas_in_sync
    dropouts = [
        layer.seed_generator for layer in state.model.layers if isinstance(layer, keras.layers.Dropout) and layer.rate
    ]
    trainable = state.model.trainable_variables

    def replica_step(images: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        for number, generator in enumerate(dropouts):
            generator.state.value.assign(
                tf.cast(tf.stack([seed, len(dropouts) * replica + number]), generator.state.dtype)
            )
        with tf.GradientTape() as tape:
            logits = logits_of(images, training=True)
            loss = replica_loss(
                labels, logits, global_batch_size=config.global_batch_size, label_smoothing=config.label_smoothing
            )
            loss += tf.add_n(state.model.losses) / num_replicas
            scaled = state.optimizer.scale_loss(loss)
        gradients = tape.gradient(scaled, [variable.value for variable in trainable])
        if config.precision == "float16":
            # All replicas must agree that a gradient overflowed, or some would skip the step that others take.
            total = tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, gradients)
            gradients = [gradient / num_replicas for gradient in total]
        state.optimizer.apply(gradients, trainable)
        state.move_average(config.average_decay)
        hits = tf.reduce_sum(tf.cast(tf.argmax(logits, axis=1) == labels, tf.float32))
        return tf.stack([loss, hits / config.global_batch_size])

    return replica_step


def _sum_over_workers(strategy: tf.distribute.Strategy, value: tf.Tensor) -> tf.Tensor:
    """The sum of what each worker has in `value`."""
    num_local = len(strategy.extended.worker_devices)

    def reduce(value: tf.Tensor) -> tf.Tensor:
        # Each of a worker's replicas adds its share of the same value.
        return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, value / num_local)

    return strategy.experimental_local_results(strategy.run(reduce, args=(value,)))[0]

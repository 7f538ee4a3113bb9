"""The training set on the devices that train: examples are picked, drawn for and moved inside the compiled steps.

The numbers are those of the host's pipeline (`pipeline.py`), bit for bit, so both draw the same transforms; pixels and
all that follows from them are equal up to rounding. What the host does is done once for a call of many steps, while
the devices are busy with the call before: it looks up which examples the steps take. A set that is too large for a
device's memory is streamed through it, a call's examples at a time.
"""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple, cast

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from ..config import TrainConfig
from .augment import (
    ELASTIC_GRID,
    IDENTITY,
    Changes,
    affine_maps,
    apply_changes,
    elastic_displacements,
    number_counts,
)
from .colour import Background
from .dataset import Dataset
from .device_numbers import uniform_numbers
from .example_order import AUGMENTATION, ExampleOrder, example_key, step_seed
from .memory import pieces
from .pipeline import ReadAhead
from .pixels import to_model_input
from .rows import StoredRows

RESIDENT_BYTES = 2**32  # of images, that are kept on each device; the smallest GPU that people train on has 8 GiB
MOST_STEPS = 256  # of a call: some tens of milliseconds of a fast GPU, which a call's own millisecond is little beside


class Call(NamedTuple):
    """What one call of steps needs, as each replica has it; b is the per-replica batch size."""

    images: Any  # uint8 [n, height, width] or [n, height, width, 3]: the whole set, or only what the call takes of it
    labels: Any  # int64 [n]
    rows: Any  # int32 [num steps, b]: where in `images` the examples are
    changes: Any  # Changes of [num steps, b] examples; empty if augmentation changes nothing
    seeds: Any  # int32 [num steps]: what dropout draws from


class DeviceBatches:
    """The examples of every call of steps, on the devices; what `training_batches` is for the host."""

    def __init__(
        self,
        config: TrainConfig,
        dataset: Dataset,
        strategy: tf.distribute.Strategy,
        *,
        most_steps: int = MOST_STEPS,
        resident_bytes: int = RESIDENT_BYTES,
        compiled: bool = False,
    ) -> None:
        """Copy the set to the devices, if it fits.

        Args:
            most_steps: of a call.
            resident_bytes: of images that may stay on each device.
            compiled: have XLA compile what draws the changes.

        Raises: ValueError if the global batch does not split evenly.
        """
        self.steps = most_steps
        self._config, self._dataset, self._strategy = config, dataset, strategy
        self._order = ExampleOrder(len(dataset.train_labels), config.global_batch_size, config.seed, dataset.window)
        config.per_replica_batch_size(strategy.num_replicas_in_sync)
        rows = dataset.train_images
        self._read_ahead = None if isinstance(rows, np.ndarray) else ReadAhead(self._order, cast(StoredRows, rows))
        resident = int(np.prod(rows.shape)) <= resident_bytes
        self._resident = self._on_each(lambda _: (_whole(rows), _whole(dataset.train_labels))) if resident else None
        self._draw = _make_draw(config, strategy, image_size=dataset.image_size, compiled=compiled)
        self._maker = ThreadPoolExecutor(1, thread_name_prefix="examples")
        self._next: tuple[int, Future[Call]] | None = None

    @property
    def is_resident(self) -> bool:
        """Whether the whole set is on the devices."""
        return self._resident is not None

    def call(self, step: int, num_steps: int) -> Call:
        """What the steps from `step` on take, `num_steps` of them or more; the call after it is begun."""
        made = self._next[1] if self._next and self._next[0] == step else self._maker.submit(self._made, step)
        result = made.result()
        following = step + num_steps
        self._next = following, self._maker.submit(self._made, following)
        return result

    def _made(self, first: int) -> Call:
        steps = range(first, first + self.steps)
        if self._read_ahead:
            for step in steps:
                self._read_ahead.at(step)
        seeds = np.array([step_seed(self._config.seed, step) for step in steps], np.int32)
        values = self._on_each(lambda replica: (seeds, *self._examples(first, replica)))
        seeds, epoch, index = values[:3]
        images, labels, rows = (*self._resident, index) if self._resident else values[3:]
        changes = self._draw(example_key(AUGMENTATION, self._config.seed), epoch, index)
        return Call(images, labels, rows, changes, seeds)

    def _examples(self, first: int, replica: int) -> tuple[NDArray[Any], ...]:
        """A replica's share of a call: epoch and index, and unless the set is resident, images, labels and rows."""
        epoch, index = self._order.batches(first, self.steps, replica, self._strategy.num_replicas_in_sync)
        places = epoch.astype(np.int32), index.astype(np.int32)
        if self._resident:
            return places
        taken = index.ravel()
        rows = np.arange(len(taken), dtype=np.int32).reshape(index.shape)
        return *places, self._dataset.train_images[taken], self._dataset.train_labels[taken], rows

    def _on_each(self, values_of: Callable[[int], tuple[NDArray[Any], ...]]) -> tuple[Any, ...]:
        """Give each replica the arrays that `values_of` has for its number, on its own device."""
        devices = self._strategy.extended.worker_devices

        def of_replica(context: tf.distribute.ReplicaContext) -> tuple[tf.Tensor, ...]:
            replica = context.replica_id_in_sync_group
            with tf.device(devices[replica % len(devices)]):
                return tuple(tf.identity(array) for array in values_of(replica))

        values: tuple[Any, ...] = self._strategy.experimental_distribute_values_from_function(of_replica)
        return values


def _whole(rows: Any) -> NDArray[Any]:
    if isinstance(rows, np.ndarray):
        return rows
    return np.concatenate([rows[np.arange(len(rows))[piece]] for piece in pieces(rows)])


def batch_of(
    config: TrainConfig, call: Call, number: tf.Tensor, *, background: Background
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """The batch of a call's step, in replica context; XLA compiles it.

    Args:
        number: int32 [], of the step in the call.
        background: the pixel value that comes in from outside an image, 0 to 255; of each channel in colour.

    Returns: images float32 [b, height, width, channels], labels int64 [b], seed int32 [], as `training_batches` yields
        them.
    """
    rows = call.rows[number]
    images, labels = tf.gather(call.images, rows), tf.gather(call.labels, rows)
    if config.augmentation.is_identity:
        return to_model_input(images), labels, call.seeds[number]
    changes = Changes(*(part[number] for part in call.changes))
    changed = apply_changes(config.augmentation, images, changes, background=background, compiled=True)
    return changed, labels, call.seeds[number]


def _make_draw(
    config: TrainConfig, strategy: tf.distribute.Strategy, *, image_size: tuple[int, int], compiled: bool
) -> Callable[[NDArray[np.uint64], Any, Any], Any]:
    """What draws the changes of a call's examples, on each replica.

    It is not a part of the steps: XLA would put what is drawn for an image into the code for each of its pixels.

    Returns: `draw(key, epoch, index)`, for a key uint64 [1] and, of each replica, int32 [num steps, b].
    """
    sizes = number_counts(config.augmentation)

    @tf.function(jit_compile=compiled)
    def numbers_of(key: tf.Tensor, epoch: tf.Tensor, index: tf.Tensor) -> tf.Tensor:
        numbers = uniform_numbers(key, tf.reshape(epoch, [-1]), tf.reshape(index, [-1]), sum(sizes))
        return tf.reshape(numbers, [*epoch.shape, sum(sizes)])

    @tf.function(jit_compile=compiled)
    def changes_of(numbers: tf.Tensor, epoch: tf.Tensor) -> Changes:
        steps, size, count = numbers.shape
        flat = _changes(config, tf.reshape(numbers, [-1, count]), tf.reshape(epoch, [-1]), image_size)
        return Changes(*(tf.reshape(part, [steps, size, *part.shape[1:]]) for part in flat))

    def of_replica(key: tf.Tensor, epoch: tf.Tensor, index: tf.Tensor) -> Changes:
        return changes_of(numbers_of(key, epoch, index), epoch)

    @tf.function
    def draw(key: tf.Tensor, epoch: Any, index: Any) -> Any:
        return strategy.run(of_replica, args=(key, epoch, index))

    if config.augmentation.is_identity:
        return lambda key, epoch, index: ()
    return lambda key, epoch, index: draw(tf.constant(key), epoch, index)


def _changes(config: TrainConfig, numbers: tf.Tensor, epoch: tf.Tensor, image_size: tuple[int, int]) -> Changes:
    """`sample_changes` from its numbers float32 [n, count], and none for examples of the last, plain epochs."""
    affine, first, second, looks = tf.split(numbers, number_counts(config.augmentation), axis=1)
    transforms = affine_maps(config.augmentation, affine, image_size, tf)
    plain = config.is_plain(epoch)[:, tf.newaxis]
    transforms = tf.where(plain, tf.constant(IDENTITY, tf.float32), transforms)
    looks = tf.where(plain, 1.0, looks)
    if not first.shape[1]:
        return Changes(transforms, first, looks)
    displacements = tf.where(plain, 0.0, elastic_displacements(config.augmentation, first, second, tf.math))
    return Changes(transforms, tf.reshape(displacements, [-1, 2, ELASTIC_GRID, ELASTIC_GRID]), looks)

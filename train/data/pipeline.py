"""Each worker's input: its replicas' slices of every step, gathered and augmented off the critical path."""

from typing import Any, cast

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from ..config import TrainConfig
from ..strategy import runs_on_gpus
from .augment import ELASTIC_GRID, IDENTITY, Changes, apply_changes, number_counts, sample_changes
from .dataset import Dataset
from .example_order import BLOCK, ExampleOrder, step_seed
from .pixels import to_model_input
from .rows import StoredRows


def training_batches(
    config: TrainConfig, dataset: Dataset, strategy: tf.distribute.Strategy, *, first_step: int
) -> tf.distribute.DistributedDataset:
    """The batches of step `first_step` and all after it, without end, for `strategy.run`.

    Returns: for each replica (images float32 [b, height, width, channels], labels int64 [b], seed int32 []), where b is
        the per-replica batch size and the seed is the step's, the same on all replicas.
    """
    num_replicas = strategy.num_replicas_in_sync
    # A GPU's step leaves all of the worker's CPUs to the input; on CPUs it would only take them from the step.
    ahead = tf.config.threading.get_inter_op_parallelism_threads() if runs_on_gpus(strategy) else 1

    def of_worker(context: tf.distribute.InputContext) -> tf.data.Dataset:
        local = num_replicas // context.num_input_pipelines
        first = context.input_pipeline_id * local
        steps = tf.data.Dataset.counter(first_step)
        replicas = range(first, first + local)
        batches = replica_batches(config, dataset, steps, replicas=replicas, num_replicas=num_replicas, ahead=ahead)
        # If an end were possible, the workers would ask each other at every step whether all of them have a batch
        # (_enable_get_next_as_optional):
        # https://github.com/tensorflow/tensorflow/blob/v2.21.0/tensorflow/python/distribute/input_lib.py#L1906
        return batches.apply(tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY))

    return strategy.distribute_datasets_from_function(of_worker)


def replica_batches(
    config: TrainConfig, dataset: Dataset, steps: tf.data.Dataset, *, replicas: range, num_replicas: int, ahead: int = 1
) -> tf.data.Dataset:
    """The slices that `replicas`, of `num_replicas` in all, take of `steps`: a worker's elements, its replicas in turn.

    Elements are as `training_batches` says; `ahead` more than there are replicas are made side by side.
    """
    order = ExampleOrder(len(dataset.train_labels), config.global_batch_size, config.seed, dataset.window)
    rows = dataset.train_images
    read_ahead = None if isinstance(rows, np.ndarray) else ReadAhead(order, cast(StoredRows, rows))
    size = config.per_replica_batch_size(num_replicas)
    elastic = [2, ELASTIC_GRID, ELASTIC_GRID] if config.augmentation.elastic_px else [0]

    def examples_of(step: NDArray[np.int64], replica: NDArray[np.int64]) -> tuple[Any, ...]:
        if read_ahead and replica == replicas.start:
            read_ahead.at(int(step))
        epoch, index = order.batch(int(step), int(replica), num_replicas)
        transforms, displacements, looks = sample_changes(
            config.augmentation, seed=config.seed, epoch=epoch, index=index, image_size=dataset.image_size
        )
        plain = config.is_plain(epoch)
        transforms[plain], displacements[plain], looks[plain] = IDENTITY, 0, 1
        seed = np.int32(step_seed(config.seed, int(step)))
        return dataset.train_images[index], dataset.train_labels[index], transforms, displacements, looks, seed

    def batch_of(step: tf.Tensor, replica: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        types = [tf.uint8, tf.int64, tf.float32, tf.float32, tf.float32, tf.int32]
        images, labels, transforms, displacements, looks, seed = tf.numpy_function(
            examples_of, [step, replica], types, stateful=False
        )
        images = tf.ensure_shape(images, [size, *dataset.image_shape])
        labels = tf.ensure_shape(labels, [size])
        seed = tf.ensure_shape(seed, [])
        if config.augmentation.is_identity:
            return to_model_input(images), labels, seed
        changes = Changes(
            tf.ensure_shape(transforms, [size, 8]),
            tf.ensure_shape(displacements, [size, *elastic]),
            tf.ensure_shape(looks, [size, number_counts(config.augmentation)[-1]]),
        )
        return apply_changes(config.augmentation, images, changes, background=dataset.background), labels, seed

    slices = steps.flat_map(
        lambda step: tf.data.Dataset.range(replicas.start, replicas.stop).map(lambda replica: (step, replica))
    )
    batches = slices.map(batch_of, num_parallel_calls=len(replicas) + ahead, deterministic=True)
    options = tf.data.Options()
    options.autotune.enabled = False
    return batches.prefetch(len(replicas) + ahead).with_options(options)


class ReadAhead:
    """Has the system read a window of stored examples while the one before it is trained on."""

    def __init__(self, order: ExampleOrder, rows: StoredRows) -> None:
        self._order, self._rows = order, rows
        self._begun = False

    def at(self, step: int) -> None:
        """Ask for the share of the next window that falls to `step`; the first time, for the step's own window too."""
        blocks = [self._order.blocks_ahead(step)]
        if not self._begun:
            self._begun = True
            blocks.append(self._order.blocks_around(step))
        for block in np.concatenate(blocks):
            start = int(block) * BLOCK
            self._rows.expect(start, min(start + BLOCK, len(self._rows)))

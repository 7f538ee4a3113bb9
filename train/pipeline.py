"""Each worker's input: its replicas' slices of every step, gathered and augmented off the critical path."""

from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from train import augment
from train.config import TrainConfig
from train.data import Dataset
from train.shards import ExampleOrder, step_seed


def training_batches(
    config: TrainConfig, dataset: Dataset, strategy: tf.distribute.Strategy, *, first_step: int, last_step: int
) -> tf.distribute.DistributedDataset:
    """The batches of steps [first_step, last_step), for `strategy.run`.

    Returns: for each replica (images float32 [b, height, width, 1], labels int64 [b], seed int32 []), where b is the
        per-replica batch size and the seed is the step's, the same on all replicas.
    """
    order = ExampleOrder(len(dataset.train_labels), config.global_batch_size, config.seed)
    num_replicas = strategy.num_replicas_in_sync
    size = config.per_replica_batch_size(num_replicas)
    height, width = dataset.image_size
    elastic = [2, augment.ELASTIC_GRID, augment.ELASTIC_GRID] if config.augmentation.elastic_px else [0]

    def draw(step: NDArray[np.int64], replica: NDArray[np.int64]) -> tuple[Any, ...]:
        epoch, index = order.batch(int(step), int(replica), num_replicas)
        moves = augment.draw(
            config.augmentation, seed=config.seed, epoch=epoch, index=index, image_size=dataset.image_size
        )
        return (
            dataset.train_images[index],
            dataset.train_labels[index],
            *moves,
            np.int32(step_seed(config.seed, int(step))),
        )

    def batch_of(step: tf.Tensor, replica: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        types = [tf.uint8, tf.int64, tf.float32, tf.float32, tf.int32]
        images, labels, transforms, displacements, seed = tf.numpy_function(
            draw, [step, replica], types, stateful=False
        )
        images = tf.ensure_shape(images, [size, height, width])
        labels = tf.ensure_shape(labels, [size])
        seed = tf.ensure_shape(seed, [])
        if config.augmentation.policy == "none":
            return tf.cast(images, tf.float32)[..., tf.newaxis] / 255.0, labels, seed
        transforms = tf.ensure_shape(transforms, [size, 8])
        displacements = tf.ensure_shape(displacements, [size, *elastic])
        return augment.apply(images, transforms, displacements), labels, seed

    def of_worker(context: tf.distribute.InputContext) -> tf.data.Dataset:
        local = num_replicas // context.num_input_pipelines
        first = context.input_pipeline_id * local
        steps = tf.data.Dataset.range(first_step, last_step)
        # A worker's consecutive elements go to its replicas in turn.
        slices = steps.flat_map(
            lambda step: tf.data.Dataset.range(first, first + local).map(lambda replica: (step, replica))
        )
        batches = slices.map(batch_of, num_parallel_calls=local + 1, deterministic=True)
        options = tf.data.Options()
        options.autotune.enabled = False
        return batches.prefetch(2 * local).with_options(options)

    return strategy.distribute_datasets_from_function(of_worker)

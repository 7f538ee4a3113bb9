"""Hand a worker's images out to its replicas, for what is computed without gradients."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

PER_REPLICA_BATCH_SIZE = 500


def replica_slices(
    images: NDArray[np.uint8], strategy: tf.distribute.Strategy, per_replica_batch_size: int = PER_REPLICA_BATCH_SIZE
) -> Iterator[tuple[Any, Any, int]]:
    """Cut `images`, uint8 [n, height, width], into slices of one size for all replicas, a batch at a time.

    Yields: per-replica images uint8 [b, height, width]; per-replica marks float64 [b], 1 for an image and 0 for what
        fills the last slices up; and the number of images in the batch. Replica 0's slice comes first.
    """
    replicas = strategy.num_replicas_in_sync
    batch = per_replica_batch_size * replicas
    for start in range(0, len(images), batch):
        chunk = images[start : start + batch]
        share = -(-len(chunk) // replicas)
        filling = share * replicas - len(chunk)
        padded = np.concatenate([chunk, np.zeros((filling, *chunk.shape[1:]), np.uint8)])
        present = np.concatenate([np.ones(len(chunk)), np.zeros(filling)])
        yield _distribute(padded, share, strategy), _distribute(present, share, strategy), len(chunk)


def _distribute(array: NDArray[Any], share: int, strategy: tf.distribute.Strategy) -> Any:
    def slice_of(context: tf.distribute.ReplicaContext) -> tf.Tensor:
        rank = context.replica_id_in_sync_group
        return tf.constant(array[rank * share : (rank + 1) * share])

    return strategy.experimental_distribute_values_from_function(slice_of)

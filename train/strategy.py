"""Set TensorFlow up, choose the `tf.distribute` strategy that spans its devices, share data out to its replicas."""

import json
import os
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

PER_REPLICA_BATCH_SIZE = 500  # images, of what is computed without gradients


def configure_tensorflow(
    *, num_threads: int, cpu_replicas: int, seed: int, deterministic: bool, num_gpus: int | None = None
) -> None:
    """Set threads, devices and determinism; call once in a process, before any other TensorFlow call.

    Args:
        num_threads: CPU threads for one op and for ops side by side; what Ray granted.
        num_gpus: GPUs to take at most, what Ray granted; None takes all that are visible.
        cpu_replicas: without a GPU, logical CPU devices to split this process into, each a replica. More than one
            only serves to run multi-GPU code on a CPU.
    """
    tf.config.threading.set_intra_op_parallelism_threads(max(1, num_threads // cpu_replicas))
    tf.config.threading.set_inter_op_parallelism_threads(max(2, num_threads))
    keras.utils.set_random_seed(seed)
    if deterministic:
        tf.config.experimental.enable_op_determinism()
    compute_in_full_float32()
    gpus = tf.config.list_physical_devices("GPU")[:num_gpus]
    # Ray hides the GPUs that it gave to others, but none from a worker that got none:
    # https://github.com/ray-project/ray/pull/54928
    tf.config.set_visible_devices(gpus, "GPU")
    for gpu in gpus:
        tf.config.experimental.set_memory_growth(gpu, True)  # leave memory to the other workers of the node
    if cpu_replicas > 1 and not gpus:
        devices = [tf.config.LogicalDeviceConfiguration()] * cpu_replicas
        tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], devices)


def keep_to_own_cpus(local_rank: int, *, local_workers: int, num_cpus: int) -> None:
    """Bind this thread, and all that it starts, to its share of the machine's CPUs if the run's workers have all.

    Workers that exchange batch statistics sleep and wake many times a step; free to wake on another CPU they displace
    each other's caches. If they have not all (or Ray counts other CPUs than the system, as under a container's quota)
    nothing is bound, since two jobs could choose the same ones; nor is it where the system cannot, as on macOS.

    Args:
        local_rank: this worker's number among the run's `local_workers` on its machine, each granted `num_cpus`.
    """
    if not hasattr(os, "sched_setaffinity"):
        return
    cpus = sorted(os.sched_getaffinity(0))
    if local_workers > 1 and local_workers * num_cpus == len(cpus):
        os.sched_setaffinity(0, cpus[local_rank * num_cpus : (local_rank + 1) * num_cpus])


def make_strategy() -> tf.distribute.Strategy:
    """`MultiWorkerMirroredStrategy` if TF_CONFIG names several workers, else `MirroredStrategy` over local devices.

    One device alone has nothing to mirror, and XLA does not compile `MirroredStrategy`'s merging of replicas:
    https://github.com/keras-team/tf-keras/issues/194
    """
    workers = json.loads(os.environ.get("TF_CONFIG", "{}")).get("cluster", {}).get("worker", [])
    if len(workers) > 1:
        gpus = tf.config.get_visible_devices("GPU")
        collectives = tf.distribute.experimental.CommunicationImplementation
        options = tf.distribute.experimental.CommunicationOptions(
            implementation=collectives.NCCL if gpus else collectives.RING
        )
        return tf.distribute.MultiWorkerMirroredStrategy(communication_options=options)
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    names = [device.name for device in devices]
    return tf.distribute.MirroredStrategy(names) if len(names) > 1 else tf.distribute.OneDeviceStrategy(names[0])


def runs_on_gpus(strategy: tf.distribute.Strategy) -> bool:
    """Whether this process's replicas compute on GPUs."""
    return all("GPU" in device for device in strategy.extended.worker_devices)


def hardware(strategy: tf.distribute.Strategy) -> str:
    """What the replicas compute on, this process's taken for all: `NVIDIA H200`, or `AMD EPYC 7B13, 2 threads`."""
    replicas = strategy.num_replicas_in_sync
    if runs_on_gpus(strategy):
        details = tf.config.experimental.get_device_details(tf.config.get_visible_devices("GPU")[0])
        one = str(details.get("device_name", "GPU"))
    else:
        threads = tf.config.threading.get_intra_op_parallelism_threads() or os.cpu_count() or 1
        one = f"{_processor()}, {threads} thread{'s' if threads > 1 else ''}"
    return one if replicas == 1 else f"{replicas} × {one}"


def _processor() -> str:
    """The CPU's name, where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []  # not Linux
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def compute_in_full_float32() -> None:
    """Have GPUs multiply float32 as CPUs do; by default they round it to TensorFloat-32, which has 10 bits.

    A published model must predict what was measured; for speed, training has half precision.
    """
    tf.config.experimental.enable_tensor_float_32_execution(False)


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Whether this process is the one that writes files."""
    resolver = strategy.cluster_resolver
    return resolver is None or not resolver.task_id


def replica_slices(
    images: NDArray[np.uint8], strategy: tf.distribute.Strategy, per_replica_batch_size: int = PER_REPLICA_BATCH_SIZE
) -> Iterator[tuple[Any, Any, int]]:
    """Cut images into slices of one size for all replicas, a batch at a time.

    Args:
        images: uint8 [n, ...].

    Yields: per-replica images uint8 [b, ...]; per-replica marks float64 [b], 1 for an image and 0 for what
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


def gather(strategy: tf.distribute.Strategy, numbers: list[int]) -> list[int]:
    """The numbers of all replicas, in order; `numbers` are those of this worker's replicas. All workers call it."""
    if strategy.num_replicas_in_sync == 1:
        return numbers
    in_order = iter(numbers)
    values = strategy.experimental_distribute_values_from_function(lambda _: tf.constant([next(in_order)], tf.int64))
    return [int(number) for number in strategy.gather(values, axis=0).numpy()]

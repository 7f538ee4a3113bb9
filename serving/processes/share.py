"""What each of several processes may take, so that all of them together take what the flags say."""

import dataclasses

from ..batching.parameters import BatchingParameters
from ..flags import ServerConfig


def share_of(config: ServerConfig, number: int, *, num_cpus: int) -> ServerConfig:
    """The flags of one of `number` processes.

    Args:
        config: the flags of all together.
        number: of processes; 1 changes nothing.
        num_cpus: that one process should use.
    """
    if number == 1:
        return config
    own = dataclasses.replace(
        config,
        max_queued_requests=_share(config.max_queued_requests, number),
        grpc_max_concurrent_rpcs=_share(config.grpc_max_concurrent_rpcs, number),
        num_tflite_pools=_share(config.num_tflite_pools, number),
    )
    chosen = config.tensorflow_session_parallelism or config.tensorflow_intra_op_parallelism
    if chosen or config.tensorflow_session_config_file:
        return own
    return dataclasses.replace(own, tensorflow_intra_op_parallelism=num_cpus)


def of_batching(parameters: BatchingParameters | None, number: int) -> BatchingParameters | None:
    """The batching parameters of one of `number` processes."""
    if parameters is None or number == 1:
        return parameters
    threads = parameters.num_batch_threads
    return dataclasses.replace(
        parameters,
        max_enqueued_batches=_share(parameters.max_enqueued_batches, number),
        num_batch_threads=None if threads is None else _share(threads, number),
    )


def _share(total: int, number: int) -> int:
    return -(-total // number)

"""The two kinds of queue: greedy, and by the batching parameters that somebody gave.

A greedy queue runs whatever waits together, in batches of a fixed size. Requests that are much larger are run in
parts, one after the other, so that a run's memory is bounded; others get their turn between two parts. A parameterised
one does what TensorFlow Serving's batching session does, refusals and texts included.
"""

import asyncio
from collections.abc import Sequence

from ..arrays import Array, Function
from ..errors import invalid_argument
from ..load_shedding import QueueFull
from .padding import join, split
from .parameters import BatchingParameters
from .scheduler import Batcher, QueueContext

# Rows in one run of a greedy queue. The digit model's throughput is flat from 64 rows on.
GREEDY = BatchingParameters(max_batch_size=64)
# Rows of one request from which on a greedy queue runs it in parts of that size. A run costs 30 us beside what it
# computes, which for 512 rows is nothing; 85,000 digits at once take gigabytes.
LARGE_REQUEST = 512
# Runs of a signature that may last for long beside those that others wait for: a call that computes for minutes holds
# up the next ones of its own signature for a second, and those of other signatures not at all.
MAX_LONG_RUNS = 16


class GreedyQueue(Batcher):
    """Runs what waits, at once."""

    def __init__(
        self, function: Function, context: QueueContext, *, max_waiting: int = 1024, rows_independent: bool = True
    ) -> None:
        """A queue without requests.

        Args:
            function: computes the outputs; called on a thread.
            context: what the signature's queues share.
            max_waiting: requests of the signature that may wait.
            rows_independent: whether requests may be run together, or in parts.
        """
        # TensorFlow computes one batch on all cores, so a batch that could still grow is better left to grow while
        # another runs. Measured with the digit model on 2 cores, 32 callers of single images: 1,240 requests/s with
        # one run at a time, 1,070 with two.
        super().__init__(
            function,
            GREEDY,
            context,
            max_unfilled_runs=max(1, context.threads.num_threads // 2) if rows_independent else None,
            max_long_runs=MAX_LONG_RUNS,
            is_checked=False,
            is_shared=rows_independent,
        )
        self._max_waiting = max_waiting
        # As many as can run: each holds what it has of its result.
        self._large_requests = asyncio.Semaphore(self._max_runs)

    async def run(self, inputs: Sequence[Array], num_rows: int | None) -> list[Array]:
        if (refusal := self.refusal()) is not None:
            raise refusal
        if num_rows is None or num_rows <= LARGE_REQUEST or not self._is_shared:
            return await self._enqueue(inputs, num_rows)
        return await self._run_large(inputs, num_rows)

    async def _run_large(self, inputs: Sequence[Array], num_rows: int) -> list[Array]:
        """Run a request in parts of which one at most waits: for the queue's limit it is one request."""
        self._count(+1)
        try:
            await self._large_requests.acquire()
        finally:
            self._count(-1)
        try:
            return join([await self._enqueue(part, len(part[0])) for part in split(inputs, num_rows, LARGE_REQUEST)])
        except ValueError:  # outputs as wide as the rows of a run make them
            return await self._enqueue(inputs, num_rows)
        finally:
            self._large_requests.release()

    def refusal(self) -> QueueFull | None:
        waiting = self._context.waiting.num_requests
        if waiting < self._max_waiting:
            return None
        return self._full(f"currently {waiting} requests enqueued and max_queued_requests is {self._max_waiting}")


class ParameterisedQueue(Batcher):
    """Batches as --batching_parameters_file says."""

    async def run(self, inputs: Sequence[Array], num_rows: int | None) -> list[Array]:
        limit = self._parameters.execution_batch_size
        is_large = num_rows is not None and num_rows > limit
        if is_large and not self._parameters.enable_large_batch_splitting:
            raise invalid_argument(f"Task size {num_rows} is larger than maximum input batch size {limit}")
        if (refusal := self._refusal(num_rows or 1)) is not None:
            raise refusal
        if num_rows is None or not is_large:
            return await self._enqueue(inputs, num_rows)
        parts = split(inputs, num_rows, limit)
        return join(await asyncio.gather(*[self._enqueue(part, len(part[0])) for part in parts]))

    def refusal(self) -> QueueFull | None:
        return self._refusal(1)

    def _refusal(self, num_rows: int) -> QueueFull | None:
        """The error for a request of `num_rows` rows, if there is no room for it."""
        most = self._parameters.max_enqueued_batches
        limit = self._parameters.execution_batch_size
        left = limit - self._batches[-1].num_rows if self._batches else 0
        capacity = left + (most - len(self._batches)) * limit
        if num_rows <= capacity:
            return None
        if self._parameters.enable_large_batch_splitting:
            return self._full(
                f"task size is {num_rows} but scheduling capacity is only {capacity} "
                f"(num_enqueued_batches={len(self._batches)}, max_enqueued_batches={most}, "
                f"open_batch_size={limit - left}, max_execution_batch_size={limit})"
            )
        return self._full(f"currently {len(self._batches)} batches enqueued and max_enqueued_batches is {most}")

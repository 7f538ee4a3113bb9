"""Run requests of one signature together.

A queue per signature and set of outputs holds batches; the last one is open. A request joins the open batch if it fits
and opens the next one otherwise. A batch is run as soon as a worker is free and the batch is full or as old as
`batch_timeout_micros`: with the timeout at zero whatever waits is run together and nothing is ever delayed.

What is run together is answered to the bit as a batch of that size is. TensorFlow's kernels round differently at other
sizes (docs/serving.md, "Speed"); with a single allowed size there are no others.

Without batching parameters a queue is greedy: it runs whatever waits together, in batches of a fixed size. Requests
that are much larger are run in parts, one after the other, so that a run's memory is bounded; others get their turn
between two parts.

    batch_timeout_s=0           : |r1|            a free worker takes it at once
                                  |r2 r3 r4 r5|   came while r1 ran: run together
    allowed_batch_sizes=(4, 8)  : |r2 r3 r4 r5 r6 -- --|  padded with a row that is there, the surplus is dropped

All of it happens on the event loop; only `_execute` runs on a worker. A request whose caller has gone is left out when
its batch is run. If a batch fails, its requests are run one by one, so that each gets its own answer or error.
"""

import asyncio
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..config.files import BatchingParameters
from ..errors import QueueFull, ServingError, internal, invalid_argument
from ..model.saved_model import Function
from ..monitoring.events import Labels, Observer
from ..tensors import Array
from .padding import Task, check_rows, groups, run_together
from .threads import Workers

# Rows in one run of a greedy queue. The digit model's throughput is flat from 64 rows on.
GREEDY = BatchingParameters(max_batch_size=64)
# Rows of one request from which on a greedy queue runs it in parts of that size. A run costs 30 us beside what it
# computes, which for 512 rows is nothing; 85,000 digits at once take gigabytes.
LARGE_REQUEST = 512


@dataclass(slots=True)
class Batch:
    """Requests that run together."""

    tasks: list[Task] = field(default_factory=list)
    size: int = 0
    opened_at: float = 0.0


@dataclass(slots=True)
class Waiting:
    """How many requests of one signature wait, in all its queues: a caller's choice of outputs makes another one."""

    number: int = 0


class Batcher:
    """The queue of one signature of one version and one set of outputs. Used on the event loop only."""

    def __init__(
        self,
        function: Function,
        parameters: BatchingParameters | None,
        workers: Workers,
        *,
        labels: Labels,
        observer: Observer,
        waiting: Waiting | None = None,
        max_waiting: int = 1024,
        rows_independent: bool = True,
    ) -> None:
        """Args:
        parameters: None for a greedy queue, for which the last two count.
        waiting: shared by the queues of one signature.
        max_waiting: requests of the signature that may wait.
        rows_independent: whether requests may be run together, or in parts.
        """
        self._function = function
        self._greedy = parameters is None
        self._parameters = parameters or GREEDY
        self._workers = workers
        self._labels = labels
        self._observer = observer
        self._waiting = waiting or Waiting()
        self._max_waiting = max_waiting
        self._alone = self._greedy and not rows_independent
        self._batches: deque[Batch] = deque()
        self._running = 0
        self._max_running = self._parameters.num_batch_threads or workers.number
        # TensorFlow computes one batch on all cores, so a batch that could still grow is better left to grow while
        # another runs. Measured with the digit model on 2 cores, 32 callers of single images: 1,240 requests/s with
        # one run at a time, 1,070 with two.
        grows = self._greedy and not self._alone
        self._max_running_unfilled = max(1, workers.number // 2) if grows else self._max_running
        # As many as can run: each holds what it has of its answer.
        self._large_requests = asyncio.Semaphore(self._max_running)
        self._wakeup: asyncio.Handle | None = None
        self._loop = asyncio.get_running_loop()

    async def run(self, inputs: Sequence[Array], size: int | None) -> list[Array]:
        """The outputs for `inputs`.

        Args:
            size: their rows; None if they have no common first dimension, so that they cannot share a run.

        Raises: ServingError; asyncio.CancelledError when the caller goes.
        """
        if not self._greedy:
            return await self._run_batched(inputs, size)
        if (refusal := self._refusal()) is not None:
            raise refusal
        if size is None or size <= LARGE_REQUEST or self._alone:
            return await self._enqueue(inputs, size)
        return await self._run_large(inputs, size)

    async def _run_batched(self, inputs: Sequence[Array], size: int | None) -> list[Array]:
        limit = self._parameters.execution_batch_size
        is_large = size is not None and size > limit
        if is_large and not self._parameters.enable_large_batch_splitting:
            raise invalid_argument(f"Task size {size} is larger than maximum input batch size {limit}")
        if (refusal := self._refusal(size)) is not None:
            raise refusal
        if size is None or not is_large:
            return await self._enqueue(inputs, size)
        parts = _split(inputs, size, limit)
        answers = await asyncio.gather(*[self._enqueue(part, len(part[0])) for part in parts])
        return [np.concatenate(columns) for columns in zip(*answers, strict=True)]

    async def _run_large(self, inputs: Sequence[Array], size: int) -> list[Array]:
        """Run a request in parts of which one at most waits: for the queue's limit it is one request."""
        self._count(+1)
        try:
            await self._large_requests.acquire()
        finally:
            self._count(-1)
        try:
            answers = [await self._enqueue(part, len(part[0])) for part in _split(inputs, size, LARGE_REQUEST)]
            return [np.concatenate(columns) for columns in zip(*answers, strict=True)]
        except ValueError:  # outputs as wide as the rows of a run make them
            return await self._enqueue(inputs, size)
        finally:
            self._large_requests.release()

    def _refusal(self, size: int | None = 1) -> QueueFull | None:
        """The error for a request of `size` rows, if there is no room for it."""
        if self._greedy:
            if self._waiting.number < self._max_waiting:
                return None
            return self._full(
                f"currently {self._waiting.number} requests enqueued and max_queued_requests is {self._max_waiting}"
            )
        most = self._parameters.max_enqueued_batches
        room = most - len(self._batches)
        limit = self._parameters.execution_batch_size
        left = limit - self._batches[-1].size if self._batches else 0
        if (size or 1) <= left + room * limit:
            return None
        if self._parameters.enable_large_batch_splitting:
            return self._full(
                f"task size is {size or 1} but scheduling capacity is only {left + room * limit} "
                f"(num_enqueued_batches={len(self._batches)}, max_enqueued_batches={most}, "
                f"open_batch_size={limit - left}, max_execution_batch_size={limit})"
            )
        return self._full(f"currently {len(self._batches)} batches enqueued and max_enqueued_batches is {most}")

    def _full(self, state: str) -> QueueFull:
        text = f"The batch scheduling queue to which this task was submitted is full; {state}"
        return QueueFull(text, labels=self._labels, refusal=self._refusal)

    def _enqueue(self, inputs: Sequence[Array], size: int | None) -> "asyncio.Future[list[Array]]":
        now = time.perf_counter()
        task = Task(inputs, size or 0, self._loop.create_future(), now)
        last = self._batches[-1] if self._batches else None
        alone = self._alone or not size
        if alone or last is None or not last.size or last.size + task.size > self._parameters.execution_batch_size:
            last = Batch(opened_at=now)
            self._batches.append(last)
        last.tasks.append(task)
        last.size += task.size if not alone else 0
        self._count(+1)
        self._schedule(0)
        return task.answer

    def _count(self, change: int) -> None:
        self._waiting.number += change
        self._observer.queue_depth(**self._labels, depth=self._waiting.number)

    def _schedule(self, delay_s: float) -> None:
        """Look at the queue after what is ready on the event loop now has joined it."""
        if self._wakeup is not None:
            if delay_s or not isinstance(self._wakeup, asyncio.TimerHandle):
                return
            self._wakeup.cancel()
        self._wakeup = (
            self._loop.call_later(delay_s, self._dispatch) if delay_s else self._loop.call_soon(self._dispatch)
        )

    def _dispatch(self) -> None:
        """Give the batches that are due to free workers."""
        self._wakeup = None
        while self._batches and self._running < self._max_running:
            first = self._batches[0]
            filled = len(self._batches) > 1 or first.size >= self._parameters.execution_batch_size
            if not filled and self._running >= self._max_running_unfilled:
                return
            if not filled and first.size:
                due_in = first.opened_at + self._parameters.batch_timeout_s - time.perf_counter()
                if self._parameters.batch_timeout_s and due_in > 0:
                    self._schedule(due_in)
                    return
            self._batches.popleft()
            self._count(-len(first.tasks))
            wanted = [task for task in first.tasks if not task.answer.done()]
            if wanted:
                self._running += 1
                self._workers.submit(lambda tasks=wanted: self._execute(tasks))  # type: ignore[misc]

    def _execute(self, tasks: list[Task]) -> None:
        """On a worker: run `tasks` and bring the answers back."""
        wanted = [task for task in tasks if not task.answer.done()]  # the worker may have been long in coming
        answers: list[tuple[Task, list[Array] | ServingError]] = []
        try:
            for group in groups(wanted, pad=self._parameters.pad_variable_length_inputs):
                answers.extend(zip(group, self._run_group(group), strict=True))
        except Exception as error:  # such as MemoryError: without an answer the queue would wait for ever
            failure = internal(f"{type(error).__name__}: {error}")
            answered = {id(task) for task, _ in answers}
            answers.extend((task, failure) for task in wanted if id(task) not in answered)
        self._loop.call_soon_threadsafe(self._deliver, answers)

    def _deliver(self, answers: list[tuple[Task, list[Array] | ServingError]]) -> None:
        self._running -= 1
        for task, answer in answers:
            if task.answer.done():
                continue
            if isinstance(answer, ServingError):
                task.answer.set_exception(answer)
            else:
                task.answer.set_result(answer)
        if self._batches:
            self._dispatch()

    def _run_group(self, group: list[Task]) -> Sequence[list[Array] | ServingError]:
        started = time.perf_counter()
        try:
            answers = self._run_together(group)
        except Exception as error:  # the runtime is third-party code: whatever it raises is this group's error alone
            if len(group) > 1:
                return [answer for task in group for answer in self._run_group([task])]
            return [error if isinstance(error, ServingError) else internal(f"{type(error).__name__}: {error}")]
        size = sum(task.size for task in group)
        self._observer.batch_executed(
            **self._labels,
            size=size,
            padded_size=self._parameters.padded_size(size),
            queue_s=[started - task.came_at for task in group],
            run_s=time.perf_counter() - started,
        )
        return answers

    def _run_together(self, group: list[Task]) -> Sequence[list[Array]]:
        size = sum(task.size for task in group)
        surplus = self._parameters.padded_size(size) - size if size else 0
        if len(group) > 1 or surplus:
            return run_together(self._function, group, surplus=surplus)
        outputs = self._function(group[0].inputs)
        if not self._greedy and size:
            check_rows(outputs, size)
        return [outputs]


def _split(inputs: Sequence[Array], size: int, limit: int) -> Iterator[Sequence[Array]]:
    for start in range(0, size, limit):
        yield [array[start : start + limit] for array in inputs]

"""Run requests of one signature together.

A queue per signature and set of outputs holds batches; the last one is open. A request joins the open batch if it fits
and opens the next one otherwise. A batch is run as soon as a thread is free and the batch is full or as old as
`batch_timeout_micros`: with the timeout at zero whatever waits is run together and nothing is ever delayed.

    batch_timeout_s=0           : |r1|            a free thread takes it at once
                                  |r2 r3 r4 r5|   came while r1 ran: run together
    allowed_batch_sizes=(4, 8)  : |r2 r3 r4 r5 r6 -- --|  padded with a row that is there, the surplus is dropped

What is run together gets the results, to the bit, of a batch of that size. TensorFlow's kernels round differently at
other sizes (docs/serving.md, "Speed"); with a single allowed size there are no others.

`Batcher` is the queue; queues.py has its two kinds, with batching parameters and without. All of it happens on the
event loop; only `_execute` runs on a thread. A request whose caller has gone is left out when its batch is run. If a
batch fails, its requests are run one by one, so that each gets its own result or error.
"""

import asyncio
import functools
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import grpc

from .. import deadlines
from ..arrays import Array, Function
from ..errors import ServingError, internal
from ..load_shedding import KnownFullQueues, QueueFull
from ..monitoring import tracing
from ..monitoring.events import ServerEvents
from ..names import ModelKey
from .padding import Task, check_rows, groups, run_together, seconds_left
from .parameters import BatchingParameters
from .threads import RuntimeThreads

# A run that has lasted so long does not keep others waiting any more: it may last for ever, and they may be short.
LONG_RUN_S = 1.0


@dataclass(slots=True)
class Batch:
    """Requests that run together."""

    tasks: list[Task] = field(default_factory=list)
    num_rows: int = 0  # 0 keeps others out
    opened_at: float = 0.0  # by time.perf_counter


@dataclass(slots=True, eq=False)
class Run:
    """A batch on a thread."""

    tasks: list[Task]
    began_at: float  # by time.perf_counter


@dataclass(slots=True)
class Waiting:
    """How many requests of one signature wait, in all its queues: a caller's choice of outputs makes another one."""

    num_requests: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class QueueContext:
    """What the queues of one signature have in common."""

    threads: RuntimeThreads
    key: ModelKey
    events: ServerEvents
    shedding: KnownFullQueues
    waiting: Waiting


class Batcher:
    """The queue of one signature of one version and one set of outputs. Used on the event loop only."""

    def __init__(
        self,
        function: Function,
        parameters: BatchingParameters,
        context: QueueContext,
        *,
        max_unfilled_runs: int | None = None,
        max_long_runs: int = 0,
        is_checked: bool = True,
        is_shared: bool = True,
    ) -> None:
        """A queue without requests.

        Args:
            function: computes the outputs; called on a thread.
            parameters: how large batches are and how long they wait.
            context: what the signature's queues share.
            max_unfilled_runs: how many runs may go on before a batch that could still grow has to wait; None: all.
            max_long_runs: how many runs that take long are left out of both limits.
            is_checked: whether outputs must have the inputs' rows even where one request was run alone.
            is_shared: whether requests may share a run at all.
        """
        self._function = function
        self._parameters = parameters
        self._context = context
        self._max_runs = parameters.num_batch_threads or context.threads.num_threads
        self._max_unfilled_runs = max_unfilled_runs or self._max_runs
        self._max_long_runs = max_long_runs
        self._is_checked = is_checked
        self._is_shared = is_shared
        self._queue_id = context.shedding.register(self)
        self._batches: deque[Batch] = deque()
        self._runs: set[Run] = set()
        self._wakeup: asyncio.Handle | None = None
        self._second_look: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()

    @property
    def is_running(self) -> bool:
        """Whether a batch of this queue is being computed."""
        return bool(self._runs)

    async def run(self, inputs: Sequence[Array], num_rows: int | None) -> list[Array]:
        """Compute the outputs for `inputs`.

        Args:
            inputs: [num_rows, ...] each, in the order of the function.
            num_rows: None if they have no common first dimension, so that they cannot share a run.

        Returns: the outputs, in the order of the function.

        Raises: ServingError; asyncio.CancelledError when the caller goes.
        """
        raise NotImplementedError

    def refusal(self) -> QueueFull | None:
        """The error for a request of one row that came now; None if there is room for it."""
        raise NotImplementedError

    def _full(self, state: str) -> QueueFull:
        text = f"The batch scheduling queue to which this task was submitted is full; {state}"
        return QueueFull(text, key=self._context.key, queue_id=self._queue_id)

    def _enqueue(self, inputs: Sequence[Array], num_rows: int | None) -> "asyncio.Future[list[Array]]":
        now = time.perf_counter()
        task = Task(
            inputs, num_rows or 0, self._loop.create_future(), now, deadlines.ends_at(), tracing.current().queued()
        )
        last = self._batches[-1] if self._batches else None
        joins = self._is_shared and task.num_rows > 0
        limit = self._parameters.execution_batch_size
        if not joins or last is None or not last.num_rows or last.num_rows + task.num_rows > limit:
            last = Batch(opened_at=now)
            self._batches.append(last)
        last.tasks.append(task)
        last.num_rows += task.num_rows if joins else 0
        self._count(+1)
        self._schedule(0)
        return task.result

    def _count(self, change: int) -> None:
        context = self._context
        context.waiting.num_requests += change
        context.events.queue_depth(**context.key, num_requests=context.waiting.num_requests)

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
        """Give the batches that are due to free threads."""
        self._wakeup = None
        while self._batches:
            first = self._batches[0]
            is_filled = len(self._batches) > 1 or first.num_rows >= self._parameters.execution_batch_size
            if not self._has_room(self._max_runs if is_filled else self._max_unfilled_runs):
                return
            if not is_filled and first.num_rows and self._parameters.batch_timeout_s:
                due_in = first.opened_at + self._parameters.batch_timeout_s - time.perf_counter()
                if due_in > 0:
                    self._schedule(due_in)
                    return
            self._batches.popleft()
            self._count(-len(first.tasks))
            tasks = _still_wanted(first.tasks)
            if tasks:
                run = Run(tasks, time.perf_counter())
                self._runs.add(run)
                self._context.threads.submit(functools.partial(self._execute, run))

    def _has_room(self, limit: int) -> bool:
        """Whether a further run may begin beside those that go on; if not, it is looked again in a while."""
        if len(self._runs) < limit:
            return True
        now = time.perf_counter()
        num_long = sum(now - run.began_at > LONG_RUN_S for run in self._runs) if self._max_long_runs else 0
        if len(self._runs) - min(num_long, self._max_long_runs) < limit:
            return True
        if self._second_look is None and self._max_long_runs:
            self._second_look = self._loop.call_later(LONG_RUN_S, self._look_again)
        return False

    def _look_again(self) -> None:
        self._second_look = None
        if self._batches:
            self._schedule(0)

    def _execute(self, run: Run) -> None:
        """On a thread: run the tasks and bring the results back."""
        tasks = _still_wanted(run.tasks)  # the thread may have been long in coming
        results: list[tuple[Task, list[Array] | ServingError]] = []
        try:
            for group in groups(tasks, pad=self._parameters.pad_variable_length_inputs):
                results.extend(zip(group, self._run_group(group), strict=True))
        except Exception as error:  # such as MemoryError: without a result the queue would wait for ever
            failure = internal(f"{type(error).__name__}: {error}")
            done = {id(task) for task, _ in results}
            results.extend((task, failure) for task in tasks if id(task) not in done)
        self._loop.call_soon_threadsafe(self._deliver, run, results)

    def _deliver(self, run: Run, results: list[tuple[Task, list[Array] | ServingError]]) -> None:
        self._runs.discard(run)
        for task, result in results:
            if task.result.done():
                continue
            if isinstance(result, ServingError):
                task.result.set_exception(result)
            else:
                task.result.set_result(result)
        if self._batches:
            self._dispatch()

    def _run_group(self, group: list[Task]) -> Sequence[list[Array] | ServingError]:
        started = time.perf_counter()
        num_rows = sum(task.num_rows for task in group)
        num_padded_rows = self._parameters.padded_size(num_rows)
        traced = [task.traced for task in group]
        try:
            with tracing.batch(self._context.key, traced, num_rows=num_rows, num_padded_rows=num_padded_rows) as batch:
                results = self._run_together(group, batch.traced(self._function))
        except Exception as error:  # the runtime is third-party code: whatever it raises is this group's error alone
            if len(group) > 1 and not _is_too_late(error):
                return [result for task in group for result in self._run_group([task])]
            failure = error if isinstance(error, ServingError) else internal(f"{type(error).__name__}: {error}")
            return [failure] * len(group)
        self._context.events.batch_executed(
            **self._context.key,
            num_rows=num_rows,
            num_padded_rows=num_padded_rows,
            queue_s=[started - task.came_at for task in group],
            run_s=time.perf_counter() - started,
        )
        return results

    def _run_together(self, group: list[Task], function: Function) -> Sequence[list[Array]]:
        num_rows = sum(task.num_rows for task in group)
        surplus = self._parameters.padded_size(num_rows) - num_rows if num_rows else 0
        deadlines.begin(seconds_left(group))
        if len(group) > 1 or surplus:
            return run_together(function, group, surplus=surplus)
        outputs = function(group[0].inputs)
        if self._is_checked and num_rows:
            check_rows(outputs, num_rows)
        return [outputs]


def _is_too_late(error: Exception) -> bool:
    return isinstance(error, ServingError) and error.code is grpc.StatusCode.DEADLINE_EXCEEDED


def _still_wanted(tasks: list[Task]) -> list[Task]:
    return [task for task in tasks if not task.result.done()]

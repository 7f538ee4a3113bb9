"""One of a server's processes, as it sees itself among the others."""

import asyncio
import itertools
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import grpc

from ..errors import ServingError
from ..monitoring.series import Counted
from .messages import (
    Answer,
    Ask,
    AskCounts,
    Counts,
    Do,
    Done,
    Failed,
    Line,
    Loaded,
    Missing,
    Outcome,
    Serve,
    Start,
)

logger = logging.getLogger(__name__)

WITHOUT_SUPERVISOR = 1  # exit code of a process whose supervisor has gone
Work = Callable[[bytes], Awaitable[bytes]]  # raises ServingError


class Member:
    """A line to the supervisor, and by it to all processes. Used on the event loop only, from `connect` on."""

    def __init__(self, start: Start, sock: socket.socket) -> None:
        self.start = start
        self.missing_elsewhere: Mapping[str, str] = {}  # models that a process lacks, with the reason
        self._sock = sock
        self._line: Line
        self._works: dict[str, Work] = {}
        self._on_missing: Callable[[], Awaitable[None]] | None = None
        self._numbers = itertools.count()
        self._questions: dict[int, asyncio.Future[Any]] = {}
        self._all_have_loaded: asyncio.Future[None]
        self._lacks: Mapping[str, str] | None = None
        self._tasks: set[asyncio.Task[Any]] = set()

    @property
    def takes_a_place(self) -> bool:
        """Whether others serve already."""
        return self.start.present is not None

    async def connect(self) -> None:
        """Listen to the supervisor from now on; without it the process ends."""
        self._all_have_loaded = asyncio.get_running_loop().create_future()
        self._line = await Line.over(self._sock)
        self._begin(self._listen())

    def does(self, what: str, work: Work) -> None:
        """Have `work` done when a process asks for `what`."""
        self._works[what] = work

    def tells_missing(self, on_missing: Callable[[], Awaitable[None]]) -> None:
        """Call `on_missing` when `missing_elsewhere` has changed."""
        self._on_missing = on_missing

    async def ask(self, what: str, content: bytes = b"") -> Sequence[Outcome]:
        """Have `what` done by all processes; returns what came of it in each."""
        outcomes: Sequence[Outcome] = await self._answer(lambda number: Ask(number, what, content))
        if not outcomes:
            raise ServingError(grpc.StatusCode.UNAVAILABLE, "No process of the server has done it; try again")
        return outcomes

    async def counted(self) -> Counted:
        """What all processes have counted."""
        counted: Counted = await self._answer(AskCounts)
        return counted

    async def _answer(self, question: Callable[[int], object]) -> Any:
        number = next(self._numbers)
        self._questions[number] = asyncio.get_running_loop().create_future()
        self._line.send(question(number))
        try:
            return await self._questions[number]
        finally:
            del self._questions[number]

    async def until_all_have_loaded(self) -> None:
        """Tell that this process has loaded its first models, and return when all have."""
        self._line.send(Loaded())
        await self._all_have_loaded

    def lacks(self, models: Mapping[str, str]) -> None:
        """Tell which models have no available version here, with the reason."""
        if models != self._lacks:
            self._lacks = dict(models)
            self._line.send(Missing(self._lacks))

    async def fail(self, text: str) -> None:
        """Tell why this process does not start."""
        self._line.send(Failed(text))
        await self._line.flush()

    async def _listen(self) -> None:
        while True:
            try:
                message = await self._line.receive()
            except EOFError:
                os._exit(WITHOUT_SUPERVISOR)
            self._take(message)

    def _take(self, message: object) -> None:
        match message:
            case Serve() if not self._all_have_loaded.done():
                self._all_have_loaded.set_result(None)
            case Do(number, what, content):
                self._begin(self._do(number, what, content))
            case Answer(number, result) | Counts(number, result):
                if number in self._questions and not self._questions[number].done():
                    self._questions[number].set_result(result)
            case Missing(models):
                self.missing_elsewhere = models
                if self._on_missing is not None:
                    self._begin(self._on_missing())

    async def _do(self, number: int, what: str, content: bytes) -> None:
        try:
            outcome = Outcome(await self._works[what](content))
        except ServingError as error:
            outcome = Outcome.of(error)
        except Exception as error:
            logger.exception("%s failed; this is a bug", what)
            outcome = Outcome.of(ServingError(grpc.StatusCode.INTERNAL, f"{type(error).__name__}: {error}"))
        self._line.send(Done(number, outcome))

    def _begin(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

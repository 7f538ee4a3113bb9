"""Starts a server's processes, and keeps them: the one that the shell, systemd or Kubernetes sees.

It serves nothing itself and imports no TensorFlow. What one process is asked and all must do (a reload, say) goes
through it, and so does what one must know of the others. A process that dies is replaced by one that gets its models
from the others' present configuration, and opens the port when it has loaded them.
"""

import asyncio
import contextlib
import dataclasses
import itertools
import logging
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..access.shared_accounts import SharedAccounts
from ..flags import ServerConfig
from ..monitoring import series
from ..monitoring.series import Counted
from .children import Child, Pauses, memory_file, start_child
from .messages import Answer, Ask, AskCounts, Counts, Do, Done, Failed, Loaded, Missing, Outcome, Serve, Start
from .ports import UnixSocket, announce, reserve

logger = logging.getLogger(__name__)

OK, FAILED, KILLED = 0, 255, 130
MODULE = f"{__package__.rpartition('.')[0]}.worker"
GRACE_S = 10.0  # beyond --drain_seconds, until a process that drains is ended
LINK_S = 0.1  # between two turns of the UNIX socket's link
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


def run(config: ServerConfig, models_folder: Path | None, number: int) -> int:
    """Serve from `number` processes until a signal comes; returns the exit code.

    Args:
        config: the flags.
        models_folder: serve every model in it, rather than what `config` names.
        number: of processes.
    """
    try:
        ports = reserve(config)  # held until the end
        code = asyncio.run(Supervisor(config, models_folder, number).run())
    except OSError as error:
        print(f"Failed to start server. Error: UNKNOWN: {error}", file=sys.stderr, flush=True)
        return FAILED
    for port in ports:
        port.close()
    return code


@dataclass(slots=True)
class Question:
    """What all processes have been asked to do."""

    waits_for: set[Child]
    finish: Callable[[Sequence[Outcome]], None]
    outcomes: list[Outcome] = field(default_factory=list)

    def ended(self, child: Child, outcome: Outcome | None) -> None:
        """`child` has done it, or (None) is not there any more."""
        if child not in self.waits_for:
            return
        self.waits_for.discard(child)
        if outcome is not None:
            self.outcomes.append(outcome)
        if not self.waits_for:
            self.finish(self.outcomes)


class Supervisor:
    """The processes of one server. Used on the event loop only."""

    def __init__(self, config: ServerConfig, models_folder: Path | None, number: int) -> None:
        self._config = config
        self._models_folder = models_folder
        self._number = number
        self._children: dict[int, Child] = {}
        self._questions: dict[int, Question] = {}
        self._missed: dict[int, list[Do]] = {}  # by processes that are about to start: what they must do then
        self._numbers = itertools.count()
        self._shared_file = memory_file("inkling-shared")
        self._accounts = SharedAccounts(self._shared_file, process=0, number=number)
        self._ended_counts = b""
        self._missing: Mapping[str, str] = {}
        self._has_served = False
        self._exit_code: int | None = None  # once it is about to end
        self._signalled = asyncio.Event()
        self._unix = UnixSocket(config.grpc_socket_path) if config.grpc_socket_path else None

    async def run(self) -> int:
        """Keep the processes until a signal comes; returns the exit code."""
        self._handle_signals()
        keepers = [asyncio.create_task(self._keep(index)) for index in range(self._number)]
        turning = asyncio.create_task(self._turn_link())
        stopping = asyncio.create_task(self._stop_when_signalled())
        await asyncio.gather(*keepers)
        for task in (turning, stopping):
            task.cancel()
        if self._unix is not None:
            self._unix.remove(range(self._number), link=True)
        assert self._exit_code is not None
        if self._exit_code == OK:
            logger.info("stopped")
        return self._exit_code

    def _handle_signals(self) -> None:
        loop = asyncio.get_running_loop()

        def on_signal(number: int) -> None:
            if self._signalled.is_set() and number == signal.SIGINT:
                for child in self._children.values():
                    child.kill()
                os._exit(KILLED)
            self._signalled.set()

        for number in SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup has it for SIGHUP
                loop.add_signal_handler(number, on_signal, number)

    async def _stop_when_signalled(self) -> None:
        await self._signalled.wait()
        logger.info("draining %d processes for up to %g s", len(self._children), self._config.drain_seconds)
        self._end(OK, signal.SIGTERM)
        await asyncio.sleep(self._config.drain_seconds + GRACE_S)
        self._end(OK, signal.SIGKILL)

    def _end(self, code: int, number: signal.Signals) -> None:
        if self._exit_code is None:
            self._exit_code = code
        for child in self._children.values():
            child.signal(number)

    async def _keep(self, index: int) -> None:
        """Have a process number `index`, again and again, until the server is about to end."""
        pauses = Pauses()
        while self._exit_code is None:
            child = await self._start(index)
            await self._listen(child)
            await child.process.wait()
            self._forget(child)
            if self._exit_code is not None:
                return
            if not self._has_served:
                print(child.failure or f"Failed to start server: process {index} {child.end()}", file=sys.stderr)
                self._end(FAILED, signal.SIGKILL)
                return
            await self._pause(child, pauses)

    async def _pause(self, child: Child, pauses: Pauses) -> None:
        served_s = child.served_s()
        pause_s = pauses.next(served_s)
        how = child.failure or child.end()
        row = f", {pauses.in_a_row} times in a row" if pauses.in_a_row > 1 else ""
        when = f"in {pause_s:g} s" if pause_s else "at once"
        logger.error(
            "process %d (pid %d) %s after %.0f s in service%s; another takes its place %s",
            child.index,
            child.process.pid,
            how,
            served_s,
            row,
            when,
        )
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._signalled.wait(), pause_s)

    async def _start(self, index: int) -> Child:
        self._missed[index] = []
        series_file = memory_file("inkling-metrics")
        config = self._config
        if self._unix is not None:
            config = dataclasses.replace(config, grpc_socket_path=self._unix.of_process(index))
        start = Start(
            config=config,
            models_folder=self._models_folder,
            index=index,
            number=self._number,
            series_file=series_file,
            shared_file=self._shared_file,
            present=await self._present() if self._has_served else None,
        )
        child = await start_child(MODULE, start, (series_file, self._shared_file))
        self._children[index] = child
        for do in self._missed.pop(index):
            child.line.send(do)
        if self._exit_code is not None:  # meanwhile
            child.signal(signal.SIGTERM)
        return child

    async def _present(self) -> bytes | None:
        """What the processes serve that are there; None if there is none, or it does not say."""
        answer: asyncio.Future[Sequence[Outcome]] = asyncio.get_running_loop().create_future()
        self._ask("present", b"", answer.set_result)
        return next((outcome.content for outcome in await answer if not outcome.error), None)

    def _serving(self) -> list[Child]:
        return [child for child in self._children.values() if child.serves]

    async def _listen(self, child: Child) -> None:
        """Take what `child` says, until it ends."""
        with contextlib.suppress(EOFError):
            while True:
                self._take(child, await child.line.receive())

    def _take(self, child: Child, message: object) -> None:
        child.has_spoken = True
        match message:
            case Loaded():
                self._loaded(child)
            case Failed(text):
                child.failure = text
            case Missing(models):
                child.missing = models
                self._tell_missing()
            case Ask(number, what, content):
                self._ask(what, content, lambda found: child.line.send(Answer(number, tuple(found))))
            case Done(number, outcome):
                if number in self._questions:
                    self._questions[number].ended(child, outcome)
            case AskCounts(number):
                child.line.send(Counts(number, self._counted()))

    def _loaded(self, child: Child) -> None:
        child.serves_since = time.monotonic()
        if self._has_served:
            logger.info("process %d (pid %d) serves", child.index, child.process.pid)
            child.line.send(Serve())
        elif len(self._serving()) == self._number:
            self._has_served = True
            for each in self._children.values():
                each.line.send(Serve())
            self._announce()
        self._tell_missing()

    def _announce(self) -> None:
        """The lines that scripts wait for, in TensorFlow Serving's words."""
        pids = ", ".join(str(child.process.pid) for child in self._children.values())
        logger.info("serving from %d processes: %s", self._number, pids)
        announce(self._config)

    def _ask(self, what: str, content: bytes, finish: Callable[[Sequence[Outcome]], None]) -> None:
        """Have all processes do `what`; those that are only starting do it later, and are not waited for."""
        do = Do(next(self._numbers), what, content)
        waits_for = {child for child in self._children.values() if child.serves or not self._has_served}
        waits_for = {child for child in waits_for if child.has_spoken}
        for child in self._children.values():
            child.line.send(do)
        for missed in self._missed.values():
            missed.append(do)
        if not waits_for:
            finish([])
            return

        def done(outcomes: Sequence[Outcome]) -> None:
            del self._questions[do.number]
            finish(outcomes)

        self._questions[do.number] = Question(waits_for, done)

    def _tell_missing(self) -> None:
        """Tell all what some lack that serve, if that has changed."""
        missing: dict[str, str] = {}
        for child in self._serving():
            missing.update(child.missing)
        if missing != self._missing:
            self._missing = missing
            for child in self._children.values():
                child.line.send(Missing(missing))

    def _counted(self) -> Counted:
        serving = tuple(series.read(child.series_file) for child in self._children.values())
        pids = (os.getpid(), *(child.process.pid for child in self._children.values()))
        ended = resource.getrusage(resource.RUSAGE_CHILDREN)
        return Counted(serving, self._ended_counts, pids, ended.ru_utime + ended.ru_stime)

    def _forget(self, child: Child) -> None:
        """`child` has ended."""
        child.line.close()
        self._children.pop(child.index, None)
        self._ended_counts = series.merge(self._ended_counts, series.read(child.series_file))
        os.close(child.series_file)
        self._accounts.forget_process(child.index)
        for question in list(self._questions.values()):
            question.ended(child, None)
        if self._unix is not None:
            self._unix.remove([child.index], link=False)
        self._tell_missing()

    async def _turn_link(self) -> None:
        while self._unix is not None:
            serving = self._serving() if self._has_served else self._children.values()
            self._unix.point_to_next([child.index for child in serving])
            await asyncio.sleep(LINK_S)

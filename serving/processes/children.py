"""A server's processes, as the supervisor sees them."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from .messages import Line, Start

FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0  # before a process that has ended early is replaced
STEADY_S = 60.0  # after this time in service an end is no sequel of the one before


@dataclass(eq=False, slots=True)
class Child:
    """One process."""

    index: int
    process: asyncio.subprocess.Process
    line: Line
    series_file: int
    has_spoken: bool = False
    serves_since: float | None = None  # by time.monotonic; None: it does not yet
    missing: Mapping[str, str] = field(default_factory=dict)  # models that it has no available version of
    failure: str = ""  # why it does not start

    @property
    def serves(self) -> bool:
        """Whether it has loaded its first models."""
        return self.serves_since is not None

    def served_s(self) -> float:
        """How long it has served, or did, if it has just ended."""
        return time.monotonic() - self.serves_since if self.serves_since is not None else 0.0

    def kill(self) -> None:
        """End it at once."""
        self.signal(signal.SIGKILL)

    def signal(self, number: int) -> None:
        """Send it a signal, if it is there."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)

    def end(self) -> str:
        """How it has ended, in words."""
        code = self.process.returncode
        assert code is not None
        return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"has ended with code {code}"


async def start_child(module: str, start: Start, files: Sequence[int]) -> Child:
    """Start a process.

    Args:
        module: what Python runs, with the descriptor of its line as the only argument.
        start: its first message.
        files: descriptors that it takes over under the same numbers.
    """
    ours, theirs = socket.socketpair()
    with theirs:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            module,
            str(theirs.fileno()),
            pass_fds=(theirs.fileno(), *files),
            process_group=0,  # a terminal's Ctrl-C is the supervisor's, who tells the others
        )
    line = await Line.over(ours)
    line.send(start)
    return Child(start.index, process, line, start.series_file)


def memory_file(name: str) -> int:
    """Descriptor of an empty file in memory, which goes when the last process that has it open does."""
    return os.memfd_create(name)


class Pauses:
    """How long to wait before a process is replaced: not at all, unless it ends again and again."""

    def __init__(self) -> None:
        self.in_a_row = 0

    def next(self, served_s: float) -> float:
        """The pause in seconds after a process that has served for `served_s`."""
        self.in_a_row = self.in_a_row + 1 if served_s < STEADY_S else 1
        if self.in_a_row == 1:
            return 0.0
        return float(min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** (self.in_a_row - 2)))

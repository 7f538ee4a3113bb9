"""What a supervisor and its processes say to each other, over a socket pair for each process.

Both ends are of one program, and nobody else has the socket: messages are pickled.
"""

import asyncio
import pickle
import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from ..errors import ServingError
from ..flags import ServerConfig
from ..monitoring.series import Counted

LENGTH = struct.Struct(">I")


@dataclass(frozen=True, kw_only=True, slots=True)
class Start:
    """To a process, as the first message: what to serve."""

    config: ServerConfig
    models_folder: Path | None
    index: int  # 0 to number - 1
    number: int  # of processes
    series_file: int  # descriptor of the file of its metrics' numbers
    shared_file: int  # descriptor of the file that all processes share
    present: bytes | None = None  # of one that takes another's place: what the others serve, as `Member.present` says


@dataclass(frozen=True, slots=True)
class Loaded:
    """From a process: its first models are there."""


@dataclass(frozen=True, slots=True)
class Failed:
    """From a process: it cannot start."""

    text: str


@dataclass(frozen=True, slots=True)
class Serve:
    """To a process: all have loaded."""


@dataclass(frozen=True, slots=True)
class Missing:
    """From a process: what it lacks. To a process: what the others lack. Models by name, with the reason."""

    models: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Ask:
    """From a process: have something done by all processes, itself included."""

    number: int  # of this question
    what: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Do:
    """To a process: do it."""

    number: int
    what: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it in one process."""

    content: bytes = b""
    error: tuple[str, str] | None = None  # status code and text

    @classmethod
    def of(cls, error: ServingError) -> "Outcome":
        """A failure."""
        return cls(error=(error.code.name, error.message))

    def result(self) -> bytes:
        """The content.

        Raises: ServingError if it has failed.
        """
        if self.error is not None:
            raise ServingError(grpc.StatusCode[self.error[0]], self.error[1])
        return self.content


@dataclass(frozen=True, slots=True)
class Done:
    """From a process: `Do` with this number has come to an end."""

    number: int
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Answer:
    """To the process that has asked: the outcomes of all processes that live."""

    number: int
    outcomes: tuple[Outcome, ...]


@dataclass(frozen=True, slots=True)
class AskCounts:
    """From a process: what have all counted?"""

    number: int


@dataclass(frozen=True, slots=True)
class Counts:
    """To it: the numbers of the metrics."""

    number: int
    counted: Counted = field(repr=False)


def read_first(sock: socket.socket) -> Any:
    """The first message, before there is an event loop.

    Raises: EOFError if the other end has gone.
    """
    return pickle.loads(_receive(sock, LENGTH.unpack(_receive(sock, LENGTH.size))[0]))


def _receive(sock: socket.socket, size: int) -> bytes:
    content = b""
    while len(content) < size:
        chunk = sock.recv(size - len(content))
        if not chunk:
            raise EOFError
        content += chunk
    return content


class Line:
    """One end of a socket pair. Used on the event loop only."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def over(cls, sock: socket.socket) -> "Line":
        """A line over `sock`."""
        return cls(*await asyncio.open_connection(sock=sock))

    def send(self, message: object) -> None:
        """Send `message`, unless the other end has gone."""
        content = pickle.dumps(message)
        self._writer.write(LENGTH.pack(len(content)) + content)

    async def flush(self) -> None:
        """Return when what was sent has left."""
        await self._writer.drain()

    async def receive(self) -> Any:
        """The next message.

        Raises: EOFError if the other end has gone.
        """
        try:
            (size,) = LENGTH.unpack(await self._reader.readexactly(LENGTH.size))
            return pickle.loads(await self._reader.readexactly(size))
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            raise EOFError from error

    def close(self) -> None:
        """Hang up."""
        self._writer.close()

"""Reads pictures one by one, or several at a time in processes of their own: what `inkling read` prints of each.

Finding the digits in a picture is work for a processor, so that many pictures take as many processes. What they have
read comes in the order of the pictures, whichever was done first.
"""

import json
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .blocking import Client
from .errors import (
    AccessDenied,
    DeadlineExceeded,
    InklingError,
    InvalidInput,
    ModelNotFound,
    NotSupported,
    ServerUnavailable,
    SignatureNotFound,
)
from .settings import Connection

if TYPE_CHECKING:
    from .reading.result import Reading

STDIN = "-"
NUMPY_SUFFIX = ".npy"
SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
# No other picture and no waiting helps against these; against the others no other picture does.
REFUSALS = (ModelNotFound, SignatureNotFound, AccessDenied, NotSupported)
SERVER_ERRORS = (ServerUnavailable, DeadlineExceeded, *REFUSALS)
AHEAD = 2  # pictures for each process that are under way, at most: what was read waits for those before it


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """What is wanted of each picture."""

    json: bool
    table: bool
    version: int | None
    label: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Picture:
    """One to read."""

    name: str  # as messages have it
    content: bytes | None  # in place of a file called `name`
    drawing: Path | None  # where the picture with its boxes goes


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """What was read in a picture."""

    text: str | None = None  # lines, a JSON object, or a table; None if it could not be read
    marks: tuple[str, ...] = ()  # what is doubtful
    is_blank: bool = False  # nothing is written there
    error: str = ""  # why it could not be read, or drawn


def find_pictures(names: Sequence[str]) -> Iterator[str]:
    """The files, and those in the folders, in order.

    Raises: InvalidInput for a folder without pictures.
    """
    for name in names:
        if name == STDIN or not Path(name).is_dir():
            yield name
            continue
        found = sorted(path for path in Path(name).rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
        if not found:
            raise InvalidInput(f"folder {name} has no pictures ({', '.join(sorted(SUFFIXES))})")
        yield from (str(path) for path in found)


def read_pictures(
    pictures: Iterator[Picture], wanted: Wanted, connection: Connection, *, jobs: int
) -> Generator[Found, None, None]:
    """Read pictures, `jobs` at a time; what comes is in their order.

    Raises: SERVER_ERRORS, ImportError, and InklingError if a process ends.
    """
    if jobs == 1:
        with Client(**connection) as client:
            yield from (read_picture(client, picture, wanted) for picture in pictures)
        return
    pool = ProcessPoolExecutor(
        jobs, multiprocessing.get_context("spawn"), initializer=_start_reader, initargs=(connection,)
    )
    try:
        yield from _in_order(pool, pictures, wanted, most=AHEAD * jobs)
    except BrokenProcessPool as error:
        raise InklingError(
            "a process that reads pictures was ended; was there not enough memory? give fewer --jobs"
        ) from error
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for process in multiprocessing.active_children():  # on Ctrl-C one may be in the middle of a long call
            process.terminate()


def _in_order(pool: ProcessPoolExecutor, pictures: Iterator[Picture], wanted: Wanted, *, most: int) -> Iterator[Found]:
    under_way: deque[Future[Found]] = deque()
    for picture in pictures:
        under_way.append(pool.submit(_read_there, picture, wanted))
        if len(under_way) >= most:
            yield under_way.popleft().result()
    while under_way:
        yield under_way.popleft().result()


_client: Client  # of a process that reads pictures


def _start_reader(connection: Connection) -> None:
    """Make this process one that reads pictures, for as long as its parent lives."""
    global _client
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C comes to all; the parent says what is to end
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    _client = Client(**connection)


def _end_with_the_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _read_there(picture: Picture, wanted: Wanted) -> Found:
    return read_picture(_client, picture, wanted)


def read_picture(client: Client, picture: Picture, wanted: Wanted) -> Found:
    """Read one picture, and draw it where that is asked for.

    Raises: SERVER_ERRORS, ImportError: the next picture would fare no better.
    """
    try:
        if picture.content is None and picture.name.endswith(NUMPY_SUFFIX):
            raise InvalidInput(f"it is an array and no picture; `inkling predict {picture.name}` classifies it")
        source = picture.name if picture.content is None else picture.content
        reading = client.read(source, version=wanted.version, label=wanted.label)
    except (*SERVER_ERRORS, ImportError):
        raise
    except (InklingError, OSError, ValueError) as error:
        return Found(error=_without_name(error, picture.name))
    text = _text_of(reading, picture.name, wanted)
    is_blank = not reading.digits
    return Found(text=text, marks=tuple(reading.marks()), is_blank=is_blank, error=_draw(reading, picture.drawing))


def _without_name(error: Exception, name: str) -> str:
    """What is wrong with a picture, for a line that begins with its name."""
    said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return said.removeprefix(name).lstrip()


def _text_of(reading: "Reading", name: str, wanted: Wanted) -> str:
    if wanted.table:
        return reading.table().to_csv()
    return json.dumps({"picture": name, **reading.to_json()}) if wanted.json else reading.text


def _draw(reading: "Reading", target: Path | None) -> str:
    """Write the picture with its boxes, if there is a target; returns why it could not be written."""
    if target is None:
        return ""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        reading.draw().save(target)
    except (OSError, ValueError) as error:
        return str(error)
    return ""

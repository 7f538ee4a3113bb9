"""Has pictures decoded in a process of their own, which may take only so much time and memory: `Decoder`.

A picture's file comes from anybody, and decoders of pictures are large. So nothing of it is looked at in the process
that serves the page: `decoder.py` does that in another one, which is ended when a picture takes too long.
"""

import asyncio
import dataclasses
import io
import os
import pickle
import sys
from asyncio.subprocess import PIPE, Process
from typing import Any, NamedTuple

import numpy as np

from ..errors import InklingError, InvalidInput
from ..reading.page import Page

# What both ends agree on: the length before each message, and the kinds of answers.
LENGTH_BYTES = 8
READY = b"ready"
PAGE, TOO_LARGE, UNREADABLE, FAILED = "page", "too large", "unreadable", "failed"

MAX_ANSWER_BYTES = 32 * 2**20  # a page's 3,000 candidates in two views take 5 MB
PIECE_BYTES = 1 << 16
SECRETS = ("INKLING_TOKEN", "INKLING_API_KEY")  # which a decoder has no use for
# What is freed goes back to the system, in place of being kept in pieces by glibc.
FREE_AT_ONCE = {"MALLOC_MMAP_THRESHOLD_": "131072", "MALLOC_TRIM_THRESHOLD_": "131072", "MALLOC_ARENA_MAX": "1"}
_PAGES = f"{Page.__module__.rpartition('.')[0]}."  # where the classes are that an answer is made of
_ARRAYS = {
    ("numpy", "dtype"),
    ("numpy", "ndarray"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy._core.numeric", "_frombuffer"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy.core.numeric", "_frombuffer"),
}


class TooLarge(Exception):
    """A picture has more bytes or pixels than are taken."""


class Found(NamedTuple):
    """What is in a picture."""

    page: Page  # its picture has the shape and the brightness, and nothing on it
    enlarge: float  # the picture as it was sent is larger than the page's by this factor


class Decoder:
    """A process that finds the digits in pictures, one at a time."""

    def __init__(self, *, max_pixels: int, memory_bytes: int, cpu_s: int, wall_s: float) -> None:
        self._arguments = [str(number) for number in (max_pixels, memory_bytes, cpu_s)]
        self._wall_s = wall_s
        self._turn = asyncio.Lock()
        self._process: Process | None = None
        self._is_ready = False

    async def start(self) -> None:
        """Start the process, unless it runs."""
        if self._process is not None and self._process.returncode is not None:  # the system ended it, between pictures
            await self.stop()
        if self._process is None:
            environment = {name: value for name, value in os.environ.items() if name not in SECRETS}
            environment["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
            environment |= FREE_AT_ONCE
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", f"{__package__}.decoder", *self._arguments),
                stdin=PIPE,
                stdout=PIPE,
                stderr=asyncio.subprocess.DEVNULL,  # what decoders say about broken pictures
                env=environment,
            )

    async def stop(self) -> None:
        """End the process."""
        process, self._process, self._is_ready = self._process, None, False
        if process is not None:
            if process.returncode is None:
                process.kill()
            await process.wait()

    async def find_digits(self, content: bytes | bytearray, *, quarters: int = 0) -> Found:
        """As `reading.find_digits`, of a file.

        Args:
            content: the file.
            quarters: right angles by which the picture is turned clockwise first.

        Raises:
            TooLarge: it has too many pixels.
            InvalidInput: it cannot be read, or takes too much time or memory.
            InklingError: the process does not start.
        """
        if not content:  # which the process would take for the end
            raise InvalidInput("the picture is empty: 0 bytes; send the picture's file")
        async with self._turn:
            kind, value = await self._ask(content, quarters)
        if kind == TOO_LARGE:
            raise TooLarge
        if kind != PAGE:
            raise InvalidInput(f"the picture could not be decoded: {value}" if kind == FAILED else str(value))
        page, shape, brightness, enlarge = value
        return Found(dataclasses.replace(page, picture=np.broadcast_to(np.uint8(brightness), shape)), enlarge)

    async def _ask(self, content: bytes | bytearray, quarters: int) -> tuple[str, Any]:
        await self.start()
        try:
            async with asyncio.timeout(self._wall_s):
                return _read_answer(await self._exchange(content, quarters))
        except (TimeoutError, asyncio.IncompleteReadError, ConnectionError, pickle.UnpicklingError) as error:
            was_ready = self._is_ready
            await self.stop()
            raise _failure(was_ready) from error
        except BaseException:  # cancelled in the middle of an exchange, whose rest must not answer the next one
            await self.stop()
            raise

    async def _exchange(self, content: bytes | bytearray, quarters: int) -> bytes:
        process = self._process
        assert process is not None and process.stdin is not None and process.stdout is not None
        if not self._is_ready:
            await _receive(process.stdout)
            self._is_ready = True
        turn = bytes([quarters])
        process.stdin.write(len(turn).to_bytes(LENGTH_BYTES) + turn + len(content).to_bytes(LENGTH_BYTES))
        for start in range(0, len(content), PIECE_BYTES):  # in pieces, as the pipe would keep a copy of what waits
            process.stdin.write(content[start : start + PIECE_BYTES])
            await process.stdin.drain()
        return await _receive(process.stdout)


async def _receive(source: asyncio.StreamReader) -> bytes:
    length = int.from_bytes(await source.readexactly(LENGTH_BYTES))
    if length > MAX_ANSWER_BYTES:
        raise ConnectionError(f"an answer of {length} bytes")
    return await source.readexactly(length)


def _failure(was_ready: bool) -> InklingError:
    """What to say when the process ended, or had to be ended, before it answered."""
    if was_ready:
        return InvalidInput(
            "the picture takes too much time or memory to decode; save it anew as PNG or JPEG, and smaller"
        )
    return InklingError("the process that decodes pictures does not start", hint="does `python -c 'import cv2'` work?")


def _read_answer(data: bytes) -> tuple[str, Any]:
    """The answer in a message, made of pages and arrays and of nothing else: its sender has met hostile files."""
    kind, value = _PageUnpickler(io.BytesIO(data)).load()
    return kind, value


class _PageUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        found = super().find_class(module, name) if (module, name) in _ARRAYS or module.startswith(_PAGES) else None
        if (module, name) in _ARRAYS or (isinstance(found, type) and dataclasses.is_dataclass(found)):
            return found
        raise pickle.UnpicklingError(f"{module}.{name} has no place in an answer")

"""Finds the digits in pictures, one after the other, in a process that may fail: `decoding.py` starts and ends it.

    python -m inkling.client.web.decoder MAX_PIXELS MEMORY_BYTES CPU_SECONDS

It says when it is ready. On standard input arrive the right angles by which a picture is to be turned, in a byte, and
the picture; its answer leaves on standard output. Each is a message, after its length in eight bytes. The process has a
limit of memory, and one of CPU time for each picture, past which the system ends it.
"""

import io
import os
import pickle
import resource
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import cv2
import numpy as np
from PIL import Image

from ..reading.notes import brightness
from ..reading.page import find_digits
from ..reading.picture import UnreadablePicture, open_header
from .decoding import FAILED, LENGTH_BYTES, PAGE, READY, TOO_LARGE, UNREADABLE
from .structure import check_structure

# Pixels of a picture's longer side; larger ones are shrunk to this before anything else, as `reading.ink` would.
LARGEST_SIDE = 2000


def main() -> int:
    """Answer until standard input ends."""
    max_pixels, memory_bytes, cpu_s = map(int, sys.argv[1:4])
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a library prints is no answer
    cv2.setNumThreads(1)
    _warm_up()
    _limit_memory(memory_bytes)
    send(answers, READY)
    while quarters := receive(sys.stdin.buffer):
        content = receive(sys.stdin.buffer)
        _limit_cpu(cpu_s)
        send(answers, pickle.dumps(answer(content, max_pixels=max_pixels, quarters=quarters[0])))
    return 0


def receive(source: BinaryIO) -> bytes:
    """The next message; none at the end."""
    return source.read(int.from_bytes(source.read(LENGTH_BYTES)))


def send(sink: BinaryIO, message: bytes) -> None:
    """Write a message behind its length."""
    sink.write(len(message).to_bytes(LENGTH_BYTES))
    sink.write(message)
    sink.flush()


def answer(content: bytes, *, max_pixels: int, quarters: int = 0) -> tuple[str, Any]:
    """What a picture's file says, for `decoding.py`: a kind, and what belongs to it.

    Returns: PAGE with the page, whose picture is left out, that picture's shape and brightness, and how much larger it
        was before it was shrunk; TOO_LARGE; UNREADABLE with the reason; or FAILED with the error.
    """
    try:
        check_structure(content)
        width, height = _size(content)
        if width * height > max_pixels:
            return TOO_LARGE, None
        enlarge = max(1.0, max(width, height) / LARGEST_SIDE)
        page = find_digits(_shrunk(content) if enlarge > 1 else content, quarters=quarters)
    except UnreadablePicture as error:
        return UNREADABLE, error.details
    except Exception as error:  # any: this is the top of a process that is there to fail
        return FAILED, repr(error)
    picture = page.picture
    return PAGE, (replace(page, picture=np.empty((0, 0, 3), np.uint8)), picture.shape, brightness(picture), enlarge)


def _size(content: bytes) -> tuple[int, int]:
    """Width and height by the header, before anything is decoded; 0 if it has none, which `find_digits` explains."""
    try:
        with open_header(content) as image:
            return image.size
    except Exception:  # any: each of Pillow's decoders raises its own kinds
        return 0, 0


def _shrunk(content: bytes) -> Image.Image:
    image = open_header(content)
    image.thumbnail((LARGEST_SIDE, LARGEST_SIDE))  # a JPEG is not even decoded in full
    return image


def _warm_up() -> None:
    """Import all that is needed for a picture, so that the limit of memory is for pictures alone."""
    picture = np.full((60, 60), 255, np.uint8)
    picture[10:50, 28:32] = 0
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    find_digits(file.getvalue())


def _limit_memory(limit_bytes: int) -> None:
    """Bound what is allocated from here on; not where the system has no /proc, whose kernel would not obey either."""
    sizes = Path("/proc/self/statm")
    if sizes.exists():
        used = int(sizes.read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + limit_bytes, used + limit_bytes))


def _limit_cpu(seconds: int) -> None:
    """Bound the CPU time of the next picture."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (int(usage.ru_utime + usage.ru_stime) + 1 + seconds, hard))


if __name__ == "__main__":
    sys.exit(main())

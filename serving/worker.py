"""Serve in this process: alone, or (`python -m serving.worker LINE`) as one of several, which a supervisor starts."""

import contextlib
import ctypes
import logging
import os
import select
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import cast

from .flags import ServerConfig
from .monitoring import logs, trace_export
from .processes.gpus import LOG_LEVEL, NVIDIA_DRIVER
from .processes.member import WITHOUT_SUPERVISOR, Member
from .processes.messages import Start, read_first

logger = logging.getLogger(__name__)

PR_SET_PDEATHSIG = 1


def run(config: ServerConfig, models_folder: Path | None, member: Member | None = None) -> int:
    """Import TensorFlow, and serve; the arguments and what is returned are those of `server.run`."""
    with tensorflow_import():
        from . import server  # it imports TensorFlow, which takes seconds: not for a bad flag

        num_gpus = server.num_gpus()  # TensorFlow's look for GPUs prints errors where there are none
    if not num_gpus and Path(NVIDIA_DRIVER).exists():
        logger.warning("TensorFlow sees no GPU, though this machine has one; %s=0 shows what it says", LOG_LEVEL)
    return server.run(config, models_folder, member, trace_export.from_environment(os.environ))


@contextlib.contextmanager
def tensorflow_import() -> Iterator[None]:
    """In its block TensorFlow is imported: without its first lines, unless its log level 0 asks for them, and Keras.

    TensorFlow imports Keras at its end, so that Keras' optimizers register themselves for SavedModels
    (https://github.com/tensorflow/tensorflow/blob/v2.20.0/tensorflow/api_template.__init__.py), and Keras imports
    Matplotlib and pandas where they are installed. A server that runs graphs needs none of them: they were 2.8 of 7.6
    seconds and 127 of 649 MB of an import. Whoever imports Keras after the block gets it.
    """
    absent = {"keras", "tf_keras"} - sys.modules.keys()
    os.environ.setdefault(LOG_LEVEL, "2")  # its errors only; TensorFlow reads it once, when it is imported
    with contextlib.nullcontext() if os.environ[LOG_LEVEL] == "0" else logs.stderr_silenced():
        # What Python's own import system reads as "cannot be imported", and TensorFlow goes on without it.
        sys.modules.update(dict.fromkeys(absent, cast(ModuleType, None)))
        try:
            yield
        finally:
            for name in absent:
                sys.modules.pop(name, None)


def main() -> int:
    """One of several processes: serve as the supervisor says at the other end of the line, a descriptor's number."""
    line = socket.socket(fileno=int(sys.argv[1]))
    _end_with_the_supervisor()
    if _has_hung_up(line):  # before it was to be told
        return WITHOUT_SUPERVISOR
    try:
        start: Start = read_first(line)
    except EOFError:
        return WITHOUT_SUPERVISOR
    logs.configure(start.config.log_format, process=start.index)
    return run(start.config, start.models_folder, Member(start, line))


def _end_with_the_supervisor() -> None:
    """Have the system kill this process when its parent ends, however it does; the line tells it too, but later."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _has_hung_up(line: socket.socket) -> bool:
    """Whether the other end has gone, whatever it has sent before."""
    poll = select.poll()
    poll.register(line)
    return any(event & select.POLLHUP for _, event in poll.poll(0))


if __name__ == "__main__":
    sys.exit(main())

"""The server's addresses, before and while its processes listen on them.

Sockets that share a port must all ask for it (SO_REUSEPORT), and any other program of the same user may join them. So
the supervisor first looks whether the port is free, and then keeps it bound, without listening, for its own.
"""

import contextlib
import errno
import logging
import os
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..flags import ServerConfig

logger = logging.getLogger(__name__)


def reserve(config: ServerConfig) -> Sequence[socket.socket]:
    """Sockets that keep the ports of `config`.

    Raises: OSError if one is taken.
    """
    return [_reserve(port, name) for port, name in _ports(config)]


def _ports(config: ServerConfig) -> Iterator[tuple[int, str]]:
    if config.port:
        yield config.port, "gRPC"
    if config.rest_api_port and config.rest_api_port != config.port:
        yield config.rest_api_port, "the REST API"


def _reserve(port: int, name: str) -> socket.socket:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        _bind(probe, port, name)
        probe.listen()  # two that are bound at the same time, and do not listen yet, are told here
    kept = socket.socket()
    kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        _bind(kept, port, name)
    except OSError:  # connections of a server that has just ended, and did not share the port, are still closing
        kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        _bind(kept, port, name)
    return kept


def _bind(sock: socket.socket, port: int, name: str) -> None:
    try:
        sock.bind(("0.0.0.0", port))
    except OSError as error:
        why = "it is in use" if error.errno == errno.EADDRINUSE else error.strerror
        raise OSError(f"{name} cannot listen on 0.0.0.0:{port}: {why}") from error


class UnixSocket:
    """One path for several sockets: a link that names one process's after the other.

    The system has nothing like SO_REUSEPORT for UNIX sockets. A connection stays where the link pointed to.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._last = -1

    def of_process(self, index: int) -> str:
        """The path of a process's own socket."""
        return f"{self._path}.{index}"

    def point_to_next(self, indices: Sequence[int]) -> None:
        """Have the link name the next process's socket: of `indices`, those that are there."""
        there = sorted(index for index in indices if os.path.exists(self.of_process(index)))
        if not there:
            return
        chosen = next((index for index in there if index > self._last), there[0])
        if chosen != self._last or not os.path.islink(self._path):
            new = f"{self._path}.new"
            Path(new).unlink(missing_ok=True)
            os.symlink(os.path.abspath(self.of_process(chosen)), new)
            os.replace(new, self._path)
        self._last = chosen

    def remove(self, indices: Sequence[int], *, link: bool) -> None:
        """Take away what processes that have ended left, and the link."""
        for path in [self.of_process(index) for index in indices] + ([self._path] if link else []):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)


def announce(config: ServerConfig) -> None:
    """The lines that scripts wait for, in TensorFlow Serving's words."""
    if config.port:
        logger.info("Running gRPC ModelServer at 0.0.0.0:%d ...", config.port)
    if config.grpc_socket_path:
        logger.info("Running gRPC ModelServer at UNIX socket %s ...", config.grpc_socket_path)
    if config.rest_api_port:
        logger.info("Exporting HTTP/REST API at:localhost:%d ...", config.rest_api_port)

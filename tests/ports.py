"""Ports for servers that take none of their own choice."""

import secrets
import socket

# Below what Linux (32768), macOS and Windows (49152) give to outgoing connections, and to those who ask for port 0: a
# port of these is not given to somebody else in the time between this look at it and the server's start.
FIRST, LAST = 20_000, 29_999
_given: set[int] = set()  # by this process


def free_port() -> int:
    """A port that nobody listens on now, and that was not given before."""
    while True:
        # Not from `random`, which training seeds: two test runs would ask for the same ports.
        port = FIRST + secrets.randbelow(LAST - FIRST + 1)
        if port not in _given and _is_free(port):
            _given.add(port)
            return port


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True

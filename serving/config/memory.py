"""Limits that follow the memory the process may have: a pod's is often a small part of its machine's.

Where a flag is not given, and the process has a limit (a cgroup's, which is what containers have), requests that are
held at once may take a share of it. A request takes its bytes twice or more: as they came, and as values.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path

from ..flags import ServerConfig

GRPC_SHARE = 8  # an eighth of the memory for the bytes of all gRPC requests, or of one
BODY_SHARE = 64  # of one REST body: JSON grows many times when it is read
UNLIMITED = 1 << 60  # bytes; what version 1 of cgroups says where there is no limit is above


def memory_limit(root: Path = Path("/sys/fs/cgroup"), of_process: Path = Path("/proc/self/cgroup")) -> int | None:
    """The bytes that this process may take at most by its cgroups; None without a limit, or other than on Linux."""
    return min(_limits(root, of_process), default=None)


def _limits(root: Path, of_process: Path) -> Iterator[int]:
    try:
        lines = of_process.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            base, name = root, "memory.max"
        elif "memory" in controllers.split(","):
            base, name = root / "memory", "memory.limit_in_bytes"
        else:
            continue
        folder = base / path.lstrip("/")
        while folder.is_relative_to(base):  # a limit of a group holds for those in it
            yield from _limit(folder / name)
            folder = folder.parent


def _limit(file: Path) -> Iterator[int]:
    try:
        text = file.read_text().strip()
    except OSError:  # what is above a container's own group is not to be seen in it
        return
    if text.isdecimal() and int(text) < UNLIMITED:
        yield int(text)


def within_memory(config: ServerConfig, given: Mapping[str, object], limit: int | None) -> ServerConfig:
    """`config` with smaller limits where the memory asks for them.

    Args:
        config: the flags.
        given: those that somebody has set; they stay.
        limit: the memory's, in bytes; None for none.
    """
    if limit is None:
        return config
    megabytes = limit // 10**6
    shares = {
        "grpc_max_pending_mb": max(1, megabytes // GRPC_SHARE),
        "rest_api_max_body_mb": max(1, megabytes // BODY_SHARE),
    }
    smaller = {name: share for name, share in shares.items() if name not in given and share < getattr(config, name)}
    return dataclasses.replace(config, **smaller)  # type: ignore[arg-type]

"""Whether a set fits into this machine's memory, asked before it is read."""

from pathlib import Path

from .dataset import DataError

COPIES = 3  # the set as it is read, as it is checked, and as Ray keeps it for the workers


def check_fits(source: Path | str, size: int) -> None:
    """Raise DataError if `size` bytes of data, with the copies that are made of them, exceed the free memory."""
    free = available_bytes()
    if free is not None and size * COPIES > free:
        raise DataError(
            f"{source} takes {_gb(size)} and, with its copies, {_gb(size * COPIES)} of memory, of which {_gb(free)} "
            "are free; train on a part of it, or on a machine with more memory"
        )


def available_bytes() -> int | None:
    """Memory that this process can still take: the machine's, or its cgroup's if that is less; None if not told."""
    found = [_of_machine(), _of_cgroup()]
    return min((value for value in found if value is not None), default=None)


def _of_machine() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None  # not Linux
    values = dict(line.split(":", 1) for line in lines if ":" in line)
    return int(values["MemAvailable"].split()[0]) * 1024 if "MemAvailable" in values else None


def _of_cgroup() -> int | None:
    folder = Path("/sys/fs/cgroup")  # version 2, as a container sees its own
    try:
        limit, used = (folder / "memory.max").read_text().strip(), (folder / "memory.current").read_text()
    except OSError:
        return None
    return None if limit == "max" else max(0, int(limit) - int(used))


def _gb(size: int) -> str:
    return f"{size / 1e9:,.1f} GB" if size < 1e15 else f"{size:.1e} bytes"

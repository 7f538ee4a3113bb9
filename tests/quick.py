"""`--quick` leaves out the tests that start processes or train; with it or without, one needs a mark to start one."""

import multiprocessing.process
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

LEFT_OUT = ("process", "training", "slow", "fuzz", "release")
LEFT_OUT_FILE = re.compile(rf"^pytestmark = \[?\s*pytest\.mark\.({'|'.join(LEFT_OUT)})\b", re.MULTILINE)
# What libraries ask the system while they are imported.
HARMLESS = frozenset({"uname", "ldconfig", "/sbin/ldconfig", "gcc", "cc", "ld", "lscpu"})


def add_option(parser: pytest.Parser) -> None:
    parser.addoption("--quick", action="store_true", help=f"leave out tests marked {', '.join(LEFT_OUT)}")


def is_left_out(file: Path) -> bool:
    """Whether a whole file is marked so: it is not even imported, which takes longer than many a test."""
    return file.name.startswith("test_") and bool(LEFT_OUT_FILE.search(file.read_text()))


def left_out(item: pytest.Item) -> bool:
    return any(item.get_closest_marker(name) for name in LEFT_OUT)


def watch(item: pytest.Item | None) -> None:
    """From here on `item` is what runs; None: nothing does."""
    global unmarked
    unmarked = item is not None and not left_out(item)


unmarked = False


def forbid_processes() -> None:
    """From here on a test without a mark that starts a process fails, by whichever of Python's ways."""
    start, popen = multiprocessing.process.BaseProcess.start, subprocess.Popen.__init__

    def refuse(what: object) -> None:
        if unmarked:
            pytest.fail(f"starts a process ({what}): mark the test `process`, so that `make test-quick` leaves it out")

    def checked_popen(self: Any, args: Any, *rest: Any, **options: Any) -> None:
        command = args if isinstance(args, str | bytes | os.PathLike) else next(iter(args))
        if command not in HARMLESS:
            refuse(command)
        popen(self, args, *rest, **options)

    def checked_start(self: Any) -> None:
        refuse(self.name)
        start(self)

    subprocess.Popen.__init__ = checked_popen  # type: ignore[method-assign]
    multiprocessing.process.BaseProcess.start = checked_start  # type: ignore[method-assign]

"""`python -m serving keys new NAME`: make an API key, and the line by which a server knows it.

    python -m serving keys new alice --file keys.txt
    python -m serving keys new alice --requests_per_second 50 --concurrent_requests 8

The key is printed once and kept nowhere; the line holds a salted hash of it. With `--file` the line is appended to that
file, which servers read again, and the key alone is printed.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from .callers import Limits
from .keys import line_of, make_key, parse

OK, FAILED = 0, 1
OWNER_ONLY = 0o600


def main(arguments: Sequence[str]) -> int:
    """Run the command line after `keys`; returns the exit code."""
    flags = _parse(arguments)
    try:
        key = make_key(flags.name)
        line = line_of(key, Limits(flags.requests_per_second, flags.concurrent_requests))
        if flags.file is not None:
            _append(flags.file, line)
        else:
            parse(line, is_admin=False)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return FAILED
    print(key if flags.file is not None else f"key:  {key}\nline: {line}")
    return OK


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m serving keys", description="Make an API key.")
    commands = parser.add_subparsers(dest="command", required=True)
    new = commands.add_parser("new", help="make a key, and the line by which a server knows it")
    new.add_argument("name", metavar="NAME", help="whose it is: letters, digits, points and hyphens")
    new.add_argument("--file", type=Path, help="append the line to this file, and print the key only")
    new.add_argument("--requests_per_second", type=float, default=0.0, help="limit of this caller (default: none)")
    new.add_argument("--concurrent_requests", type=int, default=0, help="limit of this caller (default: none)")
    return parser.parse_args(arguments)


def _append(path: Path, line: str) -> None:
    """Add `line` to the file, which is made, for its owner only, if it is not there.

    Raises: OSError; ValueError if a server could not read the file afterwards.
    """
    before = path.read_text(encoding="utf-8-sig") if path.exists() else ""
    start = "\n" if before and not before.endswith("\n") else ""
    parse(f"{before}{start}{line}", is_admin=False)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, OWNER_ONLY), "w") as file:
        file.write(f"{start}{line}\n")

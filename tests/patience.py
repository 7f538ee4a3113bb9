"""How long tests wait for what must come, and how: by asking again and again, to one deadline that nobody should meet.

A test that waits says nothing about how fast that is, so the deadline is far above what a slow machine under load
takes: it only turns a hang into a failure. pytest's own `timeout`, in pyproject.toml, is above it.
"""

import time
from collections.abc import Callable

PATIENCE_S = 900.0
POLL_S = 0.05


def wait_until(
    condition: Callable[[], object], explain: Callable[[], object] = lambda: "", *, timeout_s: float = PATIENCE_S
) -> None:
    """Return when `condition()` is true; raises AssertionError with `explain()` at the deadline."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"nothing after {timeout_s:g} s: {explain()}"
        time.sleep(POLL_S)

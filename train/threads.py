"""Wait for a slow call in a way that Ctrl-C and SIGTERM are heard while it lasts."""

import threading
from collections.abc import Callable
from typing import TypeVar

POLL_S = 0.2  # between two looks whether the call has ended

T = TypeVar("T")


def in_thread(call: Callable[[], T], *, meanwhile: Callable[[], None] = lambda: None) -> T:
    """What `call` returns or raises, in a thread of its own: a call that hangs in C++ keeps signals waiting.

    Args:
        meanwhile: called again and again until the call ends, in the caller's thread.
    """
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(call())
        except BaseException as error:  # handed over to the thread that asked
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(POLL_S)
        meanwhile()
    if errors:
        raise errors[0]
    return results[0]

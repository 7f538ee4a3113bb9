"""What a tracker is: one class in a file of its own, and its line in `trackers.py`."""

from collections.abc import Sequence
from typing import Literal, Protocol

from ..progress import Advance, Drawn, Logged, Published, Tested, Validated

Status = Literal["finished", "stopped", "failed"]
Measured = Advance | Validated | Logged | Tested  # what has figures at a step


class Tracker(Protocol):
    """Takes what a run tells. `Feed` calls it in one thread of its own, so it may take its time, and it may raise.

    After an exception the same call comes again later; so each must bear to be repeated.
    """

    name: str  # for messages

    def open(self) -> str:
        """Begin, or go on with the run as it was tracked before; returns where a person finds it, "" if all know."""

    def log(self, events: Sequence[Measured]) -> None:
        """Take figures, in the order of their steps; a run that goes on tells some steps again."""

    def picture(self, event: Drawn) -> None:
        """Take a picture."""

    def published(self, event: Published) -> None:
        """Take note of the published version."""

    def close(self, status: Status) -> None:
        """The run has ended so; a stopped one may go on, with another tracker."""

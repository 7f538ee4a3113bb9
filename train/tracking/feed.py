"""Hands a run's events to a tracker in a thread, so that one that is slow, down or wrong costs the run nothing."""

import threading
from collections import deque
from collections.abc import Callable

from ..progress import Drawn, Event, Published
from .secrets import without_secrets
from .tracker import Measured, Status, Tracker

FLUSH_S = 1.0  # between two calls: what came meanwhile goes out together
RETRY_S = 30.0  # until a tracker that failed is asked again
LAST_TRY_S = 5.0  # for a tracker that failed when it was last asked, at the run's end
MOST_WAITING = 20_000  # events that are kept for it meanwhile; the oldest figures go first
MOST_AT_ONCE = 200  # events in one call: MLflow takes 1,000 figures, and a step has four
LONGEST_REASON = 300  # characters


class Feed:
    """One tracker's queue and thread."""

    def __init__(self, tracker: Tracker, tell: Callable[[str], None], *, retry_s: float = RETRY_S) -> None:
        """Nothing is done before the first event.

        Args:
            tell: takes lines for the person who watches, from any thread.
            retry_s: until a tracker that failed is asked again.
        """
        self._tracker, self._tell, self._retry_s = tracker, tell, retry_s
        self._changed = threading.Condition()
        self._waiting: deque[Event] = deque()
        self._in_hand: list[Event] = []
        self._status: Status | None = None
        self._opened = self._warned = self._failing = False
        self._dropped = 0
        self._thread = threading.Thread(target=self._run, name=f"tracking-{tracker.name}", daemon=True)

    def put(self, event: Event) -> None:
        """Take an event, from any thread; returns at once."""
        if not isinstance(event, Measured | Drawn | Published):
            return
        with self._changed:
            if len(self._waiting) >= MOST_WAITING:
                self._drop_oldest_figures()
            self._waiting.append(event)
            if not self._thread.is_alive() and self._status is None:
                self._thread.start()
            self._changed.notify()

    def _drop_oldest_figures(self) -> None:
        oldest = next((event for event in self._waiting if isinstance(event, Measured)), self._waiting[0])
        self._waiting.remove(oldest)
        self._dropped += 1

    def close(self, status: Status, *, timeout_s: float) -> None:
        """Tell the tracker how the run ended, and wait for it, but no longer than `timeout_s`."""
        with self._changed:
            self._status = status
            self._changed.notify()
        if not self._thread.is_alive():
            return  # nothing was ever told
        self._thread.join(min(timeout_s, LAST_TRY_S) if self._failing else timeout_s)
        with self._changed:
            missing = self._dropped + len(self._waiting) + len(self._in_hand)
            is_late = self._thread.is_alive()
            tell, self._tell = self._tell, _ignore  # the run has left its display by the time that it is done
        if missing or is_late:
            tell(f"{self._tracker.name} has not got all of this run; its folder has")

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._in_hand or self._status)
                last = self._status
            try:
                self._deliver(last)
                self._failing = False
            except Exception as error:  # whatever a tracker's library raises, the run weighs more
                self._failing = True
                self._warn(error)
            if last:
                return
            with self._changed:
                self._changed.wait_for(lambda: self._status, self._retry_s if self._failing else FLUSH_S)

    def _deliver(self, last: Status | None) -> None:
        if not self._opened:
            if place := self._tracker.open():
                self._tell(f"{self._tracker.name}: {place}")
            self._opened = True
        while self._take():
            self._hand_over(self._in_hand)
            self._in_hand = []
        if last:
            self._tracker.close(last)

    def _take(self) -> bool:
        """Take the next events that go out in one call; those of a call that failed come first."""
        with self._changed:
            while self._waiting and len(self._in_hand) < MOST_AT_ONCE:
                if self._in_hand and not (isinstance(self._waiting[0], Measured) and self._is_measured(self._in_hand)):
                    break
                self._in_hand.append(self._waiting.popleft())
        return bool(self._in_hand)

    @staticmethod
    def _is_measured(events: list[Event]) -> bool:
        return isinstance(events[0], Measured)

    def _hand_over(self, events: list[Event]) -> None:
        match events:
            case [Drawn() as picture]:
                self._tracker.picture(picture)
            case [Published() as version]:
                self._tracker.published(version)
            case _:
                self._tracker.log([event for event in events if isinstance(event, Measured)])

    def _warn(self, error: Exception) -> None:
        if self._warned:
            return
        self._warned = True
        lines = str(error).strip().splitlines() or [""]
        reason = without_secrets(f"{type(error).__name__}: {lines[0]}")[:LONGEST_REASON]
        self._tell(
            f"{self._tracker.name} cannot be told of this run now ({reason}); the run goes on, and tells it when that "
            "works again"
        )


def _ignore(line: str) -> None:
    pass

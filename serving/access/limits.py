"""What each caller may ask for in a second and at once: a token bucket and a count for each.

A caller that has limits of its own is counted whichever connection, transport or protocol it comes by.
"""

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from .callers import Caller, Limits, too_many

MAX_CALLERS = 10_000  # that are counted; beyond them those are forgotten that have nothing in hand
BUSY_RETRY_S = 1


@dataclass(slots=True)
class Account:
    """One caller's share. The bucket holds a second's requests, or one."""

    tokens: float
    filled_at: float
    in_hand: int = 0

    @classmethod
    def full(cls, limits: Limits, now: float) -> "Account":
        """One of which nothing has been taken."""
        return cls(max(1.0, limits.requests_per_second), now)

    def take(self, limits: Limits, now: float) -> float:
        """Take one token; returns the seconds until there is one, 0 if there was."""
        rate = limits.requests_per_second
        self.tokens = min(max(1.0, rate), self.tokens + (now - self.filled_at) * rate)
        self.filled_at = now
        if self.tokens < 1:
            return (1 - self.tokens) / rate
        self.tokens -= 1
        return 0.0


class Accounts(Protocol):
    """The accounts of a server's callers."""

    def use(self, caller: Caller, now: float) -> AbstractContextManager[Account]:
        """The account of `caller`, a full one if there was none; changes count when the block is left."""


class OwnAccounts:
    """Accounts in this process's memory."""

    def __init__(self) -> None:
        self._accounts: dict[tuple[str, str], Account] = {}

    @contextlib.contextmanager
    def use(self, caller: Caller, now: float) -> Iterator[Account]:
        """The account of `caller`."""
        key = caller.kind, caller.name
        if (account := self._accounts.get(key)) is None:
            if len(self._accounts) >= MAX_CALLERS:
                self._forget()
            account = self._accounts[key] = Account.full(caller.limits, now)
        yield account

    def _forget(self) -> None:
        for key in [key for key, account in self._accounts.items() if not account.in_hand]:
            del self._accounts[key]


class Limiter:
    """Holds callers to their limits."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, accounts: Accounts | None = None) -> None:
        self._clock = clock
        self._accounts = accounts or OwnAccounts()

    def spend(self, caller: Caller) -> None:
        """Count one request of `caller`'s.

        Raises: Refusal RESOURCE_EXHAUSTED if there were too many in the last second.
        """
        if not caller.limits.requests_per_second:
            return
        with self._accounts.use(caller, self._clock()) as account:
            wait_s = account.take(caller.limits, self._clock())
        if wait_s:
            raise too_many(
                f"{caller.name} may send {caller.limits.requests_per_second:g} requests a second; wait {wait_s:.2g} s",
                caller,
                retry_after_s=max(1, math.ceil(wait_s)),
            )

    def begin(self, caller: Caller) -> None:
        """Count one request that is in hand until `end`.

        Raises: Refusal RESOURCE_EXHAUSTED if there are too many; then there is nothing to end.
        """
        limit = caller.limits.concurrent_requests
        with self._accounts.use(caller, self._clock()) as account:
            if limit and account.in_hand >= limit:
                raise too_many(
                    f"{caller.name} has {account.in_hand} requests in hand and may have {limit}; wait for one to end",
                    caller,
                    retry_after_s=BUSY_RETRY_S,
                )
            account.in_hand += 1

    def end(self, caller: Caller) -> None:
        """What `begin` has counted has ended."""
        with self._accounts.use(caller, self._clock()) as account:
            account.in_hand -= 1

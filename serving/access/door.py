"""The door: who calls, whether they may, and whether now."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import grpc

from ..errors import ServingError
from ..monitoring import logs
from ..monitoring.events import ServerEvents
from . import keys
from .audit import AuditLog, Entry
from .callers import HOW, NOBODY, Caller, Refusal, UnknownKey, forbidden, unauthenticated
from .jwks import RemoteKeys
from .keys import KeyFile
from .limits import Accounts, Limiter
from .rights import Right
from .watched import WatchedFile

logger = logging.getLogger(__name__)

LOOK_S = 1.0  # between two looks at the files


class Judge(Protocol):
    """Judges tokens: `Tokens` in tokens.py, which needs an optional package."""

    def find(self, token: str) -> Caller:
        """Whom `token` is about."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """What is asked for."""

    entrypoint: str  # GRPC or REST
    api: str  # for logs: the RPC's name, or method and path
    right: Right


@dataclass(frozen=True, kw_only=True, slots=True)
class Policy:
    """Who may do what. With none of its parts everybody may do everything, but by `admin_is_closed`."""

    key_file: WatchedFile[KeyFile] | None = None
    admin_key_file: WatchedFile[KeyFile] | None = None
    tokens: Judge | None = None
    admin_is_closed: bool = False
    has_admins: bool = False  # somebody could be one

    @property
    def asks_predictors(self) -> bool:
        """Whether predictions take a key or a token."""
        return self.key_file is not None or self.tokens is not None

    @property
    def asks_admins(self) -> bool:
        """Whether administration takes one."""
        return self.asks_predictors or self.admin_key_file is not None


class Door:
    """Lets calls through, or refuses them."""

    def __init__(
        self,
        policy: Policy,
        *,
        events: ServerEvents,
        audit: AuditLog | None = None,
        remote_keys: RemoteKeys[Any] | None = None,
        files: tuple[WatchedFile[Any], ...] = (),
        accounts: Accounts | None = None,
    ) -> None:
        """A door.

        Args:
            policy: who may do what.
            events: is told of refusals.
            audit: where administration is written down.
            remote_keys: of the tokens' issuer, if they are at a URL.
            files: those that are looked at again and again.
            accounts: of callers; None: in this process's memory.
        """
        self._policy = policy
        self._events = events
        self._audit = audit
        self._remote_keys = remote_keys
        self._files = files
        self._limiter = Limiter(accounts=accounts)

    async def admit(self, call: Call, credential: str | None) -> Caller:
        """Who calls, once it is known that they may.

        Args:
            call: what is asked for.
            credential: a key or a token; None without one.

        Raises: Refusal; ServingError UNAVAILABLE if the issuer's keys are not there yet.
        """
        if call.right is Right.ADMIN and self._policy.admin_is_closed:
            raise forbidden(f"{call.api} is closed to everybody: the server was started with --enable_admin=false")
        asks = self._policy.asks_admins if call.right is Right.ADMIN else self._policy.asks_predictors
        if not asks:
            return NOBODY
        if not credential:
            raise unauthenticated(f"neither a key nor a token came with the request; {HOW}")
        try:
            caller = self._find(credential)
        except ServingError as error:
            caller = await self._find_by_newer_keys(credential, error)
        if call.right is Right.ADMIN and not caller.is_admin:
            raise forbidden(_not_an_admin(caller, call, self._policy), caller)
        self._limiter.spend(caller)
        return caller

    async def _find_by_newer_keys(self, credential: str, error: ServingError) -> Caller:
        """Who calls, after `error` has said who does not, by keys that the issuer may have meanwhile."""
        may_be_newer = isinstance(error, UnknownKey) or error.code is grpc.StatusCode.UNAVAILABLE
        if self._remote_keys is None or not may_be_newer:
            raise error
        await self._remote_keys.refresh()
        return self._find(credential)

    def _find(self, credential: str) -> Caller:
        policy = self._policy
        if keys.is_key(credential) or policy.tokens is None:
            for file in (policy.admin_key_file, policy.key_file):
                if file is not None and (caller := file.value.find(credential)) is not None:
                    return caller
            raise unauthenticated("the key is not one of this server's", wrong=True)
        return policy.tokens.find(credential)

    @contextlib.contextmanager
    def hold(self, caller: Caller) -> Iterator[None]:
        """One request of `caller`'s is in hand.

        Raises: Refusal if there are too many.
        """
        self._limiter.begin(caller)
        try:
            yield
        finally:
            self._limiter.end(caller)

    def refused(self, call: Call, error: ServingError, *, peer: str) -> None:
        """Tell of a call that was not let through."""
        self._events.request_refused(entrypoint=call.entrypoint, code=error.code)
        logs.request_finished(
            model_name="", api=call.api, entrypoint=call.entrypoint, code=error.code, latency_s=0, error=error.message
        )
        if call.right is Right.ADMIN:
            caller = error.caller if isinstance(error, Refusal) else NOBODY
            self.audit(call, caller, peer=peer, code=error.code, message=error.message)

    def audit(
        self, call: Call, caller: Caller, *, peer: str, code: grpc.StatusCode, message: str = "", about: str = ""
    ) -> None:
        """Write down a call of administration, with what it was about and what came of it."""
        if self._audit is not None:
            self._audit.write(
                Entry(caller=caller, peer=peer, call=call.api, about=about, outcome=code, message=message)
            )

    async def watch(self) -> None:
        """Look at the files again and again, and ask for the issuer's keys, for ever."""
        asking: asyncio.Task[None] | None = None  # beside the files, which do not wait for an issuer that hangs
        while True:
            try:
                if asking is not None and asking.done():
                    asked, asking = asking, None
                    asked.result()  # or what nobody has expected would be told to nobody
                if asking is None and self._remote_keys is not None and self._remote_keys.is_due:
                    asking = asyncio.create_task(self._remote_keys.refresh())
                await asyncio.to_thread(self._look)
            except Exception:  # or a key that is taken away would count on
                logger.exception("looking for changed keys has failed; it is tried again")
            await asyncio.sleep(LOOK_S)

    def _look(self) -> None:
        for file in self._files:
            file.look()

    def close(self, timeout_s: float) -> None:
        """Write what waits for the audit log."""
        if self._audit is not None:
            self._audit.close(timeout_s)


def credential_of(find: Callable[[str], str | None]) -> str | None:
    """The key or token that came with a request: `x-api-key`, or else `authorization: Bearer`.

    Args:
        find: gives a header's or metadata's value by its name in lower case.
    """
    if key := find("x-api-key"):
        return key.strip()
    scheme, _, value = (find("authorization") or "").strip().partition(" ")
    return value.strip() if scheme.lower() == "bearer" else None


def _not_an_admin(caller: Caller, call: Call, policy: Policy) -> str:
    if policy.has_admins:
        return f"{caller.name} is no administrator, which {call.api} takes"
    return (
        f"{call.api} takes an administrator, and this server has none: see --admin_api_keys_file and --admin_jwt_scope"
    )

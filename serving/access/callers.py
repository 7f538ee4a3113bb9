"""What the door knows of a caller, and why it may refuse one."""

from collections.abc import Mapping
from dataclasses import dataclass

import grpc

from ..errors import ServingError

CHALLENGE = 'Bearer realm="models"'
HOW = "send one as 'authorization: Bearer ...' or as 'x-api-key: ...'"


@dataclass(frozen=True, slots=True)
class Limits:
    """What one caller may ask for; 0 is no limit."""

    requests_per_second: float = 0.0
    concurrent_requests: int = 0

    def __bool__(self) -> bool:
        return bool(self.requests_per_second or self.concurrent_requests)


NO_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls. Its name may be told; what it has shown to prove it is not kept."""

    name: str  # of the key, or the token's subject
    kind: str  # key, token or nobody
    is_admin: bool = False
    limits: Limits = NO_LIMITS


NOBODY = Caller("", "nobody")


class Refusal(ServingError):
    """The door stays shut; `headers` say what the protocols have a word for."""

    def __init__(
        self,
        code: grpc.StatusCode,
        message: str,
        headers: Mapping[str, str] | None = None,
        *,
        caller: Caller = NOBODY,
    ) -> None:
        super().__init__(code, message)
        self.headers = dict(headers or {})
        self.caller = caller


class UnknownKey(Refusal):
    """The token names a key that its issuer did not have when it was last asked."""


def unauthenticated(message: str, *, wrong: bool = False) -> Refusal:
    """Nobody that is known here.

    Args:
        message: why.
        wrong: whether something was shown at all.
    """
    challenge = f'{CHALLENGE}, error="invalid_token"' if wrong else CHALLENGE
    return Refusal(grpc.StatusCode.UNAUTHENTICATED, message, {"www-authenticate": challenge})


def forbidden(message: str, caller: Caller = NOBODY) -> Refusal:
    """Somebody, or anybody, who may not."""
    return Refusal(grpc.StatusCode.PERMISSION_DENIED, message, caller=caller)


def too_many(message: str, caller: Caller, *, retry_after_s: int) -> Refusal:
    """Somebody who has to wait."""
    headers = {"retry-after": str(retry_after_s)}
    return Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, message, headers, caller=caller)

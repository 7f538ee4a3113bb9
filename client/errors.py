"""What can go wrong, as a tree: catch as widely or as narrowly as you can act on it.

    InklingError                     anything below; `.address`, `.model`, `.status`, `.details`, `.hint`
    ├── InvalidInput (ValueError)    the inputs, images or flags are not what the model or this client takes
    ├── ModelNotFound                the server has no such model
    │   └── VersionNotFound          it has the model, but not this version or label
    ├── SignatureNotFound            the model has no such signature
    ├── ServerUnavailable            no server there, or it went away, and the retries did not help
    │   └── ServerOverloaded         it is there and refuses work: its queue or a quota is full
    ├── DeadlineExceeded (TimeoutError)   no response within `timeout_s`
    ├── MessageTooLarge              a message over a size limit; `.side` says whose: "client" or "server"
    ├── AccessDenied                 no, or not enough, credentials
    ├── NotSupported                 the server does not have this call
    ├── InvalidResponse              the server responded, but not in the protocol
    └── ServerError                  the server failed: every other status

The errors of failed calls have gRPC's `status`, and gRPC's error as their cause. Those that this client finds itself,
before it sends anything or in a response, have no status. `protocol/status.py` makes the former.
"""

from typing import Literal, TypedDict, Unpack

import grpc


def printable(text: str) -> str:
    """A server's text as a terminal may show it: what is not to be seen but obeyed is escaped, such as `\\x1b`.

    Line breaks and tabs stay.
    """
    if text.isprintable():
        return text
    return "".join(
        one if one.isprintable() or one in "\n\t" else one.encode("unicode_escape").decode("ascii") for one in text
    )


class ErrorContext(TypedDict, total=False):
    """What every error can be told beside its details; see `InklingError`."""

    address: str
    model: str
    status: grpc.StatusCode | None
    hint: str


class InklingError(Exception):
    """Base of all errors of this client.

    Attributes:
        address: the server, as it was given to the client; "" if no server was asked.
        model: the model that was asked for, with its version or label; "" if the call is not about one model.
        status: gRPC's status code; None if this client found the error itself.
        details: the server's own words, on one line; as text the error has their control characters escaped.
        hint: what to try; "" if the details say it all.
    """

    def __init__(
        self, details: str, *, address: str = "", model: str = "", status: grpc.StatusCode | None = None, hint: str = ""
    ) -> None:
        self.details = " ".join(details.split())
        self.address = address
        self.model = model
        self.status = status
        self.hint = hint
        super().__init__(details)

    def __str__(self) -> str:
        where = " at ".join(part for part in (self.model and f"model {self.model}", self.address) if part)
        text = f"{where}: {self.details}" if where else self.details
        if self.status is not None:
            text += f" ({self.status.name})"
        return printable(f"{text}; {self.hint}" if self.hint else text)


class InvalidInput(InklingError, ValueError):
    """What was given does not fit the model, or cannot be sent at all."""


class ModelNotFound(InklingError):
    """The server has no such model."""


class VersionNotFound(ModelNotFound):
    """The server has no such version of the model, or no such label."""


class SignatureNotFound(InklingError):
    """The model has no such signature."""


class ServerUnavailable(InklingError):
    """The server could not be reached, or went away during the call."""


class ServerOverloaded(ServerUnavailable):
    """The server is there, but takes no more work for now."""


class DeadlineExceeded(InklingError, TimeoutError):
    """No response came in time."""


class MessageTooLarge(InklingError):
    """A request or response is over a size limit. `side` says whose limit: "client" or "server"."""

    def __init__(
        self, details: str, *, side: Literal["client", "server"] = "server", **context: Unpack[ErrorContext]
    ) -> None:
        super().__init__(details, **context)
        self.side = side


class AccessDenied(InklingError):
    """The server wants credentials, or better ones."""


class NotSupported(InklingError):
    """The server does not have this call."""


class InvalidResponse(InklingError):
    """The server's response is not what the protocol says."""


class ServerError(InklingError):
    """The server failed to handle the request."""

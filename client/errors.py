"""What can go wrong, as a tree: catch as widely or as narrowly as you can act on it.

    InklingError                     anything below; `.address`, `.model`, `.status`, `.details`, `.hint`
    ├── InvalidInput (ValueError)    the inputs, images or flags are not what the model or this client takes
    ├── ModelNotFound                the server has no such model
    │   └── VersionNotFound          it has the model, but not this version or label
    ├── SignatureNotFound            the model has no such signature
    ├── ServerUnavailable            no server there, or it went away, and the retries did not help
    │   └── ServerOverloaded         it is there and refuses work: its queue or a quota is full
    ├── DeadlineExceeded (TimeoutError)   no answer within `timeout_s`
    ├── MessageTooLarge              a message over a size limit; `.side` says whose: "client" or "server"
    ├── AccessDenied                 no, or not enough, credentials
    ├── NotSupported                 the server does not have this call
    ├── BadAnswer                    the server answered, but not in the protocol
    └── ServerError                  the server failed: every other status

Those that are a call's failure have gRPC's `status`, and its error as their cause. Those that this client finds itself,
before it sends anything or in what came back, have none.
"""

import re
from typing import Any, NoReturn

import grpc

from .protocol.rpc import Call, Unreadable


class InklingError(Exception):
    """Base of all errors of this client.

    Attributes:
        address: the server, as it was given to the client; "" where none was asked.
        model: the model that was asked for, with its version or label; "" where there is none.
        status: gRPC's status code; None if the error arose in this client.
        details: the server's own words, on one line.
        hint: what to try; "" if there is nothing better to say than the details.
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
        return f"{text}; {self.hint}" if self.hint else text


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
    """There was no answer in time."""


class MessageTooLarge(InklingError):
    """A request or response is over a size limit. `side` says whose limit: "client" or "server"."""

    side: str = "server"


class AccessDenied(InklingError):
    """The server wants credentials, or other ones."""


class NotSupported(InklingError):
    """The server does not have this call."""


class BadAnswer(InklingError):
    """The server's answer is not what the protocol says."""


class ServerError(InklingError):
    """The server failed at the request."""


OTHER_SERVER = "the server is of another kind or version than this client expects"
_MODEL_TAKES = "`inkling metadata` shows what the model takes"
_SIGNATURES = "`inkling metadata` lists the model's signatures"
_BUSY = "send fewer calls at once, or give the server more replicas or a longer queue"

# Status: the error, and what to try.
_BY_STATUS: dict[grpc.StatusCode, tuple[type[InklingError], str]] = {
    grpc.StatusCode.INVALID_ARGUMENT: (InvalidInput, _MODEL_TAKES),
    grpc.StatusCode.OUT_OF_RANGE: (InvalidInput, _MODEL_TAKES),
    grpc.StatusCode.NOT_FOUND: (ModelNotFound, "is this the server's --model_name, and is a version AVAILABLE yet?"),
    grpc.StatusCode.UNAVAILABLE: (
        ServerUnavailable,
        "is the server running there? `inkling wait` waits for it; one with TLS needs tls=TLS(...) or --tls",
    ),
    grpc.StatusCode.DEADLINE_EXCEEDED: (
        DeadlineExceeded,
        "give a longer timeout_s, or smaller batches; `inkling status` shows whether the server answers at all",
    ),
    grpc.StatusCode.RESOURCE_EXHAUSTED: (ServerOverloaded, _BUSY),
    grpc.StatusCode.UNAUTHENTICATED: (AccessDenied, "give a valid token=, or a client certificate in tls=TLS(...)"),
    grpc.StatusCode.PERMISSION_DENIED: (AccessDenied, "these credentials may not do this"),
    grpc.StatusCode.CANCELLED: (ServerError, "the server, or something on the way to it, ended the call: try again"),
    grpc.StatusCode.UNIMPLEMENTED: (
        NotSupported,
        "is this a TensorFlow Serving address, and is the service switched on there?",
    ),
}

# Status and words (TensorFlow Serving's or gRPC's): a narrower error, or a better hint. The first match counts.
_BY_WORDS: tuple[tuple[grpc.StatusCode, str, type[InklingError], str], ...] = (
    (
        grpc.StatusCode.NOT_FOUND,
        r"Specific\(|Could not find version ",
        VersionNotFound,
        "`inkling status` lists the versions that are served",
    ),
    (
        grpc.StatusCode.INVALID_ARGUMENT,
        r"Unrecognized servable version label",
        VersionNotFound,
        "labels are set in the server's model config (version_labels)",
    ),
    (grpc.StatusCode.FAILED_PRECONDITION, r"Serving signature key .* not found", SignatureNotFound, _SIGNATURES),
    (grpc.StatusCode.INVALID_ARGUMENT, r"No signature was found with the name", SignatureNotFound, _SIGNATURES),
    (
        grpc.StatusCode.INVALID_ARGUMENT,
        r"larger than maximum input batch size",
        InvalidInput,
        "set max_rows to the server's limit, so that batches are split to it",
    ),
    (grpc.StatusCode.UNAVAILABLE, r"queue .*is full", ServerOverloaded, _BUSY),
    (
        grpc.StatusCode.UNAVAILABLE,
        r"(?i)http/?1",
        ServerUnavailable,
        "that port speaks HTTP/1: give the gRPC port (8500), not the REST port (8501)",
    ),
    (
        grpc.StatusCode.UNAVAILABLE,
        r"(?i)handshake|certificate|ssl",
        ServerUnavailable,
        "is the server's TLS on, and its certificate for this name and from an authority in tls=TLS(ca=...)?",
    ),
    (
        grpc.StatusCode.UNAVAILABLE,
        r"(?i)DNS|name resolution|domain name",
        ServerUnavailable,
        "is the server's name right?",
    ),
    (grpc.StatusCode.RESOURCE_EXHAUSTED, r"larger than max", MessageTooLarge, ""),
)


def from_rpc_error(error: grpc.RpcError, call: Call, address: str) -> InklingError:
    """The error of the tree for gRPC's error at `call`, from either of its two APIs."""
    raised: Any = error  # an RpcError that a call raises has code() and details()
    status, details = raised.code(), raised.details() or f"no words about {call.rpc.path}"
    kind, hint = _BY_STATUS.get(status, (ServerError, "the server's log says more"))
    for known, words, narrower, better in _BY_WORDS:
        if known is status and re.search(words, details):
            kind, hint = narrower, better
            break
    if kind is MessageTooLarge:
        return _too_large(details, call, address)
    return kind(details, address=address, model=call.model, status=status, hint=hint)


def closed(address: str, call: Call) -> InklingError:
    """Of a call that `close()` ended, or came before."""
    return InklingError("the client was closed", address=address, model=call.model, hint="make a new one")


def bad_response(response: Any, call: Call, address: str) -> NoReturn:
    """Raises: BadAnswer, for a response that is no message of the protocol."""
    reason = response.reason if isinstance(response, Unreadable) else f"an interceptor returned {response!r}"
    raise BadAnswer(f"{call.rpc.path} gave {reason}", address=address, model=call.model, hint=OTHER_SERVER)


def _too_large(details: str, call: Call, address: str) -> MessageTooLarge:
    """Whose limit it was. gRPC says so since 1.46; before, the size tells a request from a response."""
    sizes = re.search(r"\((\d+) vs\.? (\d+)\)", details)
    is_request = "Sent message" in details if "CLIENT:" in details else "Received message" in details
    if "CLIENT:" not in details and "SERVER:" not in details:
        is_request = sizes is None or int(sizes[1]) == call.request.ByteSize()
    ours = "CLIENT:" in details or ("SERVER:" not in details and (not is_request or "Sent message" in details))
    message = "request" if is_request else "response"
    if ours:
        hint = f"this client refused the {message}: raise max_message_bytes, or send smaller batches (max_rows)"
    else:
        hint = f"the server refused the {message}: send smaller batches (split_bytes, max_rows), or raise its limit"
    error = MessageTooLarge(
        details, address=address, model=call.model, status=grpc.StatusCode.RESOURCE_EXHAUSTED, hint=hint
    )
    error.side = "client" if ours else "server"
    return error

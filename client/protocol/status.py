"""From gRPC's failures to the errors of this client: the one place that reads statuses and the words beside them."""

import re
from typing import NoReturn

import grpc

from ..errors import (
    AccessDenied,
    DeadlineExceeded,
    InklingError,
    InvalidInput,
    InvalidResponse,
    MessageTooLarge,
    ModelNotFound,
    NotSupported,
    ServerError,
    ServerOverloaded,
    ServerUnavailable,
    SignatureNotFound,
    VersionNotFound,
)
from .proxies import proxy_of
from .rpc import HEALTH, Call, Unreadable

OTHER_SERVER = "the server is of another kind or version than this client expects"
_MODEL_TAKES = "`inkling metadata` shows what the model takes"
_SIGNATURES = "`inkling metadata` lists the model's signatures"
_BUSY = "send fewer calls at once, or give the server more replicas or a longer queue"
_HEALTH_IS_OFF = "switch it on with --enable_grpc_healthcheck_service=true, or use status()"

_TURNS = "all parts of a batch share it and take turns, max_in_flight of them at once: give a longer timeout_s"

_ROWS_LIMIT = re.compile(r"larger than maximum input batch size (\d+)")

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
        "give a longer timeout_s, or smaller batches; `inkling status` shows whether the server responds at all",
    ),
    grpc.StatusCode.RESOURCE_EXHAUSTED: (ServerOverloaded, _BUSY),
    grpc.StatusCode.UNAUTHENTICATED: (
        AccessDenied,
        "give a valid token= or api_key=, or a client certificate in tls=TLS(...)",
    ),
    grpc.StatusCode.PERMISSION_DENIED: (AccessDenied, "these credentials may not do this"),
    grpc.StatusCode.CANCELLED: (ServerError, "the server, or something on the way to it, ended the call: try again"),
    grpc.StatusCode.UNIMPLEMENTED: (
        NotSupported,
        "is this a TensorFlow Serving address, and is the service switched on there?",
    ),
}

# Status and words (TensorFlow Serving's or gRPC's): a narrower error, or a better hint. The first match counts.
_BY_WORDS: tuple[tuple[grpc.StatusCode, str | re.Pattern[str], type[InklingError], str], ...] = (
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
        _ROWS_LIMIT,
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
    (
        grpc.StatusCode.UNKNOWN,
        r"the target uri is not valid",
        InvalidInput,
        "expected host:port, such as 10.0.0.7:8500, or one of gRPC's own, such as dns:///host:8500",
    ),
)


def from_rpc_error(error: grpc.RpcError, call: Call, address: str) -> InklingError:
    """The error of the tree for gRPC's error.

    Args:
        error: what `call` raised, from either of gRPC's two APIs.
        call: what was sent.
        address: the server, for the message.
    """
    status, details = error.code(), error.details() or f"no details from {call.rpc.path}"
    kind, hint = _BY_STATUS.get(status, (ServerError, "the server's log says more"))
    if kind is NotSupported and call.rpc is HEALTH:
        hint = _HEALTH_IS_OFF
    for known, words, narrower, better in _BY_WORDS:
        if known is status and re.search(words, details):
            kind, hint = narrower, better
            break
    if kind is MessageTooLarge:
        return _too_large(details, call, address)
    if kind is DeadlineExceeded and call.rows is not None and call.deadline is not None:
        hint = _TURNS
    proxy = proxy_of(address) if kind is ServerUnavailable else None
    if proxy is not None:
        hint += f"; it is asked through the proxy {proxy}, unless no_proxy names it"
    return kind(details, address=address, model=call.model, status=status, hint=hint)


def rows_limit(error: InvalidInput) -> int | None:
    """The most rows that the server takes in one request, if that is what `error` is about; otherwise None."""
    found = _ROWS_LIMIT.search(error.details)
    return int(found[1]) if found else None


def client_closed_error(address: str, call: Call) -> InklingError:
    """The error of a call that `close()` ended, or came before."""
    return InklingError("the client was closed", address=address, model=call.model, hint="make a new one")


def not_to_be_pickled(client: object) -> TypeError:
    """The error of a client that is to be sent to another process, or copied."""
    name = type(client).__name__
    return TypeError(
        f"{client!r} cannot be pickled or copied: it holds a connection, and perhaps a token; give the other process "
        f"the address and the settings, and have it make a {name} of its own"
    )


def raise_invalid_response(response: object, call: Call, address: str) -> NoReturn:
    """Refuse a response that is not a message of the protocol.

    Raises: InvalidResponse.
    """
    reason = response.reason if isinstance(response, Unreadable) else f"an interceptor returned {response!r}"
    raise InvalidResponse(f"{call.rpc.path} gave {reason}", address=address, model=call.model, hint=OTHER_SERVER)


def _too_large(details: str, call: Call, address: str) -> MessageTooLarge:
    """Says whose limit it was. gRPC names the side since 1.46; before, the size tells a request from a response."""
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
    return MessageTooLarge(
        details,
        side="client" if ours else "server",
        address=address,
        model=call.model,
        status=grpc.StatusCode.RESOURCE_EXHAUSTED,
        hint=hint,
    )

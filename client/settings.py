"""The settings of a client: one frozen dataclass, whose fields are the keywords of `Client` and `AsyncClient`."""

import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import Any, TypedDict

from .errors import InvalidInput

DEFAULT_ADDRESS = "localhost:8500"
MEBIBYTE = 1 << 20
MAX_KEEPALIVE_S = 86_400
MAX_TIMEOUT_S = 1e9  # 31 years; with 300 years, or infinity, gRPC takes the deadline to have passed
_SCHEME = re.compile(r"(dns|ipv4|ipv6|unix|unix-abstract|vsock|xds|google-c2p):")  # of a target in gRPC's own spelling


@dataclass(frozen=True, kw_only=True, slots=True)
class Retry:
    """When and how often gRPC sends a call again: after UNAVAILABLE only, and never past the call's deadline.

    A prediction changes nothing on the server, so it may be sent again even if it was perhaps computed already.
    """

    attempts: int = 4  # in all, the first included; gRPC allows 5 at most; 1 means no retries
    initial_backoff_s: float = 0.1  # mean wait before the second attempt; gRPC adds the jitter
    max_backoff_s: float = 2.0
    backoff_multiplier: float = 2.0
    # The budget, shared by all calls to one server name: each failed attempt takes one token, each success gives
    # `tokens_per_success` back, and nothing is retried while half of the tokens or fewer are left.
    budget_tokens: int = 40
    tokens_per_success: float = 0.2

    def __post_init__(self) -> None:
        """Check the values.

        Raises: InvalidInput.
        """
        if not 1 <= self.attempts <= 5:
            raise InvalidInput(f"retry attempts={self.attempts}; expected 1 (no retries) to 5 (gRPC's own limit)")
        if not 0 < self.initial_backoff_s <= self.max_backoff_s:
            raise InvalidInput(
                f"retry initial_backoff_s={self.initial_backoff_s}, max_backoff_s={self.max_backoff_s}; "
                "expected 0 < initial <= max"
            )
        if not (0 < self.budget_tokens <= 1000 and self.tokens_per_success > 0 and self.backoff_multiplier > 0):
            raise InvalidInput(
                f"retry budget_tokens={self.budget_tokens}, tokens_per_success={self.tokens_per_success}, "
                f"backoff_multiplier={self.backoff_multiplier}; expected all above 0, and 1000 tokens at most"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class TLS:
    """Transport security. Each of the three PEM texts is given as bytes or as the path of a file.

    With `certificate` and `key` the client identifies itself too (mutual TLS). All servers of a list of addresses must
    have one name in their certificates: `server_name`, or the host of the first address.
    """

    ca: bytes | str | os.PathLike[str] | None = None  # authorities to trust; by default those that gRPC brings
    certificate: bytes | str | os.PathLike[str] | None = None  # the client's own chain
    key: bytes | str | os.PathLike[str] | None = field(default=None, repr=False)  # its private key
    server_name: str = ""  # the name in the server's certificate, if it is not the address

    def __post_init__(self) -> None:
        """Check that `certificate` and `key` come together.

        Raises: InvalidInput.
        """
        if (self.certificate is None) != (self.key is None):
            raise InvalidInput("tls has one of certificate and key; mutual TLS needs both, plain TLS neither")

    def pem(self, name: str) -> bytes | None:
        """The PEM text of the field `name`; None if that is not set.

        Raises: InvalidInput if its file cannot be read.
        """
        value = getattr(self, name)
        if value is None or isinstance(value, bytes):
            return value
        try:
            return Path(value).read_bytes()
        except OSError as error:
            raise InvalidInput(f"tls {name} {os.fspath(value)!r} cannot be read: {error.strerror}") from error


@dataclass(frozen=True, eq=False)
class Settings:
    """Where the server is and how to talk to it; checked once, when the client is made.

    `address` is `host:port`, any target that gRPC knows (`dns:///name:port` for all pods behind a headless service,
    `unix:/path`), or a list of `host:port`. Calls are spread over all addresses. The names in a list are looked up
    once, at the first call.
    """

    address: str | Sequence[str] = DEFAULT_ADDRESS
    _: KW_ONLY
    model: str = "mnist"  # for calls that name no model
    timeout_s: float = 10.0  # deadline of each request, retries included, of calls without a timeout_s of their own
    wait_for_ready: bool = False  # wait for a connection until the deadline, instead of failing without one
    retry: Retry = Retry()
    check_inputs: bool = False  # compare inputs with the model's metadata before they are sent
    split_bytes: int = MEBIBYTE  # larger batches are sent in parts of this size at most
    max_rows: int = 512  # and of this many rows at most; the server's own limit is learnt from its refusal
    max_in_flight: int = 4  # parts of one batch that are sent at once
    max_message_bytes: int = 64 * MEBIBYTE  # of one request or response; this client refuses larger ones
    gzip: bool = False  # compress requests; whether responses are is the server's choice
    keepalive_s: float = 30.0  # ping a silent connection this often during a call; 0 never
    tls: TLS | None = None  # plaintext if None
    # A bearer token, or a function that returns one for each call; what it raises reaches the caller as it is.
    token: str | Callable[[], str] | None = field(default=None, repr=False)
    api_key: str | Callable[[], str] | None = field(default=None, repr=False)  # the same, sent as x-api-key
    token_over_plaintext: bool = False  # send both without TLS too (a mesh encrypts, a tunnel, a test)
    interceptors: Sequence[Any] = ()  # gRPC's client interceptors: grpc's for Client, grpc.aio's for AsyncClient

    def __post_init__(self) -> None:
        """Check the values.

        Raises: InvalidInput.
        """
        addresses = self.addresses
        if not addresses or not all(isinstance(address, str) and _is_text(address.strip()) for address in addresses):
            raise InvalidInput(f"address {self.address!r}; expected host:port, such as localhost:8500, or several")
        for address in addresses:
            if len(addresses) > 1 or not _SCHEME.match(address.strip()):
                host_and_port(address, in_list=len(addresses) > 1)
        check_timeout(self.timeout_s)
        for name in ("split_bytes", "max_rows", "max_in_flight", "max_message_bytes"):
            if not getattr(self, name) > 0:
                raise InvalidInput(f"{name}={getattr(self, name)}; expected more than 0")
        if not 0 <= self.keepalive_s <= MAX_KEEPALIVE_S:
            raise InvalidInput(f"keepalive_s={self.keepalive_s}; expected 0 (no pings) to {MAX_KEEPALIVE_S:,}")
        if isinstance(self.token, str) and self.token:
            bearer(self.token)
        if isinstance(self.api_key, str) and self.api_key:
            sendable(self.api_key, "API key")
        if (self.token or self.api_key) and not self.tls and not self.token_over_plaintext:
            what = "a token" if self.token else "an API key"
            raise InvalidInput(
                f"{what} was given, but no tls: it would cross the network in the clear; give tls=TLS(...), "
                "or token_over_plaintext=True where something else encrypts the connection"
            )

    @property
    def addresses(self) -> tuple[str, ...]:
        """The addresses one by one: those of a list, or of a text with commas; a target of gRPC's own is one."""
        if not isinstance(self.address, str):
            return tuple(self.address) if isinstance(self.address, Iterable) else ()
        return (self.address,) if _SCHEME.match(self.address.strip()) else tuple(self.address.split(","))

    @property
    def server(self) -> str:
        """The address as text, for messages."""
        return ",".join(self.addresses)


class SettingsKeywords(TypedDict, total=False):
    """The fields of `Settings` after the address, as the keywords of both clients."""

    model: str
    timeout_s: float
    wait_for_ready: bool
    retry: Retry
    check_inputs: bool
    split_bytes: int
    max_rows: int
    max_in_flight: int
    max_message_bytes: int
    gzip: bool
    keepalive_s: float
    tls: TLS | None
    token: str | Callable[[], str] | None
    api_key: str | Callable[[], str] | None
    token_over_plaintext: bool
    interceptors: Sequence[Any]


class Connection(SettingsKeywords, total=False):
    """The keywords of a client, its address among them."""

    address: str


def host_and_port(address: str, *, in_list: bool = True) -> tuple[str, int]:
    """The two parts of one address, without the brackets of IPv6.

    Args:
        address: as it was given.
        in_list: whether it is one of several.

    Raises: InvalidInput if it is not `host:port`.
    """
    address = address.strip()
    problem = _problem(address)
    if problem:
        where = f"{address!r} in a list of addresses" if in_list else f"address {address!r}"
        raise InvalidInput(f"{where}; expected host:port, such as 10.0.0.7:8500: {problem}")
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def _problem(address: str) -> str:
    """What is wrong with an address that should be `host:port`, and what to give instead; "" if nothing is."""
    host, colon, port = address.rpartition(":")
    if "://" in address and not _SCHEME.match(address):
        return _no_url(address)
    if _SCHEME.match(address):
        return "a target in gRPC's own spelling stands alone, and may hold several addresses itself"
    if "/" in address:
        return f"it is a path; a socket's is unix:{address}" if address[0] in "/." else "gRPC takes no path behind it"
    if not colon or not host or address.endswith("]"):
        return f"it has no {'port' if host or not colon else 'host'}"
    if ":" in host and not (host.startswith("[") and host.endswith("]")):
        return f"an address of IPv6 stands in brackets, as in [{host}]:{port}"
    if not (port.isascii() and port.isdecimal()):
        return f"its port {port!r} is no number"
    known = len(port) <= 5 and 0 < int(port) < 1 << 16
    return "" if known else f"there is no port {port}; the last one is 65535"


def _no_url(url: str) -> str:
    """What to give instead of a URL."""
    scheme, _, rest = url.partition("://")
    if scheme.lower() not in ("http", "https"):
        return f"gRPC knows no {scheme}://; for its own targets see Settings"
    host = rest.partition("/")[0]
    given = host if ":" in host else f"{host}:8500"
    tls = " and tls=TLS()" if scheme.lower() == "https" else ""
    return f"it is a URL; give {given}{tls}, with the port of gRPC, not of REST"


def check_timeout(timeout_s: float) -> float:
    """Return `timeout_s` itself, checked.

    Raises: InvalidInput if it is not above 0 and finite.
    """
    if not 0 < timeout_s <= MAX_TIMEOUT_S:
        raise InvalidInput(f"timeout_s={timeout_s}; expected more than 0, and {MAX_TIMEOUT_S:,.0f} at most")
    return timeout_s


def bearer(token: str) -> str:
    """The value of the `authorization` header for a token.

    Raises: InvalidInput, which does not show the token, if it cannot be sent.
    """
    return f"Bearer {sendable(token, 'token')}"


def sendable(secret: str, what: str) -> str:
    """A token or an API key as a header's value takes it.

    Raises: InvalidInput, which does not show it but says what it is, if it cannot be sent.
    """
    secret = secret.strip() if isinstance(secret, str) else ""  # a file that it is read from ends with a newline
    if not secret or not secret.isascii() or not secret.isprintable():
        raise InvalidInput(f"the {what} is empty, or not printable ASCII on one line; what was it read from?")
    return secret


def _is_text(text: str) -> bool:
    """Whether it is not empty and can be sent; bytes of a command line that are not UTF-8 cannot."""
    return bool(text) and text.isprintable()

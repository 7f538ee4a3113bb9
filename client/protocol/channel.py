"""From settings to a gRPC channel: target, options, service config, credentials. The same for both of gRPC's APIs."""

import json
import socket
import time
from collections.abc import Sequence
from types import ModuleType
from typing import Any, NamedTuple

import grpc

from ..errors import DeadlineExceeded, InvalidInput, ServerUnavailable
from ..settings import Settings, bearer, host_and_port, sendable
from .proxies import options_for_list
from .rpc import Call

# Not only the services: with names alone, gRPC would take a server's own config from DNS for the rest.
# https://github.com/grpc/proposal/blob/master/A2-service-configs-in-dns.md
ALL_METHODS: list[dict[str, str]] = [{}]
KEEPALIVE_TIMEOUT_S = 5
MAX_RECONNECT_BACKOFF_S = 5


class Target(NamedTuple):
    """What gRPC connects to, and the channel's arguments that go with it."""

    name: str
    options: list[tuple[str, Any]]


def connect(
    api: ModuleType, settings: Settings, target: Target, trusted: grpc.ChannelCredentials | None, **arguments: Any
) -> Any:
    """A channel of one of gRPC's two APIs: `grpc` or `grpc.aio`. Nothing is sent before the first call."""
    every_option = options(settings) + target.options
    arguments = {"options": every_option, "compression": compression(settings), **arguments}
    if trusted is None:
        return api.insecure_channel(target.name, **arguments)
    return api.secure_channel(target.name, trusted, **arguments)


def find_target(settings: Settings) -> Target:
    """The target that gRPC connects to.

    Host names of a list are resolved here, since gRPC's list targets take IP addresses only:
    https://github.com/grpc/grpc/blob/master/doc/naming.md

    Raises: ServerUnavailable if a name is not known (yet); InvalidInput if it cannot be a host's name.
    """
    addresses = settings.addresses
    if len(addresses) == 1:
        return Target(addresses[0].strip(), [])
    servers = [server for address in addresses for server in _resolve(address.strip(), settings.server)]
    proxied = options_for_list([(name, ip) for name, ip, _ in servers], address=settings.server)
    if all(":" not in ip for _, ip, _ in servers):
        return Target("ipv4:" + ",".join(f"{ip}:{port}" for _, ip, port in servers), proxied)
    listed = ",".join(f"[{ip if ':' in ip else f'::ffff:{ip}'}]:{port}" for _, ip, port in servers)
    return Target(f"ipv6:{listed}", proxied)


def _resolve(address: str, server: str) -> list[tuple[str, str, int]]:
    """The IP addresses that `host:port` means, each with the host's name before it and the port after it."""
    host, port = host_and_port(address)
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError as error:  # of the encoding of names beyond ASCII
        raise InvalidInput(f"{address!r} in the list of addresses is not a host's name: {error}") from error
    except OSError as error:
        raise ServerUnavailable(
            f"{address!r} in the list of addresses is not known: {error.strerror}",
            address=server,
            hint="is the server's name right? `inkling wait` waits until it is known",
        ) from error
    # One family a host is enough, or a server on both loopbacks would get two shares of the calls.
    return [(host, str(info[4][0]), port) for info in found if info[0] is found[0][0]]


def options(settings: Settings) -> list[tuple[str, Any]]:
    """The channel's arguments."""
    limit = settings.max_message_bytes
    chosen: list[tuple[str, Any]] = [
        ("grpc.primary_user_agent", "inkling"),
        ("grpc.max_send_message_length", limit),
        ("grpc.max_receive_message_length", limit),
        ("grpc.service_config", service_config(settings)),
        # gRPC keeps a request for its retries only up to this size, and by default never retries one over 256 KiB:
        # https://github.com/grpc/proposal/blob/master/A6-client-retries.md
        ("grpc.per_rpc_retry_buffer_size", limit),
        # By default a channel that lost its server tries again after up to two minutes.
        ("grpc.initial_reconnect_backoff_ms", 200),
        ("grpc.max_reconnect_backoff_ms", MAX_RECONNECT_BACKOFF_S * 1000),
    ]
    if settings.keepalive_s:
        # The timeout also sets TCP_USER_TIMEOUT: a dead network fails the connection well before the usual deadline.
        # https://github.com/grpc/proposal/blob/master/A18-tcp-user-timeout.md
        # Pings are sent during calls only: servers end connections that ping at other times.
        chosen.append(("grpc.keepalive_time_ms", round(settings.keepalive_s * 1000)))
        chosen.append(("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_S * 1000))
    name = settings.tls.server_name if settings.tls else ""
    if len(settings.addresses) > 1 and not name:
        # Without it gRPC would hold the servers' certificates against the list itself.
        first = settings.addresses[0].strip()
        chosen.append(("grpc.default_authority", first))
        name = host_and_port(first)[0]
    if settings.tls and name:
        chosen.append(("grpc.ssl_target_name_override", name))
    return chosen


def service_config(settings: Settings) -> str:
    """gRPC's service config as JSON: load balancing and retries.

    See https://github.com/grpc/grpc/blob/master/doc/service_config.md and
    https://github.com/grpc/proposal/blob/master/A6-client-retries.md
    """
    retry = settings.retry
    method: dict[str, Any] = {"name": ALL_METHODS, "waitForReady": settings.wait_for_ready}
    config: dict[str, Any] = {"loadBalancingConfig": [{"round_robin": {}}], "methodConfig": [method]}
    if retry.attempts > 1:
        method["retryPolicy"] = {
            "maxAttempts": retry.attempts,
            "initialBackoff": f"{retry.initial_backoff_s:.3f}s",
            "maxBackoff": f"{retry.max_backoff_s:.3f}s",
            "backoffMultiplier": retry.backoff_multiplier,
            "retryableStatusCodes": ["UNAVAILABLE"],
        }
        config["retryThrottling"] = {"maxTokens": retry.budget_tokens, "tokenRatio": retry.tokens_per_success}
    return json.dumps(config)


def credentials(settings: Settings) -> grpc.ChannelCredentials | None:
    """The channel's credentials; None for plaintext.

    Raises: InvalidInput if a file of `settings.tls` cannot be read.
    """
    tls = settings.tls
    if tls is None:
        return None
    return grpc.ssl_channel_credentials(
        root_certificates=tls.pem("ca"), private_key=tls.pem("key"), certificate_chain=tls.pem("certificate")
    )


def compression(settings: Settings) -> grpc.Compression:
    """What requests are compressed with."""
    return grpc.Compression.Gzip if settings.gzip else grpc.Compression.NoCompression


def call_arguments(settings: Settings, call: Call, headers: Sequence[tuple[str, str]] = ()) -> dict[str, Any]:
    """The keyword arguments that gRPC takes beside a call's request.

    Args:
        settings: the client's.
        call: about to be made.
        headers: metadata to send beside the settings'.

    Raises: InvalidInput for a token that cannot be sent, what a function that gives tokens raises, and DeadlineExceeded
        if nothing is left of the call's time.
    """
    return {
        "timeout": settings.timeout_s if call.deadline is None else _time_left(call.deadline, settings, call),
        "metadata": (*_metadata(settings), *headers) if settings.token or settings.api_key or headers else None,
        "wait_for_ready": call.wait_for_ready,
    }


def _time_left(deadline: float, settings: Settings, call: Call) -> float:
    left = deadline - time.monotonic()
    if left > 0:
        return left
    raise DeadlineExceeded(
        f"it was not sent: its time had passed {-left:.2g} s before its turn came",
        address=settings.server,
        model=call.model,
        hint="give a longer timeout_s, which covers all parts of a batch, or more max_in_flight",
    )


def _metadata(settings: Settings) -> tuple[tuple[str, str], ...]:
    """The bearer token and the API key; functions that give them are asked for each call."""
    metadata = []
    if token := settings.token:
        metadata.append(("authorization", bearer(token if isinstance(token, str) else token())))
    if key := settings.api_key:
        metadata.append(("x-api-key", sendable(key if isinstance(key, str) else key(), "API key")))
    return tuple(metadata)

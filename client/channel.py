"""From settings to a gRPC channel: target, options, service config, credentials. The same for both of gRPC's APIs."""

import json
import socket
import time
from types import ModuleType
from typing import Any

import grpc

from client.errors import InvalidInput
from client.rpc import Call
from client.settings import Settings

# Not only the services: with names alone, gRPC would take a server's own config from DNS for the rest.
ALL_METHODS: list[dict[str, str]] = [{}]
KEEPALIVE_TIMEOUT_S = 5
MAX_RECONNECT_BACKOFF_S = 5


def connect(api: ModuleType, settings: Settings, **arguments: Any) -> Any:
    """A channel of one of gRPC's two APIs: `grpc` or `grpc.aio`. Nothing is sent before the first call.

    Raises: InvalidInput.
    """
    trusted = credentials(settings)
    arguments = {"options": options(settings), "compression": compression(settings), **arguments}
    if trusted is None:
        return api.insecure_channel(target(settings), **arguments)
    return api.secure_channel(target(settings), trusted, **arguments)


def target(settings: Settings) -> str:
    """What gRPC connects to. Host names of a list are resolved here: gRPC's list targets take IP addresses only."""
    addresses = settings.addresses
    if len(addresses) == 1:
        return addresses[0].strip()
    pairs = [pair for address in addresses for pair in _resolve(address.strip())]
    if all(":" not in host for host, _ in pairs):
        return "ipv4:" + ",".join(f"{host}:{port}" for host, port in pairs)
    return "ipv6:" + ",".join(f"[{host if ':' in host else f'::ffff:{host}'}]:{port}" for host, port in pairs)


def _resolve(address: str) -> list[tuple[str, int]]:
    """The IP addresses that `host:port` means, with the port. Raises: InvalidInput."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or "/" in host:
        raise InvalidInput(f"{address!r} in a list of addresses; expected host:port, such as 10.0.0.7:8500")
    try:
        found = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)
    except OSError as error:
        raise InvalidInput(f"{address!r} in the list of addresses is not known: {error.strerror}") from error
    # One family a host is enough, or a server on both loopbacks would get two shares of the calls.
    return [(str(info[4][0]), int(port)) for info in found if info[0] is found[0][0]]


def options(settings: Settings) -> list[tuple[str, Any]]:
    """The channel's arguments."""
    limit = settings.max_message_bytes
    chosen: list[tuple[str, Any]] = [
        ("grpc.primary_user_agent", "inkling"),
        ("grpc.max_send_message_length", limit),
        ("grpc.max_receive_message_length", limit),
        ("grpc.service_config", service_config(settings)),
        # gRPC keeps a request for its retries only up to this size, and by default never retries one over 256 KiB.
        ("grpc.per_rpc_retry_buffer_size", limit),
        # By default a channel that lost its server tries again after up to two minutes.
        ("grpc.initial_reconnect_backoff_ms", 200),
        ("grpc.max_reconnect_backoff_ms", MAX_RECONNECT_BACKOFF_S * 1000),
    ]
    if settings.keepalive_s:
        # The timeout also sets TCP_USER_TIMEOUT: a dead network fails the connection well before the usual deadline.
        # Pings go out under calls only: servers end connections that ping without.
        chosen.append(("grpc.keepalive_time_ms", round(settings.keepalive_s * 1000)))
        chosen.append(("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_S * 1000))
    if settings.tls and settings.tls.server_name:
        chosen.append(("grpc.ssl_target_name_override", settings.tls.server_name))
    return chosen


def service_config(settings: Settings) -> str:
    """gRPC's service config as JSON: whom calls go to, and when they are sent again.

    See https://github.com/grpc/grpc/blob/master/doc/service_config.md and gRFC A6 (retries).
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
    """The channel's credentials; None for plaintext. Raises: InvalidInput."""
    tls = settings.tls
    if tls is None:
        return None
    return grpc.ssl_channel_credentials(
        root_certificates=tls.pem("ca"), private_key=tls.pem("key"), certificate_chain=tls.pem("certificate")
    )


def compression(settings: Settings) -> grpc.Compression:
    """What requests are compressed with."""
    return grpc.Compression.Gzip if settings.gzip else grpc.Compression.NoCompression


def call_metadata(settings: Settings) -> tuple[tuple[str, str], ...] | None:
    """What goes out with every call: the bearer token, asked for anew each time where it is a function."""
    token = settings.token
    if not token:
        return None
    return (("authorization", f"Bearer {token if isinstance(token, str) else token()}"),)


def time_left(settings: Settings, call: Call) -> float:
    """The call's timeout in seconds, if it is made now."""
    return settings.timeout_s if call.deadline is None else max(call.deadline - time.monotonic(), 0.0)

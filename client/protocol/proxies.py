"""HTTP proxies: which one gRPC takes, so that errors can name it, and how a list of servers goes through it.

gRPC follows `grpc_proxy`, `https_proxy` and `http_proxy` (the first that is set), and `no_grpc_proxy` or `no_proxy`. It
does so for names, and takes a list of addresses for one: it would ask the proxy to connect to the whole list, and look
for the whole list in `no_proxy`. For a list this module decides address by address, by the same rules.
https://github.com/grpc/grpc/blob/master/src/core/handshaker/http_connect/http_proxy_mapper.cc
"""

import base64
import ipaddress
import os
import re
import socket
import urllib.parse
from collections.abc import Iterable
from typing import Any, NamedTuple

from ..errors import ServerUnavailable

PROXY_VARIABLES = ("grpc_proxy", "https_proxy", "http_proxy")
EXCEPTION_VARIABLES = ("no_grpc_proxy", "no_proxy")
_TARGET = re.compile(r"(?P<scheme>[a-z0-9-]+):(?://[^/]*/)?(?P<path>.*\D.*)")  # "host:8500" is no scheme with a path


class Proxy(NamedTuple):
    """An HTTP proxy, and the variable of the environment that names it."""

    host: str
    port: int
    credentials: str  # "user:password"; never shown
    variable: str

    def __str__(self) -> str:
        return f"{self.host}:{self.port} (of {self.variable})"


def proxy_of(address: str) -> Proxy | None:
    """The proxy of one server of `address`, or of several with commas between; None if all are asked directly."""
    proxy = from_environment()
    hosts = (one.strip().rpartition(":")[0].strip("[]") for one in _path(address).split(","))
    return proxy if proxy and any(host and not is_excepted(host) for host in hosts) else None


def _path(address: str) -> str:
    """The servers of a target of gRPC's; "" where no proxy is ever between."""
    found = _TARGET.fullmatch(address.strip())
    if found is None or found["scheme"] not in ("dns", "ipv4", "ipv6", "unix", "unix-abstract", "vsock"):
        return address
    return found["path"] if found["scheme"] in ("dns", "ipv4", "ipv6") else ""


def from_environment() -> Proxy | None:
    """The proxy that the environment names; None without one, and for kinds that gRPC does not know."""
    variable = next((name for name in PROXY_VARIABLES if name in os.environ), None)
    if variable is None:
        return None
    parts = urllib.parse.urlsplit(os.environ[variable])
    try:
        port = parts.port
    except ValueError:  # no number
        return None
    if parts.scheme != "http" or not parts.hostname:
        return None
    user = urllib.parse.unquote(parts.netloc.rpartition("@")[0])
    return Proxy(parts.hostname, port or 443, user, variable)  # gRPC's default port, for whatever it connects to


def is_excepted(*hosts: str) -> bool:
    """Whether the environment excepts a server from the proxy: by the end of its name or by its network.

    Args:
        hosts: names and IP addresses of the server.
    """
    entries = next((os.environ[name] for name in EXCEPTION_VARIABLES if name in os.environ), "").split(",")
    return any(_matches(host, entry.strip()) for host in hosts for entry in entries if entry.strip())


def _matches(host: str, entry: str) -> bool:
    if host.lower().endswith(entry.lower()):
        return True
    try:
        return "/" in entry and ipaddress.ip_address(host) in ipaddress.ip_network(entry, strict=False)
    except ValueError:
        return False


def options_for_list(servers: Iterable[tuple[str, str]], *, address: str) -> list[tuple[str, Any]]:
    """The channel's arguments with which the servers of a list are asked, through the proxy or directly.

    Args:
        servers: the name that each was given by, and its IP address.
        address: the list as it was given, for the error.

    Raises: ServerUnavailable if the proxy's name is not known.
    """
    direct = [("grpc.enable_http_proxy", 0)]
    proxy = from_environment()
    proxied = [ip for name, ip in servers if proxy and not is_excepted(name, ip)]
    if proxy is None or not proxied:
        return direct
    networks = [network for ip in proxied for network in _networks(ip)]
    chosen: list[tuple[str, Any]] = [
        *direct,  # as to the whole list
        ("grpc.address_http_proxy", _resolve(proxy, address)),
        ("grpc.address_http_proxy_enabled_addresses", ",".join(networks)),
    ]
    if proxy.credentials:
        encoded = base64.b64encode(proxy.credentials.encode()).decode("ascii")
        chosen.append(("grpc.http_connect_headers", f"Proxy-Authorization:Basic {encoded}"))
    return chosen


def _networks(ip: str) -> list[str]:
    """Networks of one address only, also as it is written where a list has addresses of both kinds."""
    return [f"{ip}/128"] if ":" in ip else [f"{ip}/32", f"::ffff:{ip}/128"]


def _resolve(proxy: Proxy, address: str) -> str:
    try:
        found = socket.getaddrinfo(proxy.host, proxy.port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise ServerUnavailable(
            f"the proxy {proxy} is not known: {error.strerror}",
            address=address,
            hint="no_proxy=... names the servers that are to be asked without it",
        ) from error
    host = str(found[0][4][0])
    return f"[{host}]:{proxy.port}" if ":" in host else f"{host}:{proxy.port}"

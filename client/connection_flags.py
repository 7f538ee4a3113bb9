"""Where the server is and how to talk to it, as flags and environment variables: the same for every command."""

import argparse
import math
import os
from collections.abc import Callable
from typing import Any

from .settings import TLS

DEFAULT_SERVER = "localhost:8500"


def add_connection(parser: argparse.ArgumentParser) -> None:
    """Give the parser the flags that `settings` reads."""
    group = parser.add_argument_group("the server")
    group.add_argument("--server", metavar="HOST:PORT", help="address; several with commas between them")
    group.add_argument("--model", default="mnist", help="name of the model (%(default)s)")
    group.add_argument(
        "--timeout", type=positive(float), default=10.0, metavar="SECONDS", help="deadline of each call (%(default)s)"
    )
    group.add_argument("--tls", action="store_true", help="use TLS; the other tls flags do so too")
    group.add_argument("--tls-ca", metavar="FILE", help="authorities to trust, as PEM")
    group.add_argument("--tls-cert", metavar="FILE", help="the client's own certificate, as PEM")
    group.add_argument("--tls-key", metavar="FILE", help="its key, as PEM")
    group.add_argument("--tls-name", metavar="NAME", help="name in the server's certificate, if not the address")
    group.add_argument("--token-over-plaintext", action="store_true", help="send INKLING_TOKEN without TLS too")


def settings(flags: argparse.Namespace) -> dict[str, Any]:
    """The client's settings: flags first, then the environment."""
    tls = None
    if flags.tls or flags.tls_ca or flags.tls_cert or flags.tls_key or flags.tls_name:
        tls = TLS(ca=flags.tls_ca, certificate=flags.tls_cert, key=flags.tls_key, server_name=flags.tls_name or "")
    return {
        "address": flags.server or os.environ.get("INKLING_SERVER") or DEFAULT_SERVER,
        "model": flags.model,
        "timeout_s": flags.timeout,
        "tls": tls,
        "token": os.environ.get("INKLING_TOKEN") or None,
        "token_over_plaintext": flags.token_over_plaintext,
    }


def positive(kind: type[Any]) -> Callable[[str], Any]:
    """What reads a flag's number, which is above 0 and finite."""

    def parse(text: str) -> Any:
        value = kind(text)
        if not 0 < value < math.inf:
            raise argparse.ArgumentTypeError(f"{text} is no finite number above 0")
        return value

    parse.__name__ = kind.__name__  # argparse names it in "invalid int value"
    return parse

"""Which call of the protocol a REST request means."""

import re
from dataclasses import dataclass
from urllib.parse import unquote

from ...v2.service import EXTENSIONS

MODEL = r"/v2/models/([^/]+)(?:/versions/([^/]+))?"
# Path, method, call. A path that fits with another method is 405.
ROUTES = [
    (re.compile(path), method, call)
    for path, method, call in (
        ("/v2/?", "GET", "server_metadata"),
        ("/v2/health/live", "GET", "live"),
        ("/v2/health/ready", "GET", "ready"),
        (MODEL, "GET", "metadata"),
        (rf"{MODEL}/ready", "GET", "model_ready"),
        (rf"{MODEL}/infer", "POST", "infer"),
        ("/v2/repository/index", "POST", "index"),
        ("/v2/repository/models/([^/]+)/load", "POST", "load"),
        ("/v2/repository/models/([^/]+)/unload", "POST", "unload"),
    )
]


@dataclass(frozen=True, slots=True)
class Target:
    """What a request wants."""

    call: str
    model_name: str = ""
    version: str = ""  # a number or a label; empty for the newest

    @property
    def verb(self) -> str:
        """The call's name where it computes something, which metrics have the time of."""
        return self.call if self.call == "infer" else ""

    @property
    def api(self) -> str:
        """The request's name in the log."""
        return self.call


class NoRoute(Exception):
    """There is nothing at this path, or not with this method."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


def is_v2(path: str) -> bool:
    """Whether `path` belongs to the protocol at all."""
    return path == "/v2" or path.startswith("/v2/")


def parse(method: str, path: str) -> Target:
    """The target of a request.

    Args:
        method: GET, POST and so on.
        path: as it came, not decoded, without the query.

    Raises: NoRoute.
    """
    for pattern, expected, call in ROUTES:
        if match := pattern.fullmatch(path):
            if method != expected:
                raise NoRoute(405, f"Method Not Allowed: {method} {path}; expected {expected}")
            return Target(call, *(unquote(text or "", errors="replace") for text in match.groups()))
    raise NoRoute(404, f"Not Found: {path}; beside the protocol there are {' and '.join(EXTENSIONS)} here")

"""The web page's server: a handful of files, one call that reads a picture, two that tell how things stand.

    GET  /          the page; its scripts and styles lie beside it under fixed names
    POST /read      a picture's bytes in, its reading out, with each digit's 28 x 28 pixels as the model saw it
    GET  /status    whether the model server responds, and with which version
    GET  /healthz   whether this process does

A page of its own rather than Gradio: that brings pandas, FastAPI and a telemetry switch, sends a sketch when the
pen is lifted rather than while it writes, and has no place for ten bars and a pixel image beside each digit of a line.
This one is a few kilobytes without a build step, works without a network, and keeps a strict content security policy.
"""

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib import resources
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ..aio import AsyncClient
from ..errors import DeadlineExceeded, InklingError, InvalidInput, ModelNotFound, ServerUnavailable
from ..reading.picture import open_header
from ..reading.result import Reading

# Every file that is served; nothing is looked up by a name that a browser sends.
FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/style.css": ("style.css", "text/css; charset=utf-8"),
    "/main.js": ("main.js", "text/javascript; charset=utf-8"),
    "/drawing.js": ("drawing.js", "text/javascript; charset=utf-8"),
    "/reading.js": ("reading.js", "text/javascript; charset=utf-8"),
    "/server.js": ("server.js", "text/javascript; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "Cache-Control": "no-cache",
}
UNAVAILABLE_ERRORS = (ServerUnavailable, DeadlineExceeded, ModelNotFound)
LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True, kw_only=True, slots=True)
class WebConfig:
    """Where the page is served, and how much it takes."""

    host: str = "127.0.0.1"
    port: int = 8600
    max_upload_bytes: int = 20 * 2**20
    max_pixels: int = 16_000_000  # the page itself sends 4 million at most; decoded, these take 150 MB while it is read
    max_concurrent_readings: int = 2  # each takes a thread and some tens of milliseconds of a core
    max_waiting_readings: int = 32  # beyond these, a browser is asked to come again

    @property
    def url(self) -> str:
        """For a browser on this machine."""
        host = "localhost" if self.host in ("0.0.0.0", "::", *LOOPBACK) else self.host
        return f"http://{host}:{self.port}"

    @property
    def allowed_hosts(self) -> list[str]:
        """Names that a request may call this server by; a page on loopback accepts no other (DNS rebinding)."""
        return ["127.0.0.1", "localhost", "[::1]"] if self.host in LOOPBACK else ["*"]


def make_app(client: AsyncClient, config: WebConfig) -> Starlette:
    """The ASGI application, which asks the model server through `client` and closes that when it ends."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with client:
            app.state.reader = _Reader(client, config)
            yield

    folder = resources.files(__package__) / "page"
    routes = [Route(path, _file(folder.joinpath(name).read_bytes(), kind)) for path, (name, kind) in FILES.items()]
    routes += [
        Route("/read", _read, methods=["POST"]),
        Route("/status", _status),
        Route("/healthz", _healthz),
    ]
    hosts = Middleware(TrustedHostMiddleware, allowed_hosts=config.allowed_hosts, www_redirect=False)
    return Starlette(routes=routes, middleware=[hosts], lifespan=lifespan)


class _Reader:
    """The model server, and how many pictures may be on their way to it."""

    def __init__(self, client: AsyncClient, config: WebConfig) -> None:
        self.client = client
        self.config = config
        self._turns = asyncio.Semaphore(config.max_concurrent_readings)
        self._present = 0

    async def read(self, picture: bytes) -> Reading:
        """As `AsyncClient.read`, when it is the picture's turn.

        Raises: _TooBusy if too many wait already.
        """
        if self._present >= self.config.max_concurrent_readings + self.config.max_waiting_readings:
            raise _TooBusy
        self._present += 1
        try:
            async with self._turns:
                return await self.client.read(picture)
        finally:
            self._present -= 1


class _TooBusy(Exception):
    pass


class _TooLarge(Exception):
    pass


def _file(content: bytes, kind: str) -> Any:
    async def send(request: Request) -> Response:
        return Response(content, media_type=kind, headers=SECURITY_HEADERS)

    return send


async def _read(request: Request) -> Response:
    reader: _Reader = request.app.state.reader
    # A page of another site could send pictures here, though not see what they say: refused all the same.
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return _json({"error": "only Inkling's own page may ask"}, 403)
    try:
        body = await _body(request, reader.config.max_upload_bytes)
        if _pixels(body) > reader.config.max_pixels:
            raise _TooLarge
        reading = await reader.read(body)
    except ClientDisconnect:
        return Response(status_code=499)
    except _TooLarge:
        megabytes = reader.config.max_upload_bytes // 2**20
        megapixels = reader.config.max_pixels // 10**6
        message = f"the picture is larger than {megabytes} MB or {megapixels} megapixels; shrink it"
        return _json({"error": message}, 413)
    except _TooBusy:
        return _json({"error": "too many pictures at once; try again in a moment"}, 429)
    except UNAVAILABLE_ERRORS as error:
        return _json({"error": str(error), "away": True}, 503)
    except InvalidInput as error:
        return _json({"error": str(error)}, 422)
    except InklingError as error:
        return _json({"error": str(error)}, 502)
    return _json(_with_images(reading))


async def _body(request: Request, limit: int) -> bytes:
    if int(request.headers.get("content-length") or 0) > limit:
        raise _TooLarge
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise _TooLarge
    return bytes(body)


def _pixels(body: bytes) -> int:
    """The size by the picture's header, before anything is decoded; 0 if it has none, which `read` complains of."""
    try:
        with open_header(body) as image:
            return image.width * image.height
    except Exception:  # any: each of Pillow's decoders raises its own kinds
        return 0


def _with_images(reading: Reading) -> dict[str, Any]:
    described = reading.to_json()
    for line, read_line in zip(described["lines"], reading.lines, strict=True):
        for digit, read_digit in zip(line["digits"], read_line, strict=True):
            digit["image"] = base64.b64encode(read_digit.image.tobytes()).decode("ascii")
    return described


async def _status(request: Request) -> Response:
    reader: _Reader = request.app.state.reader
    settings = reader.client.settings
    about = {"server": settings.server, "model": settings.model}
    try:
        status = await reader.client.status(timeout_s=min(2.0, settings.timeout_s))
    except InklingError as error:
        return _json({**about, "available": False, "reason": str(error)})
    versions = status.available
    if not versions:
        return _json({**about, "available": False, "reason": f"no version of {settings.model} is ready"})
    return _json({**about, "available": True, "version": max(versions)})


async def _healthz(request: Request) -> Response:
    return _json({"ok": True})


def _json(content: dict[str, Any], status: int = 200) -> Response:
    return JSONResponse(content, status, headers={**SECURITY_HEADERS, "Cache-Control": "no-store"})

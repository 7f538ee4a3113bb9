"""The web page's server: a handful of files, one call that reads a picture, two that tell how things stand.

    GET  /          the page; its scripts and styles lie beside it under fixed names
    POST /read      a picture's bytes in, its reading out, with each digit's 28 x 28 pixels as the model saw it
    GET  /status    whether the model server responds, or is slow, and with which version
    GET  /healthz   whether this process does

A page of its own rather than Gradio: that brings pandas, FastAPI and a telemetry switch, sends a sketch when the
pen is lifted rather than while it writes, and has no place for ten bars and a pixel image beside each digit of a line.
This one is a few kilobytes without a build step, works without a network, and keeps a strict content security policy.
"""

import asyncio
import base64
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
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
from ..reading.page import Page
from ..reading.result import Reading
from .decoding import Decoder, TooLarge
from .uploads import NoLength, Room, Stalled, TooBusy, announced_bytes, read_body

MODULES = (
    *("main", "server", "drawing", "ink", "picture"),
    *("reading", "cards", "corrections", "npz", "annotated"),
)
# Every file that is served; nothing is looked up by a name that a browser sends.
FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/style.css": ("style.css", "text/css; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
    **{f"/{name}.js": (f"{name}.js", "text/javascript; charset=utf-8") for name in MODULES},
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
UNAVAILABLE_ERRORS = (ServerUnavailable, ModelNotFound)
LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True, kw_only=True, slots=True)
class WebConfig:
    """Where the page is served, and how much it takes."""

    host: str = "127.0.0.1"
    port: int = 8600
    max_upload_bytes: int = 20 * 2**20
    max_pixels: int = 16_000_000  # the page itself sends 4 million at most
    # Memory, which together stays under the 512 MiB of k8s/base/client-web: 70 MB for this process and as much for the
    # decoder, 48 MiB of uploads, 300 MiB for the one picture that is decoded.
    decoder_memory_bytes: int = 300 * 2**20  # 4 megapixels and more take 280 MiB
    large_uploads_bytes: int = 40 * 2**20  # of uploads over `small_upload_bytes`: two of the largest
    small_uploads_bytes: int = 8 * 2**20  # of all others, drawings above all, which large ones do not hold up
    small_upload_bytes: int = 2**20
    decoder_cpu_s: int = 15  # of one picture; 16 megapixels take 2
    decoder_wall_s: float = 60.0
    max_concurrent_readings: int = 2  # while one is decoded, another one asks the model server
    max_waiting_readings: int = 32  # beyond these, of each size, a browser is asked to come again

    @property
    def url(self) -> str:
        """For a browser on this machine."""
        host = "localhost" if self.host in ("0.0.0.0", "::", *LOOPBACK) else self.host
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

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
            await app.state.reader.decoder.start()
            try:
                yield
            finally:
                await app.state.reader.decoder.stop()

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
    """The model server, the decoder, and the room that pictures have on their way to them."""

    def __init__(self, client: AsyncClient, config: WebConfig) -> None:
        self.client = client
        self.config = config
        self.decoder = Decoder(
            max_pixels=config.max_pixels,
            memory_bytes=config.decoder_memory_bytes,
            cpu_s=config.decoder_cpu_s,
            wall_s=config.decoder_wall_s,
        )
        present = config.max_concurrent_readings + config.max_waiting_readings
        self._large = Room(max_bytes=config.large_uploads_bytes, max_present=present)
        self._small = Room(max_bytes=config.small_uploads_bytes, max_present=present)
        self._turns = asyncio.Semaphore(config.max_concurrent_readings)

    async def read(self, request: Request) -> dict[str, Any]:
        """What the picture in a request's body says, for JSON.

        Raises: TooLarge, NoLength, TooBusy, Stalled, ClientDisconnect, and what `AsyncClient.read` raises.
        """
        size = announced_bytes(request, limit=self.config.max_upload_bytes)
        room = self._small if size <= self.config.small_upload_bytes else self._large
        async with room.taken(size):
            body = await read_body(request)
            async with self._turns:  # also over what is found in a picture, which may be 5 MB
                found = await self.decoder.find_digits(body)
                reading = await self.client.read(replace(found.page, turned=self._turned(body)))
        return _enlarged(_with_images(reading), found.enlarge)

    def _turned(self, body: bytearray) -> Callable[[int], Page]:
        """What finds the digits of a picture that lies on its side: on a thread, which waits for the decoder."""
        loop = asyncio.get_running_loop()

        def find(quarters: int) -> Page:
            finding = self.decoder.find_digits(body, quarters=quarters)
            return asyncio.run_coroutine_threadsafe(finding, loop).result().page

        return find


def _file(content: bytes, kind: str) -> Any:
    async def send(request: Request) -> Response:
        return Response(content, media_type=kind, headers=SECURITY_HEADERS)

    return send


async def _read(request: Request) -> Response:
    reader: _Reader = request.app.state.reader
    if not _is_own_page(request):
        return _json({"error": "only Inkling's own page may ask"}, 403)
    try:
        reading = await reader.read(request)
    except ClientDisconnect:
        return Response(status_code=499)
    except TooLarge:
        megabytes = reader.config.max_upload_bytes // 2**20
        megapixels = reader.config.max_pixels // 10**6
        message = f"the picture is larger than {megabytes} MB or {megapixels} megapixels; shrink it"
        return _json({"error": message}, 413)
    except NoLength:
        return _json({"error": "send the picture with its length (Content-Length), and not in chunks"}, 411)
    except Stalled:
        return _json({"error": "the picture did not arrive in time; send it again"}, 408)
    except TooBusy:
        return _json({"error": "too many pictures at once; try again in a moment"}, 429)
    except DeadlineExceeded as error:
        return _json({"error": str(error)}, 504)  # slow, and perhaps quick the next time
    except UNAVAILABLE_ERRORS as error:
        return _json({"error": str(error), "away": True}, 503)
    except InvalidInput as error:
        return _json({"error": str(error)}, 422)
    except InklingError as error:
        return _json({"error": str(error)}, 502)
    return _json(reading)


def _is_own_page(request: Request) -> bool:
    """Whether no page of another site asks: it could send pictures here, though not see what they say.

    Browsers say whose page it is by `Origin`, newer ones by `Sec-Fetch-Site` too; who says nothing is no browser.
    """
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return False
    origin = request.headers.get("origin")
    # A gateway may have put its own name for this server in `Host`; a page cannot set either header.
    own = (request.headers.get("host"), request.headers.get("x-forwarded-host"))
    return origin is None or origin.partition("://")[2] in filter(None, own)


def _with_images(reading: Reading) -> dict[str, Any]:
    described = reading.to_json()
    for line, read_line in zip(described["lines"], reading.lines, strict=True):
        for digit, read_digit in zip(line["digits"], read_line, strict=True):
            digit["image"] = base64.b64encode(read_digit.image.tobytes()).decode("ascii")
    return described


def _enlarged(described: dict[str, Any], by: float) -> dict[str, Any]:
    """The same with the sizes and places of a picture that was larger."""
    if by == 1:
        return described
    for side in ("width", "height"):
        described[side] = round(described[side] * by)
    marks = [mark for line in described["lines"] for kind in ("digits", "signs") for mark in line[kind]]
    for mark in [*marks, *described["left_out"]]:
        mark["box"] = [round(edge * by) for edge in mark["box"]]
    return described


async def _status(request: Request) -> Response:
    reader: _Reader = request.app.state.reader
    settings = reader.client.settings
    about = {"server": settings.server, "model": settings.model}
    try:
        status = await reader.client.status(timeout_s=min(2.0, settings.timeout_s))
    except DeadlineExceeded as error:
        return _json({**about, "available": None, "slow": True, "reason": str(error)})
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

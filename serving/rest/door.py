"""The door for HTTP: asks who calls before a body is read."""

import functools
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import grpc
from aiohttp import web

from ..access.callers import Caller, Refusal
from ..access.door import Call, Door, credential_of
from ..access.rights import Right, of_request
from ..errors import ServingError
from ..monitoring import logs
from .connections import path_of
from .responses import error_body
from .routes import HTTP_STATUS

Respond = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
CODES = {status: code for code, status in reversed(HTTP_STATUS.items())}
ALLOWED = "Access-Control-Allow-Headers"
MAX_API = 256  # characters of method and path in logs
MAX_CALLS = 256  # that are remembered
CREDENTIAL_HEADERS = "Authorization, X-Api-Key"


@dataclass(frozen=True, slots=True)
class Guard:
    """What stands before the REST API."""

    door: "RestDoor | None" = None
    tls: ssl.SSLContext | None = None


class RestDoor:
    """Lets requests through to the API, or answers for it."""

    def __init__(self, door: Door, *, open_path: str | None, cors: bool) -> None:
        """A door of the REST API.

        Args:
            door: the server's.
            open_path: what takes no key beside the probes.
            cors: whether pages of other origins may call, and so may read refusals.
        """
        self._door = door
        self._open_path = open_path
        self._cors = cors
        self._call = functools.lru_cache(MAX_CALLS)(self._call_of)  # few paths come again and again

    def before(self, respond: Respond) -> Respond:
        """`respond`, behind the door."""

        async def guarded(request: web.BaseRequest) -> web.StreamResponse:
            call = self._call(request.method, path_of(request))
            if call.right is Right.OPEN:
                return self._allowing(await respond(request))
            try:
                caller = await self._door.admit(call, credential_of(request.headers.get))
                return await self._admitted(respond, request, call, caller)
            except ServingError as error:
                return self._refuse(request, call, error)

        return guarded

    def _call_of(self, method: str, path: str) -> Call:
        right = of_request(method, path, open_path=self._open_path)
        return Call(entrypoint="REST", api=f"{method} {path}"[:MAX_API], right=right)

    async def _admitted(
        self, respond: Respond, request: web.BaseRequest, call: Call, caller: Caller
    ) -> web.StreamResponse:
        if call.right is Right.ADMIN:
            return await self._audited(respond, request, call, caller)
        if not caller.limits.concurrent_requests:
            return await respond(request)
        with self._door.hold(caller):
            return await respond(request)

    async def _audited(
        self, respond: Respond, request: web.BaseRequest, call: Call, caller: Caller
    ) -> web.StreamResponse:
        code, message = grpc.StatusCode.CANCELLED, ""  # if the caller leaves
        try:
            response = await respond(request)
            code = CODES.get(response.status, grpc.StatusCode.UNKNOWN)
            if code is not grpc.StatusCode.OK and isinstance(response, web.Response):
                message = (response.text or "")[:1024]
        finally:
            self._door.audit(call, caller, peer=request.remote or "", code=code, message=message)
        return response

    def _refuse(self, request: web.BaseRequest, call: Call, error: ServingError) -> web.Response:
        headers = dict(error.headers) if isinstance(error, Refusal) else {}
        if identifier := request.headers.get("X-Request-Id"):
            headers["X-Request-Id"] = logs.begin_request(identifier)
        if self._cors:
            headers["Access-Control-Allow-Origin"] = "*"
        self._door.refused(call, error, peer=request.remote or "")
        return web.Response(
            body=error_body(error.message),
            status=HTTP_STATUS[error.code],
            headers=headers,
            content_type="application/json",
        )

    def _allowing(self, response: web.StreamResponse) -> web.StreamResponse:
        """Tell a page of another origin that it may send a key."""
        if ALLOWED in response.headers:
            response.headers[ALLOWED] += f", {CREDENTIAL_HEADERS}"
        return response

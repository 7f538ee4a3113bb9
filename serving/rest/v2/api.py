"""The protocol's calls over HTTP: what rest/api.py hands on of its requests."""

from functools import partial
from typing import Any

from aiohttp import web

from ...arrays import Array
from ...deadlines import time_limit
from ...errors import invalid_argument
from ...offload import SHORT, Offload
from ...v2.repository import check_load_parameters
from ...v2.service import V2Service
from ..body import LONG_BYTES, BodyReader, json_size
from ..pieces import release
from ..rapidjson import parse_object
from ..routes import TIMEOUT_FLAG
from . import requests, responses
from .requests import LENGTH_HEADER, InferRequest
from .responses import Reply
from .routes import Target

NOT_READY = 400  # as Triton and MLServer respond


class V2Api:
    """Responds to requests of the protocol."""

    def __init__(
        self,
        service: V2Service,
        *,
        bodies: BodyReader,
        offload: Offload,
        timeout_s: float | None,
        max_depth: int,
    ) -> None:
        """An API that shares its limits with TensorFlow Serving's.

        Args:
            service: what is behind it.
            bodies: reads bodies.
            offload: does what would take the event loop too long.
            timeout_s: after which an inference is given up; None: never.
            max_depth: the deepest nesting of lists in JSON.
        """
        self._service = service
        self._repository = service.repository
        self._bodies = bodies
        self._offload = offload
        self._timeout_s = timeout_s
        self._max_depth = max_depth

    def probe(self, target: Target) -> web.Response | None:
        """The response to a probe, which is not counted as a request; None if `target` is none."""
        match target.call:
            case "live":
                return web.json_response({"live": True})
            case "ready":
                return self._probe_response(self._service.is_ready(), {"live": True})
            case "model_ready":
                return self._model_ready(target)
        return None

    def _model_ready(self, target: Target) -> web.Response:
        name = target.model_name
        if not self._service.knows(name):
            return web.json_response({"error": f"Request for unknown model: '{name}' is not found"}, status=404)
        return self._probe_response(self._service.is_model_ready(name, target.version), {"name": name})

    def _probe_response(self, is_ready: bool, about: dict[str, Any]) -> web.Response:
        return web.json_response({**about, "ready": is_ready}, status=200 if is_ready else NOT_READY)

    async def serve(self, request: web.BaseRequest, target: Target) -> Reply:
        """The response to anything but a probe.

        Raises: ServingError.
        """
        match target.call:
            case "server_metadata":
                return responses.server_metadata()
            case "metadata":
                signature_name = request.rel_url.query.get("signature_name", "")
                return responses.model_metadata(
                    self._service.model_metadata(target.model_name, target.version, signature_name)
                )
            case "infer":
                return await self._infer(request, target)
        document = await self._small_document(request)
        if target.call == "index":
            return responses.index(await self._repository.index(ready_only=document.get("ready", False) is True))
        return await self._control(target, document)

    async def _control(self, target: Target, document: dict[str, Any]) -> Reply:
        if target.call == "load":
            parameters = document.get("parameters", {})
            check_load_parameters(parameters if isinstance(parameters, dict) else ())
            await self._repository.load(target.model_name)
        else:
            await self._repository.unload(target.model_name)
        return Reply(b"")

    async def _small_document(self, request: web.BaseRequest) -> dict[str, Any]:
        """The body of a request about the repository, which may be empty."""
        async with self._bodies.read(request, deflate=True) as body:
            if len(body) > LONG_BYTES:
                raise invalid_argument(f"Request body of {len(body)} bytes is too long for {request.path}")
            return parse_object(body).members if body else {}

    async def _infer(self, request: web.BaseRequest, target: Target) -> Reply:
        json_length = requests.json_length(request.headers.get(LENGTH_HEADER))
        async with self._bodies.read(request, json_length=json_length, deflate=True) as body:
            size = json_size(body, json_length)
            parsed = await self._offload.run(partial(requests.parse, body, json_length), size=size)
            async with time_limit(self._timeout_s, TIMEOUT_FLAG):
                return await self._run(target, parsed, size=size)

    async def _run(self, target: Target, parsed: InferRequest, *, size: int) -> Reply:
        name = target.model_name
        with self._service.call(name, target.version, parsed.parameters) as call:
            inputs = await self._offload.run(partial(self._tensors, parsed, name, size), size=size)
            names = [output.name for output in parsed.outputs]
            outputs = await self._service.infer(call, parsed.parameters, inputs, names)
            version = call.model.version
            respond = partial(responses.inference, parsed, outputs, model_name=name, version=version)
            return await self._offload.run(respond, size=responses.size_of(parsed, outputs))

    def _tensors(self, parsed: InferRequest, model_name: str, size: int) -> dict[str, Array]:
        try:
            return requests.tensors(parsed, model_name=model_name, max_depth=self._max_depth)
        finally:
            if size > SHORT:
                release(parsed.document.members)

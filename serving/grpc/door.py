"""The door for RPCs: an interceptor that asks who calls before a message is read."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from tensorflow_serving.apis.model_management_pb2 import ReloadConfigRequest

from ..access.callers import Caller, Refusal
from ..access.door import Call, Door, credential_of
from ..access.rights import BY_RPC, Right, of_rpc
from ..errors import ServingError
from ..proto import open_inference_pb2
from ..proto.profiler_pb2 import ProfileRequest

Context = grpc.aio.ServicerContext[bytes, Any]
Handler = Any  # grpc.RpcMethodHandler[bytes, Any], which is generic in its stubs only
Behaviour = Callable[[bytes, Context], Awaitable[Any]]
CODES = {code.value[0]: code for code in grpc.StatusCode}
MAX_API = 256  # characters of an RPC's name in logs
MAX_ABOUT = 2048  # characters of a call's subject


def _call(method: str) -> Call:
    return Call(entrypoint="GRPC", api=method.rpartition("/")[2][:MAX_API], right=of_rpc(method))


CALLS = {method: _call(method) for method in BY_RPC}


class DoorInterceptor(grpc.aio.ServerInterceptor):
    """Lets RPCs through, or answers for them."""

    def __init__(self, door: Door) -> None:
        self._door = door

    async def intercept_service(
        self, continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]], handler_call_details: Any
    ) -> Handler:
        """The handler of an RPC, or one that refuses it."""
        method = handler_call_details.method
        right = of_rpc(method)
        if right is Right.OPEN:
            return await continuation(handler_call_details)
        call = CALLS.get(method) or _call(method)
        given = handler_call_details.invocation_metadata or ()
        metadata = {key: value for key, value in reversed(given) if value.__class__ is str}  # of several the first
        try:
            caller = await self._door.admit(call, credential_of(metadata.get))
        except ServingError as error:
            return self._refusing(call, error)
        handler = await continuation(handler_call_details)
        if handler is None or not handler.unary_unary:
            return handler
        if right is Right.ADMIN:
            return grpc.unary_unary_rpc_method_handler(self._audited(handler.unary_unary, call, caller))
        if caller.limits.concurrent_requests:
            return grpc.unary_unary_rpc_method_handler(self._held(handler.unary_unary, call, caller))
        return handler

    def _refusing(self, call: Call, error: ServingError) -> Handler:
        """Ends any RPC. It is a stream's, which is called at once; others are called when the message has been read."""

        async def refuse(messages: AsyncIterator[bytes], context: Context) -> None:
            self._door.refused(call, error, peer=context.peer())
            await context.abort(error.code, error.message, _trailers(error))

        return grpc.stream_stream_rpc_method_handler(refuse)  # type: ignore[arg-type]

    def _held(self, behaviour: Behaviour, call: Call, caller: Caller) -> Behaviour:
        async def held(content: bytes, context: Context) -> Any:
            try:
                with self._door.hold(caller):
                    return await behaviour(content, context)
            except Refusal as error:
                self._door.refused(call, error, peer=context.peer())
                await context.abort(error.code, error.message, _trailers(error))

        return held

    def _audited(self, behaviour: Behaviour, call: Call, caller: Caller) -> Behaviour:
        async def audited(content: bytes, context: Context) -> Any:
            code = grpc.StatusCode.CANCELLED  # if the caller leaves
            try:
                response = await behaviour(content, context)
                code = _code_of(context)
            finally:
                message = str(context.details() or "") if code is not grpc.StatusCode.OK else ""
                about = _about(call.api, content)
                self._door.audit(call, caller, peer=context.peer(), code=code, message=message, about=about)
            return response

        return audited


def _code_of(context: Context) -> grpc.StatusCode:
    """The status that was set; gRPC gives it as it was set, as a number, or as 0 where none was."""
    code: Any = context.code()
    return code if isinstance(code, grpc.StatusCode) else CODES.get(code or 0, grpc.StatusCode.UNKNOWN)


def _trailers(error: ServingError) -> tuple[tuple[str, str], ...]:
    return tuple(error.headers.items()) if isinstance(error, Refusal) else ()


def _about(api: str, content: bytes) -> str:
    """What a call of administration is about, from its serialized message."""
    try:
        return _words(api, content)[:MAX_ABOUT]
    except DecodeError:
        return "a message that cannot be parsed"


def _words(api: str, content: bytes) -> str:
    if api == "HandleReloadConfigRequest":
        configs = ReloadConfigRequest.FromString(content).config.model_config_list.config
        return ", ".join(f"{config.name}={config.base_path}" for config in configs)
    if api == "Profile":
        request = ProfileRequest.FromString(content)
        return f"{request.repository_root or 'no folder'}, {request.duration_ms} ms"
    if api == "RepositoryModelLoad":
        return open_inference_pb2.RepositoryModelLoadRequest.FromString(content).model_name
    if api == "RepositoryModelUnload":
        return open_inference_pb2.RepositoryModelUnloadRequest.FromString(content).model_name
    return ""

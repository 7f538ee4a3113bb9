"""Requests from bytes: one that does not parse is the caller's INVALID_ARGUMENT, not an error of gRPC's.

gRPC parses before anybody is asked, and answers UNKNOWN, with a traceback in the log, where it fails. So all services
here take bytes.
"""

from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message

from ..errors import ServingError, invalid_argument

Request = TypeVar("Request", bound=Message)
Response = TypeVar("Response")
Context = grpc.aio.ServicerContext[bytes, Any]


def parse(content: bytes, request_class: type[Request]) -> Request:
    """The message that `content` is.

    Raises: ServingError INVALID_ARGUMENT.
    """
    try:
        return request_class.FromString(content)
    except DecodeError as error:
        raise invalid_argument(f"cannot parse the request as {request_class.DESCRIPTOR.name}: {error}") from error


def parsed(
    method: Callable[[Request, Any], Awaitable[Response]], request_class: type[Request]
) -> Callable[[bytes, Context], Awaitable[Response]]:
    """`method`, which takes a message, for the bytes of one."""

    async def call(content: bytes, context: Context) -> Response:
        return await method(await _parse_or_abort(content, request_class, context), context)

    return call


def parsed_stream(
    method: Callable[[AsyncIterable[Request], Any], AsyncIterable[Response]], request_class: type[Request]
) -> Callable[[AsyncIterable[bytes], Context], AsyncIterator[Response]]:
    """`method`, which takes messages, for the bytes of each."""

    async def call(contents: AsyncIterable[bytes], context: Context) -> AsyncIterator[Response]:
        async def messages() -> AsyncIterator[Request]:
            async for content in contents:
                yield await _parse_or_abort(content, request_class, context)

        async for response in method(messages(), context):
            yield response

    return call


async def _parse_or_abort(content: bytes, request_class: type[Request], context: Context) -> Request:
    try:
        return parse(content, request_class)
    except ServingError as error:
        await context.abort(error.code, error.message)
        raise

"""gRPC reflection, by which grpcurl, ghz and the like learn what there is to call.

grpcio-reflection finds messages, enums and services. Clients also ask for a method or a field by its full name, which
C++'s reflection, TensorFlow Serving's, finds.
"""

from collections.abc import Sequence
from typing import Any

import grpc
from google.protobuf.descriptor import FileDescriptor
from grpc_reflection.v1alpha import reflection
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest, ServerReflectionResponse

from .parsing import parsed_stream
from .v2_reflection import Descriptors

SERVICE = reflection.SERVICE_NAME


class SymbolPool:
    """The server's descriptors, a pool that finds what is inside of messages, enums and services too."""

    def __init__(self) -> None:
        self._pool = Descriptors()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pool, name)

    def FindFileContainingSymbol(self, symbol: str) -> FileDescriptor:
        """The file that defines `symbol`.

        Raises: KeyError if there is none.
        """
        try:
            return self._pool.FindFileContainingSymbol(symbol)
        except KeyError:
            parent, _, name = symbol.rpartition(".")
            return self._file_of_member(parent, name)

    def _file_of_member(self, parent: str, name: str) -> FileDescriptor:
        for find, members in (
            (self._pool.FindServiceByName, "methods_by_name"),
            (self._pool.FindMessageTypeByName, "fields_by_name"),
            (self._pool.FindMessageTypeByName, "oneofs_by_name"),
            (self._pool.FindEnumTypeByName, "values_by_name"),
        ):
            try:
                found: Any = find(parent)
            except KeyError:
                continue
            if name in getattr(found, members):
                return found.file  # type: ignore[no-any-return]
        raise KeyError(f"{parent}.{name}")


def add_to(server: grpc.aio.Server, services: Sequence[str]) -> None:
    """Have `server` tell of `services`, full names, and of reflection itself."""
    servicer = reflection.aio.ReflectionServicer([*services, SERVICE], pool=SymbolPool())
    handler: grpc.RpcMethodHandler[bytes, ServerReflectionResponse] = grpc.stream_stream_rpc_method_handler(
        parsed_stream(servicer.ServerReflectionInfo, ServerReflectionRequest),
        response_serializer=ServerReflectionResponse.SerializeToString,
    )
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {"ServerReflectionInfo": handler}),))

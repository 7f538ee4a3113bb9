"""grpc.reflection: what grpcurl and its like ask before they call.

The Open Inference Protocol's messages have a package of our own in this process (proto/open_inference.proto). They are
told of under the names that they have on the wire.
"""

from collections.abc import Sequence
from typing import Any

import grpc
from google.protobuf import descriptor_pool, text_format
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_reflection.v1alpha import reflection

from ..names import V2_SERVICE
from ..proto import open_inference_pb2

WIRE_PACKAGE = V2_SERVICE.rpartition(".")[0]


def add_to(server: grpc.aio.Server, services: Sequence[str]) -> None:
    """Have `server` tell of `services`, by their full names, and of itself."""
    reflection.enable_server_reflection([*services, reflection.SERVICE_NAME], server, pool=_Descriptors())


class _Descriptors:
    """The descriptors of this process, and before them the protocol's under its own names."""

    def __init__(self) -> None:
        self._default = descriptor_pool.Default()  # type: ignore[no-untyped-call]
        self._own = descriptor_pool.DescriptorPool()
        self._own.AddSerializedFile(_renamed().SerializeToString())

    def FindFileByName(self, name: str) -> Any:
        try:
            return self._own.FindFileByName(name)
        except KeyError:
            return self._default.FindFileByName(name)

    def FindFileContainingSymbol(self, symbol: str) -> Any:
        try:
            return self._own.FindFileContainingSymbol(symbol)
        except KeyError:
            return self._default.FindFileContainingSymbol(symbol)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._default, name)  # about extensions, of which the protocol has none


def _renamed() -> FileDescriptorProto:
    file = FileDescriptorProto()
    open_inference_pb2.DESCRIPTOR.CopyToProto(file)
    text = text_format.MessageToString(file).replace(file.package, WIRE_PACKAGE)
    return text_format.Parse(text, FileDescriptorProto())

"""Descriptors for grpc.reflection, with those of the Open Inference Protocol under the names that it has on the wire.

In this process its messages have a package of our own (proto/open_inference.proto), so that it can hold a client's too.
"""

from collections.abc import Callable
from typing import Any

from google.protobuf import descriptor_pool, text_format
from google.protobuf.descriptor_pb2 import FileDescriptorProto

from ..names import V2_SERVICE
from ..proto import open_inference_pb2

WIRE_PACKAGE = V2_SERVICE.rpartition(".")[0]


class Descriptors:
    """A descriptor pool: each of its methods asks the protocol's pool first, then the process's own."""

    def __init__(self) -> None:
        self._default = descriptor_pool.Default()  # type: ignore[no-untyped-call]
        self._protocol = descriptor_pool.DescriptorPool()
        self._protocol.AddSerializedFile(_renamed().SerializeToString())

    def __getattr__(self, name: str) -> Callable[..., Any]:
        first, then = getattr(self._protocol, name), getattr(self._default, name)

        def find(*arguments: Any) -> Any:
            try:
                return first(*arguments)
            except KeyError:
                return then(*arguments)

        return find


def _renamed() -> FileDescriptorProto:
    file = FileDescriptorProto()
    open_inference_pb2.DESCRIPTOR.CopyToProto(file)
    text = text_format.MessageToString(file).replace(file.package, WIRE_PACKAGE)
    return text_format.Parse(text, FileDescriptorProto())

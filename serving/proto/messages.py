"""Classes of protobuf messages that no Python package has, made at run time from a table."""

from collections.abc import Mapping, Sequence
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

# message: {field: (type, number)}. "*" marks a repeated field, "?" a wrapper message, which tells absent from zero; a
# name of the table is that message, and one that begins with a dot a message of an import.
Messages = Mapping[str, Mapping[str, tuple[str, int]]]
WRAPPERS = {"?int64": "Int64Value", "?string": "StringValue", "?bool": "BoolValue"}


def message_classes(messages: Messages, *, package: str, imports: Sequence[Any]) -> dict[str, Any]:
    """The classes of `messages` by name, in proto3 and in a pool of their own.

    Args:
        imports: descriptors of the files whose messages are fields here.
    """
    file = descriptor_pb2.FileDescriptorProto(
        name=f"{package.replace('.', '/')}/messages.proto",
        package=package,
        syntax="proto3",
        dependency=[imported.name for imported in imports],
    )
    for message_name, fields in messages.items():
        message = file.message_type.add(name=message_name)
        for name, (kind, number) in fields.items():
            _fill(message.field.add(name=name, number=number), kind, package=package, messages=messages)
    pool = descriptor_pool.DescriptorPool()
    for imported in imports:
        pool.AddSerializedFile(imported.serialized_pb)
    pool.AddSerializedFile(file.SerializeToString())
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.{name}")) for name in messages}


def _fill(field: descriptor_pb2.FieldDescriptorProto, kind: str, *, package: str, messages: Messages) -> None:
    types = descriptor_pb2.FieldDescriptorProto
    field.label = types.LABEL_REPEATED if kind.startswith("*") else types.LABEL_OPTIONAL
    if kind in WRAPPERS:
        field.type, field.type_name = types.TYPE_MESSAGE, f".google.protobuf.{WRAPPERS[kind]}"
    elif kind in messages:
        field.type, field.type_name = types.TYPE_MESSAGE, f".{package}.{kind}"
    elif kind.startswith("."):
        field.type, field.type_name = types.TYPE_MESSAGE, kind
    else:
        field.type = getattr(types, f"TYPE_{kind.lstrip('*').upper()}")

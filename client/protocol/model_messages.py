"""Requests and results of the calls about models: which model, metadata, status, reload, and the server's health."""

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ParamSpec, TypeVar

from google.protobuf.message import DecodeError

from ..errors import InvalidInput, InvalidResponse
from ..results import ModelMetadata, ModelStatus, ServedModel, Signature, TensorSpec, VersionStatus
from . import wire_pb2 as wire
from .dtypes import name_of

SIGNATURE_DEF = "signature_def"
SIGNATURE_DEF_TYPE = "tensorflow.serving.SignatureDefMap"

P = ParamSpec("P")
T = TypeVar("T")


def of_unicode(make: Callable[P, T]) -> Callable[P, T]:
    """Have `make` refuse texts that no message can hold, such as a name from a command line that is not UTF-8."""

    @functools.wraps(make)
    def made(*arguments: P.args, **named: P.kwargs) -> T:
        try:
            return make(*arguments, **named)
        except UnicodeEncodeError as error:
            raise not_unicode(error) from error

    return made


def not_unicode(error: UnicodeEncodeError) -> InvalidInput:
    """The error for a text that cannot be sent."""
    return InvalidInput(f"{error.object!r} cannot be sent: not valid Unicode ({error.reason})")


@functools.lru_cache(maxsize=256)
@of_unicode
def model_spec(
    model_name: str, *, version: int | None = None, label: str | None = None, signature: str = ""
) -> wire.ModelSpec:
    """Which model, of which version. The message is shared: copy it to change it.

    Raises: InvalidInput if both a version and a label are given, or the version is beyond int64.
    """
    spec = wire.ModelSpec(name=model_name, signature_name=signature)
    if version is not None and label is not None:
        raise InvalidInput(f"version={version} and label={label!r} were given; give one of them")
    if version is not None:
        try:
            spec.version.value = version
        except ValueError as error:
            raise InvalidInput(f"version={version}; expected an integer of 64 bits") from error
    if label is not None:
        spec.version_label = label
    return spec


def metadata_request(spec: wire.ModelSpec) -> wire.GetModelMetadataRequest:
    """Asks for the signatures, the only metadata that servers have."""
    return wire.GetModelMetadataRequest(model_spec=spec, metadata_field=[SIGNATURE_DEF])


def metadata_of(response: wire.GetModelMetadataResponse) -> ModelMetadata:
    """The model's signatures.

    Raises: InvalidResponse if there are none in the response, or they cannot be parsed.
    """
    found = response.metadata.get(SIGNATURE_DEF)
    if found is None or found.type_url.rpartition("/")[2] != SIGNATURE_DEF_TYPE:
        raise InvalidResponse(
            f"the metadata has {found.type_url if found else 'no signature_def'}; expected signatures"
        )
    # Not Any.Unpack: it goes by the full name of the message, which upstream's package is part of.
    try:
        signatures = wire.SignatureDefMap.FromString(found.value)
    except DecodeError as error:
        raise InvalidResponse(f"the metadata's signatures cannot be read: {error}") from error
    return ModelMetadata(
        model_name=response.model_spec.name,
        version=response.model_spec.version.value,
        signatures={name: _signature(name, one) for name, one in signatures.signature_def.items()},
    )


def _signature(name: str, signature: wire.SignatureDef) -> Signature:
    return Signature(
        name=name,
        method=signature.method_name,
        inputs={alias: _tensor_spec(info) for alias, info in signature.inputs.items()},
        outputs={alias: _tensor_spec(info) for alias, info in signature.outputs.items()},
        optional=frozenset(signature.defaults),
    )


def _tensor_spec(info: wire.TensorInfo) -> TensorSpec:
    is_open = info.tensor_shape.unknown_rank or not info.HasField("tensor_shape")
    shape = None if is_open else tuple(dim.size for dim in info.tensor_shape.dim)
    return TensorSpec(name_of(info.dtype), shape)


def status_of(response: wire.GetModelStatusResponse, *, model_name: str) -> ModelStatus:
    """The model's versions, newest first."""
    versions = [
        VersionStatus(
            version=one.version,
            state=enum_name(wire.ModelVersionStatus.State, one.state),
            error=one.status.error_message if one.status.error_code else "",
        )
        for one in response.model_version_status
    ]
    return ModelStatus(model_name, tuple(sorted(versions, key=lambda status: -status.version)))


def enum_name(enum: Any, number: int) -> str:
    """The name of an enum's value; its number as text, if the server is newer than this client."""
    return str(enum.Name(number)) if number in enum.values() else str(number)


@of_unicode
def health_request(service: str) -> wire.HealthCheckRequest:
    """Asks for the health of `service`; "" is the server's as a whole.

    Raises: InvalidInput if the name is not valid Unicode.
    """
    return wire.HealthCheckRequest(service=service)


@of_unicode
def reload_request(models: Iterable[ServedModel], metrics: Sequence[str]) -> wire.ReloadConfigRequest:
    """Tells the server to serve `models`, and to report by how much `metrics` rise.

    Raises: InvalidInput if a model has both `versions` and `all_versions`, or a text is not valid Unicode.
    """
    request = wire.ReloadConfigRequest(metric_names=metrics)
    request.config.model_config_list.SetInParent()
    for model in models:
        if model.versions and model.all_versions:
            raise InvalidInput(f"model {model.name!r} has versions={model.versions} and all_versions; give one of them")
        config = request.config.model_config_list.config.add(
            name=model.name, base_path=model.base_path, model_platform=model.platform
        )
        policy = config.model_version_policy
        if model.all_versions:
            policy.all.SetInParent()
        elif model.versions:
            policy.specific.versions.extend(model.versions)
        else:
            policy.latest.num_versions = model.latest
        config.version_labels.update(model.labels or {})
    return request

"""Requests from arguments, and answers from responses: the only place that knows both."""

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ParamSpec, TypeGuard, TypeVar

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import ArrayLike, NDArray

from ..errors import BadAnswer, InvalidInput
from ..results import (
    Classification,
    Label,
    ModelMetadata,
    ModelStatus,
    Outputs,
    Prediction,
    ServedModel,
    Signature,
    TensorSpec,
    VersionStatus,
)
from . import wire_pb2 as wire
from .dtypes import STRING, name_of, of_array
from .examples import to_example
from .tensors import content_of, fill, to_array

SIGNATURE_DEF = "signature_def"
SIGNATURE_DEF_TYPE = "tensorflow.serving.SignatureDefMap"

# Bytes of an array up to which parsing a request, all but the array prepared, is quicker than setting its fields.
SMALL = 1 << 16

P = ParamSpec("P")
T = TypeVar("T")


def _of_unicode(make: Callable[P, T]) -> Callable[P, T]:
    """Refuses texts that no message can hold, such as names from a command line that is no UTF-8."""

    @functools.wraps(make)
    def made(*arguments: P.args, **named: P.kwargs) -> T:
        try:
            return make(*arguments, **named)
        except UnicodeEncodeError as error:
            raise _no_unicode(error) from error

    return made


def _no_unicode(error: UnicodeEncodeError) -> InvalidInput:
    return InvalidInput(f"{error.object!r} cannot be sent: it is no Unicode text ({error.reason})")


@functools.lru_cache(maxsize=256)
@_of_unicode
def model_spec(
    model: str, *, version: int | None = None, label: str | None = None, signature: str = ""
) -> wire.ModelSpec:
    """Which model, of which version. The message is shared: copy it to change it. Raises: InvalidInput."""
    spec = wire.ModelSpec(name=model, signature_name=signature)
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


def predict_request(
    spec: wire.ModelSpec, inputs: Mapping[str, ArrayLike | wire.TensorProto], outputs: Sequence[str] = ()
) -> wire.PredictRequest:
    """Raises: InvalidInput."""
    name = ""
    try:
        if len(inputs) == 1 and not outputs:
            [(name, value)] = inputs.items()
            if _is_small(value):
                return _small_request(spec, name, value)
        request = wire.PredictRequest(model_spec=spec, output_filter=outputs)
        for name, value in inputs.items():
            fill(request.inputs[name], value)
    except UnicodeEncodeError as error:
        raise _no_unicode(error) from error
    except InvalidInput as error:
        raise InvalidInput(f"input {name!r}: {error.details}") from error
    return request


def _is_small(value: object) -> TypeGuard[NDArray[Any]]:
    return isinstance(value, np.ndarray) and value.nbytes <= SMALL and of_array(value.dtype) != STRING


def _small_request(spec: wire.ModelSpec, name: str, array: NDArray[Any]) -> wire.PredictRequest:
    """The request for one array of numbers, the usual one, in less time than setting field by field takes."""
    head = _head(spec.SerializeToString(), name, array.dtype, array.shape)
    return wire.PredictRequest.FromString(head + content_of(array, of_array(array.dtype)))


@functools.lru_cache(maxsize=256)
def _head(spec: bytes, name: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> bytes:
    """The bytes of a request for one array, up to the array's own, which are the last of such a request."""
    request = wire.PredictRequest(model_spec=wire.ModelSpec.FromString(spec))
    fill(request.inputs[name], np.zeros(shape, dtype))
    data = request.SerializeToString()
    return data[: len(data) - len(request.inputs[name].tensor_content)]


def outputs_of(response: wire.PredictResponse) -> Outputs:
    """Raises: BadAnswer."""
    spec, found = response.model_spec, response.outputs
    outputs = Outputs(model=spec.name, model_version=spec.version.value, signature=spec.signature_name)
    for name in found:  # not items(): protobuf's is several times slower
        try:
            outputs[name] = to_array(found[name])
        except BadAnswer as error:
            raise BadAnswer(f"output {name!r}: {error.details}") from error
    return outputs


def prediction_of(outputs: Outputs, *, num_images: int) -> Prediction:
    """Raises: BadAnswer if the outputs are not those of an image classifier."""
    classes, probabilities = outputs.get("classes"), outputs.get("probabilities")
    if classes is None or probabilities is None:
        raise BadAnswer(
            f"the model gave {', '.join(sorted(outputs)) or 'no outputs'}; expected classes and probabilities: "
            "it is no image classifier of this kind, so call it with run()"
        )
    if classes.shape != (num_images,) or probabilities.ndim != 2 or len(probabilities) != num_images:
        raise BadAnswer(
            f"the model gave classes {list(classes.shape)} and probabilities {list(probabilities.shape)} "
            f"for {num_images} images; expected [{num_images}] and [{num_images}, number of classes]"
        )
    if classes.dtype.kind not in "iu" or probabilities.dtype.kind in "Oc":
        raise BadAnswer(
            f"the model gave classes of dtype {classes.dtype} and probabilities of dtype {probabilities.dtype}; "
            "expected integers and real numbers"
        )
    return Prediction(classes, probabilities, outputs.model, outputs.model_version)


@_of_unicode
def classify_request(
    spec: wire.ModelSpec, examples: Iterable[Mapping[str, Any]], context: Mapping[str, Any] | None
) -> wire.ClassificationRequest:
    """Raises: InvalidInput."""
    request = wire.ClassificationRequest(model_spec=spec)
    messages = [to_example(example) for example in examples]
    if not messages:
        raise InvalidInput("there are no examples to classify; expected one mapping of features at least")
    if context is None:
        request.input.example_list.examples.extend(messages)
    else:
        request.input.example_list_with_context.examples.extend(messages)
        request.input.example_list_with_context.context.CopyFrom(to_example(context))
    return request


def classifications_of(response: wire.ClassificationResponse, *, num_examples: int) -> list[Classification]:
    """One for each example, in order. Raises: BadAnswer if there are more or fewer."""
    spec, count = response.model_spec, len(response.result.classifications)
    if count != num_examples:
        raise BadAnswer(f"the model gave {count} classifications for {num_examples} examples")
    return [
        Classification(tuple(Label(one.label, one.score) for one in found.classes), spec.name, spec.version.value)
        for found in response.result.classifications
    ]


def metadata_request(spec: wire.ModelSpec) -> wire.GetModelMetadataRequest:
    """Asks for the signatures, all the metadata that there is."""
    return wire.GetModelMetadataRequest(model_spec=spec, metadata_field=[SIGNATURE_DEF])


def metadata_of(response: wire.GetModelMetadataResponse) -> ModelMetadata:
    """Raises: BadAnswer."""
    found = response.metadata.get(SIGNATURE_DEF)
    if found is None or found.type_url.rpartition("/")[2] != SIGNATURE_DEF_TYPE:
        raise BadAnswer(f"the metadata has {found.type_url if found else 'no signature_def'}; expected signatures")
    # Not Any.Unpack: it goes by the full name of the message, which upstream's package is part of.
    try:
        signatures = wire.SignatureDefMap.FromString(found.value)
    except DecodeError as error:
        raise BadAnswer(f"the metadata's signatures cannot be read: {error}") from error
    return ModelMetadata(
        model=response.model_spec.name,
        model_version=response.model_spec.version.value,
        signatures={name: _signature(name, one) for name, one in signatures.signature_def.items()},
    )


def _signature(name: str, signature: wire.SignatureDef) -> Signature:
    return Signature(
        name=name,
        method=signature.method_name,
        inputs={alias: _spec(info) for alias, info in signature.inputs.items()},
        outputs={alias: _spec(info) for alias, info in signature.outputs.items()},
        optional=frozenset(signature.defaults),
    )


def _spec(info: wire.TensorInfo) -> TensorSpec:
    shape = None if info.tensor_shape.unknown_rank else tuple(dim.size for dim in info.tensor_shape.dim)
    return TensorSpec(name_of(info.dtype), shape)


def status_of(response: wire.GetModelStatusResponse, *, model: str) -> ModelStatus:
    """The versions, newest first."""
    versions = [
        VersionStatus(
            version=one.version,
            state=enum_name(wire.ModelVersionStatus.State, one.state),
            error=one.status.error_message if one.status.error_code else "",
        )
        for one in response.model_version_status
    ]
    return ModelStatus(model, tuple(sorted(versions, key=lambda status: -status.version)))


def enum_name(enum: Any, number: int) -> str:
    """The name of an enum's value; its number as text, if the server is newer than this client."""
    return str(enum.Name(number)) if number in enum.values() else str(number)


@_of_unicode
def health_request(service: str) -> wire.HealthCheckRequest:
    """Raises: InvalidInput."""
    return wire.HealthCheckRequest(service=service)


@_of_unicode
def reload_request(models: Iterable[ServedModel], metrics: Sequence[str]) -> wire.ReloadConfigRequest:
    """Raises: InvalidInput."""
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

"""The protocol's calls, as grpc/v2.py and rest/v2/api.py make them, over TensorFlow Serving's models and predictions.

The protocol knows neither signatures nor labels. An inference takes the signature of `parameters.signature_name`, or
`serving_default`; a version is a number or a label, and a label may come as `parameters.version_label` too.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata

from tensorflow.core.protobuf.meta_graph_pb2 import TensorInfo
from tensorflow_serving.apis.model_pb2 import ModelSpec

from ..arrays import Array
from ..errors import ServingError, invalid_argument
from ..lifecycle.manager import Manager
from ..load_shedding import Drain
from ..model_service import ModelService
from ..prediction_service import Call, PredictionService
from .datatypes import datatype_of_tensorflow
from .repository import Repository

SERVER_NAME = "inkling-serving"
PLATFORM = "tensorflow_savedmodel"
EXTENSIONS = ("binary_tensor_data", "model_repository")
SIGNATURE, LABEL = "signature_name", "version_label"  # parameters of an inference
LARGEST_VERSION = (1 << 63) - 1
# Parameters of inputs and outputs by which Triton's clients ask for what is not here.
FOREIGN = ("shared_memory_region", "classification")


@dataclass(frozen=True, slots=True)
class TensorMetadata:
    """What is known of an input or output."""

    name: str
    datatype: str
    shape: tuple[int, ...]  # -1: any size; an unknown rank is [-1]


@dataclass(frozen=True, slots=True)
class ModelMetadata:
    """What is known of a model."""

    name: str
    versions: tuple[str, ...]  # that serve
    inputs: tuple[TensorMetadata, ...]
    outputs: tuple[TensorMetadata, ...]
    signature_names: tuple[str, ...]


class V2Service:
    """The protocol's calls; those about the model repository are its `repository`'s."""

    def __init__(
        self,
        predictions: PredictionService,
        *,
        repository: Repository,
        manager: Manager,
        models: ModelService,
        drain: Drain,
    ) -> None:
        self.repository = repository
        self._predictions = predictions
        self._manager = manager
        self._models = models
        self._drain = drain

    def is_ready(self) -> bool:
        """Whether every configured model has an available version, and the server is not about to end."""
        return not self._drain.has_begun and not self._drain.is_loading and not self._models.not_ready()

    def is_model_ready(self, name: str, version: str) -> bool:
        """Whether this version of the model, or any if `version` is empty, can be asked now."""
        try:
            self._predictions.call("Predict", model_spec(name, version, {}))
        except ServingError:
            return False
        return True

    def knows(self, name: str) -> bool:
        """Whether there is a model of this name, ready or not."""
        return name in self._manager.servables

    def model_metadata(self, name: str, version: str, signature_name: str = "") -> ModelMetadata:
        """What the model takes and gives.

        Args:
            name: the model's.
            version: a number or a label; empty for the newest.
            signature_name: empty for `serving_default`.

        Raises: ServingError.
        """
        with self._predictions.call("Predict", model_spec(name, version, {SIGNATURE: signature_name})) as call:
            signature = call.model.signature(signature_name)
            definition = signature.definition
            return ModelMetadata(
                name,
                tuple(str(number) for number in self._versions(name)),
                tuple(_tensor(spec.alias, definition.inputs[spec.alias]) for spec in signature.inputs),
                tuple(_tensor(alias, definition.outputs[alias]) for alias in signature.outputs),
                tuple(sorted(call.model.signatures)),
            )

    def _versions(self, name: str) -> list[int]:
        return sorted(version.number for version in self._manager.servables[name].available())

    def call(self, name: str, version: str, parameters: Mapping[str, object]) -> Call:
        """An inference of this model, to be entered, and then run by `infer`.

        Args:
            name: the model's.
            version: a number or a label; empty for the newest.
            parameters: of the request.

        Raises: ServingError if there is no such version, or the server drains.
        """
        return self._predictions.call("Predict", model_spec(name, version, parameters))

    async def infer(
        self, call: Call, parameters: Mapping[str, object], inputs: Mapping[str, Array], outputs: Sequence[str]
    ) -> dict[str, Array]:
        """Run the inference `call`.

        Args:
            call: an open one.
            parameters: of the request.
            inputs: arrays by name; strings as object arrays of bytes.
            outputs: the names of those to compute, in order; all if empty.

        Returns: the outputs, in that order; strings as object arrays of bytes.

        Raises: ServingError.
        """
        signature_name = text_parameter(parameters, SIGNATURE)
        results = await self._predictions.predict_arrays(call, signature_name, inputs, outputs)
        return {name: results[name] for name in outputs or results}


def model_spec(name: str, version: str, parameters: Mapping[str, object]) -> ModelSpec:
    """The same in the words of TensorFlow Serving.

    Raises: ServingError INVALID_ARGUMENT.
    """
    spec = ModelSpec(name=name, signature_name=text_parameter(parameters, SIGNATURE))
    label = text_parameter(parameters, LABEL)
    if version and label:
        raise invalid_argument(f"version '{version}' and {LABEL} '{label}' are both given; send one of them")
    if version.isascii() and version.isdecimal():
        spec.version.value = _version_number(version)
    elif version or label:
        spec.version_label = version or label
    return spec


def _version_number(digits: str) -> int:
    # Compared as text first: Python refuses to convert thousands of digits.
    number = digits.lstrip("0") or "0"
    if len(number) > 19 or int(number) > LARGEST_VERSION:
        raise invalid_argument(
            f"failed to get model version from specified version string '{digits[:40]}', version should be an "
            f"integral value up to {LARGEST_VERSION}"
        )
    return int(number)


def text_parameter(parameters: Mapping[str, object], name: str) -> str:
    """The parameter `name`, empty if it is not given.

    Raises: ServingError INVALID_ARGUMENT if it is no text.
    """
    value = "" if parameters.get(name) is None else parameters[name]
    if not isinstance(value, str) or not is_text(value):
        raise invalid_argument(f"parameter '{name}' is {value!r:.100}; expected a string")
    return value


def is_text(value: str) -> bool:
    """Whether `value` can be written as UTF-8; JSON can hold half of a surrogate pair, which cannot."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def check_parameters(kind: str, name: str, parameters: Mapping[str, object]) -> None:
    """Refuse an input or output whose parameters ask for an extension that is not here.

    Raises: ServingError INVALID_ARGUMENT.
    """
    for parameter in FOREIGN:
        if parameters.get(parameter) is not None:
            raise invalid_argument(
                f"{kind} '{name}' has the parameter '{parameter}', whose extension is not supported here; "
                f"supported are {', '.join(EXTENSIONS)}"
            )


def server_version() -> str:
    """The version of this distribution."""
    try:
        return metadata.version(SERVER_NAME)
    except metadata.PackageNotFoundError:  # run from its folder
        return "unknown"


def _tensor(name: str, info: TensorInfo) -> TensorMetadata:
    sizes = (-1,) if info.tensor_shape.unknown_rank else tuple(dim.size for dim in info.tensor_shape.dim)
    return TensorMetadata(name, datatype_of_tensorflow(info.dtype), sizes)

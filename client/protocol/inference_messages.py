"""Requests and results of inference: arrays and examples in, outputs, predictions and classifications out."""

import functools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import InvalidInput, InvalidResponse
from ..results import Classification, ClassScore, Outputs, Prediction
from . import wire_pb2 as wire
from .dtypes import STRING, of_array
from .examples import to_example
from .model_messages import not_unicode, of_unicode
from .tensors import check_copied, content_of, fill, to_array

# Bytes of an array up to which parsing a request, all but the array prepared, is quicker than setting its fields.
SMALL = 1 << 16

# How far the probabilities of an image may add up to something else than 1: a quantised model's are multiples of 1/256,
# each rounded by half of that at most, which for ten classes makes 0.02.
SUM_TOLERANCE = 0.05
SHOWN = 10  # values in a message


def predict_request(
    spec: wire.ModelSpec, inputs: Mapping[str, ArrayLike | wire.TensorProto], outputs: Sequence[str] = ()
) -> wire.PredictRequest:
    """Asks a signature for its outputs.

    Args:
        spec: the model and the signature.
        inputs: by name, of any dtype and shape.
        outputs: names of the outputs to be sent back; all if empty.

    Raises: InvalidInput if an input or a name cannot be sent.
    """
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
        raise not_unicode(error) from error
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
    """The outputs by name, each of its own dtype and shape.

    Raises: InvalidResponse if one is not a complete tensor.
    """
    spec, found = response.model_spec, response.outputs
    outputs = Outputs(model_name=spec.name, version=spec.version.value, signature=spec.signature_name)
    for name in found:  # not items(): protobuf's is several times slower
        try:
            outputs[name] = to_array(found[name])
        except InvalidResponse as error:
            raise InvalidResponse(f"output {name!r}: {error.details}") from error
    return outputs


def prediction_of(outputs: Outputs, *, num_images: int) -> Prediction:
    """The prediction that `outputs` are: classes, integers [n], and probabilities, real numbers [n, number of classes].

    Raises: InvalidResponse if they are not the outputs of an image classifier for `num_images` images, or no image has
        such probabilities: NaN, negative ones, or some that do not add up to 1.
    """
    classes, probabilities = outputs.get("classes"), outputs.get("probabilities")
    if classes is None or probabilities is None:
        raise InvalidResponse(
            f"the model gave {', '.join(sorted(outputs)) or 'no outputs'}; expected classes and probabilities: "
            "it is not an image classifier of this kind, so call it with run()"
        )
    if classes.shape != (num_images,) or probabilities.ndim != 2 or len(probabilities) != num_images:
        raise InvalidResponse(
            f"the model gave classes {list(classes.shape)} and probabilities {list(probabilities.shape)} "
            f"for {num_images} images; expected [{num_images}] and [{num_images}, number of classes]"
        )
    if classes.dtype.kind not in "iu" or probabilities.dtype.kind in "Oc":
        raise InvalidResponse(
            f"the model gave classes of dtype {classes.dtype} and probabilities of dtype {probabilities.dtype}; "
            "expected integers and real numbers"
        )
    check_copied("probabilities", [probabilities])
    _check_values(classes, probabilities)
    return Prediction(classes, probabilities, outputs.model_name, outputs.version)


def _check_values(classes: NDArray[Any], probabilities: NDArray[Any]) -> None:
    """Refuse what no classifier computes."""
    if not len(classes) or (len(classes) == 1 and _is_plausible(int(classes[0]), probabilities[0].tolist())):
        return
    count = probabilities.shape[1]
    if not count or classes.min() < 0 or classes.max() >= count:
        raise InvalidResponse(
            f"the model gave classes from {classes.min()} to {classes.max()}; "
            f"expected those of its {count} probabilities, from 0 to {count - 1}"
        )
    sums = probabilities.sum(axis=1, dtype=np.float64)
    if not np.isfinite(sums).all():
        raise InvalidResponse(
            "some probabilities are NaN or infinite; were the model's weights finite when it was exported?"
        )
    wrong = np.flatnonzero((abs(sums - 1) > SUM_TOLERANCE) | (probabilities.min(axis=1) < 0))
    if len(wrong):
        values = ", ".join(f"{value:.4g}" for value in probabilities[wrong[0]][:SHOWN].tolist())
        raise InvalidResponse(
            f"the model gave the probabilities {values}{', ...' if count > SHOWN else ''} for image {wrong[0]}, "
            f"which add up to {sums[wrong[0]]:.4g}; expected 0 to 1 each, and 1 together"
        )
    given = np.take_along_axis(probabilities, classes[:, np.newaxis].astype(np.intp), axis=1)[:, 0]
    unlike = np.flatnonzero(given < probabilities.max(axis=1) - SUM_TOLERANCE)
    if len(unlike):
        first = unlike[0]
        raise InvalidResponse(
            f"the model gave class {classes[first]} for image {first}, whose most probable one is "
            f"{probabilities[first].argmax()}; expected that one"
        )


def _is_plausible(best: int, values: list[float]) -> bool:
    """As the checks above, for the one image of the usual call, in less time than NumPy takes."""
    known = 0 <= best < len(values) and values[best] >= max(values) - SUM_TOLERANCE
    return known and min(values) >= 0 and abs(sum(values) - 1) <= SUM_TOLERANCE


@of_unicode
def classify_request(
    spec: wire.ModelSpec, examples: Iterable[Mapping[str, Any]], context: Mapping[str, Any] | None
) -> wire.ClassificationRequest:
    """Asks for the class scores of examples, which may share the features of `context`.

    Raises: InvalidInput if there are no examples, or a feature cannot be sent.
    """
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
    """One classification for each example, in order.

    Raises: InvalidResponse if there are more or fewer, or one has no scores to compare.
    """
    spec, count = response.model_spec, len(response.result.classifications)
    if count != num_examples:
        raise InvalidResponse(f"the model gave {count} classifications for {num_examples} examples")
    for number, found in enumerate(response.result.classifications):
        if not found.classes or any(math.isnan(one.score) for one in found.classes):
            given = "a score that is no number" if found.classes else "no classes"
            raise InvalidResponse(f"the model gave {given} for example {number}; expected a score for each class")
    return [
        Classification(tuple(ClassScore(one.label, one.score) for one in found.classes), spec.name, spec.version.value)
        for found in response.result.classifications
    ]

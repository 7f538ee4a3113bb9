"""Predict, Classify, Regress and MultiInference on one loaded version: protos in, protos out.

prediction_service.py finds the version and calls these for requests; `replay` is for the version's warm-up records.
Classify and Regress are Predicts whose one input is serialized tf.Examples and whose outputs have a fixed meaning.
What goes through many values is done where `Work` says.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np
from tensorflow_serving.apis import (
    classification_pb2,
    inference_pb2,
    input_pb2,
    model_pb2,
    predict_pb2,
    prediction_log_pb2,
    regression_pb2,
)

from .arrays import Array
from .errors import failed_precondition, invalid_argument, unimplemented
from .model.input_checks import InputSpec, check_names
from .model.model import Model
from .model.signatures import Signature
from .names import CLASSIFY, DEFAULT_SIGNATURE, PREDICT, REGRESS
from .offload import Offload
from .tensors import dtype_name, number_of, serialized_examples, to_array, to_proto

COPIED_VALUES = 64  # that take as long as one that is handled by itself
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Work:
    """Where a request is converted, and its response."""

    offload: Offload | None = None  # None: here
    size: int = 0  # of the request, in the sense of offload.py

    async def do(self, work: Callable[[], Result], *, size: int | None = None) -> Result:
        """What `work` returns, which goes through `size` values, or through the request."""
        if self.offload is None:
            return work()
        return await self.offload.run(work, size=self.size if size is None else size)


HERE = Work()


async def predict(
    model: Model,
    request: predict_pb2.PredictRequest,
    *,
    as_content: bool,
    check_method: bool = False,
    work: Work = HERE,
) -> predict_pb2.PredictResponse:
    """The response to a Predict request.

    Raises: ServingError.
    """
    signature = model.signature(request.model_spec.signature_name)
    require_method(signature, check=check_method)
    inputs = await work.do(partial(_arrays, signature.inputs, request))
    outputs = await model.predict(signature, inputs, request.output_filter)
    respond = partial(predict_response, model, signature.name, outputs, as_content=as_content)
    return await work.do(respond, size=size_of(outputs, as_content=as_content))


def _arrays(specs: tuple[InputSpec, ...], request: predict_pb2.PredictRequest) -> dict[str, Array]:
    check_names(specs, request.inputs)
    return {alias: to_array(alias, tensor) for alias, tensor in request.inputs.items()}


def size_of(arrays: Mapping[str, Array], *, as_content: bool) -> int:
    """How long it takes to write `arrays` into messages, in the sense of offload.py."""
    return sum(array.size // (1 if _goes_one_by_one(array, as_content) else COPIED_VALUES) for array in arrays.values())


def _goes_one_by_one(array: Array, as_content: bool) -> bool:
    return array.dtype == np.object_ or not (as_content or array.dtype in (np.float32, np.float64))


def predict_request(model: Model, signature_name: str, inputs: Mapping[str, Array]) -> predict_pb2.PredictRequest:
    """The request that has `inputs`, by alias, for this very version."""
    request = predict_pb2.PredictRequest()
    _fill_spec(request.model_spec, model, signature_name)
    for alias, array in inputs.items():
        request.inputs[alias].CopyFrom(to_proto(array, as_content=True))
    return request


def predict_response(
    model: Model, signature_name: str, outputs: Mapping[str, Array], *, as_content: bool
) -> predict_pb2.PredictResponse:
    """The response that has `outputs`, by alias, in tensor_content or in typed lists."""
    response = predict_pb2.PredictResponse()
    _fill_spec(response.model_spec, model, signature_name)
    for alias, array in outputs.items():
        response.outputs[alias].CopyFrom(to_proto(array, as_content=as_content))
    return response


async def classify(
    model: Model, request: classification_pb2.ClassificationRequest, *, check_method: bool = False, work: Work = HERE
) -> classification_pb2.ClassificationResponse:
    """The response to a Classify request.

    Raises: ServingError.
    """
    signature = _example_signature(model, request.model_spec.signature_name, CLASSIFY if check_method else "")
    response = classification_pb2.ClassificationResponse()
    response.result.CopyFrom(await _classify(model, signature, request.input, work))
    _fill_spec(response.model_spec, model, signature.name)
    return response


async def regress(
    model: Model, request: regression_pb2.RegressionRequest, *, check_method: bool = False, work: Work = HERE
) -> regression_pb2.RegressionResponse:
    """The response to a Regress request.

    Raises: ServingError.
    """
    signature = _example_signature(model, request.model_spec.signature_name, REGRESS if check_method else "")
    response = regression_pb2.RegressionResponse()
    response.result.CopyFrom(await _regress(model, signature, request.input, work))
    _fill_spec(response.model_spec, model, signature.name)
    return response


async def multi_inference(
    model: Model, request: inference_pb2.MultiInferenceRequest, *, check_method: bool = False, work: Work = HERE
) -> inference_pb2.MultiInferenceResponse:
    """The response to a MultiInference request, whose tasks share their input.

    Raises: ServingError.
    """
    evaluated: set[str] = set()
    response = inference_pb2.MultiInferenceResponse()
    for task in request.tasks:
        name = task.model_spec.signature_name or DEFAULT_SIGNATURE
        if name not in model.signatures:
            raise invalid_argument(f"Requested signature not found in model graph: {name}")
        if name in evaluated:
            raise invalid_argument(f"Duplicate evaluation of signature: {name}")
        evaluated.add(name)
        signature = _example_signature(model, name, task.method_name if check_method else "")
        result = response.results.add()
        if task.method_name == CLASSIFY:
            result.classification_result.CopyFrom(await _classify(model, signature, request.input, work))
        elif task.method_name == REGRESS:
            result.regression_result.CopyFrom(await _regress(model, signature, request.input, work))
        else:
            raise unimplemented(f"Unsupported signature method_name: {task.method_name}")
        _fill_spec(result.model_spec, model, name)
    return response


async def replay(model: Model, record: prediction_log_pb2.PredictionLog) -> None:
    """Run a logged request for what it leaves in memory.

    Raises: ServingError.
    """
    kind = record.WhichOneof("log_type")
    if kind == "predict_log":
        await predict(model, record.predict_log.request, as_content=False)
    elif kind == "classify_log":
        await classify(model, record.classify_log.request)
    elif kind == "regress_log":
        await regress(model, record.regress_log.request)
    elif kind == "multi_inference_log":
        await multi_inference(model, record.multi_inference_log.request)
    else:
        number = 0 if kind is None else record.DESCRIPTOR.fields_by_name[kind].number
        raise unimplemented(f"Unsupported log_type for warmup: {number}")


def require_method(signature: Signature, *, check: bool) -> None:
    """Refuse signatures that are not made for inference, with --enable_signature_method_name_check.

    Raises: ServingError FAILED_PRECONDITION.
    """
    if check and signature.definition.method_name not in (PREDICT, CLASSIFY, REGRESS):
        raise failed_precondition(
            f"Expected prediction signature method_name to be one of {{{PREDICT}, {CLASSIFY}, {REGRESS}}}. "
            f"Was: {signature.definition.method_name}"
        )


def _fill_spec(spec: model_pb2.ModelSpec, model: Model, signature_name: str) -> None:
    """Name the version and the signature."""
    spec.name = model.name
    spec.version.value = model.version
    spec.signature_name = signature_name


def _example_signature(model: Model, name: str, method: str) -> Signature:
    """The signature `name` for Classify or Regress; `method` is the method_name to require, empty for any."""
    name = name or DEFAULT_SIGNATURE
    signature = model.signatures.get(name)
    if signature is None:
        raise invalid_argument(f"No signature was found with the name: {name}")
    if method and signature.definition.method_name != method:
        kind = "classification" if method == CLASSIFY else "regression"
        raise invalid_argument(
            f"Expected {kind} signature method_name to be {method}. Was: {signature.definition.method_name}"
        )
    if len(signature.inputs) != 1:
        raise invalid_argument("Expected one input Tensor.")
    return signature


async def _classify(
    model: Model, signature: Signature, given: input_pb2.Input, work: Work
) -> classification_pb2.ClassificationResult:
    examples = await work.do(partial(serialized_examples, given))
    if len(signature.outputs) not in (1, 2):
        raise invalid_argument(f"Expected one or two output Tensors, found {len(signature.outputs)}")
    aliases = [alias for alias in ("classes", "scores") if alias in signature.outputs]
    if not aliases:
        raise invalid_argument(
            f'Expected classification signature outputs to contain at least one of "classes" or "scores". '
            f"Signature {signature.name} has: {', '.join(signature.outputs)}"
        )
    outputs = await model.predict(signature, {signature.inputs[0].alias: examples}, aliases)
    classes, scores = outputs.get("classes"), outputs.get("scores")
    num_examples = len(examples)
    _check_scores(outputs, num_examples)
    if classes is not None and scores is not None and classes.shape != scores.shape:
        raise invalid_argument(f"Classes and scores do not match: shapes {classes.shape} and {scores.shape}")
    return await work.do(
        partial(_classifications, classes, scores, num_examples=num_examples), size=outputs[aliases[0]].size
    )


def _classifications(
    classes: Array | None, scores: Array | None, *, num_examples: int
) -> classification_pb2.ClassificationResult:
    result = classification_pb2.ClassificationResult()
    for index in range(num_examples):
        classifications = result.classifications.add()
        labels = [_text(label) for label in classes[index]] if classes is not None else [""] * len(scores[index])  # type: ignore[index]
        values = scores[index].tolist() if scores is not None else [0.0] * len(labels)
        for label, value in zip(labels, values, strict=True):
            classifications.classes.add(label=label, score=value)
    return result


def _check_scores(outputs: Mapping[str, Array], num_examples: int) -> None:
    for alias, array in outputs.items():
        if array.ndim != 2:
            raise invalid_argument(f"Expected Tensor shape: [batch_size num_classes] but got {list(array.shape)}")
        if alias == "classes" and array.dtype != object:
            raise invalid_argument(f"Expected classes Tensor of DT_STRING. Got: {_dtype(array)}")
        if alias == "scores" and array.dtype != np.float32:
            raise invalid_argument(f"Expected scores Tensor of DT_FLOAT. Got: {_dtype(array)}")
        if len(array) != num_examples:
            raise invalid_argument(f"Expected {alias} output batch size of {num_examples}. Got: {len(array)}")


async def _regress(
    model: Model, signature: Signature, given: input_pb2.Input, work: Work
) -> regression_pb2.RegressionResult:
    examples = await work.do(partial(serialized_examples, given))
    if "outputs" not in signature.outputs or len(signature.outputs) != 1:
        raise invalid_argument(
            f"Expected one output Tensor named outputs. Signature {signature.name} has: {', '.join(signature.outputs)}"
        )
    outputs = await model.predict(signature, {signature.inputs[0].alias: examples})
    values = outputs["outputs"]
    if values.ndim not in (1, 2) or (values.ndim == 2 and values.shape[1] != 1):
        raise invalid_argument(
            f"Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got {list(values.shape)}"
        )
    if len(values) != len(examples):
        raise invalid_argument(f"Input batch size did not match output batch size: {len(examples)}, {len(values)}")
    if values.dtype != np.float32:
        raise invalid_argument(f"Expected output Tensor of DT_FLOAT. Got: {_dtype(values)}")
    return await work.do(partial(_regressions, values), size=values.size)


def _regressions(values: Array) -> regression_pb2.RegressionResult:
    result = regression_pb2.RegressionResult()
    for value in values.ravel().tolist():
        result.regressions.add(value=value)
    return result


def _dtype(array: Array) -> str:
    return f"DT_{dtype_name(number_of(array.dtype)).upper()}"


def _text(label: Any) -> str:
    return label.decode(errors="replace") if isinstance(label, bytes) else str(label)

"""Predict, Classify, Regress and MultiInference on one loaded version: protos in, protos out.

handlers.py finds the version and calls these for requests; warmup.py for the version's warm-up records. Classify and
Regress are Predicts whose one input is serialized tf.Examples and whose outputs have a fixed meaning.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from tensorflow_serving.apis import (
    classification_pb2,
    inference_pb2,
    input_pb2,
    model_pb2,
    predict_pb2,
    regression_pb2,
)

from .errors import failed_precondition, invalid_argument, unimplemented
from .model.model import Model
from .model.signatures import CLASSIFY, DEFAULT_SIGNATURE, PREDICT, REGRESS, Signature
from .tensors import Array, dtype_name, number_of, to_array, to_proto


async def predict(
    model: Model, request: predict_pb2.PredictRequest, *, as_content: bool, check_method: bool = False
) -> predict_pb2.PredictResponse:
    """Answer a Predict request; raises ServingError."""
    signature = model.signature(request.model_spec.signature_name)
    require_method(signature, check=check_method)
    inputs = {alias: to_array(alias, tensor) for alias, tensor in request.inputs.items()}
    outputs = await model.predict(signature, inputs, request.output_filter)
    response = predict_pb2.PredictResponse()
    fill_spec(response.model_spec, model, signature.name)
    for alias, array in outputs.items():
        response.outputs[alias].CopyFrom(to_proto(array, as_content=as_content))
    return response


async def classify(
    model: Model, request: classification_pb2.ClassificationRequest, *, check_method: bool = False
) -> classification_pb2.ClassificationResponse:
    """Answer a Classify request; raises ServingError."""
    signature = _example_signature(model, request.model_spec.signature_name, CLASSIFY if check_method else "")
    response = classification_pb2.ClassificationResponse()
    response.result.CopyFrom(await _classify(model, signature, request.input))
    fill_spec(response.model_spec, model, signature.name)
    return response


async def regress(
    model: Model, request: regression_pb2.RegressionRequest, *, check_method: bool = False
) -> regression_pb2.RegressionResponse:
    """Answer a Regress request; raises ServingError."""
    signature = _example_signature(model, request.model_spec.signature_name, REGRESS if check_method else "")
    response = regression_pb2.RegressionResponse()
    response.result.CopyFrom(await _regress(model, signature, request.input))
    fill_spec(response.model_spec, model, signature.name)
    return response


async def multi_inference(
    model: Model, request: inference_pb2.MultiInferenceRequest, *, check_method: bool = False
) -> inference_pb2.MultiInferenceResponse:
    """Answer a MultiInference request, whose tasks share their input; raises ServingError."""
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
            result.classification_result.CopyFrom(await _classify(model, signature, request.input))
        elif task.method_name == REGRESS:
            result.regression_result.CopyFrom(await _regress(model, signature, request.input))
        else:
            raise unimplemented(f"Unsupported signature method_name: {task.method_name}")
        fill_spec(result.model_spec, model, name)
    return response


def require_method(signature: Signature, *, check: bool) -> None:
    """With --enable_signature_method_name_check, a signature must be made for inference."""
    if check and signature.definition.method_name not in (PREDICT, CLASSIFY, REGRESS):
        raise failed_precondition(
            f"Expected prediction signature method_name to be one of {{{PREDICT}, {CLASSIFY}, {REGRESS}}}. "
            f"Was: {signature.definition.method_name}"
        )


def fill_spec(spec: model_pb2.ModelSpec, model: Model, signature_name: str) -> None:
    """Say which version and signature answered."""
    spec.name = model.name
    spec.version.value = model.version
    spec.signature_name = signature_name


def serialized_examples(given: input_pb2.Input) -> Array:
    """The tf.Examples of a request, as they are fed to the model: object [n] of bytes.

    An example's own features go before those of the context, which all examples share.

    Raises: ServingError if there are none.
    """
    kind = given.WhichOneof("kind")
    if kind == "example_list_with_context":
        context = given.example_list_with_context.context.SerializeToString()
        examples = [context + e.SerializeToString() for e in given.example_list_with_context.examples]
    else:
        examples = [example.SerializeToString() for example in given.example_list.examples]
    if not examples:
        raise invalid_argument("Input is empty.")
    array = np.empty(len(examples), object)
    array[:] = examples
    return array


def _example_signature(model: Model, name: str, method: str) -> Signature:
    """A signature for Classify or Regress; `method` is the method_name to require, empty for any."""
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
    if signature.inputs[0].dtype != object:
        raise invalid_argument(
            f"Expected input Tensor of DT_STRING, which takes serialized tf.Examples. "
            f"Got: DT_{dtype_name(signature.inputs[0].dtype_number).upper()}"
        )
    return signature


async def _classify(
    model: Model, signature: Signature, given: input_pb2.Input
) -> classification_pb2.ClassificationResult:
    examples = serialized_examples(given)
    if len(signature.outputs) not in (1, 2):
        raise invalid_argument(f"Expected one or two output Tensors, found {len(signature.outputs)}")
    wanted = [alias for alias in ("classes", "scores") if alias in signature.outputs]
    if not wanted:
        raise invalid_argument(
            f'Expected classification signature outputs to contain at least one of "classes" or "scores". '
            f"Signature {signature.name} has: {', '.join(signature.outputs)}"
        )
    outputs = await model.predict(signature, {signature.inputs[0].alias: examples}, wanted)
    classes, scores = outputs.get("classes"), outputs.get("scores")
    count = len(examples)
    _check_scores(outputs, count)
    if classes is not None and scores is not None and classes.shape != scores.shape:
        raise invalid_argument(f"Classes and scores do not match: shapes {classes.shape} and {scores.shape}")
    result = classification_pb2.ClassificationResult()
    for index in range(count):
        classifications = result.classifications.add()
        labels = [_text(label) for label in classes[index]] if classes is not None else [""] * len(scores[index])  # type: ignore[index]
        values = scores[index].tolist() if scores is not None else [0.0] * len(labels)
        for label, value in zip(labels, values, strict=True):
            classifications.classes.add(label=label, score=value)
    return result


def _check_scores(outputs: Mapping[str, Array], count: int) -> None:
    for alias, array in outputs.items():
        if array.ndim != 2:
            raise invalid_argument(f"Expected Tensor shape: [batch_size num_classes] but got {list(array.shape)}")
        if alias == "classes" and array.dtype != object:
            raise invalid_argument(f"Expected classes Tensor of DT_STRING. Got: {_dtype(array)}")
        if alias == "scores" and array.dtype != np.float32:
            raise invalid_argument(f"Expected scores Tensor of DT_FLOAT. Got: {_dtype(array)}")
        if len(array) != count:
            raise invalid_argument(f"Expected {alias} output batch size of {count}. Got: {len(array)}")


async def _regress(model: Model, signature: Signature, given: input_pb2.Input) -> regression_pb2.RegressionResult:
    examples = serialized_examples(given)
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
    result = regression_pb2.RegressionResult()
    for value in values.ravel().tolist():
        result.regressions.add(value=value)
    return result


def _dtype(array: Array) -> str:
    return f"DT_{dtype_name(number_of(array.dtype)).upper()}"


def _text(label: Any) -> str:
    return label.decode(errors="replace") if isinstance(label, bytes) else str(label)

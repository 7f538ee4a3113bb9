"""Classify, Regress and MultiInference: tf.Examples in, classes and numbers out."""

import grpc
import pytest
import tensorflow as tf
from tensorflow_serving.apis import classification_pb2, inference_pb2, regression_pb2

from tests.patience import PATIENCE_S

pytestmark = pytest.mark.process

MODEL = "half_plus_two"
CLASSIFY, REGRESS = "tensorflow/serving/classify", "tensorflow/serving/regress"


def example(**features: float) -> tf.train.Example:
    lists = {name: tf.train.Feature(float_list=tf.train.FloatList(value=[value])) for name, value in features.items()}
    return tf.train.Example(features=tf.train.Features(feature=lists))


def classification(signature="classify_x_to_y", examples=()):
    request = classification_pb2.ClassificationRequest()
    request.model_spec.name, request.model_spec.signature_name = MODEL, signature
    request.input.example_list.examples.extend(examples)
    return request


def regression(signature="regress_x_to_y", examples=()):
    request = regression_pb2.RegressionRequest()
    request.model_spec.name, request.model_spec.signature_name = MODEL, signature
    request.input.example_list.examples.extend(examples)
    return request


def multi_inference(*tasks):
    request = inference_pb2.MultiInferenceRequest()
    for name, signature, method in tasks:
        task = request.tasks.add(method_name=method)
        task.model_spec.name, task.model_spec.signature_name = name, signature
    request.input.example_list.examples.append(example(x=2.0))
    return request


def refusal(call, request):
    with pytest.raises(grpc.RpcError) as caught:
        call(request, timeout=PATIENCE_S)
    return caught.value.code().name, caught.value.details()


def test_classify_gives_a_score_for_each_class_of_each_example(predictions):
    response = predictions.Classify(classification(examples=[example(x=2.0), example(x=4.0)]), timeout=PATIENCE_S)
    assert [[one.score for one in each.classes] for each in response.result.classifications] == [[3.0], [4.0]]
    spec = response.model_spec
    assert (spec.name, spec.signature_name, spec.version.value) == (MODEL, "classify_x_to_y", 123)


def test_regress_gives_a_number_for_each_example(predictions):
    response = predictions.Regress(regression(examples=[example(x=2.0), example(x=4.0), example()]), timeout=PATIENCE_S)
    assert [each.value for each in response.result.regressions] == [3.0, 4.0, 2.0]


def test_the_context_adds_to_every_example_and_the_example_wins(predictions):
    request = regression("regress_x2_to_y3")
    given = request.input.example_list_with_context
    given.context.CopyFrom(example(x2=2.0))
    given.examples.extend([example(x=1.0), example(x2=4.0)])
    assert [each.value for each in predictions.Regress(request, timeout=PATIENCE_S).result.regressions] == [4.0, 5.0]


def test_regress_goes_by_the_graphs_dtype_and_not_by_the_signatures(predictions):
    for signature in ("regress_without_dtype", "regress_of_another_dtype"):
        request = regression(signature, examples=[example(x=2.0), example(x=4.0)])
        request.model_spec.name = "half_plus_three"
        result = predictions.Regress(request, timeout=PATIENCE_S).result
        assert [each.value for each in result.regressions] == [4.0, 5.0]


def test_a_signature_that_takes_numbers_takes_no_examples(predictions):
    request = regression("regress_of_numbers", examples=[example(x=2.0)])
    request.model_spec.name = "half_plus_three"
    code, text = refusal(predictions.Regress, request)
    assert code == "INVALID_ARGUMENT" and "Expects arg[0] to be float but string is provided" in text


def test_multi_inference_answers_each_task_on_the_same_input(predictions):
    request = multi_inference((MODEL, "regress_x_to_y", REGRESS), (MODEL, "classify_x_to_y", CLASSIFY))
    first, second = predictions.MultiInference(request, timeout=PATIENCE_S).results
    assert first.regression_result.regressions[0].value == 3.0
    assert second.classification_result.classifications[0].classes[0].score == 3.0
    assert [each.model_spec.signature_name for each in (first, second)] == ["regress_x_to_y", "classify_x_to_y"]
    assert first.model_spec.version.value == 123


@pytest.mark.parametrize(
    "signature, examples, code, text",
    [
        ("nope", [example(x=1.0)], "INVALID_ARGUMENT", "No signature was found with the name: nope"),
        ("classify_x_to_y", [], "INVALID_ARGUMENT", "Input is empty."),
        ("serving_default", [example(x=1.0)], "INVALID_ARGUMENT", 'at least one of "classes" or "scores"'),
        ("regress_x_to_y", [example(x=1.0)], "INVALID_ARGUMENT", 'at least one of "classes" or "scores"'),
    ],
    ids=["unknown signature", "no examples", "no examples signature", "a regression"],
)
def test_classify_refuses(predictions, signature, examples, code, text):
    found_code, found_text = refusal(predictions.Classify, classification(signature, examples))
    assert found_code == code and text in found_text


@pytest.mark.parametrize(
    "tasks, code, text",
    [
        ([(MODEL, "nope", REGRESS)], "INVALID_ARGUMENT", "Requested signature not found in model graph: nope"),
        ([(MODEL, "regress_x_to_y", REGRESS)] * 2, "INVALID_ARGUMENT", "Duplicate evaluation of signature"),
        (
            [(MODEL, "regress_x_to_y", REGRESS), ("several", "double", REGRESS)],
            "INVALID_ARGUMENT",
            "All ModelSpecs in a MultiInferenceRequest must access the same model name.",
        ),
        ([("", "regress_x_to_y", REGRESS)], "INVALID_ARGUMENT", "Found ModelSpec with an empty model name."),
        ([(MODEL, "regress_x_to_y", "predict")], "UNIMPLEMENTED", "Unsupported signature method_name: predict"),
    ],
    ids=["unknown signature", "twice", "two models", "no name", "unknown method"],
)
def test_multi_inference_refuses(predictions, tasks, code, text):
    found_code, found_text = refusal(predictions.MultiInference, multi_inference(*tasks))
    assert found_code == code and text in found_text

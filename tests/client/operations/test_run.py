"""`run` and `classify`: any tensors, any examples."""

import contextlib
import tracemalloc

import numpy as np
import pytest

from inkling.client import InvalidInput, InvalidResponse, ServedModel
from inkling.client.protocol import wire_pb2 as wire
from inkling.client.protocol.tensors import to_tensor
from tests.client.both import SIX_IMAGES
from tests.client.stub_server import answered, echo, predict_response


def test_run_takes_and_gives_any_tensors(start, make_client):
    inputs = {
        "text": np.array([["a", "ä"]]),
        "scalar": 2.5,
        "empty": np.zeros((0, 3), np.int64),
        "complex": np.array([1j], np.complex64),
        "half": np.array([0.5], np.float16),
        "given": to_tensor([1, 2], "qint8"),
    }
    server = start(Predict=echo)
    outputs = make_client(server).run("anything", inputs, signature="other", version=7, outputs=["text", "scalar"])
    assert outputs["text"].tolist() == [[b"a", "ä".encode()]]
    assert outputs["scalar"].shape == () and outputs["scalar"].dtype == np.float32
    assert outputs["empty"].shape == (0, 3) and outputs["half"].dtype == np.float16
    assert outputs["given"].tolist() == [1, 2]
    assert (outputs.model_name, outputs.version, outputs.signature) == ("anything", 7, "other")
    assert "scalar: float32 []\n2.5" in str(outputs)
    (request,) = server.requests
    assert list(request.output_filter) == ["text", "scalar"] and request.model_spec.version.value == 7


def test_a_broken_tensor_is_the_callers_mistake(start, make_client):
    broken = to_tensor(np.zeros(4, np.float32))
    broken.tensor_content = b"short"
    server = start()
    with pytest.raises(InvalidInput, match=r"input 'x': a tensor of float32 \[4\] has 5 bytes of content"):
        make_client(server, max_rows=2).run("m", {"x": broken}, batched=True)
    assert not server.requests


@pytest.mark.parametrize(
    "ask",
    [
        lambda client: client.predict(SIX_IMAGES, model="\udcff"),
        lambda client: client.predict(SIX_IMAGES, label="\udcff"),
        lambda client: client.run("m", {"\udcff": SIX_IMAGES}),
        lambda client: client.run("m", {"x": ["\udcff"]}),
        lambda client: client.run("m", {"x": SIX_IMAGES}, outputs=["\udcff"]),
        lambda client: client.classify({"\udcff": 1}),
        lambda client: client.classify({"text": "\udcff"}),
        lambda client: client.reload([ServedModel(name="\udcff", base_path="/models")]),
        lambda client: client.health("\udcff"),
    ],
    ids=["model", "label", "input", "text", "output", "feature", "text of a feature", "served model", "service"],
)
def test_what_is_no_text_is_refused_before_sending(start, make_client, ask):
    server = start()
    with pytest.raises(InvalidInput, match=r"'\\udcff' cannot be sent: not valid Unicode"):
        ask(make_client(server))
    assert not server.requests


def test_classify_gives_labels_in_the_models_order(start, make_client):
    def behave(request, context):
        response = wire.ClassificationResponse(model_spec=answered(request, version=3))
        for example in request.input.example_list.examples:
            found = response.result.classifications.add()
            found.classes.add(label="zero", score=0.2)
            found.classes.add(label=example.features.feature["text"].bytes_list.value[0].decode(), score=0.8)
        return response

    server = start(Classify=behave)
    client = make_client(server)
    first, second = client.classify([{"text": "one"}, {"text": "two"}])
    assert [one.name for one in first.classes] == ["zero", "one"] and second.best.name == "two"
    assert str(second) == "two (0.8), zero (0.2)" and first.version == 3
    assert client.classify({"text": "x"})[0].best.name == "x"
    assert server.requests[0].model_spec.signature_name == "classify"
    with pytest.raises(InvalidInput, match="no examples to classify"):
        client.classify([])
    with pytest.raises(InvalidInput, match="feature 'x' holds 9223372036854775808; expected 9223372036854775807"):
        client.classify({"x": np.array([2**63], np.uint64)})
    with pytest.raises(InvalidInput, match="feature 'x' is not a list of values"):
        client.classify({"x": [[1], [2, 3]]})


@pytest.mark.parametrize(
    ("scores", "message"),
    [([], "no classes for example 1"), ([0.5, np.nan], "a score that is no number for example 1")],
)
def test_a_classification_without_scores_to_compare_is_a_bad_answer(start, make_client, scores, message):
    def behave(request, context):
        response = wire.ClassificationResponse(model_spec=answered(request))
        for values in ([1.0], scores):
            classes = [wire.Class(label="x", score=score) for score in values]
            response.result.classifications.add(classes=classes)
        return response

    with pytest.raises(InvalidResponse, match=message):
        make_client(start(Classify=behave)).classify([{"text": "one"}, {"text": "two"}])


def test_an_output_that_claims_more_than_it_has_costs_nothing(start, make_client):
    """60 bytes that claim a gigabyte: refused before they are it."""

    def behave(request, context):
        response = wire.PredictResponse(model_spec=answered(request))
        tensor = response.outputs["y"]
        tensor.dtype = wire.DT_FLOAT
        tensor.tensor_shape.dim.add(size=2**28)
        tensor.float_val.extend([1.0, 2.0])
        return response

    with (
        little_memory(),
        pytest.raises(InvalidResponse, match=r"output 'y': .*\[268435456\] has 2 values"),
    ):
        make_client(start(Predict=behave)).run("model", {"x": [1.0]})


@contextlib.contextmanager
def little_memory():
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < 1 << 24
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("rows", [1, 4])
def test_one_value_that_stands_for_many_is_never_copied(start, make_client, rows):
    """As one response, and as the parts of a batch, which would be joined."""

    def behave(request, context):
        sent = request.inputs["images"].tensor_shape.dim[0].size
        response = predict_response(request, classes=np.zeros(sent, np.int64))
        tensor = response.outputs["probabilities"]
        tensor.dtype = wire.DT_FLOAT
        tensor.tensor_shape.dim.extend(wire.TensorShapeProto.Dim(size=size) for size in (sent, 2**27))
        tensor.float_val.append(2.0**-27)
        return response

    client = make_client(start(Predict=behave), max_rows=1)
    with little_memory(), pytest.raises(InvalidResponse, match="'probabilities' has the shape .*one value that stands"):
        client.predict(SIX_IMAGES[:rows])

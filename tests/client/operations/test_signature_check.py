"""Inputs compared with the model's signatures before they are sent."""

import numpy as np
import pytest

from inkling.client import InvalidInput, SignatureNotFound
from inkling.client.protocol import wire_pb2 as wire
from tests.client.both import SIX_IMAGES
from tests.client.stub_server import echo, metadata, metadata_response, predict

SIGNATURE = {
    "inputs": {"x": (wire.DT_FLOAT, (-1, 2)), "names": (wire.DT_STRING, (-1,))},
    "outputs": {"y": (wire.DT_FLOAT, None)},
}

GOOD = {"x": np.zeros((1, 2), np.float32), "names": ["a"]}


@pytest.mark.parametrize(
    ("inputs", "outputs", "message"),
    [
        ({"x": GOOD["x"], "name": ["a"]}, [], "there is no input 'name'; there are: names, x; did you mean 'names'?"),
        ({"x": GOOD["x"]}, [], r"an input is missing: 'names' \(string \[-1\]\)"),
        (GOOD | {"x": np.zeros((1, 2))}, [], r"input 'x' is float64, expected float32 .*\.astype\('float32'\)"),
        (GOOD | {"x": np.zeros((1, 3), np.float32)}, [], r"input 'x' has shape \[1, 3\], expected \[-1, 2\]"),
        (GOOD | {"x": np.zeros(2, np.float32)}, [], r"input 'x' has shape \[2\], expected \[-1, 2\]"),
        (GOOD, ["z"], "there is no output 'z'; there are: y"),
    ],
    ids=["unknown", "missing", "dtype", "dimension", "rank", "output"],
)
def test_inputs_are_checked_before_sending_when_asked(start, make_client, inputs, outputs, message):
    server = start(
        Predict=echo, GetModelMetadata=lambda request, _: metadata_response(request, serving_default=SIGNATURE)
    )
    client = make_client(server, check_inputs=True)
    client.run("m", GOOD)
    with pytest.raises(InvalidInput, match=message):
        client.run("m", inputs, outputs=outputs)
    with pytest.raises(SignatureNotFound, match="no signature 'serve_default'; .*did you mean 'serving_default'"):
        client.run("m", GOOD, signature="serve_default")
    assert [type(request) for request in server.requests].count(wire.PredictRequest) == 1
    client.run("m", inputs, outputs=outputs, check=False)


def test_metadata_for_checks_is_fetched_once_for_each_version(start, make_client):
    versions = [1]

    def describe(request, context):
        answer = metadata(request, context)
        answer.model_spec.version.value = versions[-1]
        return answer

    def behave(request, context):
        answer = predict(request, context)
        answer.model_spec.version.value = versions[-1]
        return answer

    server = start(Predict=behave, GetModelMetadata=describe)
    client = make_client(server, check_inputs=True)

    def fetched():
        return [type(request) for request in server.requests].count(wire.GetModelMetadataRequest)

    for _ in range(3):
        client.predict(SIX_IMAGES)
    assert fetched() == 1
    versions.append(2)
    client.predict(SIX_IMAGES)  # its answer tells that version 2 is served by now
    client.predict(SIX_IMAGES)
    client.predict(SIX_IMAGES)
    assert fetched() == 2


def test_a_check_that_fails_asks_the_server_again_first(start, make_client):
    signatures = [SIGNATURE]
    server = start(
        Predict=echo, GetModelMetadata=lambda request, _: metadata_response(request, serving_default=signatures[-1])
    )
    client = make_client(server, check_inputs=True)
    client.run("m", GOOD)
    signatures.append({"inputs": {"z": (wire.DT_INT32, None)}, "outputs": {"y": (wire.DT_FLOAT, None)}})
    assert client.run("m", {"z": 3})["z"] == 3

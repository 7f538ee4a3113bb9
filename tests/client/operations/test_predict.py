"""`predict`: images in many forms, and what comes back; `read` with numbers that are none."""

import numpy as np
import pytest
from PIL import Image

from inkling.client import InvalidInput, InvalidResponse
from inkling.client.protocol import wire_pb2 as wire
from inkling.client.protocol.tensors import to_tensor
from tests.client.both import SIX_IMAGES
from tests.client.stub_server import predict_response


def test_predict_gives_classes_and_probabilities(start, make_client):
    prediction = make_client(start()).predict(SIX_IMAGES)
    assert prediction.classes.tolist() == (SIX_IMAGES[:, 0, 0] % 10).tolist() and prediction.classes.dtype == np.int64
    assert prediction.probabilities.shape == (6, 10) and prediction.probabilities.dtype == np.float32
    assert (prediction.model_name, prediction.version, len(prediction)) == ("mnist", 1, 6)
    assert list(prediction)[1] == (6, pytest.approx(0.91))
    assert str(prediction).splitlines()[2] == "    1      6        91.0%"


@pytest.mark.parametrize(
    "images",
    [
        SIX_IMAGES[1],
        [SIX_IMAGES[1]],
        SIX_IMAGES[1].tolist(),
        SIX_IMAGES[1:2, :, :, None],
        SIX_IMAGES[1].astype(np.int64),
        Image.fromarray(SIX_IMAGES[1]),
        [Image.fromarray(SIX_IMAGES[1])],
        np.asfortranarray(SIX_IMAGES[1:2]),
    ],
    ids=["one", "list of one", "plain lists", "with a channel", "int64", "pillow", "list of pillow", "fortran"],
)
def test_images_come_in_many_forms(start, make_client, images):
    server = start()
    prediction = make_client(server).predict(images)
    assert str(prediction) == "6 (91.0%)"
    assert server.requests[0].inputs["images"] == to_tensor(SIX_IMAGES[1:2])


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (SIX_IMAGES / 255, r"dtype float64; expected uint8, 0 \(paper\) to 255 \(ink\)"),
        (SIX_IMAGES > 0, "dtype bool; expected uint8"),
        (SIX_IMAGES.astype(int) - 1, "values from -1 to 254"),
        (np.zeros((2, 28, 28, 3), np.uint8), r"shape \[2, 28, 28, 3\]; expected \[n, 28, 28\]"),
        (np.zeros(784, np.uint8), r"shape \[784\]"),
        ([SIX_IMAGES[0], SIX_IMAGES[0, 1:]], "not all of one size"),
    ],
    ids=["float", "bool", "negative", "colour", "flat", "uneven"],
)
def test_what_is_no_image_is_refused_before_sending(start, make_client, images, message):
    server = start()
    with pytest.raises(InvalidInput, match=message):
        make_client(server).predict(images)
    assert not server.requests


def test_no_images_give_no_classes(start, make_client):
    prediction = make_client(start()).predict(np.zeros((0, 28, 28), np.uint8))
    assert len(prediction) == 0 and prediction.probabilities.shape == (0, 10)


def test_a_label_goes_out_as_a_label(start, make_client):
    server = start()
    client = make_client(server, model="other")
    client.predict(SIX_IMAGES, label="stable")
    assert server.requests[0].model_spec.version_label == "stable" and server.requests[0].model_spec.name == "other"
    with pytest.raises(InvalidInput, match="version=1 and label='stable' were given; give one of them"):
        client.predict(SIX_IMAGES, version=1, label="stable")


@pytest.mark.parametrize("version", [2**63, -(2**70)])
def test_a_version_beyond_64_bits_is_refused(start, make_client, version):
    with pytest.raises(InvalidInput, match=f"version={version}; expected an integer of 64 bits"):
        make_client(start()).predict(SIX_IMAGES, version=version)


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        ({"probabilities": np.full((6, 10), "x")}, "probabilities of dtype object; expected integers and real"),
        ({"classes": np.zeros(6, np.float32)}, "classes of dtype float32"),
    ],
    ids=["text", "float classes"],
)
def test_probabilities_that_are_none_are_bad_answers(start, make_client, outputs, message):
    good = {"classes": np.zeros(6, np.int64), "probabilities": np.full((6, 10), 0.1, np.float32)}
    server = start(Predict=lambda request, context: predict_response(request, **good | outputs))
    with pytest.raises(InvalidResponse, match=message):
        make_client(server).predict(SIX_IMAGES)


def test_a_picture_is_not_read_by_probabilities_that_are_no_numbers(start, make_client):
    def behave(request, context):
        rows = request.inputs["images"].tensor_shape.dim[0].size
        nan = np.full((rows, 10), np.nan, np.float32)
        return predict_response(request, classes=np.zeros(rows, np.int64), probabilities=nan)

    picture = np.zeros((28, 28), np.uint8)
    picture[4:24, 13:15] = 255
    with pytest.raises(InvalidResponse, match="model mnist at .*: some probabilities are NaN or infinite"):
        make_client(start(Predict=behave)).read(picture)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b"\xff\xff\xff", "3 bytes that are not a PredictResponse"),
        (b"", "the model gave no outputs; expected classes and probabilities"),
        (wire.PredictResponse(outputs={"y": to_tensor([1.0])}), "the model gave y; expected classes and probabilities"),
        (
            wire.PredictResponse(outputs={"classes": to_tensor([1]), "probabilities": to_tensor([[1.0]])}),
            r"classes \[1\] and probabilities \[1, 1\] for 6 images; expected \[6\]",
        ),
        (
            wire.PredictResponse(outputs={"classes": wire.TensorProto(dtype=1, tensor_content=b"abc")}),
            "output 'classes': a tensor of float32 .* has 3 bytes of content; expected 4",
        ),
    ],
    ids=["garbage", "empty", "other outputs", "too few rows", "broken tensor"],
)
def test_wrong_messages_are_bad_answers(start, make_client, caplog, answer, message):
    server = start(Predict=lambda request, context: answer)
    with pytest.raises(InvalidResponse, match=message) as caught:
        make_client(server).predict(SIX_IMAGES)
    assert caught.value.address == server.address and "another kind or version" in str(caught.value)
    assert not caplog.records

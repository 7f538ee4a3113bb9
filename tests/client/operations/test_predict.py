"""`predict`: images in many forms, and what comes back; `read` with numbers that are none."""

import grpc
import ml_dtypes
import numpy as np
import pytest
from PIL import Image

from inkling.client import InvalidInput, InvalidResponse
from inkling.client.operations.images import refuse_unlike_mnist
from inkling.client.protocol import wire_pb2 as wire
from inkling.client.protocol.tensors import to_tensor
from inkling.train import data
from tests.client.both import SIX_IMAGES
from tests.client.stub_server import metadata_response, predict, predict_response


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


COLOUR = np.random.default_rng(0).integers(0, 256, (1, 20, 24, 3), np.uint8)


@pytest.mark.parametrize(
    "images",
    [COLOUR, COLOUR[0], COLOUR.astype(int), Image.fromarray(COLOUR[0]), [Image.fromarray(COLOUR[0])]],
    ids=["several", "one", "int64", "pillow", "list of pillow"],
)
def test_images_in_colour_are_sent_as_they_are(start, make_client, images):
    server = start()
    make_client(server).predict(images)
    assert server.requests[0].inputs["images"] == to_tensor(COLOUR)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (SIX_IMAGES / 255, r"dtype float64; expected uint8, 0 \(paper\) to 255 \(ink\)"),
        (SIX_IMAGES > 0, "dtype bool; expected uint8"),
        (SIX_IMAGES.astype(int) - 1, "values from -1 to 254"),
        (np.zeros((2, 28, 28, 4), np.uint8), r"shape \[2, 28, 28, 4\]; expected \[n, 28, 28\]"),
        (np.zeros((28, 28, 4), np.uint8), r"shape \[28, 28, 4\] are one picture with transparency"),
        ("page.png", r"dtype <U8 are not numbers; .*read\(\) takes pictures by their files' names"),
        (np.zeros(784, np.uint8), r"shape \[784\]"),
        ([SIX_IMAGES[0], SIX_IMAGES[0, 1:]], "not all of one size"),
    ],
    ids=["float", "bool", "negative", "transparent", "one transparent", "name", "flat", "uneven"],
)
def test_what_is_no_image_is_refused_before_sending(start, make_client, images, message):
    server = start()
    with pytest.raises(InvalidInput, match=message):
        make_client(server).predict(images)
    assert not server.requests


@pytest.mark.parametrize("shape", [(784,), (5, 784), (5, 1, 784), (5, 784, 1)])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_rows_of_784_values_are_to_be_reshaped(start, make_client, shape, dtype):
    server = start()
    with pytest.raises(InvalidInput, match="rows of 784 values; reshape to 28 x 28: images.reshape"):
        make_client(server).predict(np.zeros(shape, dtype))
    assert not server.requests


ONE = np.zeros((1, 28, 28), np.uint8)
ONE[0, 4:24, 13:15] = 250
SEVERAL = np.concatenate([ONE] * 3)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (255 - ONE, "the image is light on a rim of ink; invert these: 255 - images; as_is=True sends"),
        (200 - ONE // 2, "the image is light on a rim of ink"),
        (255 - SEVERAL, "all 3 images are light on a rim of ink"),
        (np.concatenate([ONE, 255 - ONE, ONE]), "image 1 is light on a rim of ink"),
        (
            np.concatenate([255 - ONE, ONE] * 7),
            r"7 of 14 images \(number 0, 2, 4, 6, 8, ...\) are light on a rim of ink",
        ),
        (ONE // 250, "values from 0 to 1; expected 0 .* multiply them by 255; as_is=True sends"),
        (SEVERAL // 250, "values from 0 to 1"),
        ((ONE // 250).astype(np.int64), "values from 0 to 1"),
        (ONE // 16, "values from 0 to 15; expected 0 .* multiply them by 17"),
    ],
    ids=["inverted", "pale", "all", "one", "many", "0 and 1", "several of 0 and 1", "int64", "0 to 15"],
)
def test_images_unlike_mnist_are_refused_unless_told(start, make_client, images, message):
    server = start()
    client = make_client(server)
    with pytest.raises(InvalidInput, match=message):
        client.predict(images)
    assert not any(isinstance(request, wire.PredictRequest) for request in server.requests)
    assert len(client.predict(images, as_is=True)) == len(images)


IMAGES_IN = {"inputs": {"images": (wire.DT_UINT8, (-1, 28, 28))}, "outputs": {}}


def of_dark_ink(request, context):
    """The metadata of a model that was trained on dark ink on light paper."""
    return metadata_response(request, serving_default=IMAGES_IN, light_on_dark=IMAGES_IN)


def test_a_model_of_dark_ink_gets_images_of_dark_ink(start, make_client):
    server = start(GetModelMetadata=of_dark_ink)
    assert len(make_client(server).predict(255 - ONE)) == 1
    assert server.requests[-1].inputs["images"] == to_tensor(255 - ONE)


def test_a_picture_is_read_by_the_signature_that_takes_light_ink(start, make_client):
    server = start(GetModelMetadata=of_dark_ink)
    client = make_client(server)
    client.read(ONE[0])
    asked = [request for request in server.requests if isinstance(request, wire.PredictRequest)]
    assert asked and {request.model_spec.signature_name for request in asked} == {"light_on_dark"}


def test_a_picture_is_read_after_the_model_was_exchanged_for_one_of_light_ink(start, make_client):
    def behave(request, context):
        if request.model_spec.signature_name:
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, 'Serving signature key "light_on_dark" not found.')
        return predict(request, context)

    server = start(GetModelMetadata=of_dark_ink, Predict=behave)
    assert make_client(server).read(ONE[0])


@pytest.mark.parametrize("status", [grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.PERMISSION_DENIED])
def test_a_server_that_tells_no_signatures_reads_and_refuses_as_for_mnist(start, make_client, status):
    server = start(GetModelMetadata=lambda request, context: context.abort(status, "no"))
    client = make_client(server)
    assert client.read(ONE[0])
    with pytest.raises(InvalidInput, match="light on a rim of ink"):
        client.predict(255 - ONE)


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((2, 28, 28), np.uint8),
        np.full((2, 28, 28), 255, np.uint8),
        np.random.default_rng(0).integers(0, 256, (2000, 28, 28), np.uint8),
        np.eye(28, dtype=np.uint8)[None, :3, :3],
    ],
    ids=["blank", "full", "noise", "tiny"],
)
def test_what_may_be_anything_is_sent(start, make_client, images):
    assert len(make_client(start()).predict(images)) == len(images)


def test_no_image_of_mnist_is_unlike_it():
    dataset = data.load()
    for images in (dataset.train_images, dataset.test_images):
        refuse_unlike_mnist(images)
    for image in dataset.test_images[:500]:
        with pytest.raises(InvalidInput, match="light on a rim of ink"):
            refuse_unlike_mnist(255 - image[None])


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
        ({"classes": np.array([0, 1, 2, 3, 4, 99])}, "classes from 0 to 99; expected those of its 10 probabilities"),
        ({"classes": np.array([0, 1, 2, 3, 4, -1])}, "classes from -1 to 4; expected"),
        ({"probabilities": np.full((6, 10), np.nan, np.float32)}, "some probabilities are NaN or infinite"),
        ({"probabilities": np.full((6, 10), 0.5, np.float32)}, r"0.5, 0.5, .* for image 0, which add up to 5;"),
        (
            {"probabilities": np.float32([[2, -1] + [0] * 8] * 6)},
            "probabilities 2, -1, 0.* add up to 1; expected 0 to 1",
        ),
        ({"probabilities": np.zeros((6, 0), np.float32)}, "expected those of its 0 probabilities"),
        (
            {"probabilities": np.float32([[0.1, 0.7, 0.2]] * 6)},
            "class 0 for image 0, whose most probable one is 1",
        ),
    ],
    ids=["text", "float classes", "class 99", "class -1", "NaN", "sum", "negative", "none", "another class"],
)
def test_probabilities_that_are_none_are_bad_answers(start, make_client, outputs, message):
    good = {"classes": np.zeros(6, np.int64), "probabilities": np.full((6, 10), 0.1, np.float32)}
    server = start(Predict=lambda request, context: predict_response(request, **good | outputs))
    with pytest.raises(InvalidResponse, match=message):
        make_client(server).predict(SIX_IMAGES)


@pytest.mark.parametrize("probabilities", [[0.5] * 10, [2, -1] + [0] * 8, [np.nan] * 10, [np.inf] + [0] * 9])
def test_one_image_is_checked_as_many_are(start, make_client, probabilities):
    outputs = {"classes": np.zeros(1, np.int64), "probabilities": np.float32([probabilities])}
    server = start(Predict=lambda request, context: predict_response(request, **outputs))
    with pytest.raises(InvalidResponse, match="probabilities"):
        make_client(server).predict(SIX_IMAGES[0])


@pytest.mark.parametrize("dtype", [np.float16, np.float64, ml_dtypes.bfloat16])
def test_probabilities_of_little_precision_add_up(start, make_client, dtype):
    exact = np.random.default_rng(0).dirichlet(np.ones(10), size=6)
    outputs = {"classes": exact.argmax(axis=1), "probabilities": exact.astype(dtype)}
    server = start(Predict=lambda request, context: predict_response(request, **outputs))
    assert len(make_client(server).predict(SIX_IMAGES)) == 6


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

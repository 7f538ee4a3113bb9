"""The twenty pictures, and others, read by a real server with a really trained model."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from inkling.client import Client
from inkling.train import data

pytestmark = pytest.mark.process

PICTURES = Path(__file__).parent / "pictures"
TRUTH = json.loads((PICTURES / "truth.json").read_text())


@pytest.fixture(scope="module")
def client(digit_server):
    with Client(digit_server) as client:
        yield client


@pytest.fixture(scope="module")
def digits():
    dataset = data.load()
    return dataset.test_images, dataset.test_labels


@pytest.mark.parametrize("name", TRUTH)
def test_pictures_of_twenty_styles_are_read(client, name):
    assert client.read(PICTURES / name).text == TRUTH[name]


def test_a_reading_tells_where_each_digit_is_and_how_sure_it_is(client):
    reading = client.read(PICTURES / "two_lines.jpg")
    assert reading.model_version == 1
    assert ["".join(digit.label for digit in line) for line in reading.lines] == TRUTH["two_lines.jpg"].split("\n")
    for line in reading.lines:
        lefts = [digit.box.left for digit in line]
        assert lefts == sorted(lefts)
    height, width = reading.picture.shape[:2]
    for digit in reading.digits:
        assert 0 <= digit.box.left < digit.box.right <= width and 0 <= digit.box.top < digit.box.bottom <= height
        assert sum(digit.probabilities) == pytest.approx(1, abs=1e-4)
        assert digit.probability == max(digit.probabilities) == digit.probabilities[int(digit.label)]
        assert digit.image.shape == (28, 28) and digit.image.dtype == np.uint8


def test_boxes_are_in_the_pixels_of_the_given_picture_however_large(client):
    small = Image.open(PICTURES / "clean.jpg")
    large = small.resize((small.width * 8, small.height * 8), Image.Resampling.BICUBIC)
    assert max(large.size) > 2000  # so that it is worked on at a smaller size
    for one, other in zip(client.read(small).digits, client.read(large).digits, strict=True):
        assert one.label == other.label
        assert abs(one.box.left * 8 - other.box.left) <= 24 and abs(one.box.bottom * 8 - other.box.bottom) <= 24


def test_an_mnist_image_is_read_as_the_model_reads_it(client, digits):
    images, labels = digits
    read = [client.read(image).text for image in images[:60]]
    right = np.mean([text == str(label) for text, label in zip(read, labels[:60], strict=True)])
    assert right > 0.93
    assert [client.read(255 - image).text for image in images[:10]] == read[:10]


def test_json_has_everything_but_the_pixels(client):
    reading = client.read(PICTURES / "two_lines.jpg")
    described = json.loads(json.dumps(reading.to_json()))
    assert described["text"] == reading.text
    assert [line["text"] for line in described["lines"]] == reading.text.split("\n")
    first = described["lines"][0]["digits"][0]
    assert set(first) == {"label", "probability", "probabilities", "box", "doubtful", "is_digit", "why"}
    assert first["box"] == [getattr(reading.digits[0].box, side) for side in ("left", "top", "right", "bottom")]


def test_the_drawing_has_the_boxes_in_it(client):
    reading = client.read(PICTURES / "clean.jpg")
    drawn = np.asarray(reading.draw()).astype(int)
    assert drawn.shape == reading.picture.shape
    box = reading.digits[0].box
    edge = drawn[box.bottom - 1, box.left : box.right]
    assert (np.abs(edge - [23, 128, 61]).sum(axis=1) < 30).mean() > 0.9


def test_an_empty_page_reads_as_nothing(client):
    reading = client.read(np.full((200, 300), 255, np.uint8))
    assert reading.text == "" and not reading.confident and reading.digits == ()
    assert str(reading) == "(nothing to read)"
    assert reading.draw().size[0] >= 300


def shape(draw_it):
    image = Image.new("L", (240, 240), 255)
    draw_it(ImageDraw.Draw(image))
    return image


@pytest.mark.parametrize(
    "image",
    [
        shape(lambda draw: draw.polygon([(120, 40), (40, 190), (200, 190)], outline=0, width=12)),
        shape(lambda draw: draw.line((60, 60, 180, 180), fill=0, width=14) or draw.line((180, 60, 60, 180), 0, 14)),
        shape(lambda draw: draw.line((40, 120, 200, 120), fill=0, width=14)),
    ],
    ids=["triangle", "cross", "dash"],
)
def test_what_is_no_digit_is_marked_or_left_out(client, image):
    assert not client.read(image).confident

"""What pictures say: the choice among cuts, the marks, and the twenty pictures read by a real server."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from inkling.client import Client
from inkling.client.reading.best_path import Costs, best_path, candidate_cost
from inkling.client.reading.mnist_form import upright
from inkling.client.reading.novelty import outlier_scores
from inkling.client.reading.page import VIEWS, Box, Candidate, Page, PageLine, find_digits
from inkling.client.reading.result import Reading, read_page
from inkling.train import data

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


def page_of(*candidates, cuts=(0.0,), images=None):
    number = 1 + max(candidate.number for candidate in candidates)
    images = np.zeros((number * VIEWS, 28, 28), np.uint8) if images is None else images
    return Page(np.zeros((40, 60, 3), np.uint8), images, (PageLine(cuts, candidates),))


def candidate(start, stop, number, *, aspect=0.7, height=1.0, solidity=0.3):
    return Candidate(start, stop, Box(10 * start, 0, 10 * stop, 20), number, aspect, height, solidity)


def sure_of(label, probability=0.999):
    probabilities = np.full(10, (1 - probability) / 9)
    probabilities[label] = probability
    return probabilities


def read_with(page, *said):
    return Reading.of(page, np.repeat(np.stack(said), VIEWS, axis=0))


@pytest.fixture
def seven(digits):
    images, labels = digits
    return images[np.flatnonzero(labels == 7)[:1]].repeat(VIEWS, axis=0)


def test_a_clear_digit_has_no_mark(seven):
    reading = read_with(page_of(candidate(0, 1, 0), images=seven), sure_of(7))
    assert reading.text == "7" and reading.confident and reading.marks() == []


def test_a_low_probability_is_marked_with_both_choices(seven):
    probabilities = np.zeros(10)
    probabilities[[7, 1]] = 0.6, 0.4
    reading = read_with(page_of(candidate(0, 1, 0), images=seven), probabilities)
    assert reading.text == "7" and not reading.confident
    assert reading.marks() == ["line 1, digit 1 (7): looks like 7 or 1 (0.60 / 0.40)"]


def test_views_that_disagree_are_marked(seven):
    page = page_of(candidate(0, 1, 0), images=seven)
    reading = Reading.of(page, np.stack([sure_of(7), sure_of(1, 0.9)]))
    assert reading.digits[0].doubtful and "looks like 7 or 1" in reading.digits[0].why


@pytest.mark.parametrize(
    ("given", "why"),
    [({"aspect": 2.5}, "2.5 times as wide as high"), ({"solidity": 0.95, "aspect": 1.0}, "a filled spot")],
    ids=["dash", "spot"],
)
def test_shapes_that_no_digit_has_are_written_as_a_question_mark(seven, given, why):
    reading = read_with(page_of(candidate(0, 1, 0, **given), images=seven), sure_of(7))
    assert reading.text == "?" and not reading.digits[0].is_digit
    assert why in reading.digits[0].why


def test_a_guess_among_ten_is_no_digit(seven):
    reading = read_with(page_of(candidate(0, 1, 0), images=seven), np.full(10, 0.1))
    assert reading.text == "?" and "nothing in particular" in reading.marks()[0]


def test_probabilities_of_another_model_are_refused(seven):
    with pytest.raises(ValueError, match=r"shape \[2, 26\], expected \[2, 10\]"):
        Reading.of(page_of(candidate(0, 1, 0), images=seven), np.zeros((2, 26)))


NOT_STRANGE = np.zeros((3, 10))


def test_the_way_through_a_line_is_the_cheapest_of_all_ways():
    """Against every way through lines of up to five slices, added up one by one."""
    random = np.random.default_rng(3)
    for _ in range(60):
        slices = int(random.integers(1, 6))
        spans = [(a, b) for a in range(slices) for b in range(a + 1, slices + 1)]
        line = PageLine(
            tuple(random.choice([0.0, 0.7, 1.4], size=slices).tolist()),
            tuple(candidate(a, b, i, aspect=float(random.uniform(0.2, 1.5))) for i, (a, b) in enumerate(spans)),
        )
        probabilities = random.dirichlet(np.full(10, 0.2), size=len(spans))
        strange = random.uniform(0.4, 1.6, (len(spans), 10))
        chosen = best_path(line, probabilities, strange)
        cost = {}
        for each in line.candidates:
            cost[each.start, each.stop] = candidate_cost(
                each, line, probabilities[each.number], strange[each.number], Costs()
            )

        def cheapest(place, cost=cost, slices=slices):
            if place == slices:
                return 0.0
            return min(cost[place, stop] + cheapest(stop) for stop in range(place + 1, slices + 1))

        total = sum(cost[choice.candidate.start, choice.candidate.stop] for choice in chosen)
        assert total == pytest.approx(cheapest(0))
        assert all(choice.margin >= -1e-9 for choice in chosen)


def test_two_good_halves_win_over_a_poor_whole():
    line = PageLine((0.0, 0.5), (candidate(0, 1, 0), candidate(1, 2, 1), candidate(0, 2, 2, aspect=1.4)))
    chosen = best_path(line, np.stack([sure_of(0), sure_of(7), sure_of(9, 0.6)]), NOT_STRANGE)
    assert [choice.candidate.number for choice in chosen] == [0, 1]


def test_a_good_whole_wins_over_two_halves():
    line = PageLine((0.0, 2.0), (candidate(0, 1, 0, aspect=0.2), candidate(1, 2, 1, aspect=0.2), candidate(0, 2, 2)))
    chosen = best_path(line, np.stack([sure_of(6, 0.5), sure_of(1, 0.9), sure_of(0)]), NOT_STRANGE)
    assert [choice.candidate.number for choice in chosen] == [2]


def test_a_blot_is_left_out():
    line = PageLine((0.0, 0.0), (candidate(0, 1, 0), candidate(1, 2, 1, height=0.25, aspect=1.0)))
    chosen = best_path(line, np.stack([sure_of(7), sure_of(1, 0.4)]), NOT_STRANGE)
    assert [choice.candidate.number for choice in chosen] == [0]


def test_digits_are_not_strange_and_other_shapes_are(digits):
    images, labels = (values[:300] for values in digits)
    known = outlier_scores(np.stack([upright(image) for image in images]))[np.arange(300), labels]
    assert np.median(known) < 0.8 and (known > 1.3).mean() <= 0.01
    noise = np.random.default_rng(0).integers(0, 256, (5, 28, 28)).astype(np.uint8)
    assert (outlier_scores(noise) > 1.2).all()
    assert outlier_scores(noise[:0]).shape == (0, 10)


def test_read_page_takes_any_classifier():
    asked = []

    def predict(images):
        asked.append(images.shape)
        return np.tile(sure_of(1), (len(images), 1))

    picture = Image.new("L", (120, 120), 255)
    assert read_page(find_digits(picture), predict).text == "" and asked == []
    ImageDraw.Draw(picture).line((60, 25, 60, 95), fill=0, width=8)
    assert read_page(find_digits(picture), predict).text == "1"
    assert asked == [(VIEWS, 28, 28)]

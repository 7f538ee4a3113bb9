"""Pictures in, candidates in MNIST's form out: colours, light, paper, lines, cuts; no model is asked."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from inkling.client.reading.ink import find_ink
from inkling.client.reading.page import VIEWS, UnreadablePicture, find_digits
from tests.client.reading.made_up import ONE, OTHER, strokes

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("ink", "paper"),
    [("black", "white"), ("white", "black"), ("#c01818", "#f4e9a0"), ("#f0e060", "#204030"), ("#909090", "#b4b4b4")],
    ids=["plain", "light on dark", "red on yellow", "chalk", "faint"],
)
def test_ink_of_any_colour_is_told_from_paper(ink, paper):
    page = find_digits(strokes(ONE, OTHER, ink=ink, paper=paper))
    assert [candidate.box.left // 10 for candidate in page.lines[0].candidates[:1]] == [5]
    assert len(page.lines[0].cuts) == 2
    assert page.images[0].max() == 255 and page.images[0][0, 0] == 0


def test_colours_of_equal_lightness_are_told_apart():
    page = find_digits(strokes(ONE, OTHER, ink=(200, 60, 60), paper=(30, 133, 60)))
    assert len(page.lines[0].cuts) == 2


def test_uneven_light_is_no_ink():
    slope = np.linspace(255, 60, 400)[None, :] * np.ones((200, 1))
    photo = np.repeat(slope[..., None], 3, axis=2)
    photo[60:140, 100:110] *= 0.3
    photo[60:140, 300:310] *= 0.3
    page = find_digits(photo.astype(np.uint8))
    assert len(page.lines) == 1 and len(page.lines[0].cuts) == 2


def test_ruled_lines_are_taken_out_and_strokes_across_them_stay():
    image = strokes(ONE, OTHER, (60, 80, 60, 80))
    ruled = np.asarray(image).copy()
    for y in (30, 78, 126):
        rule = ruled[y : y + 2]
        rule[rule > 128] = 170
    ink = find_ink(ruled)
    columns = ink.mask.any(axis=0)
    assert not columns[:50].any() and not columns[160:].any()
    assert ink.mask[45:115, 60].all()


def test_squared_paper_leaves_nothing_behind():
    page = np.full((200, 300, 3), 250, np.uint8)
    page[::25] = page[:, ::25] = (200, 210, 235)
    page[50:150, 150:160] = 30
    found = find_digits(page)
    assert len(found.lines) == 1 and len(found.lines[0].cuts) == 1


def test_specks_are_dropped():
    image = strokes(ONE, OTHER)
    draw = ImageDraw.Draw(image)
    for x, y in [(10, 10), (100, 20), (200, 150), (30, 140)]:
        draw.ellipse((x, y, x + 3, y + 3), fill="black")
    assert len(find_digits(image).lines[0].cuts) == 2


def test_lines_come_from_top_to_bottom_and_digits_from_left_to_right():
    lower = tuple(value + (140 if i % 2 else 0) for i, value in enumerate(OTHER))
    page = find_digits(strokes(lower, OTHER, ONE, size=(240, 300)))
    boxes = [line.candidates[0].box for line in page.lines]
    assert [len(line.cuts) for line in page.lines] == [2, 1]
    assert boxes[0].top < boxes[1].top and boxes[0].left < 70


def test_lines_that_run_askew_stay_apart():
    def stroke(x, line):
        y = 40 + 110 * line + round(0.12 * x)
        return (x, y, x, y + 70)

    page = find_digits(strokes(*(stroke(x, line) for line in (0, 1) for x in range(40, 700, 60)), size=(740, 340)))
    assert [len(line.cuts) for line in page.lines] == [11, 11]


def test_touching_digits_are_offered_apart():
    ring = Image.new("RGB", (300, 160), "white")
    draw = ImageDraw.Draw(ring)
    draw.ellipse((60, 40, 130, 120), outline="black", width=10)
    draw.ellipse((124, 40, 194, 120), outline="black", width=10)
    line = find_digits(ring).lines[0]
    boxes = [(candidate.box.left, candidate.box.right) for candidate in line.candidates]
    assert any(abs(left - 60) < 4 and abs(right - 128) < 6 for left, right in boxes)
    assert any(abs(left - 126) < 6 and abs(right - 194) < 4 for left, right in boxes)
    assert any(cut > 0 for cut in line.cuts)


@pytest.mark.parametrize("paper", [255, 0, 128])
def test_an_empty_page_has_no_digits(paper):
    noise = np.random.default_rng(0).normal(paper, 4, (200, 300, 3))
    page = find_digits(np.clip(noise, 0, 255).astype(np.uint8))
    assert page.images.shape == (0, 28, 28) and page.lines == ()


def test_each_candidate_has_its_views():
    page = find_digits(strokes(ONE, OTHER))
    assert page.images.dtype == np.uint8
    assert len(page.images) == VIEWS * sum(len(line.candidates) for line in page.lines)


def test_a_page_of_confetti_is_refused_rather_than_read_forever():
    random = np.random.default_rng(1)
    confetti = (random.random((1600, 1600)) > 0.72).repeat(2, 0)[:1600] * np.uint8(255)
    try:
        page = find_digits(confetti)
    except UnreadablePicture as error:
        assert "too much in it" in str(error)
    else:
        assert len(page.images) <= 6000


@pytest.mark.process
def test_single_digits_need_neither_opencv_nor_the_rest():
    program = (
        "import sys; sys.modules['cv2'] = None\n"
        "import numpy as np\n"
        "from inkling.client.reading.page import find_digits, ImageExtraMissing\n"
        "digit = np.zeros((28, 28), np.uint8); digit[4:24, 13:15] = 255\n"
        "assert len(find_digits(digit).lines) == 1\n"
        "try: find_digits(np.zeros((40, 40), np.uint8))\n"
        "except ImageExtraMissing as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert "pip install opencv-python-headless" in done.stdout, done.stderr

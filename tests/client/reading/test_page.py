"""Pictures in, digits in MNIST's form out: files of all kinds, colours, lines, cuts; no model is asked."""

import io
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from inkling.client.reading import picture
from inkling.client.reading.ink import find_ink
from inkling.client.reading.mnist_form import mnist_form, single_digit_form, upright
from inkling.client.reading.page import VIEWS, UnreadablePicture, find_digits
from inkling.train import data

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def digits():
    """A thousand of MNIST's test images."""
    return data.load().test_images[:1000]


def encoded(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def strokes(*lines, size=(240, 160), width=10, ink="black", paper="white"):
    image = Image.new("RGB", size, paper)
    draw = ImageDraw.Draw(image)
    for line in lines:
        draw.line(line, fill=ink, width=width)
    return image


ONE, OTHER = (60, 40, 60, 120), (140, 40, 140, 120)  # two upright strokes


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM"])
def test_every_common_format_is_read(kind):
    page = find_digits(encoded(strokes(ONE, OTHER), kind))
    assert page.picture.shape == (160, 240, 3)
    assert len(page.lines[0].cuts) == 2


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16", "I", "F"])
def test_every_mode_is_read(mode):
    image = strokes(ONE, OTHER)
    if mode in ("I", "F", "I;16"):
        grey = np.asarray(image.convert("L"))
        kinds = {"I": np.int32, "F": np.float32, "I;16": np.uint16}
        image = Image.fromarray(grey.astype(kinds[mode]) * 3)
    else:
        image = image.convert(mode)
    assert len(find_digits(image).lines[0].cuts) == 2


@pytest.mark.parametrize("source", ["path", "text path", "bytes", "file", "image", "array", "rgba array", "grey array"])
def test_a_picture_comes_from_anywhere(source, tmp_path):
    image = strokes(ONE, OTHER)
    path = tmp_path / "picture.png"
    image.save(path)
    with path.open("rb") as file:
        given = {
            "path": path,
            "text path": str(path),
            "bytes": path.read_bytes(),
            "file": file,
            "image": image,
            "array": np.asarray(image),
            "rgba array": np.asarray(image.convert("RGBA")),
            "grey array": np.asarray(image.convert("L")),
        }[source]
        assert len(find_digits(given).lines[0].cuts) == 2


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


@pytest.mark.parametrize("ink", ["black", "white"])
def test_transparent_paper_is_laid_on_what_shows_the_ink(ink):
    image = Image.new("RGBA", (240, 160), (0, 0, 0, 0))
    ImageDraw.Draw(image).line(ONE, fill=ink, width=10)
    assert len(find_digits(image).lines[0].cuts) == 1


def test_exif_turns_the_picture_upright():
    exif = Image.Exif()
    exif[0x0112] = 6
    content = encoded(strokes(ONE, (140, 40, 200, 40)).transpose(Image.Transpose.ROTATE_90), "JPEG", exif=exif)
    assert find_digits(content).picture.shape == (160, 240, 3)


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


def test_an_image_in_mnist_form_stays_as_it_is(digits):
    for image in digits[:100]:
        np.testing.assert_array_equal(single_digit_form(image), image)


def test_dark_on_light_and_off_centre_is_brought_into_form(digits):
    differences = []
    for image in digits[:40]:
        form = single_digit_form(np.roll(255 - image, (3, -3), axis=(0, 1)))
        differences.append(np.abs(form.astype(int) - image).mean())
    assert np.median(differences) < 4


def test_the_form_is_mnists_own(digits):
    """An MNIST digit enlarged and brought into form again is nearly itself: the same box, the same centre of mass."""
    differences = []
    for image in digits[:50]:
        large = np.asarray(Image.fromarray(image).resize((168, 168), Image.Resampling.BICUBIC), np.float32) / 255
        form = mnist_form(large)
        rows, columns = (np.flatnonzero((form > 30).any(axis=axis)) for axis in (1, 0))
        assert max(len(rows), len(columns)) in (19, 20)
        mass = [form.sum(axis=axis) @ np.arange(28) / form.sum() for axis in (1, 0)]
        assert np.abs(np.array(mass) - 14).max() <= 0.51
        differences.append(np.abs(form.astype(int) - image).mean())
    assert np.median(differences) < 8


def test_upright_takes_the_slant_out():
    leaning = np.zeros((28, 28), np.uint8)
    for y in range(4, 24):
        leaning[y, 18 - y // 3] = leaning[y, 19 - y // 3] = 255
    straight = upright(leaning)
    assert np.count_nonzero(straight.max(axis=0) > 60) < np.count_nonzero(leaning.max(axis=0) > 60) / 2


def test_each_candidate_has_its_views():
    page = find_digits(strokes(ONE, OTHER))
    assert page.images.dtype == np.uint8
    assert len(page.images) == VIEWS * sum(len(line.candidates) for line in page.lines)


def unreadable():
    plain = encoded(strokes(ONE))
    frames = [strokes(ONE), strokes(OTHER)]
    return {
        "empty": (b"", "is empty: 0 bytes"),
        "text": (b"this is no picture", "cannot be read as a picture"),
        "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "cannot be read as a picture"),
        "truncated png": (plain[: len(plain) // 2], "damaged or truncated"),
        "truncated jpeg": (encoded(strokes(ONE), "JPEG")[:-200], "damaged or truncated"),
        "animation": (encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]), "is an animation: 2 frames"),
        "pages": (encoded(frames[0], "TIFF", save_all=True, append_images=frames[1:]), "has pages: 2 frames"),
        "tiny": (encoded(Image.new("L", (5, 40))), "5 x 40 pixels, too small"),
        "long": (encoded(Image.new("1", (21_000, 10))), "too large: 21000 x 10"),
        "bomb": (encoded(Image.new("1", (9_000, 9_000))), "too large: 9000 x 9000"),
        "greater bomb": (encoded(Image.new("1", (14_000, 14_000))), "too large"),
    }


@pytest.mark.parametrize("name", unreadable())
def test_what_is_no_picture_is_refused_with_a_word(name):
    content, message = unreadable()[name]
    with pytest.raises(UnreadablePicture, match=message), warnings.catch_warnings():
        find_digits(content)


def test_any_cut_or_change_of_a_file_is_read_or_refused():
    random = np.random.default_rng(4)
    files = [encoded(strokes(ONE, OTHER, size=(64, 48), width=4), kind) for kind in ("PNG", "JPEG", "WEBP", "GIF")]
    for _ in range(150):
        content = bytearray(files[random.integers(len(files))])
        for place in random.integers(len(content), size=random.integers(1, 6)):
            content[place] = random.integers(256)
        try:
            find_digits(bytes(content[: random.integers(len(content) // 2, len(content) + 1)]))
        except UnreadablePicture as error:
            assert str(error)


def test_a_picture_somewhat_too_large_is_refused_without_a_warning_of_pillows():
    content = encoded(Image.new("1", (9_500, 9_500)))
    with warnings.catch_warnings(record=True) as caught, pytest.raises(UnreadablePicture, match="too large: 9500 x"):
        warnings.simplefilter("always")
        find_digits(content)
    assert caught == []


def test_a_damaged_picture_that_pillow_opened_is_refused_with_a_word():
    content = encoded(strokes(ONE))
    with (
        Image.open(io.BytesIO(content[: len(content) // 2])) as image,
        pytest.raises(UnreadablePicture, match="the image is damaged or truncated"),
    ):
        find_digits(image)


@pytest.mark.parametrize("size", [(20_000, 8), (8, 20_000), (20_000, 60), (3, 20_000)], ids=str)
def test_a_very_long_picture_is_read_or_refused(size):
    image = Image.new("L", size, 255)
    ImageDraw.Draw(image).line((2, 2, size[0] // 2, size[1] // 2), fill=0, width=3)
    if min(size) < picture.MIN_SIDE:
        with pytest.raises(UnreadablePicture, match="too small"):
            find_digits(image)
    else:
        assert find_digits(image).picture.shape[:2] == size[::-1]


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere.png"):
        find_digits(tmp_path / "nowhere.png")


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((30, 30, 2), np.uint8), r"got shape \[30, 30, 2\]"),
        (np.zeros(40, np.uint8), r"got shape \[40\]"),
        (np.zeros((30, 30), np.int64), "got int64"),
        (np.full((30, 30), 7.0), "got float64"),
    ],
)
def test_an_array_that_is_no_picture_is_refused(array, message):
    with pytest.raises(UnreadablePicture, match=message):
        find_digits(array)


def test_a_page_of_confetti_is_refused_rather_than_read_forever():
    random = np.random.default_rng(1)
    confetti = (random.random((1600, 1600)) > 0.72).repeat(2, 0)[:1600] * np.uint8(255)
    try:
        page = find_digits(confetti)
    except UnreadablePicture as error:
        assert "too much in it" in str(error)
    else:
        assert len(page.images) <= 6000


def test_file_objects_in_text_mode_are_refused(tmp_path):
    path = tmp_path / "picture.txt"
    path.write_text("x")
    with path.open() as file, pytest.raises(UnreadablePicture, match="mode 'rb'"):
        find_digits(file)


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


def test_the_size_limits_are_those_of_a_phones_camera():
    assert picture.MAX_PIXELS >= 48_000_000

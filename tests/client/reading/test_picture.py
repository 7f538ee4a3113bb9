"""Pictures from anywhere: formats, modes, sources, what is refused and with which words."""

import io
import warnings
from functools import cache

import numpy as np
import pytest
from PIL import Image, ImageDraw

from inkling.client.reading import picture
from inkling.client.reading.page import UnreadablePicture, find_digits
from tests.client.reading.made_up import ONE, OTHER, encoded, strokes


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


@cache
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


def test_file_objects_in_text_mode_are_refused(tmp_path):
    path = tmp_path / "picture.txt"
    path.write_text("x")
    with path.open() as file, pytest.raises(UnreadablePicture, match="mode 'rb'"):
        find_digits(file)


def test_the_size_limits_are_those_of_a_phones_camera():
    assert picture.MAX_PIXELS >= 48_000_000

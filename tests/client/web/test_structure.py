"""What a picture's file may consist of: more than any camera writes, and not what keeps a decoder busy."""

import contextlib
import io

import numpy as np
import pytest
from PIL import Image, ImageOps

from inkling.client.errors import InvalidInput
from inkling.client.web import structure
from inkling.client.web.structure import check_structure
from tests.client.reading.test_reading import PICTURES
from tests.client.web import hostile


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (hostile.jpeg_of_segments(structure.MAX_SEGMENTS + 1), "more than 1,000 segments before it begins"),
        (b"\xff\xd8" + b"\xff" * 5000, "more than 1,000 segments"),
        (hostile.jpeg_of_scans(80, structure.MAX_SCANS), "more than 100 scans"),
        (hostile.png_of_chunks(structure.MAX_CHUNKS), "more than 10,000 chunks"),
        (hostile.gif_of_frames(structure.MAX_FRAMES + 1), "more than 100 frames"),
        (hostile.tiff_of_directories(structure.MAX_DIRECTORIES + 1), "more than 32 pages"),
        (hostile.tiff_of_directories(structure.MAX_DIRECTORIES + 1, order=">"), "more than 32 pages"),
        (hostile.tiff_of_directories(structure.MAX_DIRECTORIES + 1, big=True), "more than 32 pages"),
        (hostile.tiff_of_tags(structure.MAX_TAGS + 1), "more than 512 tags"),
        (hostile.tiff_of_values(structure.MAX_TAG_VALUES + 1), "more than 100,000 values"),
    ],
    ids=["segments", "fill", "scans", "chunks", "frames", "pages", "big-endian", "BigTIFF", "tags", "values"],
)
def test_more_than_pictures_have_is_refused(content, message):
    with pytest.raises(InvalidInput, match=f"the picture has {message}.*; save it anew"):
        check_structure(content)


def encoded(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


PHOTO = Image.effect_noise((900, 700), 60)


@pytest.mark.parametrize(
    "content",
    [
        encoded(PHOTO, "JPEG", icc_profile=bytes(5 * 2**20), exif=PHOTO.getexif(), progressive=True),
        encoded(PHOTO, "PNG"),
        encoded(PHOTO, "GIF"),
        encoded(PHOTO, "GIF", save_all=True, append_images=[ImageOps.mirror(PHOTO)] * 5),
        encoded(PHOTO, "TIFF", save_all=True, append_images=[PHOTO] * 5),
        encoded(PHOTO, "TIFF", compression="tiff_lzw", big_tiff=True),
        encoded(PHOTO, "WEBP"),
        encoded(PHOTO, "BMP"),
    ],
    ids=["jpeg", "png", "gif", "gif of frames", "tiff of pages", "bigtiff", "webp", "bmp"],
)
def test_what_programs_write_passes(content):
    check_structure(content)


@pytest.mark.parametrize(
    "path", sorted(path for path in PICTURES.iterdir() if path.suffix in (".jpg", ".png", ".webp"))
)
def test_pictures_pass(path):
    check_structure(path.read_bytes())


def test_broken_files_are_the_decoders_business():
    random = np.random.default_rng(0)
    starts = [b"\xff\xd8", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"II*\0", b"MM\0*", b"II+\0", b""]
    for number in range(2000):
        content = starts[number % len(starts)] + random.bytes(int(random.integers(0, 60)))
        with contextlib.suppress(InvalidInput):
            check_structure(content)

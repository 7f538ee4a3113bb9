"""The decoder's process: what it answers, and what ends it."""

import asyncio
import io
import os
import pickle
import signal
import struct

import numpy as np
import pytest
from PIL import Image

from inkling.client.errors import InklingError, InvalidInput
from inkling.client.reading import find_digits
from inkling.client.reading.notes import brightness
from inkling.client.web.app import WebConfig
from inkling.client.web.decoding import Decoder, TooLarge, _read_answer
from tests.client.reading.test_reading import PICTURES
from tests.client.web import hostile

pytestmark = pytest.mark.process


def decode(*contents, disturb=None, quarters=0, **limits):
    """What a decoder makes of each file: what it found, or the error."""
    config = WebConfig()
    settings = {
        "max_pixels": config.max_pixels,
        "memory_bytes": config.decoder_memory_bytes,
        "cpu_s": config.decoder_cpu_s,
        "wall_s": config.decoder_wall_s,
    }

    async def decode_all():
        decoder = Decoder(**settings | limits)
        try:
            for content in contents:
                try:
                    asking = asyncio.ensure_future(decoder.find_digits(content, quarters=quarters))
                    if disturb:
                        await asyncio.sleep(0.5)  # it is at work, or about to be: both are right
                        disturb(asking, decoder._process.pid)
                    found.append(await asking)
                except (InklingError, TooLarge, asyncio.CancelledError) as error:
                    found.append(error)
        finally:
            await decoder.stop()

    found = []
    asyncio.run(decode_all())
    return found


def encoded(image, kind="PNG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


REAL = (PICTURES / "two_lines.jpg").read_bytes()


def test_it_finds_what_is_found_in_this_process():
    (found,) = decode(REAL)
    page = find_digits(REAL)
    assert found.page.lines == page.lines and found.page.picture.shape == page.picture.shape
    np.testing.assert_array_equal(found.page.images, page.images)
    assert found.enlarge == 1


def test_it_turns_a_picture_and_tells_how_bright_it_is():
    dark = encoded(Image.open(PICTURES / "two_lines.jpg").point(lambda value: value // 5))
    (found,) = decode(dark, quarters=3)
    page = find_digits(dark, quarters=3)
    assert found.page.lines == page.lines and found.page.quarters == 3
    assert brightness(found.page.picture) == pytest.approx(brightness(page.picture), abs=1)
    assert brightness(page.picture) < 60


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA", "CMYK", "I;16", "P"])
def test_as_many_pixels_as_are_taken_fit_into_its_memory(mode):
    with Image.open(PICTURES / "two_lines.jpg") as picture:
        grey = picture.convert("L").resize((4000, 4000))
    large = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257) if mode == "I;16" else grey.convert(mode)
    content = encoded(large, "JPEG" if mode == "CMYK" else "PNG", **({} if mode == "CMYK" else {"compress_level": 1}))
    (found,) = decode(content)
    assert found.enlarge == 2 and found.page.picture.shape == (2000, 2000, 3) and len(found.page.images) > 10


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the picture is empty"),
        (b"no picture", "cannot be read as a picture"),
        (hostile.gif_of_frames(3), "animation"),
        (hostile.at_upload_size(hostile.jpeg_of_segments, each=4), "more than 1,000 segments"),
        (hostile.at_upload_size(hostile.tiff_of_directories, each=114), "more than 32 pages"),
        (hostile.at_upload_size(hostile.png_of_chunks, each=15), "more than 10,000 chunks"),
        (hostile.at_upload_size(hostile.gif_of_frames, each=15), "more than 100 frames"),
    ],
    ids=["empty", "text", "animation", "segments", "directories", "chunks", "frames"],
)
def test_what_is_no_picture_is_refused_and_the_next_one_read(content, message):
    refused, found = decode(content, REAL)
    assert isinstance(refused, InvalidInput) and message in str(refused)
    assert len(found.page.images) > 10


def test_too_many_pixels_are_not_decoded():
    (error,) = decode(encoded(Image.new("1", (5000, 5000))))
    assert isinstance(error, TooLarge)


def test_a_picture_that_takes_too_long_ends_it_and_the_next_one_is_read():
    slow = encoded(Image.effect_noise((4000, 4000), 60), "JPEG")
    refused, found = decode(slow, REAL, cpu_s=1)
    assert "takes too much time or memory to decode" in str(refused) and len(found.page.images) > 10


def test_a_picture_that_takes_too_much_memory_is_refused_and_the_next_one_read():
    refused, found = decode(encoded(Image.effect_noise((3000, 3000), 90)), REAL, memory_bytes=100 * 2**20)
    assert isinstance(refused, InvalidInput) and len(found.page.images) > 10


def test_a_decoder_that_does_not_start_is_not_the_pictures_fault(tmp_path, monkeypatch):
    (tmp_path / "cv2.py").write_text("raise ImportError('libGL.so.1')")
    monkeypatch.syspath_prepend(str(tmp_path))
    (error,) = decode(REAL)
    assert type(error) is InklingError and "the process that decodes pictures does not start" in str(error)


def test_a_decoder_that_is_killed_or_left_alone_is_started_anew():
    slow = hostile.jpeg_of_scans(3900, 60)
    killed, _ = decode(slow, slow, disturb=lambda asking, pid: os.kill(pid, signal.SIGKILL))
    assert isinstance(killed, InklingError)
    cancelled, _ = decode(slow, slow, disturb=lambda asking, pid: asking.cancel())
    assert isinstance(cancelled, asyncio.CancelledError)


def test_a_decoder_that_is_ended_between_pictures_costs_none():
    async def decode_twice():
        config = WebConfig()
        decoder = Decoder(max_pixels=10**7, memory_bytes=config.decoder_memory_bytes, cpu_s=15, wall_s=60)
        await decoder.find_digits(REAL)
        decoder._process.kill()
        await decoder._process.wait()
        found = await decoder.find_digits(REAL)
        await decoder.stop()
        return found

    assert len(asyncio.run(decode_twice()).page.images) > 10


def test_an_answer_is_made_of_pages_and_arrays_only():
    class Harmful:
        def __reduce__(self):
            return os.system, ("true",)

    for harmful in (Harmful(), struct.Struct("I")):
        with pytest.raises((pickle.UnpicklingError, TypeError)):
            _read_answer(pickle.dumps(("page", harmful)))
    with pytest.raises(pickle.UnpicklingError, match="find_digits has no place in an answer"):
        _read_answer(pickle.dumps(("page", find_digits)))

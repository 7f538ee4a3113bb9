"""Opens pictures from anywhere as upright RGB arrays, and says clearly why it refuses one.

Only raster formats that people's files come in are tried, so that a hostile file meets no other decoder.
"""

import io
import os
import threading
import warnings
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from ..errors import InvalidInput

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
MAX_FILE_BYTES = 64 * 2**20
MAX_PIXELS = 50_000_000  # a 48-megapixel phone picture passes; decoded it takes 150 MB
MAX_SIDE = 20_000
MIN_SIDE = 8
OPAQUE = 0.95  # mean alpha, above which the paper is in the picture and not behind it
LUMA = (0.299, 0.587, 0.114)  # weights of red, green and blue (https://www.itu.int/rec/R-REC-BT.601)
_QUIET = threading.Lock()  # warnings are filtered for the whole process

SOURCES = "path, bytes, binary file, PIL.Image.Image or uint8 array [h, w], [h, w, 3] or [h, w, 4]"
PictureSource = str | os.PathLike[str] | bytes | BinaryIO | Image.Image | NDArray[np.uint8]


class UnreadablePicture(InvalidInput):
    """The source is not a picture, or not one that can be read; the message says why and what to do."""


def open_picture(source: PictureSource) -> NDArray[np.uint8]:
    """Open a picture.

    Args:
        source: see SOURCES; a file is one of FORMATS.

    Returns: uint8 [height, width, 3] RGB, turned as its EXIF says, transparency laid on paper.

    Raises:
        UnreadablePicture: the source is not a picture, or too large, too small, damaged or animated.
        TypeError: the source is none of SOURCES.
        OSError: the path cannot be opened.
    """
    if isinstance(source, np.ndarray):
        return _from_array(source)
    if isinstance(source, Image.Image):
        return _decoded(source, "the image")
    content, name = _content(source)
    if not content:
        raise UnreadablePicture(f"{name} is empty: 0 bytes; send the picture's file")
    try:
        image = open_header(content)
    except UnidentifiedImageError:
        raise UnreadablePicture(
            f"{name} cannot be read as a picture ({len(content)} bytes, beginning with {content[:8]!r}); "
            "save it as PNG, JPEG or WebP"
        ) from None
    except Image.DecompressionBombError as error:
        raise UnreadablePicture(f"{name} is too large: {error}; shrink it to {MAX_PIXELS:,} pixels") from error
    except Exception as error:
        raise _damaged(name, error) from error
    with image:
        return _decoded(image, name)


def open_header(content: bytes) -> Image.Image:
    """Open the picture in a file's bytes without decoding it.

    Raises: what Pillow raises.
    """
    with _QUIET, warnings.catch_warnings():
        # Of a picture that is somewhat too large, which `_check_size` refuses.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        return Image.open(io.BytesIO(content), formats=FORMATS)


def _decoded(image: Image.Image, name: str) -> NDArray[np.uint8]:
    try:
        return _upright_rgb(image, name)
    except UnreadablePicture:
        raise
    except Exception as error:
        raise _damaged(name, error) from error


def _damaged(name: str, error: Exception) -> UnreadablePicture:
    """For whatever Pillow's decoders raise, which is a dozen kinds down to struct.error and IndexError."""
    return UnreadablePicture(f"{name} is damaged or truncated ({error}); save or fetch it again")


def _content(source: str | os.PathLike[str] | bytes | BinaryIO) -> tuple[bytes, str]:
    """A file's bytes, and what to call it in messages."""
    if isinstance(source, str | os.PathLike):
        name = str(source)
        with Path(source).open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    elif isinstance(source, bytes | bytearray | memoryview):
        name, content = "the picture", bytes(source)
    elif hasattr(source, "read"):
        name, content = str(getattr(source, "name", "the picture")), source.read(MAX_FILE_BYTES + 1)
        if not isinstance(content, bytes):
            raise UnreadablePicture(f"{name} reads as {type(content).__name__}, expected bytes; open it in mode 'rb'")
    else:
        raise TypeError(f"a picture is a {SOURCES}; got {type(source).__name__}")
    if len(content) > MAX_FILE_BYTES:
        raise UnreadablePicture(f"{name} is larger than {MAX_FILE_BYTES // 2**20} MiB; shrink the picture")
    return content, name


def _upright_rgb(image: Image.Image, name: str) -> NDArray[np.uint8]:
    _check_size(*image.size, name)
    frames = getattr(image, "n_frames", 1)
    # An MPO is a phone's JPEG with a second view or a preview behind it: the first frame is the picture.
    if frames > 1 and image.format != "MPO":
        kind = "has pages" if image.format == "TIFF" else "is an animation"
        raise UnreadablePicture(f"{name} {kind}: {frames} frames, expected one; save the one to be read by itself")
    image.load()
    return _on_paper(ImageOps.exif_transpose(image))


def _check_size(width: int, height: int, name: str) -> None:
    if min(width, height) < MIN_SIDE:
        raise UnreadablePicture(
            f"{name} is {width} x {height} pixels, too small for a digit; expected at least {MIN_SIDE}"
        )
    if max(width, height) > MAX_SIDE or width * height > MAX_PIXELS:
        raise UnreadablePicture(
            f"{name} is too large: {width} x {height} pixels; shrink it to {MAX_PIXELS:,} pixels, "
            f"{MAX_SIDE:,} on a side, at most"
        )


def _on_paper(image: Image.Image) -> NDArray[np.uint8]:
    """uint8 [h, w, 3]: any mode as RGB; what is transparent laid on white, or on black if what is drawn is light."""
    if image.mode.startswith("I") or image.mode == "F":
        return _from_array(_stretched(np.asarray(image)))
    if "A" not in image.getbands() and "transparency" not in image.info:
        return np.asarray(image.convert("RGB"))
    rgba = np.asarray(image.convert("RGBA"))
    colour, alpha = rgba[..., :3].astype(np.float32), rgba[..., 3:].astype(np.float32) / 255
    drawn = float((colour.mean(axis=2, keepdims=True) * alpha).sum() / max(float(alpha.sum()), 1e-6))
    paper = 0.0 if drawn > 128 and float(alpha.mean()) <= OPAQUE else 255.0
    return np.rint(colour * alpha + paper * (1 - alpha)).astype(np.uint8)


def _stretched(values: NDArray[np.generic]) -> NDArray[np.uint8]:
    """uint8 [h, w]: 16-bit and float grey, whose range nobody states, stretched from its darkest to its lightest."""
    grey = np.nan_to_num(values.astype(np.float32))
    low, high = float(grey.min()), float(grey.max())
    return np.rint((grey - low) * (255 / max(high - low, 1e-6))).astype(np.uint8)


def _from_array(array: NDArray[np.generic]) -> NDArray[np.uint8]:
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)):
        raise UnreadablePicture(f"a picture is an array [h, w], [h, w, 3] or [h, w, 4]; got shape {list(array.shape)}")
    if array.dtype == np.bool_:
        array = array.astype(np.uint8) * 255
    elif array.dtype.kind == "f" and array.size and float(array.min()) >= 0 and float(array.max()) <= 1:
        array = np.rint(array * 255).astype(np.uint8)
    if array.dtype != np.uint8:
        raise UnreadablePicture(
            f"a picture is uint8 from 0 to 255, or floats from 0 to 1; got {array.dtype}; convert it first"
        )
    _check_size(array.shape[1], array.shape[0], "the array")
    return _on_paper(Image.fromarray(np.ascontiguousarray(array)))

"""Refuses files that are built to keep a decoder busy: too many segments, chunks, frames, directories or values.

Decoders walk through all of them before they say how large the picture is. What is counted here is far above what
cameras, scanners and programs write; each walk ends at the limit. What is not a file of these kinds, or broken, is left
to the decoder.
"""

import struct

from ..reading.picture import UnreadablePicture

MAX_SEGMENTS = 1000  # of a JPEG's header: a colour profile takes 255 at most, a depth map beside the picture 80
MAX_SCANS = 100  # of a JPEG: progressive ones have about ten, each of which is a pass over the whole picture
MAX_CHUNKS = 10_000  # of a PNG: libpng writes 8 KiB in each, which for 20 MiB makes 2,560
MAX_FRAMES = 100  # of a GIF; more than one is refused later, by its number
MAX_DIRECTORIES = 32  # of a TIFF: its pages, likewise
MAX_TAGS = 512  # of a directory: the standards name about 200
MAX_TAG_VALUES = 100_000  # of a tag that lists numbers: 16 megapixels in tiles of 16 x 16 are 62,500

_NO_LENGTH = frozenset(range(0xD0, 0xDA)) | {0x01}  # a JPEG's markers that stand alone
_SCAN, _END = 0xDA, 0xD9
_BYTES_TYPES = frozenset({1, 2, 6, 7})  # a TIFF's: bytes and text, which are read at one go


def check_structure(content: bytes) -> None:
    """Refuse a picture's file that holds more than pictures do.

    Args:
        content: the file.

    Raises: UnreadablePicture.
    """
    if content.startswith(b"\xff\xd8"):
        _check_jpeg(content)
    elif content.startswith(b"\x89PNG\r\n\x1a\n"):
        _check_png(content)
    elif content.startswith((b"GIF87a", b"GIF89a")):
        _check_gif(content)
    elif content[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        _check_tiff(content)


def _refuse(count: str, what: str) -> UnreadablePicture:
    return UnreadablePicture(f"the picture has more than {count} {what}, as no camera writes; save it anew")


def _check_jpeg(content: bytes) -> None:
    position = 2
    for _ in range(MAX_SEGMENTS):
        marker = content[position + 1 : position + 2]
        if content[position : position + 1] != b"\xff" or not marker or marker[0] in (_SCAN, _END):
            break
        if marker[0] == 0xFF:  # fill bytes may stand before a marker
            position += 1
        elif marker[0] in _NO_LENGTH:
            position += 2
        else:
            position += 2 + max(2, int.from_bytes(content[position + 2 : position + 4]))
    else:
        raise _refuse(f"{MAX_SEGMENTS:,}", "segments before it begins")
    # In the coded pixels themselves the two bytes cannot stand side by side.
    if content.count(bytes([0xFF, _SCAN])) > MAX_SCANS:
        raise _refuse(f"{MAX_SCANS}", "scans")


def _check_png(content: bytes) -> None:
    position = 8
    for _ in range(MAX_CHUNKS):
        if position + 8 > len(content):
            return
        position += 12 + int.from_bytes(content[position : position + 4])
    raise _refuse(f"{MAX_CHUNKS:,}", "chunks")


def _check_gif(content: bytes) -> None:
    frames, position = 0, 13 + _colours(content, 10)
    while position < len(content):
        kind = content[position]
        if kind == 0x2C:  # an image
            frames += 1
            position += 11 + _colours(content, position + 9)
        elif kind == 0x21:  # an extension
            position += 2
        else:
            return
        if frames > MAX_FRAMES:
            raise _refuse(f"{MAX_FRAMES}", "frames")
        while position < len(content) and content[position]:  # blocks, to one of no bytes
            position += 1 + content[position]
        position += 1


def _colours(content: bytes, position: int) -> int:
    """Bytes of the colour table that the flags at `position` announce."""
    flags = content[position] if position < len(content) else 0
    return 3 << (1 + (flags & 7)) if flags & 0x80 else 0


def _check_tiff(content: bytes) -> None:
    order = "<" if content[:1] == b"I" else ">"
    large = b"+" in content[2:4]  # BigTIFF: offsets and counts of 64 bits
    offset, count, entry = ("Q", "Q", "HHQ") if large else ("I", "H", "HHI")
    try:
        position = struct.unpack_from(order + offset, content, 8 if large else 4)[0]
        for _ in range(MAX_DIRECTORIES):
            if not position:
                return
            tags = struct.unpack_from(order + count, content, position)[0]
            if tags > MAX_TAGS:
                raise _refuse(f"{MAX_TAGS}", "tags in a directory")
            position += struct.calcsize("=" + count)
            size = struct.calcsize("=" + entry + offset)
            for number in range(tags):
                _, kind, values = struct.unpack_from(order + entry, content, position + number * size)
                if values > MAX_TAG_VALUES and kind not in _BYTES_TYPES:
                    raise _refuse(f"{MAX_TAG_VALUES:,}", "values in a tag")
            position = struct.unpack_from(order + offset, content, position + tags * size)[0]
    except (struct.error, OverflowError):  # it points past its end
        return
    raise _refuse(f"{MAX_DIRECTORIES}", "pages")

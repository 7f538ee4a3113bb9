"""Pictures' files that are built to keep a decoder busy, small or as large as the page takes them."""

import struct
import zlib

UPLOAD_BYTES = 20 * 2**20


def jpeg_of_segments(count):
    """Empty segments, of which decoders look at each."""
    return b"\xff\xd8" + b"\xff\xe5\x00\x02" * count + b"\xff\xd9"


def jpeg_of_scans(side, count):
    """A progressive JPEG whose scans say of all blocks that they are zero: each is small, and walks over all blocks."""

    def segment(marker, data):
        return bytes([0xFF, marker]) + struct.pack(">H", len(data) + 2) + data

    blocks = ((side + 7) // 8) ** 2
    head = b"\xff\xd8" + segment(0xDB, b"\0" + b"\x01" * 64)
    head += segment(0xC2, struct.pack(">BHHB", 8, side, side, 1) + b"\x01\x11\0")
    head += segment(0xC4, b"\x00" + bytes([1] + [0] * 15) + b"\x00")  # DC: code 0 is category 0
    head += segment(0xC4, b"\x10" + bytes([1, 1] + [0] * 14) + b"\x00\xe0")  # AC: code 10 is a run of 2^14 + 14 bits
    first = segment(0xDA, b"\x01\x01\x00\x00\x00\x00") + bytes((blocks + 7) // 8)
    runs = ("10" + "1" * 14) * -(-blocks // 32767)
    data = int(runs, 2).to_bytes(len(runs) // 8).replace(b"\xff", b"\xff\0")
    return head + first + (segment(0xDA, b"\x01\x01\x00\x01\x3f\x00") + data) * count + b"\xff\xd9"


def png_of_chunks(count):
    """Texts, of which decoders read each."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 100, 100, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"tEXt", b"a\0b") * count + chunk(b"IEND", b"")


def gif_of_frames(count):
    """Frames of a few pixels."""
    frame = b"\x2c" + struct.pack("<HHHHB", 0, 0, 20, 20, 0) + b"\x02\x02\x44\x01\x00"
    return b"GIF89a" + struct.pack("<HHBBB", 20, 20, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff" + frame * count + b";"


def tiff_of_directories(count, *, order="<", big=False):
    """Pages of nine tags each, one after the other."""
    wide = "Q" if big else "I"
    tags = [(256, 3, 1, 100), (257, 3, 1, 100), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, 8)]
    tags += [(277, 3, 1, 1), (278, 3, 1, 100), (279, 4, 1, 10_000)]
    size = struct.calcsize("=Q" if big else "=H") + len(tags) * struct.calcsize(f"=HH{wide}{wide}")
    size += struct.calcsize(f"={wide}")
    start = b"II" if order == "<" else b"MM"
    head = struct.pack(f"{order}HHHQ", 43, 8, 0, 16) if big else struct.pack(f"{order}HI", 42, 8)
    out, begin = [start + head], 16 if big else 8
    for number in range(count):
        after = begin + (number + 1) * size if number < count - 1 else 0
        out.append(struct.pack(order + ("Q" if big else "H"), len(tags)))
        out += [struct.pack(f"{order}HH{wide}{wide}", *tag) for tag in tags]
        out.append(struct.pack(order + wide, after))
    return b"".join(out)


def tiff_of_values(count):
    """One tag that lists so many numbers."""
    return b"II*\0" + struct.pack("<IHHHIII", 8, 1, 273, 4, count, 8, 0)


def tiff_of_tags(count):
    return b"II*\0" + struct.pack("<IH", 8, count) + struct.pack("<HHII", 65000, 3, 1, 1) * count + bytes(4)


def at_upload_size(build, *, each):
    """As many of them as an upload holds; `each` is the bytes that one takes."""
    return build((UPLOAD_BYTES - 200) // each)

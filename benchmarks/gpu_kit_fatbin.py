"""Machine code in NVIDIA's libraries: what of it one kind of GPU can load, and what can be left out.

A library's section `.nv_fatbin` is a row of fatbins. Each has a header (u32 magic, u16 version, u16 bytes of header,
u64 bytes of entries) and entries, one for each architecture: a cubin, machine code that runs on GPUs of the same major
version and no other, or PTX, which the driver compiles for a newer one. The driver takes the cubin that fits, PTX only
where none does. An entry's header: u16 kind, u16 version, u32 bytes of header, u64 bytes of payload, u32 of them used
if it is compressed; at 28 u32 architecture, at 40 u64 flags, at 56 u64 bytes decompressed.
"""

import mmap
import re
import struct
from collections.abc import Iterator
from typing import NamedTuple

import lz4.block
import zstandard

UNUSED_KERNELS = re.compile(r"nvidia/cudnn/lib/libcudnn_adv\.so.*")  # recurrent networks, attention
ARCHITECTURE = 90
OTHER_ARCHITECTURE = 120  # newer, so the driver passes over both its cubins and its PTX
ARCHITECTURE_AT = 28  # u32, in an entry's header
FATBIN_MAGIC = 0xBA55ED50
PTX, CUBIN = 1, 2  # kinds of entries
LZ4_FLAG = 0x2000
ELF_MACHINE_FLAGS_AT = 48
GEMM = re.compile(rb"\.text\.(sm\d+_xmma_[a-z_]*?(?:gemm|trmm|hemm|symm|herkx|syr2k|syrk|her2k)\w+)")
OTHER_NUMBERS = re.compile(rb"e4m3|e5m2|i8|i4|cf16|cbf16|cf32|cf64")
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
MIN_CUBIN_BYTES = 4096  # below, compressing anew gains nothing


class Section(NamedTuple):
    """A section of an ELF file."""

    name: str
    offset: int
    size: int


class Entry(NamedTuple):
    """An entry of a fatbin: code for one architecture."""

    kind: int
    architecture: int
    offset: int  # of its header
    header: int  # bytes
    slot: int  # bytes of payload, padded
    compressed: int  # bytes of payload
    plain: int  # bytes, decompressed
    is_lz4: bool


def sections(elf: mmap.mmap | bytes) -> Iterator[Section]:
    """Sections of a 64-bit ELF file that take up room in it."""
    (table,) = struct.unpack_from("<Q", elf, 0x28)
    size, count, names = struct.unpack_from("<HHH", elf, 0x3A)
    headers = [struct.unpack_from("<IIQQQQ", elf, table + index * size) for index in range(count)]
    for name, kind, _, _, offset, length in headers:
        start = headers[names][4] + name
        if kind != 8:  # SHT_NOBITS
            yield Section(elf[start : elf.find(b"\0", start)].decode(), offset, length)


def containers(elf: mmap.mmap | bytes, section: Section) -> Iterator[list[Entry]]:
    """Entries of each fatbin in a section `.nv_fatbin`.

    Raises:
        ValueError: something that is no fatbin lies between two.
    """
    at, end = section.offset, section.offset + section.size
    while at < end:
        magic, _, header, size = struct.unpack_from("<IHHQ", elf, at)
        if magic != FATBIN_MAGIC:
            raise ValueError(f"at {at}: expected a fatbin, {FATBIN_MAGIC:#x}, found {magic:#x}")
        yield list(_entries(elf, at + header, at + header + size))
        at += header + size


def _entries(elf: mmap.mmap | bytes, at: int, end: int) -> Iterator[Entry]:
    while at < end:
        kind, _, header, slot, compressed = struct.unpack_from("<HHIQI", elf, at)
        (architecture,) = struct.unpack_from("<I", elf, at + 28)
        flags, _, plain = struct.unpack_from("<QQQ", elf, at + 40)
        yield Entry(kind, architecture, at, header, slot, compressed, plain, bool(flags & LZ4_FLAG))
        at += header + slot


def is_wanted(entry: Entry, beside: list[Entry]) -> bool:
    """Whether the driver may load `entry`: a cubin of the architecture, or else the newest older PTX."""
    if any(other.kind == CUBIN and other.architecture == ARCHITECTURE for other in beside):
        return entry.kind == CUBIN and entry.architecture == ARCHITECTURE
    older = [other.architecture for other in beside if other.kind == PTX and other.architecture <= ARCHITECTURE]
    return entry.kind == PTX and entry.architecture == max(older, default=0)


def computes_with_other_numbers(cubin: bytes) -> bool:
    """Whether all matrix products in it are of complex, 8-bit integer or 8-bit float numbers."""
    names = GEMM.findall(cubin)
    return bool(names) and all(OTHER_NUMBERS.search(name) for name in names)


class Region(NamedTuple):
    """Bytes of a file that are left out, or travel as a plain cubin."""

    offset: int
    size: int
    entry: Entry | None = None
    plain: bytes = b""
    instead: bytes = b""  # written at its beginning


def fatbin_regions(elf: mmap.mmap | bytes, section: Section, *, keep: bool) -> Iterator[Region]:
    """Payloads that become zeros, and entries that travel decompressed."""
    for entries in containers(elf, section):
        wanted = {entry.offset: _plain(elf, entry) for entry in entries if is_wanted(entry, entries)}
        if wanted and (not keep or all(map(computes_with_other_numbers, wanted.values()))):
            yield from (_out_of_use(elf, entry) for entry in entries)
            continue
        for entry in entries:
            if entry.offset not in wanted:
                yield Region(entry.offset + entry.header, entry.slot)
            elif entry.is_lz4 and entry.slot >= MIN_CUBIN_BYTES:
                yield Region(entry.offset, entry.header + entry.slot, entry, wanted[entry.offset])


def _plain(elf: mmap.mmap | bytes, entry: Entry) -> bytes:
    payload = elf[entry.offset + entry.header : entry.offset + entry.header + entry.slot]
    return lz4.block.decompress(payload[: entry.compressed], uncompressed_size=entry.plain) if entry.is_lz4 else payload


def _out_of_use(elf: mmap.mmap | bytes, entry: Entry) -> Region:
    """The entry as one for another architecture: the driver may look at those that seem to fit, used or not."""
    header = bytearray(elf[entry.offset : entry.offset + entry.header])
    struct.pack_into("<I", header, ARCHITECTURE_AT, OTHER_ARCHITECTURE)
    return Region(entry.offset, entry.header + entry.slot, instead=bytes(header))


def zstd_regions(elf: mmap.mmap, section: Section) -> Iterator[Region]:
    """Cubins of other architectures that a library keeps in its data, each in a frame of Zstandard."""
    at = elf.find(ZSTD_MAGIC, section.offset, section.offset + section.size)
    while at >= 0:
        frame = zstandard.ZstdDecompressor().decompressobj()
        cubin = frame.decompress(elf[at : section.offset + section.size])
        size = section.offset + section.size - at - len(frame.unused_data)
        if cubin.startswith(b"\x7fELF") and cubin[ELF_MACHINE_FLAGS_AT] != ARCHITECTURE:
            yield Region(at, size)
        at = elf.find(ZSTD_MAGIC, at + size, section.offset + section.size)


def regions(elf: mmap.mmap, path: str) -> Iterator[Region]:
    """What of a library does not travel as it is, by offset."""
    for section in sorted(sections(elf), key=lambda section: section.offset):
        if section.name == ".nv_fatbin":
            yield from fatbin_regions(elf, section, keep=not UNUSED_KERNELS.fullmatch(path))
        elif section.name in (".symtab", ".strtab"):
            yield Region(section.offset, section.size)
        elif section.name == ".data" and "cublasLt" in path:
            yield from zstd_regions(elf, section)

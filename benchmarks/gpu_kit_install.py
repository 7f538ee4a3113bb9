"""Puts together what `python -m benchmarks.gpu_kit` packed: TensorFlow and the CUDA libraries it computes with.

    python3 install.py --site /tmp/site PIECE...     unpacks those pieces; again, or in another order, does no harm
    . /tmp/site/env.sh                               PYTHONPATH and what else TensorFlow needs to find its libraries

Needs Python 3.12 alone. A piece is a folder of independent streams, which all cores decompress at once. A stream holds
parts of files, each written in its place: bytes as they are, or machine code for the GPU, which lies in the library
compressed by LZ4 and in the stream plain, as that packs far better, and is compressed anew on the way.
"""

import argparse
import importlib.util
import json
import lzma
import os
import shutil
import struct
import sys
import time
import zipfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

HEADER = struct.Struct("<4sI")  # of a stream: magic, bytes of the JSON that lists its parts
MAGIC = b"GKIT"
COMPRESSED_SIZE_AT = 16  # u32, in the header of a fatbin's entry
LZ4_LEVELS = (9, 12)  # the quicker first; the slot was filled by a compressor that packs less
CUDA = "nvidia/cuda_nvcc"

ENVIRONMENT = """\
export PYTHONPATH={site}${{PYTHONPATH:+:$PYTHONPATH}}
export LD_LIBRARY_PATH={libraries}${{LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}}
export PATH={cuda}/bin:$PATH
export XLA_FLAGS="--xla_gpu_cuda_data_dir={cuda} ${{XLA_FLAGS:-}}"
"""


class Part(NamedTuple):
    """Bytes of a file and where they go."""

    path: str  # below the site folder
    file_size: int
    executable: bool
    offset: int
    length: int  # in the stream
    header: int = 0  # bytes of it that are the header of a fatbin's entry, if the rest is the entry's payload, plain
    slot: int = 0  # bytes that the payload may take up in the file, compressed


def load_lz4(wheel: Path) -> ModuleType:
    """`lz4.block`, from a wheel that lies unpacked beside it."""
    sys.path.insert(0, str(wheel))
    return importlib.import_module("lz4.block")


def write_part(handle: int, part: Part, content: bytes, lz4: Any) -> None:
    """Write `content` where `part` belongs.

    Raises:
        ValueError: machine code does not fit where it was, compressed anew.
    """
    if not part.header:
        os.pwrite(handle, content, part.offset)
        return
    header = bytearray(content[: part.header])
    for level in LZ4_LEVELS:
        packed = lz4.compress(content[part.header :], mode="high_compression", compression=level, store_size=False)
        if len(packed) <= part.slot:
            struct.pack_into("<I", header, COMPRESSED_SIZE_AT, len(packed))
            os.pwrite(handle, header + packed.ljust(part.slot, b"\0"), part.offset)
            return
    raise ValueError(
        f"{part.path} at {part.offset}: {len(packed)} bytes do not fit into {part.slot}; build the kit anew"
    )


def unpack(stream: Path, site: Path) -> int:
    """Write the parts of one stream.

    Returns: bytes of the stream, decompressed.
    """
    lz4 = load_lz4(site / ".lz4")
    content = lzma.decompress(stream.read_bytes())
    magic, listed = HEADER.unpack_from(content)
    assert magic == MAGIC, f"{stream} is no stream of a kit"
    at = HEADER.size + listed
    for fields in json.loads(content[HEADER.size : at]):
        part = Part(*fields)
        target = site / part.path
        target.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(target, os.O_RDWR | os.O_CREAT, 0o755 if part.executable else 0o644)
        try:
            os.truncate(handle, part.file_size)  # the same from every stream: what no part fills stays zero
            write_part(handle, part, content[at : at + part.length], lz4)
        finally:
            os.close(handle)
        at += part.length
    return len(content)


def link_missing(site: Path) -> None:
    """Take a `ptxas` and an NVRTC of this machine's where the kit brought none."""
    ptxas = site / CUDA / "bin/ptxas"
    triton = sorted(Path(sys.prefix).glob("lib/python3*/site-packages/triton/backends/nvidia/bin/ptxas"))
    found = [path for path in [shutil.which("ptxas"), "/usr/local/cuda/bin/ptxas", *triton] if path]
    existing = [Path(path) for path in found if Path(path).exists() and Path(path) != ptxas]
    if not ptxas.exists() and existing:
        ptxas.parent.mkdir(parents=True, exist_ok=True)
        ptxas.symlink_to(existing[0])
    nvrtc = site / "nvidia/cuda_nvrtc/lib"
    other = sorted(Path(sys.prefix).glob("lib/python3*/site-packages/nvidia/**/libnvrtc*.so.1[3-9]*"))
    other += sorted(Path("/usr/local/cuda/lib64").glob("libnvrtc*.so.1[3-9]*"))
    if not (nvrtc / "libnvrtc.so.12").exists() and other:
        nvrtc.mkdir(parents=True, exist_ok=True)
        for path in other:
            shorter = "libnvrtc.so.12" if path.name.startswith("libnvrtc.so") else path.name
            (nvrtc / shorter).unlink(missing_ok=True)
            (nvrtc / shorter).symlink_to(path)


def write_environment(site: Path) -> None:
    """Write `env.sh`, to be sourced."""
    libraries = ":".join(str(folder) for folder in sorted(site.glob("nvidia/*/lib")))
    (site / "env.sh").write_text(ENVIRONMENT.format(site=site, libraries=libraries, cuda=site / CUDA))


def install(pieces: list[Path], site: Path) -> None:
    """Unpack pieces into `site`, and say which are still missing."""
    here = Path(__file__).resolve().parent
    site.mkdir(parents=True, exist_ok=True)
    if not (site / ".lz4").exists():
        with zipfile.ZipFile(next(here.glob("lz4-*.whl"))) as wheel:
            wheel.extractall(site / ".lz4")
    streams = sorted(stream for piece in pieces for stream in piece.glob("*.xz"))
    begun = time.monotonic()
    with ProcessPoolExecutor() as pool:
        unpacked = sum(pool.map(unpack, streams, [site] * len(streams)))
    done = site / ".done"
    done.mkdir(exist_ok=True)
    for piece in pieces:
        (done / piece.name).touch()
    missing = [name for name in json.loads((here / "pieces.json").read_text()) if not (done / name).exists()]
    link_missing(site)
    write_environment(site)
    print(f"{len(streams)} streams, {unpacked / 1e6:.0f} MB in {time.monotonic() - begun:.1f} s; missing: {missing}")


def main() -> None:
    """Read the command line and install."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pieces", nargs="+", type=Path, metavar="PIECE", help="folders p1, p2, ... of the kit")
    parser.add_argument("--site", type=Path, required=True, help="folder for TensorFlow and its libraries")
    arguments = parser.parse_args()
    install(arguments.pieces, arguments.site.absolute())


if __name__ == "__main__":
    main()

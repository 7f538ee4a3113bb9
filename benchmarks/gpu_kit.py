"""TensorFlow for a machine with a GPU and no network: packed here into a few folders, put together there.

    pip install lz4 zstandard                        what packing needs; pip, gcc and Python 3.12 for x86-64 besides
    python -m benchmarks.gpu_kit DIR                 downloads 2 GB of wheels, packs for a quarter of an hour
    python3 DIR/install/install.py --site SITE DIR/p1 DIR/p2 ...     there: all pieces, or each as it arrives
    . SITE/env.sh; python3 -c 'import tensorflow'    there

A piece, `p1`, `p2`, ..., is at most 45 MiB. The last, of optional parts, can be left behind: without `ptxas` XLA takes
that of the machine's CUDA or lets the driver compile, and without NVRTC cuDNN has no kernels that fuse at run time.
The machine needs an NVIDIA driver and Python 3.12 with TensorFlow's common dependencies (NumPy, gRPC, requests).

Only what one Hopper GPU (compute capability 9.0) needs to train and serve is in it. An entry of a fatbin for another
GPU is never loaded, so its payload becomes zeros in place: sizes and offsets stay. The same goes for symbol tables,
for cuDNN's recurrent networks and for matrix products of complex, 8-bit integer and 8-bit float numbers. FFTs, solvers,
sparse matrices, profiling and NCCL are empty libraries, which TensorFlow opens at its start and calls for such work
only. The CUDA libraries are those that TensorFlow was built with, as the newer ones are larger.

Tried on an NVIDIA H200: the pieces were unpacked as they came, in a minute in all, and training in bfloat16 worked;
convolutions in float32 found no kernel, so what they need is still missing.
"""

import argparse
import json
import lzma
import mmap
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks.gpu_kit_fatbin import Region, regions
from benchmarks.gpu_kit_install import HEADER, MAGIC, Part

WHEELS = [
    "tensorflow==2.21.0",
    "keras==3.15.1",
    "h5py==3.14.0",
    "ml-dtypes==0.6.0",
    "protobuf==7.36.2",
    "flatbuffers==25.12.19",
    "optree==0.20.0",
    "wrapt==2.5.2",
    "absl-py==2.5.1",
    "astunparse==1.6.3",
    "gast==0.7.0",
    "google-pasta==0.2.0",
    "namex==0.1.0",
    "opt-einsum==3.4.0",
    "six==1.17.0",
    "termcolor==3.3.0",
    "wheel==0.48.0",
    "rich==15.0.0",
    "tyro==1.0.17",
    "docstring-parser==0.18.0",
    "typeguard==4.6.1",
    "tensorflow-serving-api==2.21.0",
    "nvidia-cublas-cu12==12.5.3.2",
    "nvidia-cuda-runtime-cu12==12.5.82",
    "nvidia-cudnn-cu12==9.3.0.75",
    "nvidia-cuda-nvcc-cu12==12.5.82",
    "nvidia-cuda-nvrtc-cu12==12.5.82",
]
INSTALLERS = ["lz4==4.4.5"]
PLATFORMS = [f"manylinux_2_{minor}_x86_64" for minor in range(17, 40)] + ["manylinux2014_x86_64", "manylinux1_x86_64"]
LEFT_OUT = re.compile(r"tensorflow/include/.*|nvidia/.*/include/.*|.*\.(a|pyi|h)|.*/lib(nvvm|nvblas)\.so.*")
OPTIONAL = re.compile(r"nvidia/cuda_nvrtc/|nvidia/cuda_nvcc/bin/")
STUBS = {
    "cufft": "libcufft.so.11",
    "curand": "libcurand.so.10",
    "cusolver": "libcusolver.so.11",
    "cusparse": "libcusparse.so.12",
    "cuda_cupti": "libcupti.so.12",
    "nccl": "libnccl.so.2",
}

LARGE_BYTES = 8 << 20  # a library of this size has streams of its own
STREAM_BYTES = 40 << 20
PIECE_BYTES = 45 << 20
# Machine code for GPUs repeats itself so much that searching longer gains a hundredth; 3 is three times as quick as 6.
CODE_FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 3, "dict_size": STREAM_BYTES}]
FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 6, "dict_size": STREAM_BYTES, "nice_len": 32, "depth": 16}]


def parts(file: Path, path: str) -> Iterator[tuple[Part, bytes]]:
    """A file in parts, in the order of its bytes, none larger than a stream unless it is a cubin."""
    size, executable = file.stat().st_size, path.endswith("bin/ptxas")
    if not size:
        yield Part(path, 0, executable, 0, 0), b""
        return
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, prot=mmap.PROT_READ) as content:
        at = 0
        left_out = regions(content, path) if content[:4] == b"\x7fELF" else iter(())
        for region in [*left_out, Region(size, 0)]:
            for start in range(at, region.offset, STREAM_BYTES):
                piece = content[start : min(start + STREAM_BYTES, region.offset)]
                yield Part(path, size, executable, start, len(piece)), piece
            if entry := region.entry:
                header = content[entry.offset : entry.offset + entry.header]
                length = entry.header + len(region.plain)
                part = Part(path, size, executable, entry.offset, length, entry.header, entry.slot)
                yield part, header + region.plain
            elif region.instead:
                yield Part(path, size, executable, region.offset, len(region.instead)), region.instead
            at = region.offset + region.size


class Stream:
    """Parts that are compressed together."""

    def __init__(self, library: str) -> None:
        """Args: library: which it is of, or "others"."""
        self.library = library
        self._parts: list[Part] = []
        self._contents: list[bytes] = []
        self._size = 0
        self._code_size = 0  # of it machine code

    def has_room(self, content: bytes) -> bool:
        """Whether `content` fits; a stream takes at least one part."""
        return not self._parts or self._size + len(content) <= STREAM_BYTES

    def add(self, part: Part, content: bytes) -> None:
        """Append a part."""
        self._parts.append(part)
        self._contents.append(content)
        self._size += len(content)
        self._code_size += len(content) if part.header else 0

    def joined(self) -> bytes:
        """As the installer reads it, before compression."""
        index = json.dumps(self._parts).encode()
        return b"".join([HEADER.pack(MAGIC, len(index)), index, *self._contents])

    def compressed(self) -> bytes:
        """The stream itself."""
        return lzma.compress(self.joined(), filters=CODE_FILTERS if 2 * self._code_size > self._size else FILTERS)


def streams(site: Path, paths: list[str]) -> Iterator[Stream]:
    """Parts of all files, gathered to streams."""
    stream = Stream("")
    for path in paths:
        library = path if (site / path).stat().st_size > LARGE_BYTES else "others"
        for part, content in parts(site / path, path):
            if stream.library != library or not stream.has_room(content):
                if stream.library:
                    yield stream
                stream = Stream(library)
            stream.add(part, content)
    yield stream


class Pieces:
    """Folders that fill up with compressed streams."""

    def __init__(self, folder: Path) -> None:
        """Args: folder: in which the pieces are made."""
        self._folder = folder
        self._count = 0
        self.left: dict[str, int] = {}  # bytes, by the piece's name

    def add(self, packed: bytes) -> str:
        """Put a stream into the first piece that has room, or begin another.

        Returns: the piece's name.
        """
        piece = next((name for name, left in self.left.items() if left >= len(packed)), f"p{len(self.left) + 1}")
        self.left[piece] = self.left.get(piece, PIECE_BYTES) - len(packed)
        (self._folder / piece).mkdir(exist_ok=True)
        (self._folder / piece / f"{self._count:03}.xz").write_bytes(packed)
        self._count += 1
        return piece


def download(folder: Path, requirements: list[str]) -> None:
    """Wheels for the machine's Python, without what they require."""
    platforms = [argument for platform in PLATFORMS for argument in ("--platform", platform)]
    target = ["--python-version", "3.12", "--implementation", "cp", "--only-binary", ":all:", "--no-deps"]
    pip = [sys.executable, "-m", "pip", "download", "--quiet", *target, *platforms, "--dest", str(folder)]
    subprocess.run([*pip, *requirements], check=True)


def unpack_wheels(wheels: Path, site: Path) -> None:
    """Lay the wheels out as pip would, and an empty library for each that is never called."""
    for wheel in sorted(wheels.glob("*.whl")):
        shutil.unpack_archive(wheel, site, "zip")
    for package, soname in STUBS.items():
        library = site / "nvidia" / package / "lib" / soname
        library.parent.mkdir(parents=True, exist_ok=True)
        command = ["gcc", "-shared", f"-Wl,-soname,{soname}", "-x", "c", "/dev/null", "-o", str(library)]
        subprocess.run(command, check=True)


def pack(site: Path, folder: Path) -> dict[str, tuple[int, int, int]]:
    """Make the pieces.

    Returns: of each large library, and of all others together: bytes on disk, in streams, and compressed.
    """
    pieces, sizes = Pieces(folder), dict[str, tuple[int, int, int]]()
    files = [str(file.relative_to(site)) for file in site.rglob("*") if file.is_file()]
    wanted = [path for path in sorted(files) if not LEFT_OUT.fullmatch(path)]
    # The small ones in one go, and at the end what can be left behind.
    wanted.sort(key=lambda path: (bool(OPTIONAL.match(path)), (site / path).stat().st_size > LARGE_BYTES))
    for stream in streams(site, wanted):
        name, plain, packed = stream.library, len(stream.joined()), stream.compressed()
        piece = pieces.add(packed)
        whole = (site / name).stat().st_size if name != "others" else 0
        _, travels, compressed = sizes.get(name, (0, 0, 0))
        sizes[name] = whole, travels + plain, compressed + len(packed)
        print(f"{piece} {name}: {plain / 1e6:.1f} MB to {len(packed) / 1e6:.1f} MB", flush=True)
    (folder / "install" / "pieces.json").write_text(json.dumps(list(pieces.left)))
    return sizes


def make(folder: Path) -> None:
    """Make the kit."""
    wheels, site, install = folder / "wheels", folder / "site", folder / "install"
    download(wheels, WHEELS)
    unpack_wheels(wheels, site)
    download(install, INSTALLERS)
    shutil.copy(Path(__file__).with_name("gpu_kit_install.py"), install / "install.py")
    for name, (whole, travels, compressed) in pack(site, folder).items():
        print(f"{name:70} {whole / 1e6:8.1f} {travels / 1e6:8.1f} {compressed / 1e6:8.1f} MB")


def main() -> None:
    """Read the command line and make the kit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="DIR", help="for the kit; must not exist")
    folder = parser.parse_args().folder
    folder.mkdir(parents=True)
    make(folder)


if __name__ == "__main__":
    main()

"""The kit of TensorFlow for a GPU: which machine code stays in a library, and that it comes out as it went in."""

import importlib
import json
import random
import struct

import pytest

lz4 = pytest.importorskip("lz4.block", reason="packing needs lz4 and zstandard")
pytest.importorskip("zstandard", reason="packing needs lz4 and zstandard")
fatbins = importlib.import_module("benchmarks.gpu_kit_fatbin")
kit = importlib.import_module("benchmarks.gpu_kit")
installer = importlib.import_module("benchmarks.gpu_kit_install")

PATH = "nvidia/cublas/lib/libcublas.so.12"
CODE = b".text.sm90_xmma_gemm_f16f16_f16f32_f32_nn_n" + random.Random(7).randbytes(5000) * 20
PTX, CUBIN = fatbins.PTX, fatbins.CUBIN


def entry(kind, architecture, code=CODE):
    """As CUDA's tools write it: the header, and the payload compressed and padded to 8 bytes."""
    packed = lz4.compress(code, store_size=False)
    slot = -len(packed) % 8 + len(packed)
    header = bytearray(64)
    struct.pack_into("<HHIQI", header, 0, kind, 0x101, 64, slot, len(packed))
    struct.pack_into("<I", header, 28, architecture)
    struct.pack_into("<QQQ", header, 40, fatbins.LZ4_FLAG | 0x11, 0, len(code))
    return bytes(header) + packed.ljust(slot, b"\0")


def fatbin(*entries):
    return struct.pack("<IHHQ", fatbins.FATBIN_MAGIC, 1, 16, len(b"".join(entries))) + b"".join(entries)


def library(section):
    """An ELF file of `.nv_fatbin` and the names of sections."""
    names = b"\0.nv_fatbin\0.shstrtab\0"
    content = b"\x7fELF".ljust(64, b"\1") + section + names
    headers = [(1, 1, 64, len(section)), (12, 3, 64 + len(section), len(names))]
    table = b"".join(
        struct.pack("<IIQQQQ", name, kind, 0, 0, at, size).ljust(64, b"\0") for name, kind, at, size in headers
    )
    elf = bytearray(content + table)
    struct.pack_into("<Q", elf, 0x28, len(content))
    struct.pack_into("<HHH", elf, 0x3A, 64, 2, 1)
    return bytes(elf)


def section_of(elf):
    return next(section for section in fatbins.sections(elf) if section.name == ".nv_fatbin")


@pytest.mark.parametrize(
    "others,wanted",
    [
        ([(CUBIN, 80), (CUBIN, 90), (CUBIN, 100), (PTX, 90)], {(CUBIN, 90)}),
        ([(CUBIN, 80), (PTX, 80), (PTX, 90), (PTX, 120)], {(PTX, 90)}),
        ([(CUBIN, 80), (CUBIN, 89), (PTX, 120)], set()),
    ],
    ids=["its own cubin", "PTX, for want of a cubin", "nothing that it could run"],
)
def test_the_code_that_the_gpu_can_load_is_kept(others, wanted):
    elf = library(fatbin(*[entry(*other) for other in others]))
    (entries,) = fatbins.containers(elf, section_of(elf))
    assert {(one.kind, one.architecture) for one in entries if fatbins.is_wanted(one, entries)} == wanted


def test_what_is_no_fatbin_is_refused():
    elf = library(fatbin(entry(CUBIN, 90)) + b"\1" * 64)
    with pytest.raises(ValueError, match="expected a fatbin, 0xba55ed50, found 0x1010101"):
        list(fatbins.containers(elf, section_of(elf)))


def test_a_library_comes_out_with_the_code_that_it_needs(tmp_path):
    packed, site = tmp_path / "packed", tmp_path / "site"
    elf = library(
        fatbin(entry(CUBIN, 80), entry(CUBIN, 90)) + fatbin(entry(CUBIN, 90, CODE.replace(b"f16f16", b"e4m3e4")))
    )
    (packed / PATH).parent.mkdir(parents=True)
    (packed / PATH).write_bytes(elf)
    (stream,) = kit.streams(packed, [PATH])
    (tmp_path / "000.xz").write_bytes(stream.compressed())
    (site / ".lz4").mkdir(parents=True)  # the one that is installed is found as well
    installer.unpack(tmp_path / "000.xz", site)
    unpacked = (site / PATH).read_bytes()
    first, second = fatbins.containers(unpacked, section_of(unpacked))
    assert len(unpacked) == len(elf)
    assert [code(unpacked, one) for one in (*first, *second)] == [None, CODE, None]
    assert [one.architecture for one in (*first, *second)] == [80, 90, fatbins.OTHER_ARCHITECTURE]


def code(elf, one):
    """What an entry holds, decompressed; None if it holds zeros."""
    payload = elf[one.offset + one.header :][: one.slot]
    return lz4.decompress(payload[: one.compressed], uncompressed_size=one.plain) if any(payload) else None


def test_streams_fill_the_pieces_that_have_room(tmp_path, monkeypatch):
    monkeypatch.setattr(kit, "PIECE_BYTES", 100)
    pieces = kit.Pieces(tmp_path)
    assert [pieces.add(bytes(size)) for size in (60, 70, 40, 30, 1)] == ["p1", "p2", "p1", "p2", "p3"]
    assert sorted(path.name for path in (tmp_path / "p1").iterdir()) == ["000.xz", "002.xz"]


def test_the_environment_names_every_folder_of_libraries(tmp_path):
    for package in ("cublas", "cudnn"):
        (tmp_path / "nvidia" / package / "lib").mkdir(parents=True)
    installer.write_environment(tmp_path)
    script = (tmp_path / "env.sh").read_text()
    assert f"LD_LIBRARY_PATH={tmp_path}/nvidia/cublas/lib:{tmp_path}/nvidia/cudnn/lib" in script
    assert json.dumps(f"--xla_gpu_cuda_data_dir={tmp_path}/nvidia/cuda_nvcc ${{XLA_FLAGS:-}}") in script

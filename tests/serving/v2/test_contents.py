"""Raw tensors, both ways; what shape, datatype and bytes do not agree on is the caller's mistake."""

import struct

import ml_dtypes
import numpy as np
import pytest

from inkling.serving.errors import ServingError
from inkling.serving.offload import SHORT
from inkling.serving.v2 import contents
from inkling.serving.v2.datatypes import DTYPES, datatype_of, datatype_of_tensorflow, numpy_dtype


def strings(*values):
    array = np.empty(len(values), object)
    array[:] = values
    return array


def packed(*values):
    return b"".join(struct.pack("<I", len(value)) + value for value in values)


def refusal(shape, dtype, content):
    with pytest.raises(ServingError) as caught:
        contents.from_raw("x", shape, np.dtype(dtype), content)
    assert caught.value.code.name == "INVALID_ARGUMENT"
    return caught.value.message


@pytest.mark.parametrize("datatype", [name for name in DTYPES if name != "BYTES"])
def test_numbers_come_back_as_they_went(datatype):
    array = np.arange(6).reshape(2, 3).astype(DTYPES[datatype])
    again = contents.from_raw("x", (2, 3), DTYPES[datatype], contents.to_raw(array))
    assert again.dtype == array.dtype and np.array_equal(again, array)
    assert datatype_of("x", array.dtype) == datatype


def test_strings_come_back_as_they_went():
    array = strings(b"", b"\xff\x00", b"two", b"x" * 300).reshape(2, 2)
    assert contents.to_raw(array) == packed(b"", b"\xff\x00", b"two", b"x" * 300)
    again = contents.from_raw("x", (2, 2), np.dtype(object), contents.to_raw(array))
    assert again.tolist() == array.tolist()


def test_an_empty_tensor_has_no_bytes():
    assert contents.from_raw("x", (0, 3), np.dtype(np.float32), b"").shape == (0, 3)
    assert contents.from_raw("x", (0,), np.dtype(object), b"").shape == (0,)
    assert contents.from_raw("x", (), np.dtype(np.float32), struct.pack("<f", 1.5)) == 1.5


def test_bytes_at_an_odd_place_become_an_aligned_array():
    content = memoryview(b"}" + struct.pack("<3d", 1, 2, 3))[1:]
    array = contents.from_raw("x", (3,), np.dtype(np.float64), content)
    assert array.flags.aligned and array.tolist() == [1.0, 2.0, 3.0]


def test_any_byte_but_zero_is_true():
    assert contents.from_raw("x", (3,), np.dtype(np.bool_), b"\x00\x01\xff").view(np.uint8).tolist() == [0, 1, 1]


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((-1, 2), "expected sizes from 0"),
        ((2**63, 0), "expected sizes from 0"),
        ((2**62, 2**62), "too large"),
        ((0, 2**62, 2**62), "too large"),
        ((1,) * 33, "33 dimensions; expected at most 32"),
        ((2**40,), "too large"),
    ],
    ids=str,
)
def test_shapes_of_no_tensor_are_refused(shape, message):
    assert message in refusal(shape, np.float32, b"1234")


@pytest.mark.parametrize("content", [b"", b"123", b"12345", b"1" * 8])
def test_bytes_must_be_as_many_as_the_shape_says(content):
    assert refusal((1,), np.float32, content).startswith(
        f"unexpected total byte size {len(content)} for input 'x', expecting 4"
    )


@pytest.mark.parametrize(
    ("size", "content", "message"),
    [
        (1, b"\x01\x00\x00", "1 elements take at least 4"),
        (1, b"\xff\xff\xff\xff", "element 0 of input 'x' claims 4294967295 bytes, but 0 are left"),
        (2, packed(b"abc"), "2 elements take at least 8"),
        (2, packed(b"abcdefg") + b"\x00\x00", "ends within the length of element 1 of 2"),
        (1, packed(b"a") + b"more", "unexpected 4 bytes behind the 1 elements"),
        (2**30, packed(b"a"), "1073741824 elements take at least 4294967296"),
    ],
    ids=["cut", "lies", "one missing", "cut later", "more", "many"],
)
def test_lengths_that_lie_are_refused(size, content, message):
    assert message in refusal((size,), object, content)


def test_unknown_datatypes_are_named():
    with pytest.raises(ServingError, match="'FP8'; expected one of BOOL, UINT8"):
        numpy_dtype("x", "FP8")
    with pytest.raises(ServingError, match="output 'y' is of complex64"):
        datatype_of("y", np.dtype(np.complex64))


def test_metadata_has_a_name_for_every_dtype():
    assert [datatype_of_tensorflow(number) for number in (1, 7, 10, 14, 19, 11)] == [
        "FP32", "BYTES", "BOOL", "BF16", "FP16", "INT8",
    ]  # fmt: skip
    assert datatype_of_tensorflow(8) == "COMPLEX64"
    assert datatype_of_tensorflow(20) == "RESOURCE"


def test_what_takes_long_to_write_is_told_by_size():
    assert contents.size_of(np.zeros(1000, np.float32)) < SHORT
    assert contents.size_of(np.zeros(1 << 20, ml_dtypes.bfloat16)) > SHORT
    assert contents.size_of(strings(*[b""] * 20_000)) > SHORT

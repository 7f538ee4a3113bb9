"""Arrays become tensors and tensors arrays, in every layout, dtype and form of field."""

import subprocess
import sys
import tracemalloc

import ml_dtypes
import numpy as np
import pytest

from inkling.client.errors import InvalidInput, InvalidResponse
from inkling.client.protocol import wire_pb2 as wire
from inkling.client.protocol.tensors import to_array, to_tensor


def tensor(dtype, shape, **fields):
    dims = [wire.TensorShapeProto.Dim(size=size) for size in shape]
    return wire.TensorProto(dtype=dtype, tensor_shape=wire.TensorShapeProto(dim=dims), **fields)


def sent(value, dtype=None):
    return to_array(wire.TensorProto.FromString(to_tensor(value, dtype).SerializeToString()))


@pytest.mark.parametrize(
    "array",
    [
        np.asfortranarray(np.arange(6, dtype=np.int16).reshape(2, 3)),
        np.arange(20, dtype=np.float32)[::-3],
        np.arange(24, dtype=np.uint8).reshape(2, 3, 4).transpose(2, 0, 1),
        np.arange(3, dtype=">i4"),
        np.array([1.5, -2], dtype=">f8"),
        np.broadcast_to(np.float32(7), (3, 2)),
        np.array(5, dtype=np.uint16),
        np.zeros((0, 28, 28), np.uint8),
        np.zeros((2, 0), np.float32),
        np.array([1 + 2j], dtype=">c8"),
        np.array([True, False]),
        np.array([1.5, -2], dtype=ml_dtypes.bfloat16),
        np.array([0.5, -2], dtype=ml_dtypes.float8_e5m2),
        np.array([-8, 7], dtype=ml_dtypes.int4),
    ],
    ids=lambda array: f"{array.dtype.str}{list(array.shape)}",
)
def test_layout_and_dtype_survive(array):
    found = sent(array)
    assert found.dtype == array.dtype.newbyteorder("<") and found.shape == array.shape
    np.testing.assert_array_equal(found, array)


def test_content_is_row_major_and_little_endian():
    array = np.array([[1, 2], [3, 4]], dtype=">u2").T
    assert to_tensor(array).tensor_content == bytes([1, 0, 3, 0, 2, 0, 4, 0])


def test_content_is_read_without_a_copy():
    message = to_tensor(np.zeros(1 << 20, np.uint8))
    tracemalloc.start()
    array = to_array(message)
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert not array.flags.owndata and not array.flags.writeable
    assert size < 1.1 * (1 << 20)  # the bytes that protobuf gives out, once


@pytest.mark.parametrize(
    ("value", "dtype", "expected"),
    [
        (1.5, np.float32, 1.5),
        ([1, 2], np.int32, [1, 2]),
        (2**31, np.int64, 2**31),
        (2**63, np.uint64, 2**63),
        (True, np.bool_, True),
        ([], np.float32, []),
        (1j, np.complex128, 1j),
        (np.float64(2), np.float64, 2),
        ([np.ones(2)], np.float64, [[1, 1]]),
        ("ä", object, "ä".encode()),
        ([b"a\0", "b"], object, [b"a\0", b"b"]),
        ([["a"], ["b"]], object, [[b"a"], [b"b"]]),
        (np.array(["ä", "bc"]), object, ["ä".encode(), b"bc"]),
        (np.array([b"x"], dtype=object), object, [b"x"]),
        (np.array(["t"], dtype=np.dtypes.StringDType()), object, [b"t"]),
        (np.zeros((0, 2), "U1"), object, np.zeros((0, 2))),
    ],
    ids=repr,
)
def test_values_become_what_tensorflow_makes_of_them(value, dtype, expected):
    found = sent(value)
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, np.array(expected, dtype=dtype))


@pytest.mark.parametrize(
    ("value", "dtype", "message"),
    [
        ([[1], [2, 3]], None, "the value is not an array: .*inhomogeneous"),
        (np.array(["2026-11-24"], "M8[D]"), None, r"dtype datetime64\[D\] cannot be sent"),
        ([None], None, r"holds None \(NoneType\); expected only str and bytes"),
        ([1.5], "int32", "dtype float32 cannot be sent as int32"),
        ([256], "uint8", "without changing them"),
        ([-1], "uint32", "without changing them"),
        ([8], "int4", "without changing them"),
        ([1j], "float32", "without changing them"),
        ([1], "flot32", "'flot32' is unknown; expected one such as float32"),
        ([1], "resource", "cannot be held in an array"),
    ],
)
def test_what_cannot_be_sent_is_refused(value, dtype, message):
    with pytest.raises(InvalidInput, match=message):
        to_tensor(value, dtype)


def test_a_dtype_may_be_asked_for():
    assert to_tensor([1, 2], "qint8").dtype == wire.DT_QINT8 and sent([-1, 2], "qint8").tolist() == [-1, 2]
    assert sent([1, 2], "float32").dtype == np.float32
    assert sent([1, 2], "float16").dtype == np.float16
    assert sent([7], "int4").dtype == ml_dtypes.int4
    assert sent(np.int64([1, 2]), "uint8").tolist() == [1, 2]


FLOATS = [0.5, -2.0, 3.25]
FORMS = [
    (wire.DT_FLOAT, {"float_val": FLOATS}, FLOATS),
    (wire.DT_DOUBLE, {"double_val": FLOATS}, FLOATS),
    (wire.DT_HALF, {"half_val": np.array(FLOATS, np.float16).view(np.uint16).tolist()}, FLOATS),
    (wire.DT_BFLOAT16, {"half_val": np.array(FLOATS, ml_dtypes.bfloat16).view(np.uint16).tolist()}, FLOATS),
    (wire.DT_COMPLEX64, {"scomplex_val": [1, 2, 3, -4, 0, 1]}, [1 + 2j, 3 - 4j, 1j]),
    (wire.DT_COMPLEX128, {"dcomplex_val": [1, 2, 3, -4, 0, 1]}, [1 + 2j, 3 - 4j, 1j]),
    (wire.DT_INT32, {"int_val": [1, -2, 2**31 - 1]}, [1, -2, 2**31 - 1]),
    (wire.DT_INT16, {"int_val": [1, -2, 3]}, [1, -2, 3]),
    (wire.DT_INT8, {"int_val": [1, -128, 127]}, [1, -128, 127]),
    (wire.DT_UINT8, {"int_val": [1, 255, 0]}, [1, 255, 0]),
    (wire.DT_UINT16, {"int_val": [1, 65535, 0]}, [1, 65535, 0]),
    (wire.DT_QINT8, {"int_val": [1, -128, 127]}, [1, -128, 127]),
    (wire.DT_QUINT16, {"int_val": [1, 65535, 0]}, [1, 65535, 0]),
    (wire.DT_INT4, {"int_val": [1, -8, 7]}, [1, -8, 7]),
    (wire.DT_INT64, {"int64_val": [1, -(2**63), 2**63 - 1]}, [1, -(2**63), 2**63 - 1]),
    (wire.DT_UINT32, {"uint32_val": [1, 2**32 - 1, 0]}, [1, 2**32 - 1, 0]),
    (wire.DT_UINT64, {"uint64_val": [1, 2**64 - 1, 0]}, [1, 2**64 - 1, 0]),
    (wire.DT_BOOL, {"bool_val": [True, False, True]}, [True, False, True]),
    (wire.DT_STRING, {"string_val": [b"a", b"", b"b\0"]}, [b"a", b"", b"b\0"]),
    (wire.DT_STRING, {"tensor_content": b"\x01\x00\xc8\x01a" + b"x" * 200}, [b"a", b"", b"x" * 200]),
    (
        wire.DT_FLOAT8_E5M2,
        {"float8_val": np.array([0.5, -2.0, 3.0], ml_dtypes.float8_e5m2).tobytes()},
        [0.5, -2.0, 3.0],
    ),
]


def form_name(form):
    return f"{wire.DataType.Name(form[0])} in {next(iter(form[1]))}"


@pytest.mark.parametrize("form", FORMS, ids=form_name)
def test_every_form_of_field_is_read(form):
    dtype, fields, expected = form
    found = to_array(tensor(dtype, (3, 1), **fields))
    assert found.shape == (3, 1)
    assert found.ravel().tolist() == expected


@pytest.mark.parametrize("form", [form for form in FORMS if "tensor_content" not in form[1]], ids=form_name)
def test_the_last_value_of_a_list_stands_for_the_rest(form):
    dtype, fields, expected = form
    assert to_array(tensor(dtype, (5,), **fields)).tolist() == expected + [expected[-1]] * 2


def test_one_value_fills_a_tensor_without_its_memory():
    found = to_array(tensor(wire.DT_FLOAT, (1000, 1000), float_val=[2.5]))
    assert found.shape == (1000, 1000) and found.base is not None and found.strides == (0, 0)
    assert (found == 2.5).all()


@pytest.mark.parametrize("dtype", [wire.DT_FLOAT, wire.DT_INT64, wire.DT_STRING, wire.DT_BOOL, wire.DT_BFLOAT16])
def test_no_values_at_all_are_zeros(dtype):
    assert not to_array(tensor(dtype, (2, 2))).any()
    assert to_array(tensor(dtype, (0, 2))).shape == (0, 2)


def test_bytes_other_than_0_and_1_are_still_truth_values():
    found = to_array(tensor(wire.DT_BOOL, (3,), tensor_content=b"\x00\x02\x01"))
    assert found.tolist() == [False, True, True] and found.view(np.uint8).tolist() == [0, 1, 1]


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (tensor(wire.DT_FLOAT, (3,), tensor_content=b"1234"), r"float32 \[3\] has 4 bytes of content; expected 12"),
        (tensor(wire.DT_FLOAT, (1,), float_val=[1, 2]), r"shape \[1\] has 2 values; expected 1 at most"),
        (tensor(wire.DT_FLOAT, (-1,), float_val=[1]), r"the shape \[-1\]; expected a fully known one"),
        (
            wire.TensorProto(dtype=wire.DT_FLOAT, tensor_shape=wire.TensorShapeProto(unknown_rank=True)),
            "the shape unknown",
        ),
        (tensor(wire.DT_FLOAT, (2**40,), float_val=[1]), "more than a message can hold"),
        (tensor(wire.DT_STRING, (2**40,)), "more than a message can hold"),
        (tensor(wire.DT_FLOAT, (1,) * 300, float_val=[1]), "has 300 dimensions; expected [36][24] at most"),
        (tensor(wire.DT_FLOAT, (0, 2**40, 2**40)), "more than a message can hold"),
        (tensor(wire.DT_STRING, (0, 2**62)), "more than a message can hold"),
        (tensor(wire.DT_FLOAT, (2**28,), float_val=[1, 2]), "has 2 values, .* expected 16,777,216 elements at most"),
        (tensor(wire.DT_BFLOAT16, (2**27,), half_val=[1, 2]), "has 2 values, the last of which stands for the rest"),
        (tensor(wire.DT_STRING, (2**24,), string_val=[b"a", b"b"]), "expected 8,388,608 elements at most"),
        (tensor(wire.DT_RESOURCE, ()), "type resource cannot be held in an array"),
        (tensor(wire.DT_INVALID, ()), "type invalid cannot be held in an array"),
        (tensor(99, ()), "type dtype 99 cannot be held in an array"),
        (tensor(wire.DT_STRING, (2,), tensor_content=b"\x01"), "ends within 2 strings' lengths"),
        (tensor(wire.DT_STRING, (1,), tensor_content=b"\xff" * 100_000), "its 1 strings' lengths need"),
        (tensor(wire.DT_STRING, (2**29,), string_val=[b"a", b"b"]), "more than a message can hold"),
        (tensor(wire.DT_STRING, (2,), tensor_content=b"\x01\x05ab"), "4 bytes; its 2 strings' lengths need 8"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_broken_tensors_are_bad_answers(broken, message):
    with pytest.raises(InvalidResponse, match=message):
        to_array(broken)


def test_as_many_dimensions_as_numpy_has_are_read():
    assert to_array(tensor(wire.DT_FLOAT, (1,) * 32, float_val=[5])).shape == (1,) * 32


@pytest.mark.process
def test_bfloat16_without_ml_dtypes_is_expanded_without_its_memory():
    script = (
        "import sys; sys.modules['ml_dtypes'] = None\n"
        "from inkling.client.protocol import wire_pb2 as wire\n"
        "from inkling.client.protocol.tensors import to_array\n"
        "tensor = wire.TensorProto(dtype=wire.DT_BFLOAT16, half_val=[0x3F80])\n"
        "tensor.tensor_shape.dim.add(size=2**28)\n"
        "array = to_array(tensor)\n"
        "assert array.shape == (2**28,) and array.strides == (0,) and array[5] == 1\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.process
def test_bfloat16_needs_no_ml_dtypes():
    """Rounded as ml_dtypes rounds, ties to even, and read back as float32."""
    script = (
        "import sys; sys.modules['ml_dtypes'] = None\n"
        "import numpy as np\n"
        "from inkling.client.protocol.tensors import to_array, to_tensor\n"
        "values = np.frombuffer(sys.stdin.buffer.read(), np.float32)\n"
        "tensor = to_tensor(values, 'bfloat16')\n"
        "assert to_array(tensor).dtype == np.float32\n"
        "sys.stdout.buffer.write(to_array(tensor).tobytes())\n"
    )
    bits = np.random.default_rng(0).integers(0, 2**32, 20_000, dtype=np.uint64).astype(np.uint32)
    ties = np.arange(0x3F80_8000, 0x3F90_8000, 0x1_0000, dtype=np.uint32)
    values = np.concatenate([bits, ties]).view(np.float32)
    output = subprocess.run([sys.executable, "-c", script], input=values.tobytes(), capture_output=True, check=True)
    found = np.frombuffer(output.stdout, np.float32)
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(found, values.astype(ml_dtypes.bfloat16).astype(np.float32))

"""Whether requests may share a run is found out by trying: functions in closed form, with known rows."""

import logging

import numpy as np
import pytest
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef

from inkling.serving.errors import invalid_argument
from inkling.serving.model.input_checks import InputSpec
from inkling.serving.model.row_independence import has_rows, rows_are_independent


def spec(shape=(-1, 3), dtype=types_pb2.DT_FLOAT, numpy_dtype=np.float32):
    return InputSpec("x", "x:0", dtype, np.dtype(numpy_dtype), shape, None)


def are_independent(function, *, inputs=None, samples=()):
    return rows_are_independent(lambda arrays: [function(*arrays)], inputs or [spec()], samples, name="s")


def softmax(x, axis):
    exponentials = np.exp(x - x.max())
    return exponentials / exponentials.sum(axis=axis, keepdims=True)


@pytest.mark.parametrize(
    "function, expected",
    [
        (lambda x: 2 * x + 1, True),
        (lambda x: x.sum(axis=1), True),
        (lambda x: softmax(x, 1), True),
        (lambda x: x @ np.ones((3, 2), np.float32), True),
        (lambda x: (x > 1).astype(np.int64), True),
        (lambda x: x - x.mean(axis=0), False),
        (lambda x: softmax(x, 0), False),
        (lambda x: np.sort(x, axis=0), False),
        (lambda x: x[::-1], False),
        (lambda x: x / len(x), False),
        (lambda x: np.arange(len(x)), False),
        (lambda x: np.full((len(x), 1), len(x)), False),
    ],
    ids=[
        "affine", "row sum", "softmax of rows", "matmul", "threshold", "batch mean", "softmax of columns", "sort",
        "reversed", "batch size", "row number", "number of rows",
    ],
)  # fmt: skip
def test_a_function_is_known_by_what_it_does_to_two_inputs_apart_and_together(function, expected):
    assert are_independent(function) is expected


def test_rounding_at_another_batch_size_is_no_dependence():
    assert are_independent(lambda x: x * np.float32(1 + 1e-6 * len(x)))
    assert are_independent(lambda x: (x * (1 + 1e-4 * len(x))).astype(np.float16))


def test_not_a_number_equals_itself():
    assert are_independent(lambda x: x * np.nan)


def test_all_inputs_count():
    inputs = [spec(), spec((-1,), types_pb2.DT_INT32, np.int32)]
    assert are_independent(lambda x, n: x * n[:, None], inputs=inputs)
    assert not are_independent(lambda x, n: x * n.max(), inputs=inputs)


@pytest.mark.parametrize(
    "inputs, why",
    [
        ([spec((-1,), types_pb2.DT_STRING, object)], "values of input x cannot be made up; add warm-up requests"),
        ([spec((-1, 1 << 22))], "input x is too large to be made up; add warm-up requests"),
    ],
    ids=["strings", "large"],
)
def test_what_cannot_be_made_up_is_run_one_by_one(inputs, why, caplog):
    caplog.set_level(logging.INFO)
    assert not are_independent(lambda x: x, inputs=inputs)
    assert why in caplog.text


def test_samples_stand_in_for_strings():
    strings = [spec((-1,), types_pb2.DT_STRING, object)]
    samples = [{"x": np.array([b"a", b"b"], object)}, {"x": np.array([b"c"], object)}]
    assert are_independent(lambda x: x + x, inputs=strings, samples=samples)
    assert not are_independent(lambda x: np.full(len(x), x.max(), object), inputs=strings, samples=samples)


def test_samples_of_other_shapes_are_not_mixed():
    seen = []
    samples = [{"x": np.zeros((1, 5), np.float32)}, {"x": np.ones((2, 3), np.float32)}, {"other": np.zeros(1)}]
    assert are_independent(lambda x: seen.append(x.shape) or x, samples=samples)
    assert seen == [(4, 3), (2, 3), (2, 3)]


def test_a_function_that_fails_on_made_up_values_is_run_one_by_one(caplog):
    caplog.set_level(logging.INFO)

    def fail(arrays):
        raise invalid_argument("no such word")

    assert not rows_are_independent(fail, [spec()], [], name="s")
    assert "probing it failed: no such word" in caplog.text


@pytest.mark.parametrize(
    "input_shape, output_shape, expected",
    [
        ([-1, 2], [-1], True),
        ([3, 2], [-1], False),
        ([-1, 2], [3], False),
        ([-1, 2], [], False),
        (None, [-1], False),
    ],
    ids=["rows", "input fixed", "output fixed", "scalar", "unknown rank"],
)
def test_rows_are_a_first_dimension_of_any_size(input_shape, output_shape, expected):
    definition = SignatureDef()
    for info, shape in ((definition.inputs["x"], input_shape), (definition.outputs["y"], output_shape)):
        info.tensor_shape.unknown_rank = shape is None
        for size in shape or []:
            info.tensor_shape.dim.add(size=size)
    assert has_rows(definition) is expected


def test_a_signature_without_inputs_has_no_rows():
    definition = SignatureDef()
    definition.outputs["y"].tensor_shape.dim.add(size=-1)
    assert not has_rows(definition)

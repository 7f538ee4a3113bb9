"""Find out once, when a model is loaded, whether a signature treats the rows of a batch independently.

Only then may requests of different callers share a run without anybody having asked for it. The signature must say
that inputs and outputs have any number of rows, and two inputs must give the same outputs apart and together. A mean
over the batch, a sort or a softmax over the wrong axis shows itself at once with random numbers. Strings cannot be
made up (they are JPEGs, or tf.Examples): they are taken from the version's warm-up requests, and without those the
signature's requests are run one by one.
"""

import logging
from collections.abc import Mapping, Sequence

import numpy as np
from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef, TensorInfo

from ..arrays import Array, Function
from ..errors import ServingError
from .input_checks import InputSpec, common_rows

logger = logging.getLogger(__name__)

ROWS = (3, 2)  # of the two made-up inputs
UNKNOWN_SIZE = 4  # taken for dimensions of any size
MAX_PROBE_VALUES = 1 << 22


def has_rows(definition: SignatureDef) -> bool:
    """Whether all inputs and outputs have a first dimension of any size."""
    infos = [*definition.inputs.values(), *definition.outputs.values()]
    return bool(definition.inputs) and all(_has_rows(info) for info in infos)


def rows_are_independent(
    function: Function, inputs: Sequence[InputSpec], samples: Sequence[Mapping[str, Array]], *, name: str
) -> bool:
    """Try whether `function` gives the rows of a batch what it gives them alone.

    Args:
        function: takes arrays in the order of `inputs`.
        inputs: the signature's, each [any number of rows, ...].
        samples: real inputs by alias, preferred to made-up ones.
        name: the signature's, for the log.
    """
    try:
        first, second = _from_samples(inputs, samples) or _made_up(inputs)
        together = function([np.concatenate(pair) for pair in zip(first, second, strict=True)])
        apart = [np.concatenate(pair) for pair in zip(function(first), function(second), strict=True)]
    except (ServingError, ValueError, MemoryError) as error:
        logger.info("requests for %s are run one by one: probing it failed: %s", name, error)
        return False
    if all(_alike(one, other) for one, other in zip(together, apart, strict=True)):
        return True
    logger.info("requests for %s are run one by one: its rows depend on each other", name)
    return False


def _has_rows(info: TensorInfo) -> bool:
    shape = info.tensor_shape
    return not shape.unknown_rank and bool(shape.dim) and shape.dim[0].size == -1


def _from_samples(
    inputs: Sequence[InputSpec], samples: Sequence[Mapping[str, Array]]
) -> tuple[list[Array], list[Array]] | None:
    """Two real inputs, if there are samples with rows that can be concatenated."""
    rows = [[sample[spec.alias] for spec in inputs] for sample in samples if all(s.alias in sample for s in inputs)]
    rows = [arrays for arrays in rows if common_rows(arrays)]
    if not rows:
        return None
    last = rows[-1]
    fitting = [arrays for arrays in rows if [a.shape[1:] for a in arrays] == [a.shape[1:] for a in last]]
    return fitting[0], last


def _made_up(inputs: Sequence[InputSpec]) -> tuple[list[Array], list[Array]]:
    random = np.random.default_rng(0)
    made = []
    for rows in ROWS:
        arrays = []
        for spec in inputs:
            assert spec.shape is not None
            shape = (rows, *[UNKNOWN_SIZE if size < 0 else size for size in spec.shape[1:]])
            if spec.dtype == object:
                raise ValueError(f"values of input {spec.alias} cannot be made up; add warm-up requests")
            if np.prod(shape) > MAX_PROBE_VALUES:
                raise ValueError(f"input {spec.alias} is too large to be made up; add warm-up requests")
            # Small and not negative: valid as pixels, as numbers, and as ids of all but the smallest vocabularies.
            arrays.append((random.random(shape) * 4).astype(spec.dtype))
        made.append(arrays)
    return made[0], made[1]


def _alike(one: Array, other: Array) -> bool:
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    if one.dtype == object or one.dtype.kind in "iub":
        return bool(np.array_equal(one, other))
    tolerance = 1e-2 if one.dtype.itemsize <= 2 else 1e-4  # kernels may round differently at another batch size
    return bool(
        np.allclose(one.astype(np.complex128), other.astype(np.complex128), tolerance, tolerance, equal_nan=True)
    )

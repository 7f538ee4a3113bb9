"""Shapes that a signature does not announce, and that its graph may compute all the same.

TensorFlow Serving looks at no shape. An export whose signature says one row takes as many as come, one that says [1]
takes [1.0, 2.0, 5.0], and one that begins with a reshape takes an example without its batch. So only what can end the
process is held back here:

- a rank that an operation of the graph does not expect, by shape inference (rank_inference.py), asked once for each;
- rows that are much larger than announced: a convolution makes a hundred bytes of one;
- inputs that are broadcast against each other to more than anybody sent.

Other sizes are left to the kernels, which refuse what they cannot compute.
"""

import asyncio
import math
from collections.abc import Callable, Sequence

import numpy as np
from tensorflow.core.framework.graph_pb2 import GraphDef

from ..arrays import Array, num_bytes
from ..errors import invalid_argument
from . import rank_inference
from .input_checks import InputSpec, fits, wrong_shape
from .signatures import Signature

# Of an input of another rank: where its rows are is not known, so that it cannot be run in parts.
MAX_BYTES = 4 << 20
# Values of a row of another size than announced: so many, or so many times the announced ones.
MAX_ROW_VALUES = 4096
MAX_ROW_GROWTH = 4
MAX_BROADCAST_VALUES = 1 << 24
# Raises ServingError if the input of this alias can never have this shape.
ShapeCheck = Callable[[str, tuple[int, ...]], None]


def unannounced(signature: Signature, arrays: Sequence[Array]) -> list[tuple[InputSpec, Array]]:
    """The inputs whose shape the signature does not announce.

    Args:
        signature: the signature.
        arrays: a request's, in the order of its inputs.
    """
    return [
        (spec, array)
        for spec, array in zip(signature.inputs, arrays, strict=True)
        if not _is_announced(signature, spec, array.shape)
    ]


def _is_announced(signature: Signature, spec: InputSpec, shape: tuple[int, ...]) -> bool:
    """Whether `shape` is as announced, or lacks only last dimensions of size one, and nobody minds."""
    if spec.shape is None or fits(shape, spec.shape):
        return True
    missing = (1,) * (len(spec.shape) - len(shape))
    return signature.trailing_ones_optional and bool(missing) and fits(shape + missing, spec.shape)


def have_other_ranks(found: Sequence[tuple[InputSpec, Array]]) -> bool:
    """Whether an input of those that `unannounced` found has another rank: then its first dimension may be no rows."""
    return any(spec.shape is not None and array.ndim != len(spec.shape) for spec, array in found)


class UnannouncedShapes:
    """Decides for one signature. Used on the event loop only, but for `check_early`."""

    def __init__(self, signature: Signature, graph_def: GraphDef | None) -> None:
        """Nothing is asked of the graph yet.

        Args:
            signature: the signature.
            graph_def: the model's graph; None where there is none to ask, and only announced shapes are taken.
        """
        self._signature = signature
        self._graph_def = graph_def
        self._asked: dict[tuple[str, int], asyncio.Task[bool]] = {}

    def check_early(self, alias: str, shape: tuple[int, ...]) -> None:
        """Refuse what must not run whatever the graph says, before there is an array. May be called on any thread.

        Raises: ServingError INVALID_ARGUMENT.
        """
        spec = next(spec for spec in self._signature.inputs if spec.alias == alias)
        if spec.ranks is not None and len(shape) not in spec.ranks:
            raise wrong_shape(spec, shape)
        if self._signature.elementwise or _is_announced(self._signature, spec, shape):
            return
        if not self._may_take(spec, shape, math.prod(shape) * spec.dtype.itemsize):
            raise wrong_shape(spec, shape)

    async def check(self, found: Sequence[tuple[InputSpec, Array]], arrays: Sequence[Array]) -> None:
        """Refuse what must not run.

        Args:
            found: what `unannounced` found.
            arrays: all inputs of the request.

        Raises: ServingError INVALID_ARGUMENT.
        """
        _check_broadcast(arrays)
        if self._signature.elementwise:
            return
        for spec, array in found:
            if not await self._takes(spec, array):
                raise wrong_shape(spec, array.shape)

    def _may_take(self, spec: InputSpec, shape: tuple[int, ...], size: int) -> bool:
        """Whether an array of this shape and of `size` bytes may run, as far as can be said without the graph."""
        assert spec.shape is not None
        if self._graph_def is None:
            return False
        if len(shape) == len(spec.shape):
            return _row_is_moderate(shape[1:], spec.shape[1:])
        return len(shape) <= rank_inference.MAX_RANK and size <= MAX_BYTES

    async def _takes(self, spec: InputSpec, array: Array) -> bool:
        assert spec.shape is not None
        if not self._may_take(spec, array.shape, num_bytes(array)):
            return False
        if array.ndim == len(spec.shape):
            return True
        key = spec.alias, array.ndim
        if key not in self._asked:
            self._asked[key] = asyncio.create_task(asyncio.to_thread(self._accepts, spec, array.ndim))
        return await asyncio.shield(self._asked[key])

    def _accepts(self, spec: InputSpec, rank: int) -> bool:
        assert self._graph_def is not None
        outputs = self._signature.tensor_names(self._signature.outputs)
        return rank_inference.accepts(
            self._graph_def, input_name=spec.tensor_name, dtype=spec.dtype_number, outputs=outputs, rank=rank
        )


def _row_is_moderate(shape: tuple[int, ...], announced: tuple[int, ...]) -> bool:
    usual = math.prod(size if expected < 0 else expected for size, expected in zip(shape, announced, strict=True))
    return math.prod(shape) <= max(MAX_ROW_VALUES, MAX_ROW_GROWTH * usual)


def _check_broadcast(arrays: Sequence[Array]) -> None:
    try:
        size = math.prod(np.broadcast_shapes(*[array.shape for array in arrays]))
    except ValueError:  # they do not go together that way; if they should, TensorFlow says why not
        return
    if size > max(MAX_BROADCAST_VALUES, *[array.size for array in arrays]):
        shapes = ", ".join(str(list(array.shape)) for array in arrays)
        raise invalid_argument(
            f"Inputs of the shapes {shapes} together make {size} values; send at most {MAX_BROADCAST_VALUES}, "
            f"or the shapes of the signature"
        )

"""What can be run of a loaded model: a signature, with all that inspection.py found out about it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef

from ..arrays import Array
from ..tensors import numpy_dtype
from .input_checks import InputSpec


@dataclass(frozen=True, slots=True)
class Signature:
    """A signature that can be run."""

    name: str
    definition: SignatureDef
    inputs: tuple[InputSpec, ...]  # by alias, sorted
    outputs: tuple[str, ...]  # aliases, sorted
    trailing_ones_optional: bool  # inputs may leave out last dimensions of size 1
    elementwise: bool  # every operation works value by value, so that inputs may have any shape
    rows_independent: bool  # several requests in one run get what each would get alone

    def tensor_names(self, outputs: Sequence[str]) -> list[str]:
        """The names of the tensors that the aliases `outputs` stand for."""
        return [self.definition.outputs[alias].name for alias in outputs]

    def no_rows(self, outputs: Sequence[str]) -> list[Array] | None:
        """The outputs for a request without rows, [0, ...] each; None where they have to be computed.

        TensorFlow's oneDNN convolutions fail on empty batches: `Incompatible shapes: [0,14,14,32] vs. [64]`.
        """
        if not self.rows_independent:
            return None
        arrays = []
        for info in (self.definition.outputs[alias] for alias in outputs):
            shape = [dim.size for dim in info.tensor_shape.dim][1:]
            if -1 in shape or info.dtype == types_pb2.DT_INVALID:
                return None
            arrays.append(np.empty((0, *shape), numpy_dtype(info.dtype)))
        return arrays

"""The signatures of a loaded model, with all that is worth knowing of them before the first request."""

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef

from ..errors import ServingError
from ..tensors import Array, numpy_dtype
from . import rank_inference, row_independence
from .graph_analysis import GraphFacts, facts
from .input_checks import InputSpec
from .saved_model import Runtime

logger = logging.getLogger(__name__)

DEFAULT_SIGNATURE = "serving_default"
CLASSIFY = "tensorflow/serving/classify"
REGRESS = "tensorflow/serving/regress"
PREDICT = "tensorflow/serving/predict"
HIDDEN = "__saved_model"  # how the names of signatures begin that are not for requests


@dataclass(frozen=True, slots=True)
class Signature:
    """A signature that can be run."""

    name: str
    definition: SignatureDef
    inputs: tuple[InputSpec, ...]  # by alias, sorted
    outputs: tuple[str, ...]  # aliases, sorted
    trailing_ones_optional: bool  # inputs may leave out last dimensions of size 1
    rows_independent: bool  # several requests in one run get what each would get alone

    def tensor_names(self, outputs: Sequence[str]) -> list[str]:
        """The tensors of `outputs`, which are aliases."""
        return [self.definition.outputs[alias].name for alias in outputs]

    def no_rows(self, outputs: Sequence[str]) -> list[Array] | None:
        """The answer to a request without rows; None where that has to be computed.

        TensorFlow's oneDNN convolutions fail on empty batches: `Incompatible shapes: [0,14,14,32] vs. [64]`.
        """
        if not self.rows_independent:
            return None
        answers = []
        for info in (self.definition.outputs[alias] for alias in outputs):
            shape = [dim.size for dim in info.tensor_shape.dim][1:]
            if -1 in shape:
                return None
            answers.append(np.empty((0, *shape), numpy_dtype(info.dtype)))
        return answers


def make_signatures(runtime: Runtime, samples: Mapping[str, Sequence[Mapping[str, Array]]]) -> dict[str, Signature]:
    """The signatures of `runtime` that requests can use.

    Args:
        samples: example inputs by signature name, from the warm-up requests.
    """
    signatures = {}
    for name, definition in runtime.signature_defs.items():
        if not definition.outputs or name.startswith(HIDDEN):
            continue
        try:
            inputs = tuple(InputSpec.of(alias, info, definition) for alias, info in sorted(definition.inputs.items()))
        except ServingError as error:
            logger.warning("signature %s cannot be served: %s", name, error)
            continue
        signatures[name] = _make_signature(name, definition, inputs, runtime, samples.get(name, ()))
    return signatures


def _make_signature(
    name: str,
    definition: SignatureDef,
    inputs: tuple[InputSpec, ...],
    runtime: Runtime,
    samples: Sequence[Mapping[str, Array]],
) -> Signature:
    aliases = tuple(sorted(definition.outputs))
    outputs = [definition.outputs[alias].name for alias in aliases]
    if runtime.graph_def is None:
        # TensorFlow Lite's interpreter takes whatever has as many values.
        return Signature(name, definition, inputs, aliases, trailing_ones_optional=True, rows_independent=False)
    input_names = [spec.tensor_name for spec in inputs]
    found = facts(runtime.graph_def, input_names, outputs)
    if not found.elementwise:
        inputs = tuple(_with_ranks(spec, runtime, outputs) for spec in inputs)
    return Signature(
        name,
        definition,
        inputs,
        aliases,
        trailing_ones_optional=found.elementwise,  # such a graph computes the same without them
        rows_independent=_rows_are_independent(found, definition, inputs, runtime, outputs, samples, name),
    )


def _with_ranks(spec: InputSpec, runtime: Runtime, outputs: Sequence[str]) -> InputSpec:
    if spec.shape is not None or runtime.graph_def is None:
        return spec
    ranks = rank_inference.possible_ranks(
        runtime.graph_def, input_name=spec.tensor_name, dtype=spec.dtype_number, outputs=outputs
    )
    return dataclasses.replace(spec, ranks=ranks)


def _rows_are_independent(
    found: GraphFacts,
    definition: SignatureDef,
    inputs: Sequence[InputSpec],
    runtime: Runtime,
    outputs: Sequence[str],
    samples: Sequence[Mapping[str, Array]],
    name: str,
) -> bool:
    if found.changing:
        logger.info("requests for %s are run one by one: it has %s", name, ", ".join(found.changing))
        return False
    if not row_independence.has_rows(definition):
        return False
    try:
        function = runtime.function([spec.tensor_name for spec in inputs], outputs)
    except ServingError as error:  # a sparse output, say; the other signatures can be served all the same
        logger.info("requests for %s are run one by one: %s", name, error)
        return False
    return row_independence.rows_are_independent(function, inputs, samples, name=name)

"""Look at a model's signatures once, when it is loaded: what may be done to a request before it runs.

graph_analysis.py reads the graph, rank_inference.py asks TensorFlow's shape inference, row_independence.py tries the
model out.
"""

import dataclasses
import logging
from collections.abc import Iterator, Mapping, Sequence

from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef

from ..arrays import Array
from ..errors import ServingError
from . import rank_inference, row_independence
from .graph_analysis import analyse, dtype_of
from .input_checks import InputSpec
from .saved_model import Runtime
from .signatures import Signature

logger = logging.getLogger(__name__)

HIDDEN = "__saved_model"  # how the names of signatures begin that are not for requests


def make_signatures(runtime: Runtime, samples: Mapping[str, Sequence[Mapping[str, Array]]]) -> dict[str, Signature]:
    """The signatures of `runtime` that requests can use, by name.

    Args:
        runtime: the loaded model.
        samples: example inputs by signature name, each by alias, from the warm-up requests.
    """
    signatures = {}
    for name, definition in runtime.signature_defs.items():
        if not definition.outputs or name.startswith(HIDDEN):
            continue
        try:
            inputs = tuple(_specs(definition, runtime))
        except ServingError as error:
            logger.warning("signature %s cannot be served: %s", name, error)
            continue
        signatures[name] = _make_signature(name, definition, inputs, runtime, samples.get(name, ()))
    return signatures


def _specs(definition: SignatureDef, runtime: Runtime) -> Iterator[InputSpec]:
    for alias, info in sorted(definition.inputs.items()):
        dtype = dtype_of(runtime.graph_def, info.name) if runtime.graph_def is not None else None
        yield InputSpec.of(alias, info, definition, graph_dtype=dtype)


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
        return Signature(
            name,
            definition,
            inputs,
            aliases,
            trailing_ones_optional=True,
            elementwise=False,
            rows_independent=False,
        )
    found = analyse(runtime.graph_def, [spec.tensor_name for spec in inputs], outputs)
    if not found.elementwise:
        inputs = tuple(_with_ranks(spec, runtime, outputs) for spec in inputs)
    signature = Signature(
        name,
        definition,
        inputs,
        aliases,
        trailing_ones_optional=found.elementwise,  # such a graph computes the same without them
        elementwise=found.elementwise,
        rows_independent=False,
    )
    if found.changing:
        logger.info("requests for %s are run one by one: it has %s", name, ", ".join(found.changing))
        return signature
    return dataclasses.replace(signature, rows_independent=_rows_are_independent(signature, runtime, samples))


def _with_ranks(spec: InputSpec, runtime: Runtime, outputs: Sequence[str]) -> InputSpec:
    if spec.shape is not None or runtime.graph_def is None:
        return spec
    ranks = rank_inference.accepted_ranks(
        runtime.graph_def, input_name=spec.tensor_name, dtype=spec.dtype_number, outputs=outputs
    )
    return dataclasses.replace(spec, ranks=ranks)


def _rows_are_independent(signature: Signature, runtime: Runtime, samples: Sequence[Mapping[str, Array]]) -> bool:
    if not row_independence.has_rows(signature.definition):
        return False
    try:
        function = runtime.function(
            [spec.tensor_name for spec in signature.inputs], signature.tensor_names(signature.outputs)
        )
    except ServingError as error:  # a sparse output, say; the other signatures can be served all the same
        logger.info("requests for %s are run one by one: %s", signature.name, error)
        return False
    return row_independence.rows_are_independent(function, signature.inputs, samples, name=signature.name)

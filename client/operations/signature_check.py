"""Compares inputs with a model's signatures before anything is sent, so that a mistake is named where it was made."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..errors import InklingError, InvalidInput, SignatureNotFound
from ..protocol import wire_pb2 as wire
from ..protocol.dtypes import name_of, of_array
from ..protocol.tensors import to_tensor
from ..results import ModelMetadata, Signature, TensorSpec

DEFAULT_SIGNATURE = "serving_default"


def find_problem(
    metadata: ModelMetadata,
    signature_name: str,
    inputs: Mapping[str, ArrayLike | wire.TensorProto],
    outputs: Sequence[str],
    *,
    address: str,
) -> InklingError | None:
    """What is wrong with a request, as the error to raise; None if nothing is.

    Args:
        metadata: the model's signatures.
        signature_name: the one that is asked; `serving_default` if empty.
        inputs: by name, of any dtype and shape.
        outputs: names of the outputs that are wanted.
        address: the server, for the error.
    """
    name = signature_name or DEFAULT_SIGNATURE
    model = f"{metadata.model_name} version {metadata.version}"
    signature = metadata.signatures.get(name)
    if signature is None:
        return SignatureNotFound(
            f"there is no signature {name!r}; {_choice(name, metadata.signatures)}", address=address, model=model
        )
    problem = _names(signature, inputs, outputs)
    for alias, value in inputs.items() if not problem else ():
        problem = problem or _tensor(alias, value, signature.inputs[alias])
    return InvalidInput(f"signature {name}: {problem}", address=address, model=model) if problem else None


def _names(signature: Signature, inputs: Iterable[str], outputs: Sequence[str]) -> str:
    for alias in inputs:
        if alias not in signature.inputs:
            return f"there is no input {alias!r}; {_choice(alias, signature.inputs)}"
    missing = sorted(set(signature.inputs) - set(inputs) - signature.optional)
    if missing:
        specs = ", ".join(f"{alias!r} ({signature.inputs[alias]})" for alias in missing)
        return f"an input is missing: {specs}"
    for alias in outputs:
        if alias not in signature.outputs:
            return f"there is no output {alias!r}; {_choice(alias, signature.outputs)}"
    return ""


def _choice(wrong: str, names: Iterable[str]) -> str:
    """The names there are, and the one that was probably meant."""
    import difflib  # here, as it is slow to import and most programs never need it

    names = sorted(names)
    near = difflib.get_close_matches(wrong, names, n=1)
    meant = f"; did you mean {near[0]!r}?" if near else ""
    return f"there are: {', '.join(names) or 'none'}{meant}"


def _tensor(alias: str, value: ArrayLike | wire.TensorProto, spec: TensorSpec) -> str:
    dtype, shape = _dtype_and_shape(value)
    if dtype != spec.dtype:
        remedy = f": convert it with .astype({spec.dtype!r})" if spec.dtype != "string" else ""
        return f"input {alias!r} is {dtype}, expected {spec}{remedy}"
    if spec.shape is not None and (
        len(shape) != len(spec.shape)
        or any(size != expected for size, expected in zip(shape, spec.shape, strict=True) if expected >= 0)
    ):
        return f"input {alias!r} has shape {list(shape)}, expected {list(spec.shape)} (-1 is any size)"
    return ""


def _dtype_and_shape(value: Any) -> tuple[str, tuple[int, ...]]:
    if isinstance(value, np.ndarray):
        return name_of(of_array(value.dtype)), value.shape
    tensor = value if isinstance(value, wire.TensorProto) else to_tensor(value)
    return name_of(tensor.dtype), tuple(dim.size for dim in tensor.tensor_shape.dim)

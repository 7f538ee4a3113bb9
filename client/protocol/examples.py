"""tf.Example messages, the form in which the Classify API takes its inputs, made from plain mappings."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..errors import InvalidInput
from . import wire_pb2 as wire

MAX_INTEGER = (1 << 63) - 1


def to_example(features: Mapping[str, Any]) -> wire.Example:
    """The tf.Example that holds `features`.

    Args:
        features: by name; each is text or bytes, integers or booleans, floats, or a list or array (of any shape) of one
            of these kinds. Floats become float32, integers int64.

    Raises: InvalidInput for values of another kind, or beyond int64.
    """
    example = wire.Example()
    example.features.SetInParent()
    for name, value in features.items():
        feature = example.features.feature[name]
        try:
            values = value if isinstance(value, bytes | str) else np.asarray(value)
        except ValueError as error:  # "inhomogeneous shape"
            raise InvalidInput(f"feature {name!r} is not a list of values: {error}") from error
        if isinstance(values, bytes | str) or values.dtype.kind in "SUO":
            feature.bytes_list.value.extend(_bytes(name, item) for item in _items(value))
        elif values.dtype.kind == "f":
            feature.float_list.value.extend(values.ravel().tolist())
        elif values.dtype.kind in "iub":
            if values.size and values.max() > MAX_INTEGER:
                raise InvalidInput(f"feature {name!r} holds {values.max()}; expected {MAX_INTEGER} at most")
            feature.int64_list.value.extend(values.astype(np.int64).ravel().tolist())
        else:
            raise InvalidInput(f"feature {name!r} has dtype {values.dtype}; expected text, bytes, integers or floats")
    return example


def _items(value: Any) -> list[Any]:
    if isinstance(value, bytes | str):
        return [value]
    items: list[Any] = np.array(value, dtype=object).ravel().tolist()
    return items


def _bytes(name: str, item: Any) -> bytes:
    if isinstance(item, bytes):
        return item
    if isinstance(item, str):
        return item.encode()
    raise InvalidInput(f"feature {name!r} holds {item!r} ({type(item).__name__}); expected only str and bytes in it")

"""The protocol's datatypes, and what NumPy and TensorFlow call the same.

BF16 is not among the specification's; Triton has it, as raw data.
"""

from typing import Any

import ml_dtypes
import numpy as np

from ..errors import ServingError, invalid_argument
from ..tensors import dtype_name
from ..tensors import numpy_dtype as numpy_dtype_of_tensorflow

DTYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    "UINT8": np.dtype(np.uint8),
    "UINT16": np.dtype(np.uint16),
    "UINT32": np.dtype(np.uint32),
    "UINT64": np.dtype(np.uint64),
    "INT8": np.dtype(np.int8),
    "INT16": np.dtype(np.int16),
    "INT32": np.dtype(np.int32),
    "INT64": np.dtype(np.int64),
    "FP16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "FP32": np.dtype(np.float32),
    "FP64": np.dtype(np.float64),
    "BYTES": np.dtype(object),
}
_NAMES = {dtype: name for name, dtype in DTYPES.items()}


def numpy_dtype(alias: str, datatype: str) -> np.dtype[Any]:
    """NumPy's dtype of the input `alias`.

    Raises: ServingError INVALID_ARGUMENT if there is no such datatype.
    """
    if datatype not in DTYPES:
        raise invalid_argument(f"input '{alias}' has datatype '{datatype:.40}'; expected one of {', '.join(DTYPES)}")
    return DTYPES[datatype]


def datatype_of(alias: str, dtype: np.dtype[Any]) -> str:
    """The datatype of the output `alias`.

    Raises: ServingError INVALID_ARGUMENT if the protocol has none: complex numbers, say.
    """
    if dtype not in _NAMES:
        raise invalid_argument(
            f"output '{alias}' is of {dtype}, for which the protocol has no datatype; ask for other outputs"
        )
    return _NAMES[dtype]


def datatype_of_tensorflow(number: int) -> str:
    """The datatype of a TensorFlow dtype; TensorFlow's own name where the protocol has none: COMPLEX64."""
    try:
        return _NAMES[numpy_dtype_of_tensorflow(number)]
    except (ServingError, KeyError):
        return dtype_name(number).upper()

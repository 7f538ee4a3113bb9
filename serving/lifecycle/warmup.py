"""Read the warm-up requests that a version brings along.

`assets.extra/tf_serving_warmup_requests` is a TFRecord of PredictionLog. Replaying it before the version serves pays
for tracing, memory and kernel selection ahead of the first caller; the inputs in it also show how the model's rows may
be batched (model/row_independence.py).
"""

import posixpath
from collections.abc import Mapping, Sequence

import grpc
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

from ..arrays import Array
from ..errors import ServingError, invalid_argument
from ..model.version_files import size_of
from ..monitoring.request_log import MAX_WARMUP_RECORDS
from ..names import DEFAULT_SIGNATURE
from ..tensors import serialized_examples, to_array

WARMUP_FILE = posixpath.join("assets.extra", "tf_serving_warmup_requests")


def read(path: str) -> list[PredictionLog]:
    """The warm-up records of the version in the folder `path`; none if it has no such file.

    Raises: ServingError.
    """
    file = posixpath.join(path, WARMUP_FILE)
    if size_of(path, WARMUP_FILE) is None:
        return []
    records: list[PredictionLog] = []
    try:
        for record in tf.data.TFRecordDataset(file).as_numpy_iterator():
            if len(records) == MAX_WARMUP_RECORDS:
                raise invalid_argument(f"Number of warmup records exceeds the maximum ({MAX_WARMUP_RECORDS}) at {file}")
            records.append(PredictionLog.FromString(record))
    except DecodeError as error:
        raise invalid_argument(f"Failed to parse warmup record: {error} from {file}") from error
    except tf.errors.OpError as error:
        raise ServingError(
            grpc.StatusCode.DATA_LOSS, f"{error.message}. Please verify your warmup data is in TFRecord format."
        ) from error
    return records


def samples(
    records: Sequence[PredictionLog], signature_defs: Mapping[str, SignatureDef]
) -> dict[str, list[dict[str, Array]]]:
    """Inputs by signature name, each by alias, as the records have them."""
    found: dict[str, list[dict[str, Array]]] = {}
    for record in records:
        try:
            if record.HasField("predict_log"):
                request = record.predict_log.request
                arrays = {alias: to_array(alias, tensor) for alias, tensor in request.inputs.items()}
                found.setdefault(request.model_spec.signature_name or DEFAULT_SIGNATURE, []).append(arrays)
            elif record.HasField("classify_log") or record.HasField("regress_log"):
                log = record.classify_log if record.HasField("classify_log") else record.regress_log
                name = log.request.model_spec.signature_name or DEFAULT_SIGNATURE
                if name in signature_defs and len(signature_defs[name].inputs) == 1:
                    alias = next(iter(signature_defs[name].inputs))
                    found.setdefault(name, []).append({alias: serialized_examples(log.request.input)})
        except ServingError:
            continue  # replaying it tells why
    return found

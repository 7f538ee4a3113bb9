"""Replay the warm-up requests that a version brings along, before it is served.

`assets.extra/tf_serving_warmup_requests` is a TFRecord of PredictionLog. Replaying pays for tracing, memory and kernel
selection ahead of the first caller. As in TensorFlow Serving, a record that fails makes the load fail.
"""

import posixpath
import time
from collections.abc import Mapping
from typing import Any

import grpc
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

from .. import inference
from ..errors import ServingError, invalid_argument, unimplemented
from ..model.model import Model
from ..model.signatures import DEFAULT_SIGNATURE
from ..monitoring.events import Observer
from ..tensors import Array, to_array

WARMUP_FILE = posixpath.join("assets.extra", "tf_serving_warmup_requests")
MAX_RECORDS = 1000  # in one file: TensorFlow Serving refuses longer ones


def read(path: str) -> list[PredictionLog]:
    """The warm-up records of the version in the folder `path`; none if it has no such file.

    Raises: ServingError.
    """
    file = posixpath.join(path, WARMUP_FILE)
    if not tf.io.gfile.exists(file):
        return []
    records: list[PredictionLog] = []
    try:
        for record in tf.data.TFRecordDataset(file).as_numpy_iterator():
            if len(records) == MAX_RECORDS:
                raise invalid_argument(f"Number of warmup records exceeds the maximum ({MAX_RECORDS}) at {file}")
            records.append(PredictionLog.FromString(record))
    except DecodeError as error:
        raise invalid_argument(f"Failed to parse warmup record: {error} from {file}") from error
    except tf.errors.OpError as error:
        raise ServingError(
            grpc.StatusCode.DATA_LOSS, f"{error.message}. Please verify your warmup data is in TFRecord format."
        ) from error
    return records


def samples(records: list[PredictionLog], signature_defs: Mapping[str, Any]) -> dict[str, list[dict[str, Array]]]:
    """Inputs by signature name and alias, as the records have them."""
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
                    found.setdefault(name, []).append({alias: inference.serialized_examples(log.request.input)})
        except ServingError:
            continue  # replaying it tells why
    return found


async def replay(records: list[PredictionLog], model: Model, *, path: str, iterations: int, observer: Observer) -> None:
    """Run `records` against `model`, each `iterations` times.

    Raises: ServingError.
    """
    if not records:
        return
    started, replayed, code = time.perf_counter(), 0, grpc.StatusCode.OK
    try:
        for record in records:
            replayed += 1
            for _ in range(max(1, iterations)):
                await _replay_one(record, model)
    except ServingError as error:
        code = error.code
        raise
    finally:
        latency_s = time.perf_counter() - started
        observer.warmup_finished(model_path=path, code=code, latency_s=latency_s, records=replayed)


async def _replay_one(record: PredictionLog, model: Model) -> None:
    kind = record.WhichOneof("log_type")
    if kind == "predict_log":
        await inference.predict(model, record.predict_log.request, as_content=False)
    elif kind == "classify_log":
        await inference.classify(model, record.classify_log.request)
    elif kind == "regress_log":
        await inference.regress(model, record.regress_log.request)
    elif kind == "multi_inference_log":
        await inference.multi_inference(model, record.multi_inference_log.request)
    else:
        number = 0 if kind is None else PredictionLog.DESCRIPTOR.fields_by_name[kind].number
        raise unimplemented(f"Unsupported log_type for warmup: {number}")

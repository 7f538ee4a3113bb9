"""Model repositories and a server for the tests of the serving package."""

from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import (
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from inkling.serving.load_shedding import KnownFullQueues
from inkling.serving.model.model import ServerParts
from inkling.serving.monitoring.events import ServerEvents
from tests.patience import PATIENCE_S
from tests.server_process import ServerProcess
from tests.serving import saved_models


@pytest.fixture(scope="session")
def repository(tmp_path_factory) -> Path:
    """A folder with one model of each kind that saved_models.py writes."""
    root = tmp_path_factory.mktemp("repository")
    saved_models.write_half_plus_two(root / "half_plus_two" / "00000123")
    saved_models.write_half_plus_three(root / "half_plus_three" / "1")
    saved_models.write_one_row(root / "one_row" / "1")
    saved_models.write_python_function(root / "python_function" / "1")
    saved_models.write_table(root / "table" / "1")
    saved_models.write_dtypes(root / "dtypes" / "1")
    saved_models.write_several(root / "several" / "1")
    saved_models.write_convolution(root / "convolution" / "1")
    saved_models.write_convolution(root / "open_convolution" / "1", rank_known=False)
    saved_models.write_keras(root / "keras" / "1")
    saved_models.write_wrapped_keras(root / "wrapped_keras" / "1")
    saved_models.write_scale(root / "scale" / "1", 1.0)
    saved_models.write_scale(root / "scale" / "2", 2.0)
    return root


def write_model_config(file: Path, root: Path, names: list[str], extra: dict[str, str] | None = None) -> Path:
    """A --model_config_file for the models `names` in `root`; `extra` is added to a model's config."""
    entries = [
        f'config {{ name: "{name}" base_path: "{root / name}" model_platform: "tensorflow" '
        f"{(extra or {}).get(name, '')} }}"
        for name in names
    ]
    file.write_text("model_config_list {\n  " + "\n  ".join(entries) + "\n}\n")
    return file


@pytest.fixture(scope="session")
def server(repository, tmp_path_factory) -> Iterator[ServerProcess]:
    """A server of the whole repository."""
    names = sorted(path.name for path in repository.iterdir())
    policy = {"scale": 'model_version_policy { all {} } version_labels { key: "stable" value: 1 }'}
    file = write_model_config(tmp_path_factory.mktemp("config") / "models.config", repository, names, policy)
    with ServerProcess(f"--model_config_file={file}") as process:
        yield process


@pytest.fixture(scope="session")
def channel(server) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(server.address) as channel:
        yield channel


@pytest.fixture(scope="session")
def predictions(channel) -> prediction_service_pb2_grpc.PredictionServiceStub:
    return prediction_service_pb2_grpc.PredictionServiceStub(channel)


@pytest.fixture(scope="session")
def model_service(channel) -> model_service_pb2_grpc.ModelServiceStub:
    return model_service_pb2_grpc.ModelServiceStub(channel)


def server_parts(*, num_threads: int = 1) -> ServerParts:
    """What models need of a server, for those that are run in the test's process."""
    return ServerParts(num_threads=num_threads, events=ServerEvents(), shedding=KnownFullQueues())


def predict_request(
    model: str,
    inputs: dict[str, object],
    *,
    signature: str = "",
    version: int | None = None,
    label: str = "",
    outputs: tuple[str, ...] = (),
) -> predict_pb2.PredictRequest:
    """A PredictRequest; inputs that are not arrays yet become tensors as TensorFlow makes them."""
    request = predict_pb2.PredictRequest()
    request.model_spec.name = model
    request.model_spec.signature_name = signature
    if version is not None:
        request.model_spec.version.value = version
    if label:
        request.model_spec.version_label = label
    for alias, value in inputs.items():
        request.inputs[alias].CopyFrom(tf.make_tensor_proto(value))
    request.output_filter.extend(outputs)
    return request


@pytest.fixture(scope="session")
def predict(predictions) -> Callable[..., dict[str, np.ndarray]]:
    """Send a Predict and get its outputs as arrays: predict(model, {alias: value}, signature=...)."""

    def send(model, inputs, *, timeout=PATIENCE_S, **options):
        response = predictions.Predict(predict_request(model, inputs, **options), timeout=timeout)
        return {alias: tf.make_ndarray(tensor) for alias, tensor in response.outputs.items()}

    return send

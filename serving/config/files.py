"""The text protobuf files that flags point at: models, batching, monitoring, TLS, session.

The wheel `tensorflow-serving-api` lacks the messages of three of them; proto/serving_config.proto has those. Each
reader returns a checked value and raises `ServingError` with TensorFlow Serving's text.
"""

from dataclasses import dataclass
from typing import TypeVar

import tensorflow as tf
from google.protobuf import text_format
from google.protobuf.message import Message
from tensorflow.core.protobuf import config_pb2
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from ..batching.parameters import BatchingParameters
from ..errors import invalid_argument
from ..proto import serving_config_pb2

DEFAULT_METRICS_PATH = "/monitoring/prometheus/metrics"

AnyMessage = TypeVar("AnyMessage", bound=Message)
Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class MonitoringConfig:
    """Where Prometheus finds the metrics on the REST port."""

    enable: bool
    path: str


@dataclass(frozen=True, slots=True)
class TlsConfig:
    """Certificates, as PEM, for gRPC or REST."""

    server_key: bytes
    server_cert: bytes
    custom_ca: bytes
    client_verify: bool


def read_text(path: str) -> str:
    """The file at `path`, local or where TensorFlow's file systems reach.

    Raises: ServingError.
    """
    try:
        with tf.io.gfile.GFile(path, "r") as file:
            text: str = file.read()
        return text
    except tf.errors.OpError as error:
        raise invalid_argument(f"{path} cannot be read: {error.message}") from error
    except UnicodeDecodeError as error:
        raise invalid_argument(f"Invalid protobuf file: '{path}': {error}") from error


def read_message(path: str, message: AnyMessage) -> AnyMessage:
    """Fill `message` from the text protobuf file at `path`.

    Raises: ServingError.
    """
    return _parse(read_text(path), message, path)


def _parse(text: str, message: AnyMessage, path: str) -> AnyMessage:
    try:
        return text_format.Parse(text, message)
    except text_format.ParseError as error:
        kind = message.DESCRIPTOR.full_name.replace("inkling.serving", "tensorflow.serving")
        raise invalid_argument(f"Invalid protobuf file: '{path}': Error parsing text-format {kind}: {error}") from error


def read_models(path: str) -> ModelServerConfig:
    """A --model_config_file.

    Raises: ServingError.
    """
    return parse_models(read_text(path), path)


def parse_models(text: str, path: str) -> ModelServerConfig:
    """The text of a --model_config_file, which is at `path`.

    Raises: ServingError.
    """
    return _parse(text, ModelServerConfig(), path)


def read_batching(path: str) -> BatchingParameters:
    """A --batching_parameters_file or a version's batching_params.pbtxt.

    Raises: ServingError.
    """
    message = read_message(path, serving_config_pb2.BatchingParameters())

    def value(name: str, default: Value) -> Value:
        """What the wrapper message `name` holds, if the file has it."""
        given: Value = getattr(message, name).value
        return given if message.HasField(name) else default

    return BatchingParameters(
        max_batch_size=value("max_batch_size", 1000),
        batch_timeout_s=value("batch_timeout_micros", 0) / 1e6,
        max_enqueued_batches=value("max_enqueued_batches", 10),
        num_batch_threads=value("num_batch_threads", None),
        allowed_batch_sizes=tuple(message.allowed_batch_sizes),
        pad_variable_length_inputs=message.pad_variable_length_inputs,
        enable_large_batch_splitting=value("enable_large_batch_splitting", False),
        max_execution_batch_size=value("max_execution_batch_size", None),
    )


def read_monitoring(path: str) -> MonitoringConfig:
    """A --monitoring_config_file.

    Raises: ServingError.
    """
    prometheus = read_message(path, serving_config_pb2.MonitoringConfig()).prometheus_config
    return MonitoringConfig(prometheus.enable, prometheus.path or DEFAULT_METRICS_PATH)


def read_tls(path: str) -> TlsConfig:
    """An --ssl_config_file or --rest_ssl_config_file.

    Raises: ServingError.
    """
    message = read_message(path, serving_config_pb2.SSLConfig())
    for name in ("server_key", "server_cert"):
        if not getattr(message, name):
            raise invalid_argument(f"{path} has no {name}; give the PEM text, not a file name")
    if message.client_verify and not message.custom_ca:
        raise invalid_argument(f"{path} asks for client_verify without custom_ca; give the clients' CA as PEM text")
    return TlsConfig(
        message.server_key.encode(), message.server_cert.encode(), message.custom_ca.encode(), message.client_verify
    )


def read_session(path: str) -> config_pb2.ConfigProto:
    """A --tensorflow_session_config_file.

    Raises: ServingError.
    """
    return read_message(path, config_pb2.ConfigProto())

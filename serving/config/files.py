"""The text protobuf files that flags point at: models, batching, monitoring, TLS, session.

The wheel `tensorflow-serving-api` lacks the messages of three of them, so their descriptors are made here, at run time
and in a package of our own. Each reader returns a checked value and raises `ServingError` with TensorFlow Serving's
text.
"""

from dataclasses import dataclass
from typing import Any, TypeVar

import tensorflow as tf
from google.protobuf import text_format, wrappers_pb2
from google.protobuf.message import Message
from tensorflow.core.protobuf import config_pb2
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from ..errors import invalid_argument
from ..proto.messages import Messages, message_classes

MESSAGES: Messages = {
    "BatchingParameters": {
        "max_batch_size": ("?int64", 1),
        "batch_timeout_micros": ("?int64", 2),
        "max_enqueued_batches": ("?int64", 3),
        "num_batch_threads": ("?int64", 4),
        "thread_pool_name": ("?string", 5),
        "allowed_batch_sizes": ("*int64", 6),
        "pad_variable_length_inputs": ("bool", 7),
        "enable_large_batch_splitting": ("?bool", 8),
        "max_execution_batch_size": ("?int64", 9),
    },
    "PrometheusConfig": {"enable": ("bool", 1), "path": ("string", 2)},
    "MonitoringConfig": {"prometheus_config": ("PrometheusConfig", 1)},
    "SSLConfig": {
        "server_key": ("string", 1),
        "server_cert": ("string", 2),
        "custom_ca": ("string", 3),
        "client_verify": ("bool", 4),
    },
}
PACKAGE = "inkling.serving"
DEFAULT_METRICS_PATH = "/monitoring/prometheus/metrics"

AnyMessage = TypeVar("AnyMessage", bound=Message)

_CLASSES = message_classes(MESSAGES, package=PACKAGE, imports=[wrappers_pb2.DESCRIPTOR])


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchingParameters:
    """How requests of one signature are batched, with TensorFlow Serving's defaults."""

    max_batch_size: int = 1000  # rows in a batch; with splitting: in a queued batch
    batch_timeout_s: float = 0.0  # how long an open batch waits for more, from its first request
    max_enqueued_batches: int = 10  # full batches that wait; further requests are refused
    num_batch_threads: int | None = None  # batches that run at once; one for each CPU if None
    allowed_batch_sizes: tuple[int, ...] = ()  # sizes to pad to
    pad_variable_length_inputs: bool = False  # make inputs of different shapes equal by padding
    enable_large_batch_splitting: bool = False  # split requests that are larger than a batch
    max_execution_batch_size: int | None = None  # rows in a run, with splitting; max_batch_size if None

    def __post_init__(self) -> None:
        execution = self.execution_batch_size
        sizes = self.allowed_batch_sizes
        if self.num_batch_threads is not None and self.num_batch_threads < 1:
            raise invalid_argument(f"num_batch_threads must be positive; was {self.num_batch_threads}")
        for name in ("max_batch_size", "max_enqueued_batches"):
            if getattr(self, name) < 1:
                raise invalid_argument(f"{name} must be positive; was {getattr(self, name)}")
        if self.batch_timeout_s < 0:
            raise invalid_argument(f"batch_timeout_micros must be non-negative; was {self.batch_timeout_s * 1e6:.0f}")
        if not 0 < execution <= self.max_batch_size:
            raise invalid_argument(
                f"max_batch_size should be greater than or equal to max_execution_batch_size; "
                f"max_batch_size was {self.max_batch_size}, max_execution_batch_size was {execution}"
            )
        if any(later <= earlier for earlier, later in zip(sizes, sizes[1:], strict=False)):
            raise invalid_argument("allowed_batch_sizes entries must be monotonically increasing")
        if sizes and sizes[0] < 1:
            raise invalid_argument(f"allowed_batch_sizes must be positive; the first was {sizes[0]}")
        if sizes and sizes[-1] != execution:
            raise invalid_argument(
                f"Last entry in allowed_batch_sizes must match max_batch_size; last entry was {sizes[-1]}; "
                f"expected {execution}"
            )

    @property
    def execution_batch_size(self) -> int:
        """The largest number of rows in one run."""
        if self.enable_large_batch_splitting and self.max_execution_batch_size is not None:
            return self.max_execution_batch_size
        return self.max_batch_size

    def padded_size(self, size: int) -> int:
        """The number of rows to run for `size` rows."""
        return next((allowed for allowed in self.allowed_batch_sizes if allowed >= size), size)


@dataclass(frozen=True, slots=True)
class MonitoringConfig:
    """Where Prometheus finds the metrics on the REST port."""

    enable: bool
    path: str


@dataclass(frozen=True, slots=True)
class TlsConfig:
    """Certificates, as PEM, for gRPC."""

    server_key: bytes
    server_cert: bytes
    custom_ca: bytes
    client_verify: bool


def read_text(path: str) -> str:
    """The file at `path`, local or where TensorFlow's file systems reach; raises ServingError."""
    try:
        with tf.io.gfile.GFile(path, "r") as file:
            text: str = file.read()
        return text
    except tf.errors.OpError as error:
        raise invalid_argument(f"{path} cannot be read: {error.message}") from error
    except UnicodeDecodeError as error:
        raise invalid_argument(f"Invalid protobuf file: '{path}': {error}") from error


def read_message(path: str, message: AnyMessage) -> AnyMessage:
    """Fill `message` from the text protobuf file at `path`; raises ServingError."""
    return _parse(read_text(path), message, path)


def _parse(text: str, message: AnyMessage, path: str) -> AnyMessage:
    try:
        return text_format.Parse(text, message)
    except text_format.ParseError as error:
        kind = message.DESCRIPTOR.full_name.replace("inkling.serving", "tensorflow.serving")
        raise invalid_argument(f"Invalid protobuf file: '{path}': Error parsing text-format {kind}: {error}") from error


def read_models(path: str) -> ModelServerConfig:
    """A --model_config_file."""
    return parse_models(read_text(path), path)


def parse_models(text: str, path: str) -> ModelServerConfig:
    """The text of a --model_config_file, which is at `path`; raises ServingError."""
    return _parse(text, ModelServerConfig(), path)


def read_batching(path: str) -> BatchingParameters:
    """A --batching_parameters_file or a version's batching_params.pbtxt."""
    message: Any = read_message(path, _CLASSES["BatchingParameters"]())

    def value(name: str, default: Any) -> Any:
        return getattr(message, name).value if message.HasField(name) else default

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
    """A --monitoring_config_file."""
    message: Any = read_message(path, _CLASSES["MonitoringConfig"]())
    prometheus = message.prometheus_config
    return MonitoringConfig(prometheus.enable, prometheus.path or DEFAULT_METRICS_PATH)


def read_tls(path: str) -> TlsConfig:
    """An --ssl_config_file."""
    message: Any = read_message(path, _CLASSES["SSLConfig"]())
    for name in ("server_key", "server_cert"):
        if not getattr(message, name):
            raise invalid_argument(f"{path} has no {name}; give the PEM text, not a file name")
    if message.client_verify and not message.custom_ca:
        raise invalid_argument(f"{path} asks for client_verify without custom_ca; give the clients' CA as PEM text")
    return TlsConfig(
        message.server_key.encode(), message.server_cert.encode(), message.custom_ca.encode(), message.client_verify
    )


def read_session(path: str) -> config_pb2.ConfigProto:
    """A --tensorflow_session_config_file."""
    return read_message(path, config_pb2.ConfigProto())

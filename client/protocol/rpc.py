"""The RPCs a client calls: their paths on the server, their messages, and one call of one of them."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import grpc
import grpc.aio
from google.protobuf.message import DecodeError, Message

from . import wire_pb2 as wire


@dataclass(frozen=True, slots=True, eq=False)
class Rpc:
    """One RPC. Each is unary: one request, one response."""

    path: str
    request: type[Message]
    response: type[Message]

    def read_response(self, data: bytes) -> "Message | Unreadable":
        """Parse a response.

        It must not raise: gRPC would log a traceback and report a status that looks like the server's own
        (https://github.com/grpc/grpc/issues/33955).

        Returns: the message in `data`, or an `Unreadable` if there is none in it.
        """
        try:
            return self.response.FromString(data)
        except DecodeError as error:
            return Unreadable(f"{len(data)} bytes that are not a {self.response.__name__}: {error}")


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Stands for a response that is not in the protocol."""

    reason: str


class Call(NamedTuple):
    """A request on its way, and what its errors should say about it."""

    rpc: Rpc
    request: Message
    deadline: float | None  # on the clock of time.monotonic(); None: the client's timeout, from when it is sent
    spec: wire.ModelSpec | None = None  # the model that is asked
    rows: slice | None = None  # the part of a batch that this is
    wait_for_ready: bool | None = None  # None: as the client's settings say

    @property
    def model(self) -> str:
        """The model as errors name it: "mnist", "mnist version 3", "mnist@stable (rows 0 to 511)"."""
        text = "" if self.spec is None else model_text(self.spec)
        return text if self.rows is None else f"{text} (rows {self.rows.start} to {self.rows.stop - 1})"


def model_text(spec: wire.ModelSpec) -> str:
    """The model as errors name it."""
    if spec.HasField("version"):
        return f"{spec.name} version {spec.version.value}"
    return f"{spec.name}@{spec.version_label}" if spec.version_label else spec.name


PREDICT = Rpc("/tensorflow.serving.PredictionService/Predict", wire.PredictRequest, wire.PredictResponse)
CLASSIFY = Rpc(
    "/tensorflow.serving.PredictionService/Classify", wire.ClassificationRequest, wire.ClassificationResponse
)
GET_MODEL_METADATA = Rpc(
    "/tensorflow.serving.PredictionService/GetModelMetadata",
    wire.GetModelMetadataRequest,
    wire.GetModelMetadataResponse,
)
GET_MODEL_STATUS = Rpc(
    "/tensorflow.serving.ModelService/GetModelStatus", wire.GetModelStatusRequest, wire.GetModelStatusResponse
)
RELOAD = Rpc(
    "/tensorflow.serving.ModelService/HandleReloadConfigRequest", wire.ReloadConfigRequest, wire.ReloadConfigResponse
)
HEALTH = Rpc("/grpc.health.v1.Health/Check", wire.HealthCheckRequest, wire.HealthCheckResponse)

ALL = (PREDICT, CLASSIFY, GET_MODEL_METADATA, GET_MODEL_STATUS, RELOAD, HEALTH)


def make_stubs(channel: grpc.Channel | grpc.aio.Channel) -> dict[Rpc, Any]:
    """What makes each call over `channel`: gRPC's multi-callables, of either of its APIs."""
    return {
        method: channel.unary_unary(
            method.path,
            request_serializer=method.request.SerializeToString,
            response_deserializer=method.read_response,
        )
        for method in ALL
    }

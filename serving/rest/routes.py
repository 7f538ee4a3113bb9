"""Which model, version and verb a REST request means: TensorFlow Serving's two patterns, and HTTP's status codes.

The patterns ignore case, but the verb and `metadata` do not; what fits neither is a malformed request.
"""

import re
from dataclasses import dataclass
from urllib.parse import unquote

import grpc
from tensorflow_serving.apis.model_pb2 import ModelSpec

from ..errors import invalid_argument

API_PATH = re.compile(r"/v1/.*", re.IGNORECASE)
MODEL = r"/v1/models/([^/:]+)"
CHOICE = r"(?:(?:/versions/(\d+))|(?:/labels/([^/:]+)))?"
INFERENCE = re.compile(rf"{MODEL}{CHOICE}:(classify|regress|predict)", re.IGNORECASE | re.ASCII)
STATUS = re.compile(rf"/v1/models(?:/([^/:]+))?{CHOICE}(?:/(metadata))?", re.IGNORECASE | re.ASCII)
VERBS = ("classify", "regress", "predict")
LARGEST_VERSION = (1 << 63) - 1

TIMEOUT_FLAG = "--rest_api_timeout_in_ms"
HTTP_STATUS = {
    grpc.StatusCode.OK: 200,
    grpc.StatusCode.CANCELLED: 499,
    grpc.StatusCode.UNKNOWN: 500,
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.ALREADY_EXISTS: 409,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.FAILED_PRECONDITION: 400,
    grpc.StatusCode.ABORTED: 409,
    grpc.StatusCode.OUT_OF_RANGE: 400,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.INTERNAL: 500,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DATA_LOSS: 500,
    grpc.StatusCode.UNAUTHENTICATED: 401,
}


@dataclass(frozen=True, slots=True)
class Target:
    """What a request wants: an inference by `verb`, or what is known about a model."""

    model_name: str
    version: int | None = None
    label: str = ""
    verb: str = ""  # predict, classify or regress; empty for a status
    metadata: bool = False  # the signatures, not the status

    @property
    def api(self) -> str:
        """The request's name in the log."""
        return self.verb or ("metadata" if self.metadata else "status")

    def model_spec(self, signature_name: str = "") -> ModelSpec:
        """The same in the words of the gRPC API."""
        spec = ModelSpec(name=self.model_name, signature_name=signature_name)
        if self.version is not None:
            spec.version.value = self.version
        if self.label:
            spec.version_label = self.label
        return spec


def is_api(path: str) -> bool:
    """Whether `path` belongs to the API at all."""
    return API_PATH.fullmatch(path) is not None


def parse(method: str, path: str) -> Target:
    """The target of a request.

    Args:
        method: GET, POST and so on.
        path: as it came, not decoded, without the query.

    Raises: ServingError if the request is malformed.
    """
    if method == "POST" and (match := INFERENCE.fullmatch(path)) and match[4] in VERBS:
        return Target(_decode(match[1]), _version(match[2]), _decode(match[3]), verb=match[4])
    if method == "GET" and (match := STATUS.fullmatch(path)):
        return Target(_decode(match[1]), _version(match[2]), _decode(match[3]), metadata=match[4] == "metadata")
    raise invalid_argument(f"Malformed request: {method} {path}")


def _decode(text: str | None) -> str:
    return unquote(text, errors="replace") if text else ""


def _version(digits: str | None) -> int | None:
    if not digits:
        return None
    # Compared as text first: Python refuses to convert thousands of digits.
    number = digits.lstrip("0") or "0"
    if len(number) > 19 or int(number) > LARGEST_VERSION:
        raise invalid_argument(f"Failed to convert version: {digits} to numeric.")
    return int(number)

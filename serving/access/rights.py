"""What each call takes: nothing, a predictor's right, or an administrator's. Calls that are not known take the most.

Administration is what changes what is served, or writes where its caller asks.
"""

import re
from enum import Enum

from ..names import MODEL_SERVICE, PREDICTION_SERVICE, V2_SERVICE


class Right(Enum):
    """What a call takes."""

    OPEN = "open"  # probes: whoever watches the server, a kubelet or a balancer, has no key
    PREDICT = "predict"  # what tells of models, and computes
    ADMIN = "admin"


RPCS = {
    Right.OPEN: {
        "grpc.health.v1.Health": ("Check", "Watch"),
        V2_SERVICE: ("ServerLive", "ServerReady", "ModelReady"),
    },
    Right.PREDICT: {
        PREDICTION_SERVICE: ("Predict", "Classify", "Regress", "MultiInference", "GetModelMetadata"),
        MODEL_SERVICE: ("GetModelStatus",),
        V2_SERVICE: ("ServerMetadata", "ModelMetadata", "ModelInfer", "RepositoryIndex"),
        "grpc.reflection.v1alpha.ServerReflection": ("ServerReflectionInfo",),
    },
    Right.ADMIN: {
        MODEL_SERVICE: ("HandleReloadConfigRequest",),
        V2_SERVICE: ("RepositoryModelLoad", "RepositoryModelUnload"),
        "tensorflow.ProfilerService": ("Profile", "Terminate"),
    },
}
BY_RPC = {
    f"/{service}/{method}": right
    for right, services in RPCS.items()
    for service, methods in services.items()
    for method in methods
}
PROBES = re.compile(r"/(healthz|readyz|v2/health/(live|ready)|v2/models/[^/]+(/versions/[^/]+)?/ready)")
CONTROL = re.compile(r"/v2/repository/models/.*")


def of_rpc(method: str) -> Right:
    """What the RPC `/package.Service/Method` takes."""
    return BY_RPC.get(method, Right.ADMIN)


def of_request(method: str, path: str, *, open_path: str | None = None) -> Right:
    """What an HTTP request takes.

    Args:
        method: GET, POST and so on.
        path: as it came, not decoded, without the query.
        open_path: one more that takes nothing: the metrics'.
    """
    if method == "OPTIONS" or path == open_path or PROBES.fullmatch(path):
        return Right.OPEN
    return Right.ADMIN if CONTROL.fullmatch(path) else Right.PREDICT

"""A thin gRPC client that reads handwriting: no TensorFlow, only grpcio, protobuf, numpy and Pillow.

    from inkling.client import Client

    with Client("localhost:8500") as client:
        print(client.predict(images))

`AsyncClient` is the same on asyncio. `inkling.client.errors` draws the tree of what can go wrong. The command line is
`inkling`.
"""

from .aio import AsyncClient
from .blocking import Client
from .errors import (
    AccessDenied,
    DeadlineExceeded,
    InklingError,
    InvalidInput,
    InvalidResponse,
    MessageTooLarge,
    ModelNotFound,
    NotSupported,
    ServerError,
    ServerOverloaded,
    ServerUnavailable,
    SignatureNotFound,
    VersionNotFound,
)
from .results import (
    Classification,
    ClassScore,
    ModelMetadata,
    ModelStatus,
    Outputs,
    Prediction,
    ServedModel,
    Signature,
    TensorSpec,
    VersionStatus,
)
from .settings import TLS, Retry, Settings

__all__ = [
    "TLS",
    "AccessDenied",
    "AsyncClient",
    "ClassScore",
    "Classification",
    "Client",
    "DeadlineExceeded",
    "InklingError",
    "InvalidInput",
    "InvalidResponse",
    "MessageTooLarge",
    "ModelMetadata",
    "ModelNotFound",
    "ModelStatus",
    "NotSupported",
    "Outputs",
    "Prediction",
    "Retry",
    "ServedModel",
    "ServerError",
    "ServerOverloaded",
    "ServerUnavailable",
    "Settings",
    "Signature",
    "SignatureNotFound",
    "TensorSpec",
    "VersionNotFound",
    "VersionStatus",
]

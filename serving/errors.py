"""The one error that crosses the server: a gRPC status code and the text the caller reads.

Whatever fails below the transports ends as a `ServingError`; grpc_api.py sends its code, rest_api.py maps it to HTTP.
"""

from collections.abc import Callable

import grpc

from .monitoring.events import Labels


class ServingError(Exception):
    """A request, a configuration or a load that failed, in the words and with the code of TensorFlow Serving."""

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class QueueFull(ServingError):
    """A request that found its queue full."""

    def __init__(self, message: str, *, labels: Labels, refusal: Callable[[], "QueueFull | None"]) -> None:
        """Args: refusal: the queue's method; what it would say to a request of one row by now, None if it has room."""
        super().__init__(grpc.StatusCode.UNAVAILABLE, message)
        self.labels = labels
        self.refusal = refusal


def invalid_argument(message: str) -> ServingError:
    """The caller's mistake."""
    return ServingError(grpc.StatusCode.INVALID_ARGUMENT, message)


def not_found(message: str) -> ServingError:
    """No such model or version."""
    return ServingError(grpc.StatusCode.NOT_FOUND, message)


def failed_precondition(message: str) -> ServingError:
    """A correct request that this model, in its state, cannot answer."""
    return ServingError(grpc.StatusCode.FAILED_PRECONDITION, message)


def unavailable(message: str) -> ServingError:
    """Nothing is wrong with the request; try again later or elsewhere."""
    return ServingError(grpc.StatusCode.UNAVAILABLE, message)


def unimplemented(message: str) -> ServingError:
    """TensorFlow Serving's API has it, this model or server has not."""
    return ServingError(grpc.StatusCode.UNIMPLEMENTED, message)


def internal(message: str) -> ServingError:
    """Our own mistake."""
    return ServingError(grpc.StatusCode.INTERNAL, message)

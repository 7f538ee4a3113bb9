"""The one error that crosses the server: a gRPC status code and the text the caller reads.

Whatever fails below the transports ends as a `ServingError`; grpc/api.py sends its code, rest/api.py maps it to HTTP.
"""

import asyncio

import grpc


class ServingError(Exception):
    """A request, a configuration or a load that failed, in the words and with the code of TensorFlow Serving."""

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def invalid_argument(message: str) -> ServingError:
    """The caller's mistake."""
    return ServingError(grpc.StatusCode.INVALID_ARGUMENT, message)


def not_found(message: str) -> ServingError:
    """No such model or version."""
    return ServingError(grpc.StatusCode.NOT_FOUND, message)


def failed_precondition(message: str) -> ServingError:
    """A correct request that this model cannot serve in its state."""
    return ServingError(grpc.StatusCode.FAILED_PRECONDITION, message)


def unavailable(message: str) -> ServingError:
    """Nothing is wrong with the request; try again later or elsewhere."""
    return ServingError(grpc.StatusCode.UNAVAILABLE, message)


def unimplemented(message: str) -> ServingError:
    """TensorFlow Serving's API has it; this model or server does not."""
    return ServingError(grpc.StatusCode.UNIMPLEMENTED, message)


def internal(message: str) -> ServingError:
    """Our own mistake."""
    return ServingError(grpc.StatusCode.INTERNAL, message)


def status_of(error: BaseException | None) -> grpc.StatusCode:
    """The code under which `error` is counted; None is OK."""
    if error is None:
        return grpc.StatusCode.OK
    if isinstance(error, ServingError):
        return error.code
    return grpc.StatusCode.CANCELLED if isinstance(error, asyncio.CancelledError) else grpc.StatusCode.INTERNAL

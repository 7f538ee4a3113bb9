"""A version held in memory for the length of a request."""

from types import TracebackType

from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef

from .model import Model


class Lease:
    """A version that stays loaded while the `with` block runs."""

    __slots__ = ("model", "model_name", "version")

    def __init__(self, model: Model) -> None:
        self.model = model
        self.model_name = model.name
        self.version = model.version

    def __enter__(self) -> "Lease":
        self.model.in_flight += 1
        self.model.idle.clear()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.model.in_flight -= 1
        if not self.model.in_flight:
            self.model.idle.set()

    def signature(self, name: str) -> SignatureDef:
        """The signature `name`, `serving_default` if empty; raises ServingError FAILED_PRECONDITION."""
        return self.model.signature(name).definition

"""grpc.health.v1 for load balancers and probes: Check and Watch.

`""` and the services are SERVING when every configured model has an available version; a model's own name is SERVING
when that model has; before it has, it is NOT_SERVING. While the first models are loaded, the services are NOT_SERVING;
while the server drains, everything is.
"""

import grpc
from grpc_health.v1 import health, health_pb2

from ..lifecycle.manager import Manager
from ..load_shedding import Drain
from ..model_service import ModelService
from ..names import MODEL_SERVICE, PREDICTION_SERVICE
from .parsing import parsed

SERVICE = health.SERVICE_NAME
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
# TensorFlow Serving leaves out the package.
SERVICES = ("", PREDICTION_SERVICE, MODEL_SERVICE, "PredictionService", "ModelService")


class Health:
    """Keeps the health service up to date."""

    def __init__(self, manager: Manager, models: ModelService, drain: Drain) -> None:
        self._servicer = health.aio.HealthServicer()
        self._manager = manager
        self._models = models
        self._drain = drain
        self._known: set[str] = set()

    def add_to(self, server: grpc.aio.Server) -> None:
        """Register the service with `server`."""
        serialize = health_pb2.HealthCheckResponse.SerializeToString
        handlers: dict[str, grpc.RpcMethodHandler[bytes, health_pb2.HealthCheckResponse]] = {
            "Check": grpc.unary_unary_rpc_method_handler(
                parsed(self._servicer.Check, health_pb2.HealthCheckRequest), response_serializer=serialize
            ),
            "Watch": grpc.unary_stream_rpc_method_handler(
                parsed(self._servicer.Watch, health_pb2.HealthCheckRequest), response_serializer=serialize
            ),
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))

    async def watch(self) -> None:
        """Update after each change of a version's state, for ever."""
        async with self._manager.changed:  # held while updating, so that no change falls in between
            while True:
                await self.update()
                await self._manager.changed.wait()

    async def update(self) -> None:
        """Set what is reported from the state of the models."""
        servables = self._manager.servables
        for name in self._known - set(servables):
            await self._servicer.set(name, health_pb2.HealthCheckResponse.SERVICE_UNKNOWN)
        self._known = set(servables)
        missing = self._models.missing()
        for name in servables:
            await self._servicer.set(name, self._status(name not in missing))
        is_ready = not self._models.not_ready() and not self._drain.is_loading
        for name in SERVICES:
            await self._servicer.set(name, self._status(is_ready))

    def _status(self, is_ready: bool) -> health_pb2.HealthCheckResponse.ServingStatus:
        return SERVING if is_ready and not self._drain.has_begun else NOT_SERVING

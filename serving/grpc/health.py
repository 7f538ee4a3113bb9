"""grpc.health.v1 for load balancers and probes: Check and Watch.

`""` and the services are SERVING when every configured model has an available version; a model's own name is SERVING
when that model has. While the server drains everything is NOT_SERVING.
"""

from grpc_health.v1 import health, health_pb2

from ..lifecycle.manager import Manager
from ..load_shedding import Drain
from ..model_service import ModelService
from ..names import MODEL_SERVICE, PREDICTION_SERVICE

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
# TensorFlow Serving leaves out the package.
SERVICES = ("", PREDICTION_SERVICE, MODEL_SERVICE, "PredictionService", "ModelService")


class Health:
    """Keeps the health service up to date."""

    def __init__(self, manager: Manager, models: ModelService, drain: Drain) -> None:
        self.servicer = health.aio.HealthServicer()
        self._manager = manager
        self._models = models
        self._drain = drain
        self._known: set[str] = set()

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
            await self.servicer.set(name, health_pb2.HealthCheckResponse.SERVICE_UNKNOWN)
        self._known = set(servables)
        for name, servable in servables.items():
            await self.servicer.set(name, self._status(bool(servable.available())))
        is_ready = not self._models.not_ready()
        for name in SERVICES:
            await self.servicer.set(name, self._status(is_ready))

    def _status(self, is_ready: bool) -> health_pb2.HealthCheckResponse.ServingStatus:
        return SERVING if is_ready and not self._drain.has_begun else NOT_SERVING

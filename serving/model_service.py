"""ModelService without a transport: the states of versions, changes of the set of models, and readiness."""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc
from tensorflow_serving.apis.get_model_status_pb2 import (
    GetModelStatusRequest,
    GetModelStatusResponse,
    ModelVersionStatus,
)
from tensorflow_serving.apis.model_management_pb2 import ReloadConfigRequest, ReloadConfigResponse
from tensorflow_serving.config.model_server_config_pb2 import ModelConfig, ModelServerConfig

from .config.models import check_configs
from .errors import ServingError, failed_precondition, invalid_argument, not_found
from .lifecycle.manager import Manager
from .lifecycle.servables import Version
from .load_shedding import Drain
from .monitoring.metrics import Metrics

logger = logging.getLogger(__name__)

TURN_S = 30.0  # for which a change of the models keeps the next one waiting


@dataclass(slots=True)
class Turn:
    """One change of the models, which may have to wait for the one before."""

    has_begun: asyncio.Event = field(default_factory=asyncio.Event)
    task: "asyncio.Task[None] | None" = None

    async def give_way(self) -> None:
        """Return when it has ended, which TURN_S after its beginning it is made to."""
        await self.has_begun.wait()
        assert self.task is not None
        await asyncio.wait({self.task}, timeout=TURN_S)
        self.task.cancel()
        await asyncio.wait({self.task})


class ModelService:
    """The RPCs of ModelService, and what the server's own probes and files need of them."""

    def __init__(self, manager: Manager, *, drain: Drain, metrics: Metrics) -> None:
        self._manager = manager
        self._drain = drain
        self._metrics = metrics
        self._last_turn: Turn | None = None

    async def get_model_status(self, request: GetModelStatusRequest) -> GetModelStatusResponse:
        """The states of a model's versions.

        Raises: ServingError.
        """
        if not request.HasField("model_spec"):
            raise invalid_argument("Missing ModelSpec")
        spec = request.model_spec
        versions = self._manager.versions(spec.name)
        if spec.HasField("version"):
            if spec.version.value not in versions:
                raise not_found(f"Could not find version {spec.version.value} of model {spec.name}")
            versions = {spec.version.value: versions[spec.version.value]}
        elif not versions:
            raise not_found(f"Could not find any versions of model {spec.name}")
        response = GetModelStatusResponse()
        for number in sorted(versions, reverse=True):
            _fill_status(response.model_version_status.add(), versions[number])
        return response

    async def reload_config(self, request: ReloadConfigRequest) -> ReloadConfigResponse:
        """Replace the set of models and wait for them.

        Raises: ServingError.
        """
        self._drain.check()
        self._drain.check_loaded()
        if request.config.WhichOneof("config") != "model_config_list":
            raise invalid_argument(
                "ServerModelConfig type not supported by HandleReloadConfigRequest. "
                "Only ModelConfigList is currently supported"
            )
        names = list(dict.fromkeys(request.metric_names))
        before = await self._counts(names)
        await self._apply_asked(request.config)
        after = await self._counts(names)
        response = ReloadConfigResponse()
        for name in names:
            response.metric.add(name=name, int64_value_increase=after[name] - before[name])
        return response

    async def _counts(self, names: Sequence[str]) -> Mapping[str, int]:
        """What the counters `names` have counted."""
        return {name: self._metrics.value(name) for name in names}

    async def _apply_asked(self, config: ModelServerConfig) -> None:
        """What `apply_config` does, wherever this server has models."""
        await self.apply_config(config)

    async def apply_config(self, config: ModelServerConfig, *, can_wait: bool = False) -> None:
        """Make `config` the set of models and wait until they are loaded.

        Changes are made one after another, and a caller that goes away does not leave one half done. One that waits for
        its models for very long, since a load hangs, say, gives way to the next one: its models stay configured, unless
        the next one takes them away, but its labels are not set.

        Args:
            config: the models; an empty message changes nothing.
            can_wait: models of which there is nothing to load yet are no failure; they are waited for.

        Raises: ServingError if the config is not usable, or if models do not become available.
        """
        await self._in_turn(lambda: self._apply(config, can_wait=can_wait))

    async def _in_turn(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        before, self._last_turn = self._last_turn, Turn()
        turn = self._last_turn
        turn.task = asyncio.create_task(self._after(before, turn, work))
        await asyncio.shield(turn.task)

    async def _after(self, before: "Turn | None", turn: "Turn", work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        if before is not None:
            await before.give_way()
        turn.has_begun.set()
        try:
            await work()
        except asyncio.CancelledError:
            raise ServingError(
                grpc.StatusCode.ABORTED, "Another configuration came while models of this one were still loading"
            ) from None

    async def _apply(self, config: ModelServerConfig, *, can_wait: bool) -> None:
        kind = config.WhichOneof("config")
        if kind is None:  # a file that is just being written, say
            logger.info("Taking no action for empty config.")
            return
        if kind == "custom_model_config":
            raise failed_precondition(
                "Cannot transition to requested config. It is only legal to transition from one ModelConfigList to "
                "another."
            )
        configs = list(config.model_config_list.config)
        check_configs(configs, {name: servable.config for name, servable in self._manager.servables.items()})
        await self._manager.configure(configs)
        failures = self.failures()
        if not can_wait and configs:
            failures = failures or _lines(self.missing_here())
        if failures:
            raise ServingError(
                grpc.StatusCode.UNKNOWN, f"{len(failures)} model(s) did not become available: {{{', '.join(failures)}}}"
            )

    async def change_models(self, change: Callable[[dict[str, ModelConfig]], object]) -> None:
        """Make what `change` leaves of the present set of models, by name, the set, and wait until it has settled.

        As with `apply_config`, changes are made one after another, and none is left half done.

        Raises: ServingError if the set is not usable.
        """
        await self._in_turn(lambda: self._change(change))

    async def _change(self, change: Callable[[dict[str, ModelConfig]], object]) -> None:
        before = {name: servable.config for name, servable in self._manager.servables.items()}
        after = dict(before)
        change(after)
        check_configs(list(after.values()), before)
        await self._manager.configure(list(after.values()))

    def failures(self) -> list[str]:
        """One text for each configured model of which nothing could be loaded."""
        failures = []
        for name, servable in self._manager.servables.items():
            errors = [version for version in servable.versions.values() if version.error is not None]
            if not servable.loaded() and errors:
                worst = max(errors, key=lambda version: version.number)
                failures.append(f"{{name: {name} version: {worst.number}}} due to error: {worst.error}")
        return failures

    def not_ready(self) -> list[str]:
        """One line for each configured model without an available version, or for there being none; empty: ready."""
        if not self._manager.servables:
            return ["no model is configured"]
        return _lines(self.missing())

    def missing(self) -> Mapping[str, str]:
        """The configured models without an available version, with the reason."""
        return self.missing_here()

    def missing_here(self) -> dict[str, str]:
        """The same of this process, which may be one of several."""
        return {
            name: servable.listing.notice or "still loading, or failed to load"
            for name, servable in self._manager.servables.items()
            if not servable.available()
        }


def _lines(missing: Mapping[str, str]) -> list[str]:
    return [f"model {name} has no available version: {reason}" for name, reason in missing.items()]


def _fill_status(status: ModelVersionStatus, version: Version) -> None:
    status.version = version.number
    status.state = version.state
    status.status.error_code = version.error.code.value[0] if version.error else 0
    status.status.error_message = version.error.message if version.error else ""

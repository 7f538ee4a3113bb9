"""The model repository extension: an index of the models, and loading and unloading them by name.

A model is loaded from where the server's flags or its model config have it. What is unloaded stays in the index, and
can be loaded again; whoever sets all models anew, by the config file or HandleReloadConfigRequest, has the last word.
"""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import grpc
from tensorflow_serving.config.model_server_config_pb2 import ModelConfig, ModelServerConfig

from ..config.models import PLATFORM, model_names
from ..errors import ServingError, failed_precondition, invalid_argument, not_found
from ..lifecycle.manager import Manager
from ..lifecycle.servables import AVAILABLE, END, LOADING, START, UNLOADING, Servable, Version
from ..load_shedding import Drain
from ..model_service import ModelService

READY, UNAVAILABLE = "READY", "UNAVAILABLE"
SETTLE_POLL_S = 0.25  # between two looks at a version that is there and still changes
STATES = {START: "LOADING", LOADING: "LOADING", AVAILABLE: READY, UNLOADING: "UNLOADING", END: UNAVAILABLE}


@dataclass(frozen=True, slots=True)
class IndexEntry:
    """A version of a model; the version is empty where there is none."""

    name: str
    version: str
    state: str
    reason: str = ""


class Repository:
    """The models of a server, by name."""

    def __init__(
        self, manager: Manager, *, models: ModelService, drain: Drain, may_change: bool, folder: Path | None = None
    ) -> None:
        """The manager's models.

        Args:
            manager: knows them.
            models: changes them.
            drain: whether requests come too late.
            may_change: whether callers may load and unload.
            folder: of more models, which can be loaded.
        """
        self._manager = manager
        self._models = models
        self._drain = drain
        self._may_change = may_change
        self._folder = folder
        self._unloaded: dict[str, ModelConfig] = {}

    def take_over(self) -> ModelServerConfig | None:
        """The models of the processes that serve already, in place of the configured ones; None: there are none."""
        return None

    async def index(self, *, ready_only: bool) -> list[IndexEntry]:
        """Every version of every model, by name and number; `ready_only`: those that serve."""
        entries = [entry for name, servable in self._manager.servables.items() for entry in _entries(name, servable)]
        loaded = set(self._manager.servables)
        others = {*self._unloaded, *await self._names_in_folder()} - loaded
        entries += [IndexEntry(name, "", UNAVAILABLE, "unloaded" if name in self._unloaded else "") for name in others]
        chosen = [entry for entry in entries if entry.state == READY or not ready_only]
        return sorted(chosen, key=lambda entry: (entry.name, int(entry.version or 0)))

    async def load(self, name: str) -> None:
        """Load the model; one that is loaded already looks for new versions at once.

        Raises: ServingError if callers may not, or there is no such model, or nothing of it loads.
        """
        self._check()
        await self._load_asked(name)

    async def _load_asked(self, name: str) -> None:
        config = await self._config(name)
        was_loaded = name in self._manager.servables
        await self._models.change_models(lambda configs: configs.update({name: config}))
        while (servable := self._manager.servables.get(name)) is not None and servable.listing.is_settling:
            await asyncio.sleep(SETTLE_POLL_S)
            await self._models.change_models(lambda configs: None)  # looks again
        if servable is None or not servable.available():
            reason = _failure(servable) if servable is not None else "the models were changed meanwhile"
            if not was_loaded:  # or one broken model would make the server not ready
                await self._models.change_models(lambda configs: configs.pop(name, None))
            raise failed_precondition(f"failed to load '{name}', {reason}")
        self._unloaded.pop(name, None)

    async def unload(self, name: str) -> None:
        """Take the model out of service; requests in flight end on it.

        Raises: ServingError if callers may not, or there is no such model.
        """
        self._check()
        await self._unload_asked(name)

    async def _unload_asked(self, name: str) -> None:
        servable = self._manager.servables.get(name)
        if servable is None:
            raise _unknown(name)
        self._unloaded[name] = servable.config
        await self._models.change_models(lambda configs: configs.pop(name, None))

    def _check(self) -> None:
        self._drain.check()
        self._drain.check_loaded()
        if not self._may_change:
            raise ServingError(
                grpc.StatusCode.PERMISSION_DENIED,
                "explicit model load / unload is not allowed; start the server with --allow_model_control",
            )

    async def _config(self, name: str) -> ModelConfig:
        servable = self._manager.servables.get(name)
        if servable is not None:
            return servable.config
        if name in self._unloaded:
            return self._unloaded[name]
        if name in await self._names_in_folder():
            return ModelConfig(name=name, base_path=f"{self._folder}/{name}", model_platform=PLATFORM)
        raise _unknown(name)

    async def _names_in_folder(self) -> list[str]:
        return await asyncio.to_thread(model_names, self._folder) if self._folder is not None else []


def check_load_parameters(parameters: Iterable[str]) -> None:
    """Refuse to load a model otherwise than it is.

    Args:
        parameters: the names of those that came with the request.

    Raises: ServingError INVALID_ARGUMENT.
    """
    for name in parameters:
        if name == "config" or name.startswith("file:"):
            raise invalid_argument(
                f"parameter '{name}' is not supported: a model is loaded as it is in the model repository"
            )


def _unknown(name: str) -> ServingError:
    return not_found(f"Request for unknown model: '{name}' is not found")


def _entries(name: str, servable: Servable) -> list[IndexEntry]:
    versions = {version.number: version for version in (*servable.former, *servable.versions.values())}
    if not versions:
        return [IndexEntry(name, "", UNAVAILABLE, servable.listing.notice or "no version was found")]
    return [_entry(name, version) for version in versions.values()]


def _entry(name: str, version: Version) -> IndexEntry:
    return IndexEntry(name, str(version.number), STATES[version.state], _reason(version))


def _reason(version: Version) -> str:
    return version.error.message if version.error is not None else ""


def _failure(servable: Servable) -> str:
    failed = [version for version in servable.versions.values() if version.error is not None]
    if not failed:
        return servable.listing.notice or "no version was found"
    newest = max(failed, key=lambda version: version.number)
    return f"version {newest.number} is at {STATES[newest.state]} state: {_reason(newest)}"

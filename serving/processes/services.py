"""What must be the same whichever of several processes a caller has reached: models, their states, and metrics."""

import asyncio
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path

from tensorflow_serving.apis.get_model_status_pb2 import GetModelStatusRequest, GetModelStatusResponse
from tensorflow_serving.config.model_server_config_pb2 import ModelConfig, ModelServerConfig

from ..lifecycle.manager import Manager
from ..load_shedding import Drain
from ..model_service import ModelService
from ..monitoring.metrics import Metrics
from ..monitoring.series import SharedSeries
from ..v2.repository import READY, STATES, IndexEntry, Repository
from .member import Member
from .states import merged_state, merged_status

STATE_NUMBERS = {text: number for number, text in STATES.items()}


class SharedMetrics(Metrics):
    """Counts for this process, and shows what all have counted."""

    def __init__(self, member: Member) -> None:
        super().__init__(SharedSeries(member.start.series_file))
        self._member = member
        member.does("look", self._look)

    async def page(self) -> bytes:
        await self._member.ask("look")
        return await asyncio.to_thread(self.exposition_of, await self._member.counted())

    async def _look(self, content: bytes) -> bytes:
        self.look()
        return b""


class SharedModelService(ModelService):
    """Changes the models of all processes, and tells of a version what holds in all."""

    def __init__(self, manager: Manager, *, drain: Drain, metrics: Metrics, member: Member) -> None:
        super().__init__(manager, drain=drain, metrics=metrics)
        self._member = member
        member.does("status", self._status)
        member.does("configure", self._configure)
        member.tells_missing(manager.announce)

    async def get_model_status(self, request: GetModelStatusRequest) -> GetModelStatusResponse:
        return merged_status(await self._member.ask("status", request.SerializeToString()))

    async def _status(self, content: bytes) -> bytes:
        request = GetModelStatusRequest.FromString(content)
        return (await super().get_model_status(request)).SerializeToString()

    async def _apply_asked(self, config: ModelServerConfig) -> None:
        for outcome in await self._member.ask("configure", config.SerializeToString()):
            outcome.result()

    async def _configure(self, content: bytes) -> bytes:
        await self.apply_config(ModelServerConfig.FromString(content))
        return b""

    async def _counts(self, names: Sequence[str]) -> Mapping[str, int]:
        counted = await self._member.counted()
        return {name: self._metrics.value_of(name, counted) for name in names}

    def missing(self) -> Mapping[str, str]:
        here = self.missing_here()
        elsewhere = self._member.missing_elsewhere
        return here | {name: reason for name, reason in elsewhere.items() if name in self._manager.servables}


class SharedRepository(Repository):
    """Loads and unloads models in all processes."""

    def __init__(
        self,
        manager: Manager,
        *,
        models: ModelService,
        drain: Drain,
        may_change: bool,
        folder: Path | None,
        member: Member,
    ) -> None:
        super().__init__(manager, models=models, drain=drain, may_change=may_change, folder=folder)
        self._member = member
        member.does("load", self._load)
        member.does("unload", self._unload)
        member.does("index", self._index)
        member.does("present", self._present)

    async def index(self, *, ready_only: bool) -> list[IndexEntry]:
        outcomes = await self._member.ask("index")
        return _merged_index([pickle.loads(outcome.result()) for outcome in outcomes], ready_only=ready_only)

    async def _index(self, content: bytes) -> bytes:
        return pickle.dumps(await super().index(ready_only=False))

    async def _load_asked(self, name: str) -> None:
        for outcome in await self._member.ask("load", name.encode()):
            outcome.result()

    async def _load(self, content: bytes) -> bytes:
        await super()._load_asked(content.decode())
        return b""

    async def _unload_asked(self, name: str) -> None:
        for outcome in await self._member.ask("unload", name.encode()):
            outcome.result()

    async def _unload(self, content: bytes) -> bytes:
        await super()._unload_asked(content.decode())
        return b""

    async def _present(self, content: bytes) -> bytes:
        """What a process needs that takes another's place: the models, and those that were unloaded by name."""
        models = ModelServerConfig()
        models.model_config_list.config.extend(servable.config for servable in self._manager.servables.values())
        unloaded = {name: config.SerializeToString() for name, config in self._unloaded.items()}
        return pickle.dumps((models.SerializeToString(), unloaded))

    def take_over(self) -> ModelServerConfig | None:
        """The models of the other processes, if this one comes later; what was unloaded there can be loaded here."""
        if self._member.start.present is None:
            return None
        models, unloaded = pickle.loads(self._member.start.present)
        self._unloaded = {name: ModelConfig.FromString(config) for name, config in unloaded.items()}
        return ModelServerConfig.FromString(models)


def _merged_index(processes: list[list[IndexEntry]], *, ready_only: bool) -> list[IndexEntry]:
    found: dict[tuple[str, str], list[IndexEntry]] = {}
    for entries in processes:
        for entry in entries:
            found.setdefault((entry.name, entry.version), []).append(entry)
    merged = [_merged_entry(entries, num_processes=len(processes)) for entries in found.values()]
    chosen = [entry for entry in merged if entry.state == READY or not ready_only]
    return sorted(chosen, key=lambda entry: (entry.name, int(entry.version or 0)))


def _merged_entry(entries: list[IndexEntry], *, num_processes: int) -> IndexEntry:
    state = merged_state({STATE_NUMBERS[entry.state] for entry in entries}, is_everywhere=len(entries) == num_processes)
    reason = next((entry.reason for entry in entries if entry.reason), "")
    return IndexEntry(entries[0].name, entries[0].version, STATES[state], reason)

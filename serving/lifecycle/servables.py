"""The models of a server and their versions, as the manager knows them and GetModelStatus tells them."""

import asyncio
from collections.abc import Container, Iterable
from dataclasses import dataclass, field

from tensorflow_serving.apis.get_model_status_pb2 import ModelVersionStatus
from tensorflow_serving.config.model_server_config_pb2 import ModelConfig

from ..errors import ServingError
from ..model.model import Model
from .base_path import Listing
from .versions import Snapshot

START, LOADING, AVAILABLE, UNLOADING, END = (
    ModelVersionStatus.START,
    ModelVersionStatus.LOADING,
    ModelVersionStatus.AVAILABLE,
    ModelVersionStatus.UNLOADING,
    ModelVersionStatus.END,
)


@dataclass(slots=True)
class Version:
    """One version of a model, from its discovery to its end."""

    number: int
    path: str
    state: int = START
    error: ServingError | None = None
    model: Model | None = None  # while AVAILABLE or UNLOADING
    attempts: int = 0  # failed loads since the files last changed
    retry_at: float = 0.0
    failed_snapshot: Snapshot | None = None
    task: "asyncio.Task[None] | None" = None


@dataclass(slots=True)
class Servable:
    """A configured model."""

    config: ModelConfig
    versions: dict[int, Version] = field(default_factory=dict)
    listing: Listing = field(default_factory=Listing)  # its base path at the last look
    aspired: frozenset[int] = frozenset()  # what the policy chose of it
    former: list[Version] = field(default_factory=list)  # of its base path before, until one of this path serves
    look: "asyncio.Task[None] | None" = None  # at its base path, the one under way or the last one
    next_look: "asyncio.Task[None] | None" = None  # begins when that one has ended
    look_is_late: bool = False  # the one under way has taken so long that nobody waits for it any more
    looked_at: float = 0.0  # by time.monotonic: when the last look has ended
    empty_since: float | None = None  # by time.monotonic: when its base path was first seen without any version

    def known_versions(self) -> dict[int, Version]:
        """All versions that there is something to tell about, by number."""
        return {version.number: version for version in (*self.former, *self.versions.values())}

    def available(self) -> list[Version]:
        """The versions that serve, newest first."""
        return self.loaded() or _available(self.former)

    def loaded(self) -> list[Version]:
        """Those of the present base path, newest first."""
        return _available(self.versions.values())

    def serving(self, number: int) -> Version | None:
        """The version of this number, if it serves."""
        return next((version for version in self.available() if version.number == number), None)

    def ended(self) -> dict[int, Version]:
        """The versions that served once and are gone, by number."""
        return {
            number: version for number, version in self.versions.items() if version.state == END and not version.error
        }

    def forget(self, listed: Container[int], *, max_ended: int) -> None:
        """Drop versions that have ended: all but the newest `max_ended`, and broken ones that are not `listed` now."""
        ended = sorted(version.number for version in self.versions.values() if version.state == END)
        removed = [number for number in ended if self.versions[number].error and number not in listed]
        for number in {*ended[:-max_ended], *removed}:
            del self.versions[number]


def _available(versions: Iterable[Version]) -> list[Version]:
    found = [version for version in versions if version.state == AVAILABLE]
    return sorted(found, key=lambda version: version.number, reverse=True)

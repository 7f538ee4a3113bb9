"""Which versions of which models are live.

Each look at a base path (looks.py) and each load is a task of its own, so that no model waits for another's. All state
changes on the event loop, so there is no lock. The rules, for every model:

- A version is loaded when the policy wants it and it is whole (base_path.py, versions.py), and served once it is loaded
  and warm (transitions.py).
- A version that the policy does not want any more goes once one that it wants serves; what is in flight on it ends
  first.
- After a change of the base path the former one's versions serve until something of the new one does.
- A base path that has no versions any more, where a mount has gone, say, leaves the last ones in service for a while.
- A version that does not load is reported with its error and tried again, after the retry interval or when its files
  change; meanwhile the policy chooses among the others. It never takes the place of one that works.
"""

import asyncio
import logging
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tensorflow_serving.config.model_server_config_pb2 import ModelConfig

from ..errors import failed_precondition, invalid_argument, not_found
from ..model.model import Model, ServerParts
from .base_path import Known, Listing
from .loader import LoadOptions
from .looks import Looks, settling
from .servables import AVAILABLE, END, LOADING, START, UNLOADING, Servable, Version
from .transitions import Transitions
from .versions import Snapshot, aspired_versions

logger = logging.getLogger(__name__)

MAX_ENDED = 64  # versions that are gone, kept for GetModelStatus
MAX_REMOVED = 64  # models that are not configured any more, kept for the same
RETRY_CHECK_S = 1.0  # how often to see whether a load is due again, where base paths are not polled


@dataclass(frozen=True, kw_only=True, slots=True)
class ManagerOptions:
    """How the manager goes about it."""

    load: LoadOptions
    max_retries: int = 5
    retry_interval_s: float = 60.0
    num_load_threads: int = 0
    labels_for_unavailable: bool = False
    look_patience_s: float = 30.0  # for a look at a base path; longer ones are logged, and not waited for
    empty_grace_s: float = 30.0  # for which the last versions serve on whose base path has become empty


class Manager:
    """All models of a server. Used on the event loop only."""

    def __init__(self, options: ManagerOptions, *, parts: ServerParts) -> None:
        self._options = options
        self._events = parts.events
        self._servables: dict[str, Servable] = {}
        self._removed: dict[str, Servable] = {}  # models that were configured once, the last one last
        self._unloading: set[asyncio.Task[None]] = set()
        self._transitions = Transitions(
            options.load,
            parts=parts,
            num_load_threads=options.num_load_threads,
            max_retries=options.max_retries,
            retry_interval_s=options.retry_interval_s,
        )
        self._looks = Looks(
            self._act,
            self._known,
            prefer_lite=options.load.prefer_lite,
            patience_s=options.look_patience_s,
        )
        self.changed = asyncio.Condition()

    @property
    def servables(self) -> Mapping[str, Servable]:
        """The configured models by name."""
        return self._servables

    def versions(self, name: str) -> dict[int, Version]:
        """What there is to tell about the versions of a model, configured now or once; empty for an unknown one."""
        servable = self._servables.get(name) or self._removed.get(name)
        return servable.known_versions() if servable else {}

    def find(self, name: str, *, version: int | None = None, label: str = "") -> Model:
        """The loaded model that a request means.

        Args:
            name: the model's.
            version: its number; None for the newest that serves.
            label: in place of the number; empty for none.

        Raises: ServingError NOT_FOUND, or INVALID_ARGUMENT for a label that does not exist.
        """
        servable = self._servables.get(name)
        if label:
            labels = servable.config.version_labels if servable else {}
            if label not in labels:
                raise invalid_argument(f"Unrecognized servable version label: {label}")
            version = labels[label]
        if version is None:
            available = servable.available() if servable else []
            if not available:
                raise not_found(f"Servable not found for request: Latest({name})")
            model = available[0].model
        else:
            found = servable.serving(version) if servable else None
            if found is None:
                raise not_found(f"Servable not found for request: Specific({name}, {version})")
            model = found.model
        assert model is not None
        return model

    async def configure(self, configs: Iterable[ModelConfig]) -> None:
        """Replace the set of models; returns when what can be loaded is loaded.

        Raises: ServingError if a label points at a version that is not available.
        """
        chosen = {config.name: config for config in configs}
        for name in set(self._servables) - set(chosen):
            self._remove(name)
        for name, config in chosen.items():
            self._configure_model(name, config)
        await self.announce()
        await self.poll_once()
        await self._settle(chosen)
        await self.announce()
        self._assign_labels({name: dict(config.version_labels) for name, config in chosen.items()})

    def _remove(self, name: str) -> None:
        gone = self._servables.pop(name)
        for version in (*gone.versions.values(), *gone.former):
            self._retire(name, version)
        gone.versions, gone.former = gone.known_versions(), []
        self._removed.pop(name, None)
        self._removed[name] = gone
        if len(self._removed) > MAX_REMOVED:
            del self._removed[next(iter(self._removed))]
        self._events.model_removed(model_name=name)

    def _configure_model(self, name: str, config: ModelConfig) -> None:
        before = self._servables.get(name)
        config = ModelConfig.FromString(config.SerializeToString())
        config.version_labels.clear()
        if before is None:
            removed = self._removed.pop(name, None)
            self._servables[name] = Servable(config, versions=removed.ended() if removed else {})
            return
        config.version_labels.update(before.config.version_labels)  # until the new ones are known to hold
        if before.config.base_path != config.base_path:
            self._servables[name] = Servable(config, former=before.available())
        else:
            before.config = config

    def _assign_labels(self, labels: Mapping[str, Mapping[str, int]]) -> None:
        """Make `labels`, versions by model and label, those of the models: all of them or none."""
        for name, mapping in labels.items():
            servable = self._servables.get(name)
            if servable is None:
                continue
            for label, number in mapping.items():
                known = servable.versions.get(number)
                is_new = label not in servable.config.version_labels
                if known is not None and known.state == AVAILABLE:
                    continue
                if self._options.labels_for_unavailable and is_new:
                    continue
                raise failed_precondition(
                    f"Request to assign label to version {number} of model {name}, which is not currently available "
                    f"for inference"
                )
        for name, mapping in labels.items():
            if name in self._servables:
                self._servables[name].config.version_labels.clear()
                self._servables[name].config.version_labels.update(mapping)

    async def _settle(self, names: Iterable[str]) -> None:
        """Wait until nothing of `names` is loading and no version that is there still changes."""
        while True:
            servables = [self._servables[name] for name in names if name in self._servables]
            tasks = [
                version.task
                for servable in servables
                for version in servable.versions.values()
                if version.state == LOADING and version.task is not None and not version.task.done()
            ]
            if tasks:
                await asyncio.wait(tasks)
                await self.poll_once()  # a version that failed makes room for another
            elif settling(servables):
                await self.poll_once()
            else:
                return

    async def poll_forever(self, interval_s: float) -> None:
        """Poll the base paths every `interval_s` seconds; 0: for nothing new, only to load again what failed."""
        while True:
            await asyncio.sleep(interval_s or RETRY_CHECK_S)
            if interval_s:
                self._looks.begin(self._servables)
            elif self._is_retry_due():
                await self.poll_once(for_new=False)

    async def poll_once(self, *, for_new: bool = True) -> None:
        """Look at all base paths once and act on what is there; without `for_new`, on versions known before only."""
        await self._looks.at(self._servables, for_new=for_new)

    def _known(self, servable: Servable) -> Known:
        every, now = servable.versions.values(), time.monotonic()
        return Known(
            live={version.number for version in every if version.state in (LOADING, AVAILABLE)},
            failed={version.number: version.failed_snapshot for version in every if version.error is not None},
            due={version.number for version in self._failed_versions(servable) if now >= version.retry_at},
        )

    def _act(self, name: str, servable: Servable, listing: Listing) -> None:
        """Act on what a look at the base path of `servable` has shown."""
        if self._servables.get(name) is not servable:
            return
        self._events.look_finished(model_name=name)
        _log_changes(servable.listing, listing)
        servable.listing = listing
        if listing.listed is not None:
            self._reconcile(name, servable, listing.listed)

    def next_retry(self) -> float | None:
        """When, by `time.monotonic`, a model of which no version serves is loaded again; None: never."""
        return min(
            (
                version.retry_at
                for servable in self._servables.values()
                if not servable.available()
                for version in self._failed_versions(servable)
            ),
            default=None,
        )

    def _is_retry_due(self) -> bool:
        now = time.monotonic()
        return any(
            now >= version.retry_at
            for servable in self._servables.values()
            for version in self._failed_versions(servable)
        )

    def _failed_versions(self, servable: Servable) -> list[Version]:
        """Those that are to be tried again."""
        failed = [version for version in servable.versions.values() if version.state == END and version.error]
        return [version for version in failed if version.attempts <= self._options.max_retries]

    def _reconcile(self, name: str, servable: Servable, listed: Mapping[int, str]) -> None:
        """Start the loads and unloads that bring `servable` to what its policy wants."""
        listing = servable.listing
        aspired = aspired_versions(servable.config.model_version_policy, listing.usable)
        for number in aspired:
            known = servable.versions.get(number)
            if number not in listing.snapshots or (known is not None and known.state not in (START, END)):
                continue  # live when the look began, or since
            attempts = known.attempts if known and known.failed_snapshot == listing.snapshots[number] else 0
            version = Version(number, listed[number], state=LOADING, attempts=attempts)
            servable.versions[number] = version
            version.task = asyncio.get_running_loop().create_task(
                self._load(name, servable, version, listing.snapshots[number])
            )
        servable.aspired = frozenset(aspired)
        self._sweep(name, servable, everything=not listed and self._has_stayed_empty(name, servable))
        if listed:
            servable.empty_since = None
        servable.forget(listed, max_ended=MAX_ENDED)

    def _has_stayed_empty(self, name: str, servable: Servable) -> bool:
        """Whether the base path has been without versions for so long that it is meant, and no mount that has gone."""
        now, grace_s = time.monotonic(), self._options.empty_grace_s
        if servable.empty_since is None:
            servable.empty_since = now
            if servable.loaded() and grace_s:
                logger.warning("the versions of %s are gone; what is loaded serves for another %g s", name, grace_s)
        return now - servable.empty_since >= grace_s

    async def _load(self, name: str, servable: Servable, version: Version, files: Snapshot) -> None:
        if await self._transitions.load(name, version, files):
            if self._servables.get(name) is servable:
                self._sweep(name, servable)
            else:  # the configuration has changed meanwhile
                self._retire(name, version)
        await self.announce()

    def _sweep(self, name: str, servable: Servable, *, everything: bool = False) -> None:
        """Retire what is not wanted, once something that is wanted serves; `everything`: even without that."""
        available = servable.loaded()
        if everything or any(version.number in servable.aspired for version in available):
            for version in available:
                if version.number not in servable.aspired:
                    self._retire(name, version)
        if available:
            for version in servable.former:
                self._retire(name, version)
                servable.versions.setdefault(version.number, version)
            servable.former.clear()

    def _retire(self, name: str, version: Version) -> None:
        """Take `version` out of service; its memory goes when its requests have ended."""
        if version.state != AVAILABLE:
            return
        version.state = UNLOADING
        version.task = asyncio.get_running_loop().create_task(self._unload(name, version))
        self._unloading.add(version.task)
        version.task.add_done_callback(self._unloading.discard)

    async def _unload(self, name: str, version: Version) -> None:
        await self.announce()
        await self._transitions.unload(name, version)
        current = self._servables.get(name)
        if current is None or current.serving(version.number) is None:  # or else another path's has the number now
            self._events.model_unloaded(model_name=name, version=version.number)
        await self.announce()

    async def announce(self) -> None:
        """Wake those who watch the states."""
        async with self.changed:
            self.changed.notify_all()


def _log_changes(before: Listing, now: Listing) -> None:
    """Say what is amiss, once."""
    if now.notice and now.notice != before.notice:
        logger.warning("%s", now.notice)
    for number, file in now.lacks.items():
        if before.lacks.get(number) != file:
            logger.info(
                "version %s is not whole yet: it has no %s (only regular files count, and no links out of the folder)",
                (now.listed or {}).get(number, number),
                file,
            )

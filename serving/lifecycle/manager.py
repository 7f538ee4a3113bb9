"""Which versions of which models are live.

One task polls the base paths; each load is a task of its own. All state changes on the event loop, so there is no lock.
The rules, for every model:

- A version is loaded when the policy wants it and it is whole (source.py, versions.py), and served once it is loaded
  and warm.
- A version that is not wanted any more goes once one that is wanted is available; what is in flight on it ends first.
- After a change of the base path what was there answers until something of the new one does.
- A version that does not load is reported with its error and tried again, after the retry interval or when its files
  change; meanwhile the policy chooses among the others. It never takes the place of one that works.
"""

import asyncio
import logging
import time
from collections.abc import Container, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import grpc
import tensorflow as tf
from tensorflow_serving.config.model_server_config_pb2 import ModelConfig

from ..batching.threads import Workers
from ..errors import ServingError, failed_precondition, invalid_argument, not_found
from ..model.model import Model
from ..monitoring.events import Observer
from . import loader, warmup
from .base_path import Found, Source
from .loader import LoadOptions
from .servables import AVAILABLE, END, LOADING, START, UNLOADING, Servable, Version
from .versions import Snapshot, wanted

logger = logging.getLogger(__name__)

MAX_ENDED = 64  # versions that are gone, kept for GetModelStatus
RETRY_CHECK_S = 1.0  # how often to see whether a load is to be tried again, where base paths are not polled


@dataclass(frozen=True, kw_only=True, slots=True)
class ManagerOptions:
    """How the manager goes about it."""

    load: LoadOptions
    max_retries: int = 5
    retry_interval_s: float = 60.0
    num_load_threads: int = 0
    labels_for_unavailable: bool = False


class Manager:
    """All models of a server. Used on the event loop only."""

    def __init__(self, options: ManagerOptions, *, workers: Workers, observer: Observer) -> None:
        self._options = options
        self._workers = workers
        self._observer = observer
        self._servables: dict[str, Servable] = {}
        self._leaving: set[asyncio.Task[None]] = set()
        self._loading = ThreadPoolExecutor(max(1, options.num_load_threads), thread_name_prefix="load")
        self._source = Source(prefer_lite=options.load.prefer_lite, max_retries=options.max_retries)
        self._poll_lock = asyncio.Lock()
        self.changed = asyncio.Condition()

    @property
    def servables(self) -> Mapping[str, Servable]:
        """The configured models by name."""
        return self._servables

    def find(self, name: str, *, version: int | None = None, label: str = "") -> Model:
        """The model that answers; raises ServingError."""
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
            found = servable.answering(version) if servable else None
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
        labels = {name: dict(config.version_labels) for name, config in chosen.items()}
        old_labels = {name: dict(servable.config.version_labels) for name, servable in self._servables.items()}
        for name in set(self._servables) - set(chosen):
            gone = self._servables.pop(name)
            for version in (*gone.versions.values(), *gone.former):
                self._retire(version, name)
        for name, config in chosen.items():
            config = ModelConfig.FromString(config.SerializeToString())
            config.version_labels.clear()
            config.version_labels.update(old_labels.get(name, {}))  # until the new ones are known to hold
            if name not in self._servables:
                self._servables[name] = Servable(config)
            elif self._servables[name].config.base_path != config.base_path:
                self._servables[name] = Servable(config, former=self._servables[name].available())
            else:
                self._servables[name].config = config
        await self.poll()
        await self._settle(chosen)
        await self.announce()
        self._assign_labels(labels)

    def _assign_labels(self, labels: Mapping[str, Mapping[str, int]]) -> None:
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
            tasks = [
                version.task
                for name in names
                if name in self._servables
                for version in self._servables[name].versions.values()
                if version.task is not None and not version.task.done()
            ]
            if tasks:
                await asyncio.wait(tasks)
                await self.poll()  # a version that failed makes room for another
            elif any(
                self._servables[name].settling and not self._servables[name].loaded()
                for name in names
                if name in self._servables
            ):
                await asyncio.sleep(0.25)
                await self.poll()
            else:
                return

    async def poll_forever(self, interval_s: float) -> None:
        """Look at the base paths every `interval_s` seconds; 0: for nothing new, only to load again what failed."""
        while True:
            await asyncio.sleep(interval_s or RETRY_CHECK_S)
            try:
                if interval_s or self._is_retry_due():
                    await self.poll(for_new=bool(interval_s))
            except Exception:
                logger.exception("looking for versions failed; trying again")

    def next_retry(self) -> float | None:
        """When, by `time.monotonic`, a model of which no version answers is loaded again; None: never."""
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

    async def poll(self, *, for_new: bool = True) -> None:
        """Look at all base paths once and act on what is there; without `for_new`, on versions known before only."""
        async with self._poll_lock:
            for name, servable in list(self._servables.items()):
                try:
                    found = await self._source.look(servable, for_new=for_new)
                    if found is not None and self._servables.get(name) is servable:
                        self._reconcile(name, servable, found)
                except tf.errors.OpError as error:  # files that go while they are looked at
                    logger.warning("looking for versions of %s failed: %s", name, error.message)

    def _reconcile(self, name: str, servable: Servable, found: Found) -> None:
        """Start the loads and unloads that bring `servable` to what its policy wants."""
        policy = servable.config.model_version_policy
        aspired = wanted(policy, found.usable)
        for number in aspired:
            known = servable.versions.get(number)
            if known is None or known.state in (START, END):
                attempts = 0
                if known is not None and known.failed_snapshot == servable.snapshots.get(number):
                    attempts = known.attempts
                version = Version(number, found.listed[number], attempts=attempts)
                servable.versions[number] = version
                self._start_load(name, servable, version)
        servable.aspired = frozenset(aspired)
        self._sweep(name, servable, everything=not found.listed)
        self._forget(servable, found.listed)

    def _start_load(self, name: str, servable: Servable, version: Version) -> None:
        version.state = LOADING
        version.task = asyncio.get_running_loop().create_task(self._load(name, servable, version))

    async def _load(self, name: str, servable: Servable, version: Version) -> None:
        loop = asyncio.get_running_loop()
        files = servable.snapshots.get(version.number)
        logger.info("loading %s version %d from %s", name, version.number, version.path)
        model = None
        try:
            loaded = await loop.run_in_executor(self._loading, loader.load, version.path, self._options.load)
            model = Model(
                name,
                version.number,
                loaded.runtime,
                loaded.signatures,
                options=loaded.engine_options,
                workers=self._workers,
                observer=self._observer,
            )
            await warmup.replay(
                loaded.warmup_records,
                model,
                path=version.path,
                iterations=self._options.load.warmup_iterations,
                observer=self._observer,
            )
        except Exception as error:
            if model is not None:
                await loop.run_in_executor(self._loading, model.close)
            self._failed(name, version, error, files)
        else:
            self._loaded(name, servable, version, model, loaded.load_s)
        await self.announce()

    def _loaded(self, name: str, servable: Servable, version: Version, model: Model, load_s: float) -> None:
        version.model = model
        version.state = AVAILABLE
        version.error = None
        logger.info(
            "Successfully loaded servable version {name: %s version: %d} in %.1f s", name, version.number, load_s
        )
        self._observer.model_loaded(model_name=name, version=version.number, load_s=load_s)
        if self._servables.get(name) is not servable:  # the configuration has changed meanwhile
            self._retire(version, name)
            return
        self._sweep(name, servable)

    def _sweep(self, name: str, servable: Servable, *, everything: bool = False) -> None:
        """Retire what is not wanted, once something that is wanted answers; `everything`: even without that."""
        available = servable.loaded()
        if everything or any(version.number in servable.aspired for version in available):
            for version in available:
                if version.number not in servable.aspired:
                    self._retire(version, name)
        if available:
            for version in servable.former:
                self._retire(version, name)
            servable.former.clear()

    def _failed(self, name: str, version: Version, error: Exception, files: Snapshot | None) -> None:
        if not isinstance(error, ServingError):
            logger.exception("loading %s version %d failed", name, version.number)
            error = ServingError(grpc.StatusCode.UNKNOWN, f"{type(error).__name__}: {error}")
        version.state = END
        version.error = error
        version.attempts += 1
        version.failed_snapshot = files
        version.retry_at = time.monotonic() + self._options.retry_interval_s
        logger.error(
            "loading {name: %s version: %d} failed (attempt %d of %d): %s",
            name,
            version.number,
            version.attempts,
            self._options.max_retries + 1,
            error,
        )

    def _retire(self, version: Version, name: str) -> None:
        """Take `version` out of service; its memory goes when its requests have ended."""
        if version.state != AVAILABLE:
            return
        version.state = UNLOADING
        task = asyncio.get_running_loop().create_task(self._unload(version, name))
        version.task = task
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    async def _unload(self, version: Version, name: str) -> None:
        model = version.model
        assert model is not None
        await self.announce()
        await model.idle.wait()
        version.model = None
        await asyncio.get_running_loop().run_in_executor(self._loading, model.close)
        version.state = END
        logger.info("unloaded %s version %d", name, version.number)
        current = self._servables.get(name)
        if current is None or current.answering(version.number) is None:  # or else another path's has the number now
            self._observer.model_unloaded(model_name=name, version=version.number)
        await self.announce()

    def _forget(self, servable: Servable, listed: Container[int]) -> None:
        ended = sorted(version.number for version in servable.versions.values() if version.state == END)
        removed = [number for number in ended if servable.versions[number].error and number not in listed]
        for number in {*ended[:-MAX_ENDED], *removed}:  # a broken version that was removed is no failure any more
            del servable.versions[number]

    async def announce(self) -> None:
        """Wake those who watch the states."""
        async with self.changed:
            self.changed.notify_all()

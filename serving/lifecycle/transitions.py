"""Take one version from its folder into service, and out of it again.

Reading and freeing happen on threads, warming up and all changes of state on the event loop, so there is no lock. The
manager decides which version makes which transition.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence

import grpc
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

from .. import deadlines, inference
from ..errors import ServingError
from ..model.model import Model, ServerParts
from . import loader
from .loader import LoadOptions
from .own_thread import in_own_thread
from .servables import AVAILABLE, END, Version
from .versions import Snapshot

logger = logging.getLogger(__name__)

PLACE_S = 30.0  # for which a load keeps others from beginning


class LoadPlaces:
    """How many loads begin at once. One that takes very long, or hangs, gives its place up and holds no other."""

    def __init__(self, number: int) -> None:
        self._free = asyncio.Semaphore(number)

    @contextlib.asynccontextmanager
    async def take(self) -> AsyncIterator[None]:
        """A place for the length of the block, or for PLACE_S if that is shorter."""
        await self._free.acquire()
        give_up = _once(self._free.release)
        timer = asyncio.get_running_loop().call_later(PLACE_S, give_up)
        try:
            yield
        finally:
            timer.cancel()
            give_up()


def _once(work: Callable[[], None]) -> Callable[[], None]:
    """Does `work` when it is called first, and nothing after that."""
    left = [work]
    return lambda: left.pop()() if left else None


class Transitions:
    """Loads and unloads versions. Used on the event loop only."""

    def __init__(
        self,
        options: LoadOptions,
        *,
        parts: ServerParts,
        num_load_threads: int,
        max_retries: int,
        retry_interval_s: float,
    ) -> None:
        self._options = options
        self._parts = parts
        self._max_retries = max_retries
        self._retry_interval_s = retry_interval_s
        self._places = LoadPlaces(max(1, num_load_threads))

    async def load(self, name: str, version: Version, files: Snapshot) -> bool:
        """Load and warm up `version`, whose folder holds `files`.

        Returns: whether it is available now; if not, `version` knows the error and when to try again.
        """
        deadlines.begin(None)  # whoever has asked for it, a version is loaded and warmed up to the end
        model = None
        try:
            async with self._places.take():
                logger.info("loading %s version %d from %s", name, version.number, version.path)
                loaded = await in_own_thread(
                    lambda: loader.load(version.path, self._options, name=name), name=f"load-{name}"
                )
            model = Model(
                name,
                version.number,
                loaded.runtime,
                loaded.signatures,
                options=loaded.model_options,
                parts=self._parts,
            )
            await self._warm_up(model, loaded.warmup_records, version.path)
        except Exception as error:
            if model is not None:
                await in_own_thread(model.close, name=f"unload-{name}")
            self._failed(name, version, error, files)
            return False
        version.model = model
        version.state = AVAILABLE
        version.error = None
        logger.info(
            "Successfully loaded servable version {name: %s version: %d} in %.1f s", name, version.number, loaded.load_s
        )
        self._parts.events.model_loaded(model_name=name, version=version.number, load_s=loaded.load_s)
        if loaded.drift is not None:
            model.drift = loaded.drift  # from here on, so that warm-up requests are no part of it
            self._parts.events.drift_watched(model_name=name, version=version.number, window=loaded.drift)
        return True

    async def _warm_up(self, model: Model, records: Sequence[PredictionLog], path: str) -> None:
        """Replay `records`; as in TensorFlow Serving, one that fails makes the load fail."""
        if not records:
            return
        started, num_replayed, code = time.perf_counter(), 0, grpc.StatusCode.OK
        try:
            for record in records:
                num_replayed += 1
                for _ in range(max(1, self._options.warmup_iterations)):
                    await inference.replay(model, record)
        except ServingError as error:
            code = error.code
            raise
        finally:
            self._parts.events.warmup_finished(
                model_path=path, code=code, latency_s=time.perf_counter() - started, num_records=num_replayed
            )

    def _failed(self, name: str, version: Version, error: Exception, files: Snapshot) -> None:
        if not isinstance(error, ServingError):
            logger.exception("loading %s version %d failed", name, version.number)
            error = ServingError(grpc.StatusCode.UNKNOWN, f"{type(error).__name__}: {error}")
        version.state = END
        version.error = error
        version.attempts += 1
        version.failed_snapshot = files
        version.retry_at = time.monotonic() + self._retry_interval_s
        logger.error(
            "loading {name: %s version: %d} failed (attempt %d of %d): %s",
            name,
            version.number,
            version.attempts,
            self._max_retries + 1,
            error,
        )

    async def unload(self, name: str, version: Version) -> None:
        """Wait until no request needs `version` any more, and free its memory."""
        model = version.model
        assert model is not None
        await model.idle.wait()
        version.model = None
        await in_own_thread(model.close, name=f"unload-{name}")
        version.state = END
        logger.info("unloaded %s version %d", name, version.number)

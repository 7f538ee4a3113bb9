"""Look at a model's base path: which of its versions may be served now.

Looking happens on a thread of its own, since a base path may be slow or far away.
"""

import asyncio
import logging
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import tensorflow as tf

from . import versions
from .servables import AVAILABLE, LOADING, Servable
from .versions import Snapshot

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Found:
    """What a base path holds."""

    listed: Mapping[int, str]  # every version's folder, by number
    usable: list[int]  # those that are live, being loaded, or whole and not known to fail


class Source:
    """Looks at base paths; notes in the log what is amiss, once."""

    def __init__(self, *, prefer_lite: bool, max_retries: int) -> None:
        """Args: max_retries: how often a version that does not load is tried again while its files stay the same."""
        self._prefer_lite = prefer_lite
        self._max_retries = max_retries
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="poll")

    async def look(self, servable: Servable, *, for_new: bool = True) -> Found | None:
        """What is in the base path of `servable` now; None if it cannot be listed.

        Args:
            for_new: otherwise as if there were only the versions that are known already.
        """
        name, base_path = servable.config.name, servable.config.base_path
        loop = asyncio.get_running_loop()
        try:
            listed = await loop.run_in_executor(self._thread, versions.list_versions, base_path)
        except tf.errors.OpError as error:
            servable.settling = False
            _note(servable, f"Could not find base path {base_path} for servable {name} with error {error.message}")
            return None
        if not for_new:
            listed = {number: path for number, path in listed.items() if number in servable.versions}
        if listed:
            servable.notice = ""
        else:
            _note(
                servable,
                f"No versions of servable {name} found under base path {base_path}. Did you forget to name your leaf "
                f"directory as a number (eg. '/1/')?",
            )
        return Found(listed, await self._usable(servable, listed))

    async def _usable(self, servable: Servable, listed: Mapping[int, str]) -> list[int]:
        usable = []
        before, servable.snapshots, servable.settling = servable.snapshots, {}, False
        policy = servable.config.model_version_policy
        for number in sorted(listed, reverse=True):
            known = servable.versions.get(number)
            if known is not None and known.state in (LOADING, AVAILABLE):
                usable.append(number)
                continue
            if number not in versions.wanted(policy, [*usable, number]):
                continue  # whole or not, nobody would want it beside those: not worth looking at
            if await self._is_whole(servable, number, listed[number], before.get(number)):
                usable.append(number)
        return usable

    async def _is_whole(self, servable: Servable, number: int, path: str, before: Snapshot | None) -> bool:
        """Whether a version that is not live may be loaded now."""
        loop = asyncio.get_running_loop()
        files = await loop.run_in_executor(self._thread, versions.snapshot, path)
        servable.snapshots[number] = files
        known = servable.versions.get(number)
        if known is not None and known.error is not None and known.failed_snapshot == files:
            return known.attempts <= self._max_retries and time.monotonic() >= known.retry_at
        lacks = await loop.run_in_executor(
            self._thread, lambda: versions.missing(path, files, prefer_lite=self._prefer_lite)
        )
        if lacks is not None:
            if servable.lacks.get(number) != lacks:
                logger.info("version %s is not whole yet: it has no %s", path, lacks)
                servable.lacks[number] = lacks
            return False
        servable.lacks.pop(number, None)
        if not versions.settled(files, before):
            servable.settling = True
            return False
        return True


def _note(servable: Servable, text: str) -> None:
    if servable.notice != text:
        logger.warning("%s", text)
        servable.notice = text

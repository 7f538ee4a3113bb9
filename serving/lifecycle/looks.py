"""When base paths are looked at: each model's by itself.

A look may take long or never end, where a base path is slow, far away or gone. Then the versions of that model stay as
they are; no other model waits for it. Used on the event loop only.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping

import tensorflow as tf

from .base_path import BasePath, Known, Listing
from .own_thread import in_own_thread
from .servables import Servable

logger = logging.getLogger(__name__)

SETTLE_S = 0.25  # between two looks at a version that still changes: has it stopped?

Act = Callable[[str, Servable, Listing], None]


class Looks:
    """Looks at base paths, one look at a time for each, and hands on what they show."""

    def __init__(
        self,
        act: Act,
        known: Callable[[Servable], Known],
        *,
        prefer_lite: bool,
        patience_s: float,
    ) -> None:
        """No look is under way.

        Args:
            act: takes a model's name, the model, and what a look at its base path has shown.
            known: what became of a model's versions.
            prefer_lite: a TensorFlow Lite model is a whole version.
            patience_s: how long a look may take before that is logged, and nobody waits for it any more.
        """
        self._act = act
        self._known = known
        self._prefer_lite = prefer_lite
        self._patience_s = patience_s

    async def at(self, servables: Mapping[str, Servable], *, for_new: bool) -> None:
        """Look at all `servables`, and wait for the looks; not longer than the patience for those that hang.

        Args:
            servables: by name.
            for_new: False: look as if there were no other versions than those known.
        """
        looks = []
        for name, servable in servables.items():
            if for_new or not _is_looked_at(servable):
                look = self._next_look(name, servable, for_new=for_new)
                if not servable.look_is_late:
                    looks.append(look)
        if looks:
            await asyncio.wait(looks, timeout=self._patience_s)

    def begin(self, servables: Mapping[str, Servable]) -> None:
        """Have those of `servables` looked at that are not looked at now."""
        for name, servable in servables.items():
            if not _is_looked_at(servable):
                self._next_look(name, servable, for_new=True)

    def _next_look(self, name: str, servable: Servable, *, for_new: bool) -> "asyncio.Task[None]":
        """A look that has not begun yet: it sees what is there, and the configuration that holds, from now on."""
        if servable.next_look is not None:
            return servable.next_look
        if servable.look is None or servable.look.done():
            servable.look = asyncio.create_task(self._look(name, servable, for_new=for_new))
            return servable.look
        servable.next_look = asyncio.create_task(self._look_after(servable.look, name, servable))
        return servable.next_look

    async def _look_after(self, under_way: "asyncio.Task[None]", name: str, servable: Servable) -> None:
        await asyncio.wait({under_way})
        servable.look, servable.next_look = servable.next_look, None
        await self._look(name, servable, for_new=True)

    async def _look(self, name: str, servable: Servable, *, for_new: bool) -> None:
        if servable.listing.is_settling:
            await asyncio.sleep(servable.looked_at + SETTLE_S - time.monotonic())
        try:
            listing = await self._listing(name, servable, for_new=for_new)
            self._act(name, servable, listing)
        except (OSError, tf.errors.OpError) as error:  # files that go while they are looked at
            logger.warning("looking for versions of %s failed: %s", name, error)
        except Exception:
            logger.exception("looking for versions of %s failed; trying again", name)

    async def _listing(self, name: str, servable: Servable, *, for_new: bool) -> Listing:
        base_path = BasePath(
            model_name=name,
            path=servable.config.base_path,
            policy=servable.config.model_version_policy,
            prefer_lite=self._prefer_lite,
        )
        before, known = servable.listing, self._known(servable)
        only = None if for_new else frozenset(servable.versions)
        looking = asyncio.ensure_future(
            in_own_thread(lambda: base_path.look(before, known, only=only), name=f"look-{name}")
        )
        done, _ = await asyncio.wait({looking}, timeout=self._patience_s)
        servable.look_is_late = not done
        if not done:
            logger.warning(
                "looking for versions of %s in %s takes more than %g s; until it ends they stay as they are",
                name,
                base_path.path,
                self._patience_s,
            )
        try:
            return await looking
        finally:
            servable.look_is_late = False
            servable.looked_at = time.monotonic()


def _is_looked_at(servable: Servable) -> bool:
    is_under_way = servable.look is not None and not servable.look.done()
    return is_under_way or servable.next_look is not None


def settling(servables: Iterable[Servable]) -> bool:
    """Whether a version of one that serves nothing yet is there, and still changing."""
    return any(servable.listing.is_settling and not servable.loaded() for servable in servables)

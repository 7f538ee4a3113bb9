"""Look at a model's base path: which of its versions may be served now.

`BasePath.look` reads files only and changes nothing. It blocks, since a base path may be slow or far away: the manager
calls it on a thread.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import tensorflow as tf
from tensorflow_serving.config.file_system_storage_path_source_pb2 import FileSystemStoragePathSourceConfig

from . import versions
from .versions import Snapshot


@dataclass(frozen=True, slots=True)
class Listing:
    """What one look at a base path has shown."""

    listed: Mapping[int, str] | None = None  # every version's folder, by number; None: it cannot be listed
    usable: tuple[int, ...] = ()  # those that are live, or whole and not known to fail; newest first
    snapshots: Mapping[int, Snapshot] = field(default_factory=dict)  # the files of those that were looked into
    lacks: Mapping[int, str] = field(default_factory=dict)  # by version, the file that it lacks to be whole
    is_settling: bool = False  # a version is there and still changing
    notice: str = ""  # why there is nothing to serve


@dataclass(frozen=True, kw_only=True, slots=True)
class Known:
    """What became of a model's versions before: what is on disk does not tell."""

    live: Collection[int] = ()  # being loaded, or loaded
    failed: Mapping[int, Snapshot | None] = field(default_factory=dict)  # did not load; its files then
    due: Collection[int] = ()  # failed, and to be tried again with the same files


@dataclass(frozen=True, kw_only=True, slots=True)
class BasePath:
    """The folder of a model's versions, and how to choose among them."""

    model_name: str
    path: str  # or URI
    policy: FileSystemStoragePathSourceConfig.ServableVersionPolicy
    prefer_lite: bool = False  # a TensorFlow Lite model is a whole version

    def look(self, before: Listing, known: Known, *, only: Collection[int] | None = None) -> Listing:
        """What is there now.

        Args:
            before: the look before this one, to see what still changes.
            known: what became of the versions.
            only: look as if there were no other versions than these.

        Raises: tf.errors.OpError if files go while they are looked at.
        """
        try:
            listed = versions.list_versions(self.path)
        except tf.errors.OpError as error:
            notice = f"Could not find base path {self.path} for servable {self.model_name} with error {error.message}"
            return Listing(snapshots=before.snapshots, lacks=before.lacks, notice=notice)
        if only is not None:
            listed = {number: path for number, path in listed.items() if number in only}
        if not listed:
            return Listing(
                listed,
                notice=f"No versions of servable {self.model_name} found under base path {self.path}. Did you forget "
                f"to name your leaf directory as a number (eg. '/1/')?",
            )
        return self._look_into(listed, before, known)

    def _look_into(self, listed: Mapping[int, str], before: Listing, known: Known) -> Listing:
        usable: list[int] = []
        snapshots: dict[int, Snapshot] = {}
        lacks: dict[int, str] = {}
        is_settling = False
        for number in sorted(listed, reverse=True):
            if number in known.live:
                usable.append(number)
                continue
            if number not in versions.aspired_versions(self.policy, [*usable, number]):
                continue  # whole or not, nobody would want it beside those: not worth looking at
            files = snapshots[number] = versions.snapshot(listed[number])
            if number in known.failed and known.failed[number] == files:
                if number in known.due:
                    usable.append(number)
                continue
            missing = versions.missing_file(listed[number], files, prefer_lite=self.prefer_lite)
            if missing is not None:
                lacks[number] = missing
            elif versions.has_settled(files, before.snapshots.get(number)):
                usable.append(number)
            else:
                is_settling = True
        return Listing(listed, tuple(usable), snapshots, lacks, is_settling)

"""Write a whole set of shards: what it follows from first, the shards, and the manifest last.

Without its manifest a set does not exist. Two jobs with the same settings that write one place write the same bytes; a
second one with other settings is refused, and so is a place that holds anything else.
"""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..config import ShardConfig
from ..data import DataError, Dataset
from ..data.rows import Rows
from ..data.shards import FORMAT, MANIFEST, UNFINISHED
from ..storage import RunFolder
from .making import Chunk, Settings, Shard, make_shard

JOB = f"{UNFINISHED}/job.json"
MB = 1_000_000
LINES = 20  # of progress, at most
PARTS = ("test", "train")

Task = tuple[Chunk, Shard]
Make = Callable[[Chunk, Shard], dict[str, Any]]
# Calls a function for each task, wherever, and yields the shard's name and what it returns, in any order.
Each = Callable[[Make, Iterable[Task]], Iterator[tuple[str, dict[str, Any]]]]


class Run(NamedTuple):
    """Neighbouring examples of a source, which make one shard of each copy."""

    source: int
    start: int
    stop: int
    first: int  # the number of the first one among all originals


def one_by_one(make: Make, tasks: Iterable[Task]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Make the shards in this process, one after the other."""
    return ((shard.name, make(chunk, shard)) for chunk, shard in tasks)


def folder_of(target: str) -> RunFolder:
    """The folder or URI that a set is to be written to; raises ValueError if its name is not usable."""
    place, mark, options = target.partition("?") if "://" in target else (target, "", "")
    parent, _, name = place.rstrip("/").rpartition("/")
    return RunFolder((parent or ("/" if place.startswith("/") else ".")) + mark + options, name)


def write_set(
    sources: Sequence[Dataset],
    folder: RunFolder,
    config: ShardConfig,
    *,
    each: Each = one_by_one,
    tell: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Write `sources`, one behind the other, as one set of shards; returns its manifest.

    Args:
        folder: the set's.
        each: makes the shards.
        tell: takes lines for the display.

    Raises: DataError if the sources do not go together or another set is there.
    """
    job = _job(sources, config)
    if folder.exists(MANIFEST):
        manifest = _written(folder, job)
        tell(f"{folder} is written already")
        return manifest
    _claim(folder, job)
    common = Settings(
        storage=folder.storage,
        name=folder.name,
        job=_checksum(job),
        augmentation=config.augmentation,
        seed=config.seed,
        background=sources[0].background,
    )
    runs = {part: list(_runs(sources, part, config.shard_mb)) for part in PARTS}
    copies = {"test": 0, "train": config.copies}
    number = sum(len(runs[part]) * (copies[part] + 1) for part in PARTS)
    made: dict[str, dict[str, Any]] = {}
    tasks = (task for part in PARTS for task in _tasks(sources, part, runs[part], copies[part]))
    for name, written in each(functools.partial(make_shard, settings=common), tasks):
        made[name] = written
        if len(made) * LINES // number > (len(made) - 1) * LINES // number:
            tell(f"{len(made):,} of {number:,} shards written")
    if folder.exists(MANIFEST):  # another job with the same settings was faster
        return _written(folder, job)
    _check_same(folder.read_json(JOB), job, folder)  # an object store lets a second job replace it
    manifest = {
        "format": FORMAT,
        "job": job,
        "sources": [source.source for source in sources],
        "image_size": list(sources[0].image_size),
        "channels": sources[0].channels,
        "class_names": list(sources[0].class_names),
        "counts": {part: _counts(sources, part, copies[part]) for part in PARTS},
        "background": sources[0].background,
        "notes": list(dict.fromkeys(note for source in sources for note in source.notes)),
        "copies": config.copies,
        "augmentation": dataclasses.asdict(config.augmentation),
        "seed": config.seed,
        "shards": {
            part: [made[_name(part, number)] for number in range(len(runs[part]) * (copies[part] + 1))]
            for part in PARTS
        },
    }
    folder.write_json(MANIFEST, manifest)
    return _written(folder, job)


def _written(folder: RunFolder, job: dict[str, Any]) -> dict[str, Any]:
    """The manifest, once what jobs leave beside the set is removed; raises DataError if it is another set's."""
    manifest = folder.read_json(MANIFEST)
    _check_same(manifest["job"], job, folder)
    for name in folder.names(""):
        if name == UNFINISHED or name.endswith(".unfinished"):
            folder.remove(name)
    return manifest


def _job(sources: Sequence[Dataset], config: ShardConfig) -> dict[str, Any]:
    """All that the set's bytes follow from, as JSON values; raises DataError if the sources do not go together."""
    first = sources[0]
    for other in sources:
        if other.copies:
            raise DataError(f"{other.source} has augmented versions in it; write a set from what that was written from")
        if (other.image_shape, other.class_names) != (first.image_shape, first.class_names):
            raise DataError(
                f"{other.source} has images of {other.image_shape} px in {len(other.class_names)} classes, "
                f"{first.source} {first.image_shape} px in {len(first.class_names)}, or classes of other names; one "
                "set needs one size, the same --channels and the same classes"
            )
        if other.is_dark_on_light != first.is_dark_on_light:
            raise DataError(
                f"{other.source} and {first.source} have ink and paper the other way round; write one of them by "
                "itself with --invert, and give what was written in its place"
            )
    return {
        "format": FORMAT,
        "sources": [source.checksum() for source in sources],
        "copies": config.copies,
        "augmentation": dataclasses.asdict(config.augmentation) if config.copies else None,
        "seed": config.seed if config.copies else None,
        "shard_mb": config.shard_mb,
    }


def _claim(folder: RunFolder, job: dict[str, Any]) -> None:
    """Write down which job writes here; raises DataError if another one does, or something else is here."""
    if not folder.exists(JOB) and (others := folder.names("")):
        raise DataError(
            f"{folder} is not empty ({', '.join(others[:3])}{', …' if len(others) > 3 else ''}); give --output a new "
            "folder"
        )
    if not folder.create_json(JOB, job):
        _check_same(folder.read_json(JOB), job, folder)


def _check_same(written: Any, job: dict[str, Any], folder: RunFolder) -> None:
    job = json.loads(json.dumps(job))  # tuples become lists, as they have there
    different = [
        f"{name} {_short(written.get(name))} there, {_short(value)} now"
        for name, value in job.items()
        if written.get(name) != value
    ]
    if different:
        raise DataError(
            f"{folder} is written, or was begun, from other data or with other settings ({'; '.join(different)}); give "
            "--output another folder, or delete that one if nobody needs it"
        )


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:40]}…"


def _runs(sources: Sequence[Dataset], part: str, shard_mb: float) -> Iterator[Run]:
    rows = max(1, int(shard_mb * MB) // int(np.prod(sources[0].image_shape)))
    first = 0
    for number, source in enumerate(sources):
        count = len(_labels(source, part))
        for start in range(0, count, rows):
            stop = min(start + rows, count)
            yield Run(number, start, stop, first + start)
        first += count


def _tasks(sources: Sequence[Dataset], part: str, runs: Sequence[Run], copies: int) -> Iterator[Task]:
    """All shards of a part; those of the same examples, which differ in the copy, one after the other."""
    for place, run in enumerate(runs):
        index = np.arange(run.start, run.stop)
        chunk = Chunk(_images(sources[run.source], part)[index], _labels(sources[run.source], part)[index])
        for copy in range(copies + 1):
            yield chunk, Shard(_name(part, copy * len(runs) + place), copy, run.first)


def _name(part: str, number: int) -> str:
    return f"{part}-{number:05d}"


def _images(source: Dataset, part: str) -> Rows:
    return source.train_images if part == "train" else source.test_images


def _labels(source: Dataset, part: str) -> Rows:
    return source.train_labels if part == "train" else source.test_labels


def _counts(sources: Sequence[Dataset], part: str, copies: int) -> list[int]:
    """Examples of each class."""
    labels = np.concatenate([np.asarray(_labels(source, part)) for source in sources])
    counts = np.bincount(labels, minlength=len(sources[0].class_names)) * (copies + 1)
    return [int(count) for count in counts]


def _checksum(job: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(job, sort_keys=True).encode()).hexdigest()

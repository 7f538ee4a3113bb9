"""Make one shard, in whichever process: its bytes follow from its images, the settings and its place in the set."""

import hashlib
import io
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..config import Augmentation
from ..data.colour import Background
from ..data.shards import UNFINISHED
from ..storage import RunFolder

AT_ONCE = 1000  # images that are moved together


@dataclass(frozen=True, slots=True)
class Chunk:
    """Neighbouring examples of a source, as they were found."""

    images: NDArray[np.uint8]  # [n, height, width], or [n, height, width, 3] in colour
    labels: NDArray[np.int64]  # [n]


@dataclass(frozen=True, slots=True)
class Shard:
    """Which examples a shard holds."""

    name: str  # of its files, without what follows the first dot
    copy: int  # 0: images as they are; otherwise which augmented version of them
    first: int  # the number of its first example among the originals


@dataclass(frozen=True, slots=True)
class Settings:
    """What all shards of a set have in common."""

    storage: str  # folder or URI that the set's folder lies in
    name: str  # of the set's folder
    job: str  # checksum of all that the set follows from
    augmentation: Augmentation
    seed: int
    background: Background


def make_shard(chunk: Chunk, shard: Shard, settings: Settings) -> dict[str, Any]:
    """Write a shard, unless the same job has written it before; returns its lines of the manifest.

    A note beside the shards says what was written, with checksums, so that a job that is started again checks a shard
    in place of making it.
    """
    folder = RunFolder(settings.storage, settings.name)
    note = f"{UNFINISHED}/{shard.name}.json"
    written = _written(folder, note, settings.job)
    if written is None:
        images = augmented(chunk.images, shard, settings) if shard.copy else chunk.images
        arrays = {"images": images, "labels": chunk.labels.astype("<i8")}
        written = {"copy": shard.copy, **{kind: _write(folder, shard, kind, of) for kind, of in arrays.items()}}
        folder.write_json(note, {"job": settings.job, "shard": written})
    return written


def augmented(images: NDArray[np.uint8], shard: Shard, settings: Settings) -> NDArray[np.uint8]:
    """One augmented version of each image: a function of (seed, example, copy).

    Args:
        images: uint8 [n, ...], the originals from `shard.first` on.

    Returns: uint8, as images.
    """
    import tensorflow as tf  # where shards are made; seconds that nobody else need wait for

    from ..data.augment import apply_changes, sample_changes
    from ..data.example_order import COPY

    moved = np.empty_like(images)
    for start in range(0, len(images), AT_ONCE):
        piece = images[start : start + AT_ONCE]
        index = shard.first + start + np.arange(len(piece))
        copy = np.full(len(piece), shard.copy)
        changes = sample_changes(
            settings.augmentation,
            seed=settings.seed,
            epoch=copy,
            index=index,
            image_size=images.shape[1:3],
            purpose=COPY,
        )
        pixels = apply_changes(
            settings.augmentation, tf.constant(piece), changes, background=settings.background
        ).numpy()
        pixels = pixels.reshape(piece.shape)
        moved[start : start + AT_ONCE] = np.clip(np.rint(pixels * 255), 0, 255).astype(np.uint8)
    return moved


def _write(folder: RunFolder, shard: Shard, kind: str, array: NDArray[Any]) -> dict[str, Any]:
    name = f"{shard.name}.{kind}.npy"
    stream = io.BytesIO()
    np.save(stream, np.ascontiguousarray(array), allow_pickle=False)
    content = stream.getvalue()
    folder.write(name, content)
    return {"name": name, "rows": len(array), "sha256": hashlib.sha256(content).hexdigest()}


def _written(folder: RunFolder, note: str, job: str) -> dict[str, Any] | None:
    """What the note says, if it is this job's and the arrays are still as it says."""
    try:
        told = folder.read_json(note)
        shard: dict[str, Any] = told["shard"]
        files = [shard["images"], shard["labels"]]
        whole = all(hashlib.sha256(folder.read(file["name"])).hexdigest() == file["sha256"] for file in files)
        return shard if told["job"] == job and whole else None
    except (FileNotFoundError, json.JSONDecodeError, KeyError, TypeError):
        return None

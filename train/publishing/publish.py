"""Publish a model into the model repository, `<model_dir>/<model name>/<version>/`: whole, checked, or not at all.

The SavedModel is written beside the versions, under a name that no server looks at, loaded back in a fresh process, and
renamed into place. Renaming onto a version that another publisher just took fails, and the next number is tried.
"""

import contextlib
import functools
import hashlib
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pyarrow.fs
from numpy.typing import NDArray

from ..storage import CARD, MARKER, open_storage, versions_in
from . import oci as oci_image
from .export import save_savedmodel
from .reference import reference_statistics
from .signing import SIGNATURE

logger = logging.getLogger(__name__)

VERIFIED_IMAGES = 1000
REFERENCE_IMAGES = 10_000  # for the statistics in the model card
EXTRA_ASSETS = "assets.extra"


class PublishRefused(RuntimeError):
    """The model is not good enough, or the SavedModel does not do what the model does."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """A model that may be published, and what it is judged by."""

    model: keras.Model
    class_names: tuple[str, ...]
    card: dict[str, Any]  # what to write as `model_card.json`; the version and the reference statistics are added
    accuracy: float  # on the test set, 0 to 1
    test_images: NDArray[np.uint8]  # [n, height, width], or [n, height, width, 3] in colour
    test_probabilities: NDArray[np.float32]  # [n, classes], of `model`; what the SavedModel must give too
    dark_on_light: bool = False  # the images are dark ink on light paper


Sign = Callable[[Path], None]
Verify = Callable[[Path, NDArray[np.uint8], NDArray[np.float32]], None]


def verify_in_fresh_process(folder: Path, images: NDArray[np.uint8], probabilities: NDArray[np.float32]) -> None:
    """Load a SavedModel as a server would, and compare.

    Args:
        folder: the SavedModel's.
        images: uint8 [n, height, width] or [n, height, width, 3].
        probabilities: float32 [n, classes], what it must give for them.

    Raises: PublishRefused.
    """
    with tempfile.TemporaryDirectory() as scratch:
        expected = Path(scratch, "expected.npz")
        np.savez(expected, images=images, probabilities=probabilities)
        command = [sys.executable, "-m", f"{__package__}.verify_savedmodel", str(folder), str(expected)]
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "TF_FORCE_GPU_ALLOW_GROWTH": "true",
        }
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        raise PublishRefused(
            f"not published: the SavedModel failed its check: {lines[-1] if lines else done.returncode}"
        )


def publish(
    candidate: Candidate,
    model_dir: str,
    *,
    model_name: str,
    min_accuracy: float,
    oci: str = "",
    verify: Verify = verify_in_fresh_process,
    sign: Sign | None = None,
) -> str:
    """Publish a model as the next version; returns where.

    Args:
        model_dir: a folder, or a URI of an object store or of a registry's folder.
        min_accuracy: what the candidate must reach on the test set, 0 to 1.
        oci: a repository of OCI images in place of `model_dir`, see `oci.Reference`; none if empty.
        verify: checks the SavedModel before it is made visible.
        sign: signs the complete version, in its folder, before that; None: it stays unsigned.

    Raises: PublishRefused, and what `oci.push` raises; nothing is left behind then.
    """
    if candidate.accuracy < min_accuracy:
        raise PublishRefused(
            f"not published: accuracy {candidate.accuracy:.2%} on the test set is below --min-accuracy "
            f"{min_accuracy:.2%}; train longer, or publish it all the same by "
            "`python -m train publish RUN --min-accuracy`, with the run's name and a lower number"
        )
    place = oci or oci_image.place_of(model_dir, model_name)
    filesystem, root = (None, "") if place else open_storage(model_dir)
    on_disk = isinstance(filesystem, pyarrow.fs.LocalFileSystem)
    parent = Path(root, model_name) if on_disk else Path(tempfile.mkdtemp(prefix="inkling-publish-"))
    missing = [folder for folder in (parent, *parent.parents) if not folder.exists()]
    parent.mkdir(parents=True, exist_ok=True)
    staged = parent / f".publishing-{uuid.uuid4().hex}"
    try:
        save_savedmodel(
            candidate.model,
            staged,
            class_names=candidate.class_names,
            model_name=model_name,
            samples=candidate.test_images[:32],
            dark_on_light=candidate.dark_on_light,
        )
        statistics = reference_statistics(
            candidate.test_images[:REFERENCE_IMAGES], candidate.test_probabilities[:REFERENCE_IMAGES]
        )
        card = {**candidate.card, "reference": statistics}
        verify(staged, candidate.test_images[:VERIFIED_IMAGES], candidate.test_probabilities[:VERIFIED_IMAGES])
        if place:
            finish = functools.partial(_finish, staged, card=card, sign=sign)
            return oci_image.push(staged, place, model_name=model_name, finish=finish)
        if on_disk:
            return str(_rename_into_place(staged, parent, card, sign))
        version = _upload(staged, filesystem, f"{root}/{model_name}", card, sign)
        return f"{model_dir.rstrip('/')}/{model_name}/{version}"
    except BaseException:
        shutil.rmtree(staged, ignore_errors=True)
        with contextlib.suppress(OSError):  # not empty: another publisher is at work there
            for folder in missing:
                folder.rmdir()
        raise
    finally:
        shutil.rmtree(staged if on_disk else parent, ignore_errors=True)


def _rename_into_place(staged: Path, parent: Path, card: dict[str, Any], sign: Sign | None) -> Path:
    while True:
        version = _next_version(pyarrow.fs.LocalFileSystem(), str(parent))
        _finish(staged, version, card, sign)
        try:
            os.rename(staged, parent / str(version))
        except OSError:
            if not (parent / str(version)).exists():
                raise
            logger.info("version %d was taken meanwhile", version)
            continue
        return parent / str(version)


def _upload(staged: Path, filesystem: pyarrow.fs.FileSystem, root: str, card: dict[str, Any], sign: Sign | None) -> int:
    """Copy to an object store, which cannot tell two publishers apart, the marker last; returns the version."""
    version = _next_version(filesystem, root)
    _finish(staged, version, card, sign)
    files = sorted((path for path in staged.rglob("*") if path.is_file()), key=lambda path: path.name == MARKER)
    try:
        for path in files:
            target = f"{root}/{version}/{path.relative_to(staged).as_posix()}"
            filesystem.create_dir(target.rpartition("/")[0])
            with filesystem.open_output_stream(target) as stream:
                stream.write(path.read_bytes())
    except BaseException:
        with contextlib.suppress(OSError):
            filesystem.delete_dir(f"{root}/{version}")
        raise
    return version


def _next_version(filesystem: pyarrow.fs.FileSystem, folder: str) -> int:
    return 1 + max(versions_in(filesystem, folder), default=0)


def _finish(staged: Path, version: int, card: dict[str, Any], sign: Sign | None) -> None:
    """Write the card, with the checksums of the SavedModel's files, and the signature, which covers the card too."""
    for name in (CARD, SIGNATURE):
        (staged / name).unlink(missing_ok=True)  # of a number that somebody else has taken
    content = {"version": version, **card, "files": _checksums(staged)}
    (staged / CARD).write_text(json.dumps(content, indent=2) + "\n")
    if sign is not None:
        sign(staged)


def _checksums(staged: Path) -> dict[str, str]:
    """SHA-256 of each file by its path in the version, but for warm-up requests, which may be exchanged later."""
    files = {path.relative_to(staged): path for path in sorted(staged.rglob("*")) if path.is_file()}
    return {
        name.as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for name, path in files.items()
        if name.parts[0] != EXTRA_ASSETS
    }

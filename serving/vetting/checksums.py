"""The checksums of a model card: whether a version's files are those that were published.

They find a copy that went wrong, or a file that was exchanged without its card. Against somebody who would write a new
card, versions are signed. Warm-up requests (`assets.extra`) are not among them: they are put there later.
"""

import hashlib
import json
import posixpath
from typing import Any

import tensorflow as tf

from ..errors import failed_precondition
from ..model.version_files import size_of

CARD = "model_card.json"
MAX_CARD_BYTES = 16 << 20
CHUNK_BYTES = 1 << 20


def check_checksums(path: str) -> None:
    """Refuse a version one of whose files is not what its card says; one whose card says nothing of files passes.

    Raises: ServingError FAILED_PRECONDITION.
    """
    for name, expected in _expected(path).items():
        found = _digest(posixpath.join(path, name)) if size_of(path, name) is not None else "not there"
        if found != expected:
            raise failed_precondition(
                f"{path} is not loaded: {name} has changed since it was published: SHA-256 {found}, in {CARD} "
                f"{expected}; copy the version anew"
            )


def _expected(path: str) -> dict[str, str]:
    size = size_of(path, CARD)
    if size is None or size > MAX_CARD_BYTES:
        return {}
    try:
        with tf.io.gfile.GFile(posixpath.join(path, CARD), "rb") as file:
            card: Any = json.loads(file.read())
    except (ValueError, tf.errors.OpError):  # somebody else's file of that name
        return {}
    files = card.get("files") if isinstance(card, dict) else None
    return {name: str(value) for name, value in files.items()} if isinstance(files, dict) else {}


def _digest(file: str) -> str:
    digest = hashlib.sha256()
    with tf.io.gfile.GFile(file, "rb") as opened:
        while chunk := opened.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()

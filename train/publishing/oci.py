"""Publish a version as an OCI image: into a registry (`--oci`, or `--model-dir oci://...`), or an image layout on disk.

A repository there is a model's, as a folder of the model repository is, and its tags are the versions' numbers. A
version keeps its content: a number that is taken is never given to another one. What runs is named by the digest.
"""

import json
import re
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from .image import Descriptor, Layout, blobs, pack

SCHEME = "oci://"
LAYOUT = "oci-layout:"
CARD = "inkling.model-card"  # an annotation: the model card as it is in the version's folder
EXPECTED = (
    "--oci takes REGISTRY/REPOSITORY, such as registry.example.com/models/mnist, or oci-layout:FOLDER, and behind it "
    "a version's number or another tag: registry.example.com/models/mnist:3"
)
_REFERENCE = re.compile(r"(?P<place>.+?)(?::(?P<tag>\w[\w.-]{0,127}))?", re.ASCII)
_PART = r"[a-z0-9]+(?:[._-]+[a-z0-9]+)*"
_REPOSITORY = re.compile(
    rf"(?:https?://)?(?:localhost|\[[0-9a-f:]+\]|[^/:]+\.[^/:]+|[^/:]+(?=:))(?::\d+)?(?:/{_PART})+"
)


class VersionTaken(RuntimeError):
    """The version's number is another content's already."""


@dataclass(frozen=True, slots=True)
class Reference:
    """Where an image goes: a repository of a registry or an image layout, and the tag that was asked for."""

    place: str
    tag: str

    @classmethod
    def parse(cls, text: str) -> "Reference":
        """Read what `--oci` was given. Raises: ValueError."""
        found = _REFERENCE.fullmatch(text)
        if found is None or "@" in text:
            raise ValueError(f"--oci {text!r} is no place to publish to: {EXPECTED}")
        reference = cls(found["place"], found["tag"] or "")
        if reference.folder is None and not _REPOSITORY.fullmatch(reference.place):
            raise ValueError(f"--oci {text!r} names no registry and repository: {EXPECTED}")
        if reference.tag.isdecimal() and (reference.tag != str(int(reference.tag)) or int(reference.tag) < 1):
            raise ValueError(
                f"--oci {text!r} ends in {reference.tag}: versions are numbers from 1, without zeros before"
            )
        return reference

    @property
    def folder(self) -> Path | None:
        """The image layout's folder; None for a registry."""
        return Path(self.place.removeprefix(LAYOUT)) if self.place.startswith(LAYOUT) else None

    @property
    def version(self) -> int | None:
        """The version that was asked for; None if it is for the repository to say."""
        return int(self.tag) if self.tag.isdecimal() else None


class Repository(Protocol):
    """Where a model's versions are, by tag."""

    def tags(self) -> Iterable[str]:
        """All tags, the versions' numbers among them."""

    def digest(self, tag: str) -> str | None:
        """What is under a tag; None if nothing is."""

    def put(self, layout: Layout, image: Descriptor, tags: list[str]) -> None:
        """Take an image from a layout, and make it visible under tags."""


class _Folder:
    """An image layout on disk as a repository."""

    def __init__(self, folder: Path) -> None:
        self._layout = Layout(folder)

    def tags(self) -> Iterable[str]:
        return self._layout.tags()

    def digest(self, tag: str) -> str | None:
        return self._layout.tags().get(tag)

    def put(self, layout: Layout, image: Descriptor, tags: list[str]) -> None:
        for blob in blobs(layout, image):
            self._layout.add_copy(layout.path(blob["digest"]), blob["mediaType"])
        self._layout.tag(image, tags)


def _open(reference: Reference) -> Repository:
    if reference.folder is not None:
        return _Folder(reference.folder)
    try:
        from .registry import Registry
    except ImportError as error:
        raise ValueError(
            f"--oci {reference.place} needs {error.name}, which is not installed: pip install 'inkling-train[oci]'"
        ) from error
    return Registry(reference.place)


def place_of(model_dir: str, model_name: str) -> str:
    """A model's repository where `--model-dir` is a registry's folder, `oci://REGISTRY/FOLDER`; empty elsewhere."""
    return f"{model_dir.removeprefix(SCHEME).rstrip('/')}/{model_name}" if model_dir.startswith(SCHEME) else ""


def check(text: str) -> None:
    """Raise ValueError if nothing could be published to what `--oci` was given, as far as that shows without asking."""
    _open(Reference.parse(text))


def push(version: Path, text: str, *, model_name: str, finish: Callable[[int], None]) -> str:
    """Publish a version's folder; returns what names it: `REGISTRY/REPOSITORY:VERSION@sha256:DIGEST`.

    Args:
        version: the folder, complete but for what tells the version's number.
        text: what `--oci` was given. Without a number in it the version is the next one there.
        model_name: the folder above the version's in the image.
        finish: completes the folder, given the version's number.

    Raises: VersionTaken; ValueError, OSError or `registry.RegistryRefused` where the place does not take it.
    """
    reference = Reference.parse(text)
    repository = _open(reference)
    number = reference.version or _next_version(repository)
    finish(number)
    with tempfile.TemporaryDirectory(prefix="inkling-image-") as scratch:
        layout = Layout(Path(scratch))
        image = pack(layout, version, root=f"{model_name}/{number}", annotations=_annotations(version, number))
        taken = repository.digest(str(number))
        if taken not in (None, image["digest"]):
            raise VersionTaken(
                f"not published: {reference.place}:{number} is there already, with another content ({taken}); leave "
                "the number out, and the version is the next one"
            )
        repository.put(layout, image, sorted({str(number), reference.tag or str(number)}))
    return f"{reference.place.partition('://')[2] or reference.place}:{number}@{image['digest']}"


def _next_version(repository: Repository) -> int:
    return 1 + max((int(tag) for tag in repository.tags() if tag.isdecimal()), default=0)


def _annotations(version: Path, number: int) -> dict[str, str]:
    """What the model card says, in the words that tools for images look for, and whole."""
    text = (version / "model_card.json").read_text()
    card: dict[str, Any] = json.loads(text)
    known = {
        "created": card.get("created"),
        "description": card.get("description"),
        "revision": card.get("git_revision"),
        "version": str(number),
    }
    return {CARD: text} | {f"org.opencontainers.image.{name}": value for name, value in known.items() if value}

"""A version of a model as an OCI image, in an image layout on disk: what Kubernetes mounts as an image volume.

The image's only layer is a model repository with one version in it, `<model name>/<version>/`. It is an image, with a
config, and no artifact of bare files: containerd mounts what it can unpack, and finds the layers' digests in the
config (https://github.com/containerd/containerd/issues/11907). And it unpacks for the node's own architecture alone,
so that an index names the one layer for each of those that the servers run on.

The layer is a tar as it is, which every runtime must take as it takes a gzipped one (image-spec, manifest.md): weights
hardly shrink, and the same version is the same bytes wherever it was packed, whichever zlib is there.
"""

import hashlib
import json
import os
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
MARKER = "oci-layout"  # the file that makes a folder a layout
TAG = "org.opencontainers.image.ref.name"
ARCHITECTURES = ("amd64", "arm64")  # the servers' images are of these; a model is of none
CHUNK_BYTES = 1 << 20

Descriptor = dict[str, Any]  # mediaType, digest and size of a blob


class Layout:
    """A folder in the form of the image-spec's image layout: blobs by digest, and an index with their tags."""

    def __init__(self, folder: Path) -> None:
        """Open the layout in `folder`; where there is none, the first tag begins one.

        Raises: ValueError if there is something else.
        """
        self.folder = folder
        is_other = folder.exists() and not (folder / MARKER).exists()
        if is_other and (not folder.is_dir() or any(folder.iterdir())):
            raise ValueError(f"{folder} holds something else than an OCI image layout; give a new folder")

    def tags(self) -> dict[str, str]:
        """The digest behind each tag."""
        return {entry["annotations"][TAG]: entry["digest"] for entry in self._entries() if TAG in _annotations(entry)}

    def tag(self, image: Descriptor, names: list[str]) -> None:
        """Give the image these tags, which others may have had."""
        kept = [entry for entry in self._entries() if _annotations(entry).get(TAG) not in names]
        added = [image | {"annotations": {TAG: name}} for name in names]
        content = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [*kept, *added]}
        _replace(self.folder / MARKER, b'{"imageLayoutVersion":"1.0.0"}')
        _replace(self.folder / "index.json", _json_bytes(content))

    def add(self, content: bytes, media_type: str) -> Descriptor:
        """Keep a blob; returns what names it."""

        def write(file: IO[bytes]) -> None:
            file.write(content)

        return self.add_written(write, media_type)

    def add_written(self, write: Callable[[IO[bytes]], None], media_type: str) -> Descriptor:
        """Keep a blob that `write` writes, however large; returns what names it."""
        with _unfinished(self.folder / "blobs" / "sha256") as path:
            with path.open("wb") as file:
                write(file)
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            size = path.stat().st_size
            os.replace(path, self.path(f"sha256:{digest}"))
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": size}

    def add_copy(self, path: Path, media_type: str) -> Descriptor:
        """Keep a file's content as a blob; returns what names it."""
        with path.open("rb") as source:
            return self.add_written(lambda file: shutil.copyfileobj(source, file, CHUNK_BYTES), media_type)

    def path(self, digest: str) -> Path:
        """Where the blob of that digest is, or would be."""
        return self.folder.joinpath("blobs", *digest.split(":"))

    def read(self, descriptor: Descriptor) -> Any:
        """The JSON in a blob."""
        return json.loads(self.path(descriptor["digest"]).read_bytes())

    def _entries(self) -> list[Descriptor]:
        index = self.folder / "index.json"
        entries: list[Descriptor] = json.loads(index.read_bytes())["manifests"] if index.exists() else []
        return entries


def pack(layout: Layout, version: Path, *, root: str, annotations: dict[str, str]) -> Descriptor:
    """Add a version to a layout as an image.

    Args:
        layout: takes the blobs.
        version: the version's folder.
        root: where the folder's files are in the image: `mnist/3`.
        annotations: what the index says of the image, for people and tools.

    Returns: the descriptor of the image's index; the same for the same files, root and annotations.
    """
    layer = layout.add_written(lambda file: _write_tar(file, version, root), LAYER)
    manifests = []
    for architecture in ARCHITECTURES:
        platform = {"architecture": architecture, "os": "linux"}
        config = {**platform, "config": {}, "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]}}
        described = layout.add(_json_bytes(config), CONFIG)
        manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": described, "layers": [layer]}
        manifests.append(layout.add(_json_bytes(manifest), MANIFEST) | {"platform": platform})
    index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests, "annotations": annotations}
    return layout.add(_json_bytes(index), INDEX)


def blobs(layout: Layout, image: Descriptor) -> Iterator[Descriptor]:
    """What an image consists of, each once and before what names it, the image's own index last."""
    manifests = layout.read(image)["manifests"]
    parts = [layout.read(manifest) for manifest in manifests]
    named = [blob for part in parts for blob in (*part["layers"], part["config"])]
    yield from {blob["digest"]: blob for blob in [*named, *manifests, image]}.values()


def _write_tar(file: IO[bytes], version: Path, root: str) -> None:
    """A tar in which nothing tells when, where and by whom it was made."""
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for folder in reversed(Path(root, "x").parents[:-1]):
            tar.addfile(_member(folder.as_posix(), tarfile.DIRTYPE))
        for path in sorted(version.rglob("*"), key=lambda path: path.relative_to(version).parts):
            name = f"{root}/{path.relative_to(version).as_posix()}"
            if path.is_dir():
                tar.addfile(_member(name, tarfile.DIRTYPE))
                continue
            with path.open("rb") as content:
                tar.addfile(_member(name, tarfile.REGTYPE, size=path.stat().st_size), content)


def _member(name: str, kind: bytes, *, size: int = 0) -> tarfile.TarInfo:
    """An entry that everybody may read: the servers are not root, and own nothing of an image."""
    member = tarfile.TarInfo(name)
    member.type, member.size = kind, size
    member.mode = 0o755 if kind == tarfile.DIRTYPE else 0o644
    return member


def _annotations(entry: Descriptor) -> dict[str, str]:
    annotations: dict[str, str] = entry.get("annotations", {})
    return annotations


def _json_bytes(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), sort_keys=True).encode()


def _replace(path: Path, content: bytes) -> None:
    with _unfinished(path.parent) as unfinished:
        unfinished.write_bytes(content)
        os.replace(unfinished, path)


@contextmanager
def _unfinished(folder: Path) -> Iterator[Path]:
    """The path of a file in `folder`, which is gone at the end unless it was renamed."""
    folder.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=".unfinished-", dir=folder)
    os.close(handle)
    os.chmod(name, 0o644)
    try:
        yield Path(name)
    finally:
        Path(name).unlink(missing_ok=True)

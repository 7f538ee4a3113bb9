"""An OCI registry, by the ORAS project's client: what an image layout holds, pushed by digest.

Credentials are Docker's: `docker login`, `podman login --compat-auth-file` or a Secret write `config.json`, which is
looked for in $DOCKER_CONFIG and ~/.docker.
"""

import functools
import inspect
import json
import logging
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import oras.auth
import oras.container
import oras.provider
import oras.utils

from ..storage import persistently
from .image import CHUNK_BYTES, INDEX, MANIFEST, Descriptor, Layout, blobs

TIMEOUT_S = (10.0, 300.0)  # to connect, and between two answers: a registry may check a large layer before it answers
LOCAL = ("localhost", "127.0.0.1", "[::1]")  # asked without TLS unless told otherwise, as Docker does


class RegistryRefused(RuntimeError):
    """The registry answers, and does not take what it is sent; the message has its reason."""


class Registry:
    """A model's repository in a registry."""

    def __init__(self, place: str) -> None:
        """Name a repository, without asking for it yet.

        Args:
            place: `REGISTRY/REPOSITORY`; after `http://` it is asked without TLS.
        """
        scheme, _, name = place.rpartition("://")
        self.host, _, self._path = name.partition("/")
        is_local = self.host.rpartition(":")[0] in LOCAL or self.host in LOCAL
        self._scheme = scheme or ("http" if is_local else "https")

    def tags(self) -> Iterable[str]:
        """All tags; none if there is no such repository yet."""
        answer = self._client.do_request(self._url("tags/list"))
        if answer.status_code == 404:
            return []
        _check(answer, "does not list its tags")
        return list(self._client.get_tags(self._container))

    def digest(self, tag: str) -> str | None:
        """What is under a tag; None if nothing is."""
        headers = {"Accept": f"{INDEX}, {MANIFEST}"}
        answer = self._client.do_request(self._url(f"manifests/{tag}"), "HEAD", headers=headers)
        if answer.status_code == 404:
            return None
        _check(answer, f"says nothing about {tag}")
        return str(answer.headers.get("Docker-Content-Digest", "something without a digest"))

    def put(self, layout: Layout, image: Descriptor, tags: list[str]) -> None:
        """Push what is not there yet, and last the index, under its tags."""
        for blob in blobs(layout, image):
            content = layout.path(blob["digest"])
            if blob["mediaType"] not in (INDEX, MANIFEST):
                answer = self._client.upload_blob(str(content), self._container, blob)
                _check(answer, f"does not take the blob {blob['digest']}")
                continue
            for name in tags if blob["digest"] == image["digest"] else [blob["digest"]]:
                headers = {"Content-Type": blob["mediaType"]}
                url = self._url(f"manifests/{name}")
                answer = self._client.do_request(url, "PUT", data=content.read_bytes(), headers=headers)
                _check(answer, f"does not take the manifest {name}")

    def _url(self, path: str) -> str:
        return f"{self._scheme}://{self.host}/v2/{self._path}/{path}"

    @functools.cached_property
    def _container(self) -> Any:
        namespace, _, repository = self._path.rpartition("/")
        container = oras.container.Container(repository, registry=self.host)
        container.namespace = namespace  # given by name, one with a dot would be taken for the registry
        return container

    @functools.cached_property
    def _client(self) -> "_Client":
        """The client, with the kind of authentication that this registry asks for."""
        logging.getLogger("oras.logger").setLevel(logging.CRITICAL)  # what it would print is in our errors
        client = _Client(self.host, insecure=self._scheme == "http")
        client.session.request = functools.partial(client.session.request, timeout=TIMEOUT_S)
        root = f"{self._scheme}://{self.host}/v2/"
        asked = persistently(lambda: client.session.get(root), root).headers.get("Www-Authenticate", "")
        if asked.lower().startswith("basic"):
            client.auth = oras.auth.get_auth_backend("basic", client.session, self._scheme == "http")
        configured = Path(os.environ.get("DOCKER_CONFIG", ""), "config.json")
        if "DOCKER_CONFIG" in os.environ and configured.is_file():
            # As Docker does, without what ~/.docker has besides.
            client.auth._auth_config = {"auths": {}, **json.loads(configured.read_bytes())}
        client.auth.load_configs(self._container)
        if isinstance(client.auth, oras.auth.BasicAuth) and not hasattr(client.auth, "_basic_auth"):
            raise RegistryRefused(_wants_login(self.host))
        return client


class _Client(oras.provider.Registry):
    """The ORAS client, less what does not suit a command line and layers of gigabytes.

    It would try everything again for two minutes, a wrong password too; keep a token when it has expired or is for
    reading alone; and read a layer into memory whole.
    """

    def do_request(self, url: str, method: str = "GET", **options: Any) -> Any:
        """Ask once, and again only where that may help; raises RegistryRefused where it wants a login, or OSError."""
        place = url.partition("?")[0]  # what follows may be a signature
        return persistently(lambda: self._ask(url, method, **options), place)

    def _ask(self, url: str, method: str, **options: Any) -> Any:
        """Ask once; raises OSError where another try may help."""
        answer = self._ask_with_credentials(url, method, **options)
        if answer.status_code == 429 or answer.status_code >= 500:
            raise OSError(f"the registry answers {answer.status_code} {answer.reason}")
        return answer

    def _ask_with_credentials(self, url: str, method: str, **options: Any) -> Any:
        # Without the decorator that retries.
        request = functools.partial(inspect.unwrap(oras.provider.Registry.do_request), self, url, method)
        try:
            answer = request(**options)
            if answer.status_code == 401 and getattr(self.auth, "token", None):
                self.auth.token = None  # for the scope that this request needs, another one
                answer = request(**options)
        except ValueError as error:  # no credentials that its challenge could be answered with
            if isinstance(error, OSError):
                raise
            raise RegistryRefused(f"{_wants_login(self.hostname)} ({error})") from error
        return answer

    def put_upload(self, blob: str, container: Any, layer: Descriptor) -> Any:
        """Upload a blob in one request, from disk; after one that broke off from the beginning, as a new upload."""
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(layer["size"])}

        def upload() -> Any:
            begun = self._ask(f"{self.prefix}://{container.upload_blob_url()}", "POST")
            _check(begun, "begins no upload")
            url = oras.utils.append_url_params(self._get_location(begun, container), {"digest": layer["digest"]})
            return self._ask(url, "PUT", data=_Content(Path(blob)), headers=dict(headers))

        return persistently(upload, f"{self.hostname}, blob {layer['digest']}")


class _Content:
    """A file's bytes for a request, from the beginning each time that it is sent."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __len__(self) -> int:
        return self._path.stat().st_size

    def __iter__(self) -> Iterator[bytes]:
        with self._path.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                yield chunk


def _wants_login(host: str) -> str:
    return f"{host} wants a login: `docker login {host}`, as somebody who may push there"


def _check(answer: Any, what: str) -> None:
    """Raise RegistryRefused, with the registry's own words, unless the answer is one of success."""
    if answer.status_code < 300:
        return
    try:
        reasons = [f"{error.get('code')}: {error.get('message')}" for error in answer.json()["errors"]]
    except (ValueError, KeyError, TypeError, AttributeError):
        reasons = [str(answer.reason)]
    host = answer.url.split("/")[2]
    hint = f"; {_wants_login(host)}" if answer.status_code in (401, 403) else ""
    raise RegistryRefused(f"{host} {what}: {answer.status_code} {'; '.join(reasons)}{hint}")

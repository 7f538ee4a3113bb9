"""Publishing into a real registry: one open to all, and those that want a password, a token or TLS."""

import hashlib
import json
import urllib.request

import pytest

from inkling.train.publishing import oci
from tests.client.certificates import Authority
from tests.train import oci_registry
from tests.train.oci_tokens import CREDENTIALS, Tokens
from tests.train.test_oci import publish

pytest.importorskip("oras", reason="the extra inkling-train[oci] is not installed")
from inkling.train.publishing.registry import RegistryRefused

pytestmark = [pytest.mark.process, pytest.mark.slow]  # the first time, Go builds the registry

ACCEPT = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json"


@pytest.fixture
def version(tmp_path):
    folder = tmp_path / "version"
    (folder / "variables").mkdir(parents=True)
    (folder / "saved_model.pb").write_bytes(b"graph")
    (folder / "variables/weights").write_bytes(bytes(range(256)) * (20 << 10))  # 5 MB: several parts of a request
    return folder


@pytest.fixture(autouse=True)
def no_credentials(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("DOCKER_CONFIG", raising=False)


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "registry"
    folder.mkdir()
    return folder


def log_in(tmp_path, monkeypatch, host, credentials=CREDENTIALS):
    """As `docker login` leaves it."""
    (tmp_path / "docker").mkdir(exist_ok=True)
    (tmp_path / "docker" / "config.json").write_text(json.dumps({"auths": {host: {"auth": credentials}}}))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))


def fetch(registry, path):
    request = urllib.request.Request(f"http://{registry.host}/v2/models/mnist/{path}", headers={"Accept": ACCEPT})
    with urllib.request.urlopen(request) as answer:
        content = answer.read()
        return content, answer.headers.get("Docker-Content-Digest")


def test_what_is_pushed_is_what_the_digest_names(folder, version):
    with oci_registry.running(folder) as registry:
        place = f"{registry.host}/models/mnist"
        published = publish(version, place)
        assert published.startswith(f"{place}:1@sha256:")
        digest = published.partition("@")[2]
        index, told = fetch(registry, "manifests/1")
        assert told == digest == f"sha256:{hashlib.sha256(index).hexdigest()}"
        manifest = json.loads(fetch(registry, f"manifests/{json.loads(index)['manifests'][0]['digest']}")[0])
        for blob in (manifest["config"], *manifest["layers"]):
            content = fetch(registry, f"blobs/{blob['digest']}")[0]
            assert f"sha256:{hashlib.sha256(content).hexdigest()}" == blob["digest"]
        assert publish(version, f"{place}:1") == published  # all is there already
        assert publish(version, f"{place}:stable").startswith(f"{place}:2@")
        assert fetch(registry, "manifests/stable")[1] == fetch(registry, "manifests/2")[1]
        with pytest.raises(oci.VersionTaken, match=f"{place}:2 is there already"):
            publish(version, f"{place}:2", created="later")


def test_an_upload_that_breaks_off_is_begun_anew(folder, version):
    with (
        oci_registry.running(folder) as registry,
        oci_registry.cut_once(registry.host, after_bytes=1_000_000) as (host, broken),
    ):
        published = publish(version, f"{host}/models/mnist")
        assert broken
        assert fetch(registry, "manifests/1")[1] == published.partition("@")[2]


def test_a_password_is_taken_from_dockers_config(folder, version, tmp_path, monkeypatch):
    with oci_registry.running(folder, auth=oci_registry.htpasswd(folder)) as registry:
        place = f"{registry.host}/models/mnist"
        with pytest.raises(RegistryRefused, match=f"{registry.host} wants a login: `docker login {registry.host}`"):
            publish(version, place)
        log_in(tmp_path, monkeypatch, registry.host, "dHJhaW5lcjp3cm9uZw==")
        with pytest.raises(RegistryRefused, match="401 UNAUTHORIZED: authentication required; .*docker login"):
            publish(version, place)
        log_in(tmp_path, monkeypatch, registry.host)
        assert ":1@sha256:" in publish(version, place)


def test_each_request_has_a_token_of_its_scope(folder, version, tmp_path, monkeypatch):
    tokens = Tokens()
    with tokens.running(folder) as auth, oci_registry.running(folder, auth=auth) as registry:
        place = f"{registry.host}/models/mnist"
        with pytest.raises(RegistryRefused, match="wants a login"):
            publish(version, place)
        log_in(tmp_path, monkeypatch, registry.host)
        assert ":1@sha256:" in publish(version, place)
    assert set(tokens.scopes) >= {"repository:models/mnist:pull", "repository:models/mnist:pull,push"}


def test_a_registry_with_tls_is_asked_by_an_authority_that_is_trusted(folder, version, tmp_path, monkeypatch):
    authority = Authority()
    with oci_registry.running(folder, tls=authority.issue("localhost", "127.0.0.1")) as registry:
        (tmp_path / "ca.pem").write_bytes(authority.pem())
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "ca.pem"))
        published = publish(version, f"https://{registry.host}/models/mnist")
    assert published.startswith(f"{registry.host}/models/mnist:1@sha256:")

"""A version as an OCI image: the same bytes each time, in the form that container runtimes mount, under its number."""

import hashlib
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

import pytest

from inkling.train.publishing import image, oci
from inkling.train.publishing.image import Layout

CARD = {"description": "Reads digits.", "created": "2026-01-01T00:00:00+00:00", "git_revision": None}


@pytest.fixture
def version(tmp_path):
    """The folder of a version, but for its card."""
    folder = tmp_path / "version"
    for name, content in {"saved_model.pb": b"graph", "variables/variables.index": b"1", "assets/a": b""}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def publish(version, place, **changes):
    def finish(number):
        (version / "model_card.json").write_text(json.dumps({"version": number, **CARD, **changes}))

    return oci.push(version, str(place), model_name="mnist", finish=finish)


def packed(version, folder):
    layout = Layout(folder)
    return layout, image.pack(layout, version, root="mnist/3", annotations={"a": "b"})


def test_the_same_version_is_the_same_image_wherever_and_whenever_it_is_packed(version, tmp_path):
    _, first = packed(version, tmp_path / "first")
    copy = tmp_path / "copy"
    for path in sorted(version.rglob("*"), reverse=True):  # made in another order, by somebody else
        (copy / path.relative_to(version)).parent.mkdir(parents=True, exist_ok=True)
        if path.is_file():
            shutil.copyfile(path, copy / path.relative_to(version))
            os.chmod(copy / path.relative_to(version), 0o600)
            os.utime(copy / path.relative_to(version), (1, 1))
    _, second = packed(copy, tmp_path / "second")
    assert first == second
    (copy / "saved_model.pb").write_bytes(b"other")
    assert packed(copy, tmp_path / "third")[1] != first


def test_the_layer_is_a_repository_of_one_version_that_everybody_may_read(version, tmp_path):
    layout, packed_image = packed(version, tmp_path / "layout")
    [layer] = layout.read(layout.read(packed_image)["manifests"][0])["layers"]
    with tarfile.open(layout.path(layer["digest"])) as tar:
        members = {member.name: member for member in tar}
        assert tar.extractfile("mnist/3/saved_model.pb").read() == b"graph"
    assert list(members) == [
        "mnist", "mnist/3", "mnist/3/assets", "mnist/3/assets/a", "mnist/3/saved_model.pb", "mnist/3/variables",
        "mnist/3/variables/variables.index",
    ]  # fmt: skip
    assert {(m.uid, m.gid, m.mtime, m.uname) for m in members.values()} == {(0, 0, 0, "")}
    assert {m.mode for m in members.values() if m.isdir()} == {0o755}
    assert {m.mode for m in members.values() if m.isfile()} == {0o644}


def test_a_runtime_finds_the_layers_digest_in_a_config_for_its_architecture(version, tmp_path):
    layout, packed_image = packed(version, tmp_path / "layout")
    manifests = layout.read(packed_image)["manifests"]
    assert [entry["platform"]["architecture"] for entry in manifests] == ["amd64", "arm64"]
    for entry in manifests:
        manifest = layout.read(entry)
        config = layout.read(manifest["config"])
        assert config["architecture"] == entry["platform"]["architecture"]
        content = layout.path(manifest["layers"][0]["digest"]).read_bytes()
        assert config["rootfs"] == {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(content).hexdigest()}"]}
        assert manifest["config"]["mediaType"] == "application/vnd.oci.image.config.v1+json"
        assert manifest["layers"][0]["mediaType"] == "application/vnd.oci.image.layer.v1.tar"


def test_each_blob_comes_once_and_before_what_names_it(version, tmp_path):
    layout, packed_image = packed(version, tmp_path / "layout")
    order = [blob["digest"] for blob in image.blobs(layout, packed_image)]
    assert len(order) == len(set(order)) == 6  # a layer, two configs, two manifests, an index
    for digest in order[3:]:
        content = json.loads(layout.path(digest).read_bytes())
        named = content.get("manifests") or [content["config"], *content["layers"]]
        assert all(order.index(blob["digest"]) < order.index(digest) for blob in named)


def test_versions_count_up_and_a_name_may_move(version, tmp_path):
    place = f"oci-layout:{tmp_path}/layout"
    first = publish(version, place)
    assert first.startswith(f"{place}:1@sha256:")
    publish(version, f"{place}:stable")
    publish(version, f"{place}:7")
    last = publish(version, f"{place}:stable")
    tags = Layout(tmp_path / "layout").tags()
    assert set(tags) == {"1", "2", "7", "8", "stable"}
    assert last == f"{place}:8@{tags['8']}" and tags["stable"] == tags["8"]


def test_the_same_version_again_is_the_same_digest(version, tmp_path):
    place = f"oci-layout:{tmp_path}/layout:3"
    assert publish(version, place) == publish(version, place)


def test_a_version_never_gets_another_content(version, tmp_path):
    place = f"oci-layout:{tmp_path}/layout:3"
    publish(version, place)
    before = sorted(path for path in (tmp_path / "layout").rglob("*"))
    with pytest.raises(oci.VersionTaken, match=r"layout:3 is there already, with another content \(sha256:"):
        publish(version, place, created="2027-01-01T00:00:00+00:00")
    assert sorted(path for path in (tmp_path / "layout").rglob("*")) == before


def test_the_model_card_is_among_the_annotations(version, tmp_path):
    publish(version, f"oci-layout:{tmp_path}/layout:3")
    layout = Layout(tmp_path / "layout")
    found = layout.read({"digest": layout.tags()["3"]})["annotations"]
    assert json.loads(found.pop("inkling.model-card"))["version"] == 3
    assert found == {
        "org.opencontainers.image.created": "2026-01-01T00:00:00+00:00",
        "org.opencontainers.image.description": "Reads digits.",
        "org.opencontainers.image.version": "3",
    }


def test_a_folder_with_something_else_in_it_is_no_layout(version, tmp_path):
    with pytest.raises(ValueError, match="holds something else than an OCI image layout"):
        publish(version, f"oci-layout:{version}")


@pytest.mark.parametrize(
    ("text", "place", "tag"),
    [
        ("registry.example.com/models/mnist", "registry.example.com/models/mnist", ""),
        ("registry.example.com/models/mnist:3", "registry.example.com/models/mnist", "3"),
        ("localhost:5000/mnist:stable", "localhost:5000/mnist", "stable"),
        ("http://registry:5000/my.models/m-nist_2", "http://registry:5000/my.models/m-nist_2", ""),
        ("[::1]:5000/mnist:v1.2-rc", "[::1]:5000/mnist", "v1.2-rc"),
        ("oci-layout:/tmp/a:12", "oci-layout:/tmp/a", "12"),
    ],
)
def test_a_place_is_a_repository_and_a_tag(text, place, tag):
    assert oci.Reference.parse(text) == oci.Reference(place, tag)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is no place to publish to"),
        ("registry.example.com/mnist@sha256:00", "is no place to publish to"),
        ("mnist:3", "names no registry and repository"),
        ("models/mnist", "names no registry and repository"),
        ("registry.example.com:5000", "names no registry and repository"),
        ("registry.example.com/Mnist", "names no registry and repository"),
        ("registry.example.com/mnist:03", "ends in 03"),
        ("registry.example.com/mnist:0", "ends in 0"),
    ],
)
def test_what_names_no_place_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        oci.Reference.parse(text)


def test_a_models_repository_is_in_the_registrys_folder():
    assert oci.place_of("oci://registry.example.com/models/", "mnist") == "registry.example.com/models/mnist"
    assert oci.place_of("s3://bucket/models", "mnist") == ""


@pytest.mark.process
def test_a_container_engine_mounts_the_image(version, tmp_path):
    """podman, whose storage is CRI-O's; containerd's unpacking asks for the same."""
    if not shutil.which("podman") or os.geteuid() != 0:
        pytest.skip("podman is not installed, or may not mount: it takes root")
    publish(version, f"oci-layout:{tmp_path}/layout")
    with tempfile.TemporaryDirectory(prefix="pod-") as short:  # podman asks for paths of at most 50 characters
        podman = ["podman", "--root", f"{short}/root", "--runroot", f"{short}/run", "--storage-driver", "vfs"]

        def run(*words):
            done = subprocess.run([*podman, *words], capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
            return done.stdout.strip()

        name = run("pull", "--quiet", f"oci:{tmp_path}/layout:1")
        folder = run("image", "mount", name)
        assert Path(folder, "mnist/1/saved_model.pb").read_bytes() == b"graph"
        run("image", "unmount", name)

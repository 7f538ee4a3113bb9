"""The object store's sidecar: whole versions appear in the servers' folder at once, and go when the bucket's do."""

import os
import shutil
import subprocess

import pytest

from tests.k8s.engine import wait_for
from tests.k8s.manifests import K8S
from tests.patience import PATIENCE_S

pytestmark = pytest.mark.process

SCRIPT = K8S / "components/object-store/mirror.sh"


@pytest.fixture
def bucket(tmp_path):
    path = tmp_path / "bucket"
    _put(path, "1")
    return path


@pytest.fixture
def mirrored(bucket, tmp_path):
    """The folder that the running script keeps."""
    if shutil.which("rclone") is None:
        pytest.skip("rclone is not installed; Debian's package rclone brings it")
    folder = tmp_path / "models"
    folder.mkdir()
    environment = {**os.environ, "RCLONE_CONFIG": str(tmp_path / "rclone.conf"), "RCLONE_CONFIG_STORE_TYPE": "local"}
    command = ["sh", str(SCRIPT), f"store:{bucket}", str(folder), "0.2"]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        yield folder
    finally:
        process.terminate()
        output, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, output


def _put(bucket, version: str, *, whole: bool = True) -> None:
    folder = bucket / "mnist" / version
    (folder / "variables").mkdir(parents=True, exist_ok=True)
    (folder / "variables" / "variables.index").write_text(version)
    if whole:  # training writes it last
        (folder / "saved_model.pb").write_text(version)


def test_a_version_is_copied_with_all_its_files(mirrored):
    wait_for((mirrored / "mnist/1").exists)
    assert (mirrored / "mnist/1/saved_model.pb").read_text() == "1"
    assert (mirrored / "mnist/1/variables/variables.index").read_text() == "1"


def test_half_a_version_waits_until_it_is_whole(mirrored, bucket):
    _put(bucket, "2", whole=False)
    _put(bucket, "3")
    wait_for((mirrored / "mnist/3").exists)
    assert not (mirrored / "mnist/2").exists()
    _put(bucket, "2")
    wait_for((mirrored / "mnist/2/saved_model.pb").exists)


def test_a_version_that_leaves_the_bucket_leaves_the_folder(mirrored, bucket):
    wait_for((mirrored / "mnist/1").exists)
    shutil.rmtree(bucket / "mnist/1")
    _put(bucket, "2")
    wait_for(lambda: not (mirrored / "mnist/1").exists())
    wait_for((mirrored / "mnist/2").exists)


def test_a_bucket_that_cannot_be_listed_leaves_the_folder_alone(mirrored, bucket):
    wait_for((mirrored / "mnist/1").exists)
    bucket.rename(bucket.with_name("away"))
    seen = (mirrored / ".found").stat().st_mtime_ns
    wait_for(lambda: (mirrored / ".found").stat().st_mtime_ns != seen)
    assert (mirrored / "mnist/1/saved_model.pb").exists()

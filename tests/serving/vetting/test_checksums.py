"""A version that was published with checksums is loaded while they hold."""

import hashlib
import json

import pytest

from inkling.serving.errors import ServingError
from inkling.serving.flags import ServerConfig
from inkling.serving.lifecycle import loader
from inkling.serving.lifecycle.loader import LoadOptions
from tests.serving import saved_models


@pytest.fixture
def version(tmp_path):
    """A version with a card, and warm-up requests that are not in it."""
    folder = tmp_path / "1"
    saved_models.write_scale(folder, 2.0)
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    write_card(folder, {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()})
    return folder


def write_card(folder, files):
    (folder / "model_card.json").write_text(json.dumps({"version": 1, "files": files}))


def load(folder):
    loader.load(str(folder), LoadOptions.of(ServerConfig(), None)).runtime.close()


def test_a_version_whose_checksums_hold_is_loaded_whatever_is_put_beside_it(version):
    (version / "assets.extra").mkdir()
    (version / "assets.extra" / "tf_serving_warmup_requests").write_bytes(b"")
    load(version)


def test_a_changed_file_is_named(version):
    with open(version / "saved_model.pb", "ab") as file:
        file.write(b"\0")
    with pytest.raises(
        ServingError, match=r"saved_model.pb has changed since it was published: SHA-256 \w{64}, in mod"
    ):
        load(version)


@pytest.mark.parametrize("name", ["variables/gone", "../1/saved_model.pb/x", "/etc/passwd"])
def test_a_file_that_is_not_there_is_named(version, name):
    write_card(version, {name: "0" * 64})
    with pytest.raises(ServingError, match="has changed since it was published: SHA-256 not there"):
        load(version)


@pytest.mark.parametrize("card", ["no JSON", "[]", '{"files": 3}', '{"version": 1}'])
def test_a_card_without_checksums_holds_nothing_up(version, card):
    (version / "model_card.json").write_text(card)
    load(version)

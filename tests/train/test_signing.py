"""Signatures of published versions: written, checked, and refused where they do not hold."""

import json
import shutil

import pytest

pytest.importorskip("model_signing", reason="model-signing is not installed: pip install 'inkling-train[sign]'")

from inkling.train import cli
from inkling.train.publishing import signing
from tests.signing_keys import write_key_pair


@pytest.fixture
def keys(tmp_path):
    return {name: write_key_pair(tmp_path, name) for name in ("ours", "stranger")}


@pytest.fixture
def version(tmp_path, keys):
    """A folder that was signed under another name, as publishing does it."""
    staged = tmp_path / ".publishing-1"
    (staged / "variables").mkdir(parents=True)
    (staged / "saved_model.pb").write_bytes(b"graph")
    (staged / "variables" / "variables.index").write_bytes(b"index")
    (staged / "model_card.json").write_text(json.dumps({"version": 3}))
    signing.sign(staged, keys["ours"][0])
    return staged.rename(tmp_path / "3")


def test_what_was_signed_verifies_under_its_number(version, keys, capsys):
    assert cli.main(["verify", str(version), "--key", str(keys["ours"][1])]) == 0
    assert capsys.readouterr().out == f"{version} is as it was signed\n"


def test_what_has_changed_and_a_stranger_s_key_are_told(version, keys, capsys):
    assert cli.main(["verify", str(version), "--key", str(keys["stranger"][1])]) == 1
    (version / "saved_model.pb").write_bytes(b"another")
    assert cli.main(["verify", str(version), "--key", str(keys["ours"][1])]) == 1
    assert "Hash mismatch for 'saved_model.pb'" in capsys.readouterr().err
    (version / "model.sig").unlink()
    assert cli.main(["verify", str(version), "--key", str(keys["ours"][1])]) == 1
    assert "has no model.sig; sign it by `python -m train publish RUN --sign KEY`" in capsys.readouterr().err


def test_what_is_no_key_or_no_version_is_said(version, keys, tmp_path, capsys):
    private, public = keys["ours"]
    assert cli.main(["verify", str(version), "--key", str(private)]) == 2
    assert "is no public key of an elliptic curve" in capsys.readouterr().err
    assert cli.main(["verify", str(tmp_path / "9"), "--key", str(public)]) == 2
    assert "is no version's folder" in capsys.readouterr().err
    shutil.copy(public, tmp_path / "wrong.pem")
    assert cli.main(["publish", "run", "--sign", str(tmp_path / "wrong.pem")]) == 2
    assert "is no private key of an elliptic curve, as PEM without a password" in capsys.readouterr().err

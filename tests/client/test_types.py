"""What a type checker sees of the client as it is installed."""

import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from tests.client import typed_program
from tests.client.stub_server import StubServer
from tests.wheels import build

PROGRAM = Path(typed_program.__file__)


@pytest.fixture(scope="module")
def check(tmp_path_factory):
    """`mypy --strict` on a program, in an environment with the client's wheel in it: (status, output)."""
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder / "env", symlinks=True)
    (site,) = (folder / "env" / "lib").glob("python*/site-packages")
    zipfile.ZipFile(build("client", folder)).extractall(site)
    # What the client needs, and its types: from here, where editable installs are of no use to mypy.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    options = ["--strict", "--config-file=", "--cache-dir", str(folder / "cache")]
    options += ["--python-executable", str(folder / "env" / "bin" / "python")]

    def run(program):
        done = subprocess.run(
            [sys.executable, "-m", "mypy", *options, program], cwd=folder, capture_output=True, text=True
        )
        return done.returncode, done.stdout + done.stderr

    return run


@pytest.mark.process
def test_a_program_with_public_names_only_passes_strictly(check, tmp_path):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM.read_text())
    assert check(program) == (0, "Success: no issues found in 1 source file\n")


MISTAKES = {
    'client.predict(images, version="3")': '"version" to "predict" of "Client" has incompatible type "str"',
    "client.predict(images, timeout=3)": 'Unexpected keyword argument "timeout" for "predict" of "Client"',
    'client.classify([], outputs=["y"])': 'Unexpected keyword argument "outputs" for "classify" of "Client"',
    "Client(retries=3)": 'Unexpected keyword argument "retries" for "Client"',
    "client.predict(images).label": '"Prediction" has no attribute "label"',
}


@pytest.mark.process
def test_mistakes_are_found(check, tmp_path):
    program = tmp_path / "program.py"
    lines = ["import numpy as np", "from inkling.client import Client", "images = np.zeros((28, 28), np.uint8)"]
    program.write_text("\n".join([*lines, "client = Client()", *MISTAKES, ""]))
    status, output = check(program)
    assert status == 1
    for number, message in enumerate(MISTAKES.values(), len(lines) + 2):
        assert any(f"program.py:{number}: " in line and message in line for line in output.splitlines()), output


def test_the_program_runs():
    with StubServer() as server:
        assert typed_program.ask(server.address) == "[0, 0]"

"""The base package alone: what it brings, that it imports nothing more, and that it predicts."""

import subprocess
import sys
import venv
from pathlib import Path

import pytest

from tests.client.stub_server import StubServer
from tests.patience import PATIENCE_S
from tests.wheels import copy_source

ROOT = Path(__file__).parents[2]
MAX_MB = 118  # numpy 72, Pillow 22, grpcio 19, protobuf 2.5, all with their bytecode
MAX_OWN_MB = 2  # compiled files too
HEAVY = {"tensorflow", "keras", "ray", "cv2", "train", "serving", "ml_dtypes", "tensorflow_serving", "starlette"}


@pytest.mark.process
@pytest.mark.parametrize("package", ["client", "inkling.client"])
def test_importing_the_client_imports_nothing_heavy(package):
    script = f"import sys, {package}, {package}.cli; print(*sorted(sys.modules))"
    output = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True, cwd=ROOT).stdout
    packages = {name.removeprefix("inkling.").partition(".")[0] for name in output.split()}
    assert not packages & HEAVY
    assert {"grpc", "numpy", "google", "client"} <= packages


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """A fresh environment with inkling-client in it, and nothing else: its `bin` folder."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=True)
    (folder / "mb_before").write_text(str(megabytes(folder)))
    command = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    # A copy, so that building leaves nothing in the working tree.
    source = copy_source("client", tmp_path_factory.mktemp("source"))
    command += ["--constraint", str(ROOT / "constraints.txt"), str(source)]
    subprocess.run(command, check=True, capture_output=True, timeout=PATIENCE_S)
    return folder / "bin"


def megabytes(folder):
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


def run(environment, *command):
    return subprocess.run(
        [str(environment / command[0]), *command[1:]],
        capture_output=True,
        text=True,
        cwd=environment,
        timeout=PATIENCE_S,
        env={"PATH": "/usr/bin:/bin"},
    )


@pytest.mark.release
def test_it_brings_what_it_names_and_predicts(environment):
    listed = run(environment, "python", "-m", "pip", "list", "--format", "freeze").stdout.split()
    names = {line.partition("==")[0].lower().replace("-", "_") for line in listed}
    assert names - {"pip", "setuptools"} == {
        "inkling_client",
        "grpcio",
        "numpy",
        "pillow",
        "protobuf",
        "typing_extensions",
    }
    (site,) = (environment.parent / "lib").glob("python*/site-packages")
    assert [path.name for path in (site / "inkling").iterdir()] == ["client"]
    assert not {"client", "serving", "train"} & {path.name for path in site.iterdir()}
    assert not list(site.rglob("mnist.npz"))
    script = (
        "import sys, numpy as np\n"
        "from inkling.client import Client\n"
        "with Client(sys.argv[1]) as client:\n"
        "    prediction = client.predict(np.full((28, 28), 7, np.uint8))\n"
        "print(prediction)\n"
        "assert 'tensorflow' not in sys.modules\n"
    )
    with StubServer() as server:
        done = run(environment, "python", "-c", script, server.address)
        assert (done.returncode, done.stdout, done.stderr) == (0, "7 (91.0%)\n", "")
        done = run(environment, "inkling", "status", "--server", server.address)
        assert done.returncode == 0 and "AVAILABLE" in done.stdout


@pytest.mark.release
def test_it_is_small(environment):
    brought = megabytes(environment.parent) - float((environment.parent / "mb_before").read_text())
    assert brought <= MAX_MB
    (own,) = (environment.parent / "lib").glob("python*/site-packages/inkling")
    assert megabytes(own) <= MAX_OWN_MB


@pytest.mark.release
def test_it_runs_with_the_oldest_protobuf_that_it_allows(environment, tmp_path):
    """The generated code refuses a runtime older than its own protoc, and newer protobufs hide that."""
    target = tmp_path / "old"
    command = ["python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target", str(target)]
    assert run(environment, *command, "protobuf==6.31.1").returncode == 0
    script = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import google.protobuf; assert google.protobuf.__version__ == '6.31.1'\n"
        "import numpy as np\n"
        "from inkling.client import Client\n"
        "with Client(sys.argv[2]) as client:\n"
        "    print(client.predict(np.full((28, 28), 7, np.uint8)))\n"
    )
    with StubServer() as server:
        done = run(environment, "python", "-W", "error", "-c", script, str(target), server.address)
    assert (done.returncode, done.stdout, done.stderr) == (0, "7 (91.0%)\n", "")


@pytest.mark.release
def test_a_page_without_opencv_says_what_to_install(environment, tmp_path):
    from PIL import Image

    Image.new("L", (200, 100), 255).save(tmp_path / "page.png")
    with StubServer() as server:
        done = run(environment, "inkling", "read", str(tmp_path / "page.png"), "--server", server.address)
    assert done.returncode == 1 and "pip install opencv-python-headless" in done.stderr and done.stderr.count("\n") == 1

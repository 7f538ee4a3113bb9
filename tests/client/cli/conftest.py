"""A server for the command line, and what it may be given to read."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

from tests.client.cli.command_line import IMAGES, seven
from tests.client.stub_server import StubServer


@pytest.fixture
def server(monkeypatch):
    """A server whose address is in the environment."""
    with StubServer(Predict=seven) as server:
        monkeypatch.setenv("INKLING_SERVER", server.address)
        yield server


@pytest.fixture
def array(tmp_path):
    path = tmp_path / "images.npy"
    np.save(path, IMAGES)
    return str(path)


@pytest.fixture
def digit(tmp_path):
    """A 28×28 picture of a 7."""
    image = Image.new("L", (28, 28))
    ImageDraw.Draw(image).line([(7, 6), (20, 6), (12, 23)], fill=255, width=3)
    path = tmp_path / "digit.png"
    image.save(path)
    return str(path)

"""A folder of pictures, a server that sees sevens in them, and a job that reads them."""

import functools

import pytest

from tests.client.batch.sevens import draw_sevens
from tests.client.cli.command_line import seven
from tests.client.stub_server import StubServer


@pytest.fixture
def pictures(tmp_path):
    draw_sevens(tmp_path / "pictures", 10)
    return tmp_path / "pictures"


@pytest.fixture
def output(tmp_path):
    return tmp_path / "output"


@pytest.fixture
def sevens():
    with StubServer(Predict=seven) as server:
        yield server


@pytest.fixture
def begin(pictures, output, sevens):
    """`jobs.begin` of all that."""
    from tests.client.batch import jobs  # which needs the extra `batch`

    return functools.partial(jobs.begin, pictures, output, sevens.address)

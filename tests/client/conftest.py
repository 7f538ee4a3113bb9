"""What the client's tests of pictures share: a server that reads digits."""

import pytest

from tests.server_process import ServerProcess


@pytest.fixture(scope="session")
def digit_server(digit_models):
    """`python -m serving` with the digit model; its gRPC address."""
    with ServerProcess("--model_name=mnist", f"--model_base_path={digit_models / 'mnist'}") as server:
        yield server.address

"""What the client's tests share: servers that do what a test wants, both clients, and a server that reads digits."""

import pytest

from inkling.client import Client
from tests.client.both import Blocking
from tests.client.certificates import Authority
from tests.client.stub_server import StubServer
from tests.server_process import ServerProcess


@pytest.fixture(scope="session")
def digit_server(digit_models):
    """`python -m serving` with the digit model; its gRPC address."""
    with ServerProcess("--model_name=mnist", f"--model_base_path={digit_models / 'mnist'}") as server:
        yield server.address


@pytest.fixture(params=[Client, Blocking], ids=["blocking", "async"])
def make_client(request):
    clients = []

    def make(server, **settings):
        clients.append(request.param(server.address, **settings))
        return clients[-1]

    yield make
    for client in clients:
        client.__exit__(None, None, None)


@pytest.fixture
def start():
    servers = []

    def start(**behaviours):
        servers.append(StubServer(**behaviours))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


@pytest.fixture(scope="module")
def authority():
    return Authority()

"""Addresses: every form of one, and lists of them."""

import socket
import threading
import time

import pytest

from inkling.client import AsyncClient, Client, InvalidInput, ServerUnavailable
from tests.client.both import FAST, IMAGES, call
from tests.client.stub_server import StubServer
from tests.patience import PATIENCE_S


@pytest.fixture
def late_name(monkeypatch):
    """A host whose name is not known at first; the function that makes it so is returned."""
    known, look_up = threading.Event(), socket.getaddrinfo

    def getaddrinfo(host, *arguments, **named):
        if host == "late.example" and not known.is_set():
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return look_up("127.0.0.1" if host == "late.example" else host, *arguments, **named)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return known.set


@pytest.mark.parametrize("address", ["[::1]:8500", "unix:/run/x.sock", "dns:///name", "xds:///name", "a:1,[::1]:2"])
def test_what_is_an_address_is_taken(address):
    Client(address).close()
    AsyncClient(address)


def test_calls_go_round_all_addresses_of_a_list():
    with StubServer() as first, StubServer() as second:
        with Client([first.address, f"localhost:{second.port}"], wait_for_ready=True) as client:
            until = time.monotonic() + PATIENCE_S
            while not (len(first.requests) > 5 and len(second.requests) > 5):
                client.predict(IMAGES)
                assert time.monotonic() < until
        assert abs(len(first.requests) - len(second.requests)) <= 10


def test_the_rest_of_a_list_takes_over_when_one_is_gone():
    with (
        StubServer() as first,
        StubServer() as second,
        Client(f"{first.address},{second.address}", retry=FAST) as client,
    ):
        client.predict(IMAGES)
        first.stop()
        for _ in range(20):
            assert len(client.predict(IMAGES)) == 2


@pytest.mark.parametrize(
    "address",
    [
        "localhost:{port}",
        "dns:///localhost:{port}",
        "dns:localhost:{port}",
        "ipv4:127.0.0.1:{port}",
        "ipv4:127.0.0.1:{port},127.0.0.1:{port}",
    ],
)
def test_one_address_may_be_any_target_of_grpc(address):
    with StubServer() as server, Client(address.format(port=server.port)) as client:
        assert len(client.predict(IMAGES)) == 2


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("", "address ''; expected host:port"),
        ([], r"address \[\]; expected host:port"),
        (["localhost:8500", "localhost"], "'localhost' in a list of addresses; expected host:port"),
        (["localhost:8500", "localhost:70000"], "'localhost:70000' in a list of addresses"),
        (["localhost:8500", "ipv4:127.0.0.1:8500"], "'ipv4:127.0.0.1:8500' in a list of addresses"),
        ("\udcff:8500", r"address '\\udcff:8500'; expected host:port"),
        (None, "address None; expected host:port"),
        (8500, "address 8500; expected host:port"),
        (b"localhost:8500", "address b'localhost:8500'; expected host:port"),
        (["localhost:8500", None], r"address \['localhost:8500', None\]; expected host:port"),
        ("localhost", "address 'localhost'; expected host:port, .*: it has no port"),
        ("[::1]", "it has no port"),
        (":8500", "it has no host"),
        ("localhost:", "its port '' is no number"),
        ("localhost:http", "its port 'http' is no number"),
        ("localhost:99999", "there is no port 99999; the last one is 65535"),
        ("localhost:0", "there is no port 0"),
        ("http://localhost:8501/v1/models", "it is a URL; give localhost:8501, with the port of gRPC, not of REST"),
        ("https://serving.example", r"it is a URL; give serving.example:8500 and tls=TLS\(\), with the port"),
        ("etcd://localhost:1", "gRPC knows no etcd://"),
        ("::1:8500", r"an address of IPv6 stands in brackets, as in \[::1\]:8500"),
        ("/run/x.sock", "it is a path; a socket's is unix:/run/x.sock"),
        ("localhost:8500/", "gRPC takes no path behind it"),
    ],
)
def test_an_address_that_is_none_is_refused(address, message):
    with pytest.raises(InvalidInput, match=message):
        Client(address)


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_a_name_of_a_list_that_is_not_known_is_a_server_that_is_away(kind, late_name):
    with StubServer() as server:
        message = r"'late.example:\d+' in the list of addresses is not known: Name.*is the server's name right\?"
        with pytest.raises(ServerUnavailable, match=message) as caught:
            call(kind, [server.address, f"late.example:{server.port}"], lambda client: client.predict(IMAGES))
        assert caught.value.status is None


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_waiting_until_ready_waits_for_the_names_of_a_list(kind, late_name):
    with StubServer() as server:
        starter = threading.Timer(0.3, late_name)
        starter.start()
        addresses = [server.address, f"late.example:{server.port}"]
        assert call(kind, addresses, lambda client: client.wait_until_ready(timeout_s=30)).available == (1,)
        starter.join()

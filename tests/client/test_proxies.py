"""HTTP proxies of the environment: a list of servers goes through one as a single server does, and errors name it."""

import pytest

from inkling.client import AsyncClient, Client, ServerUnavailable
from inkling.client.protocol.proxies import EXCEPTION_VARIABLES, PROXY_VARIABLES, is_excepted, proxy_of
from tests.client.both import FAST, IMAGES, call
from tests.client.proxy import ConnectProxy
from tests.client.stub_server import StubServer
from tests.ports import free_port


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch):
    for name in (*PROXY_VARIABLES, *EXCEPTION_VARIABLES):
        monkeypatch.delenv(name, raising=False)


def predict(client):
    return client.predict(IMAGES)


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_each_server_of_a_list_is_asked_through_the_proxy(kind, monkeypatch):
    with ConnectProxy() as proxy, StubServer() as first, StubServer() as second:
        monkeypatch.setenv("http_proxy", f"http://me:p%40ss@127.0.0.1:{proxy.port}")
        servers = [first.address, second.address]
        assert len(call(kind, servers, predict, wait_for_ready=True)) == 2
        assert set(proxy.targets) <= set(servers) and proxy.targets
        assert proxy.credentials == {"Proxy-Authorization: Basic bWU6cEBzcw=="}


@pytest.mark.parametrize("exceptions", ["127.0.0.1", "10.1.2.3, 127.0.0.0/8", "0.0.1"])
def test_the_servers_of_a_list_that_are_excepted_are_asked_directly(exceptions, monkeypatch):
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("no_proxy", exceptions)
    with StubServer() as first, StubServer() as second:
        assert len(call(Client, [first.address, second.address], predict)) == 2


def test_a_server_of_a_list_may_be_excepted_by_its_name_and_the_others_not(monkeypatch):
    with ConnectProxy() as proxy, StubServer() as first, StubServer() as second:
        monkeypatch.setenv("http_proxy", f"http://localhost:{proxy.port}")
        monkeypatch.setenv("no_proxy", "localhost")
        servers = [f"localhost:{first.port}", second.address]
        with Client(servers, wait_for_ready=True) as client:
            while not (first.requests and second.requests):
                client.predict(IMAGES)
        # The name and the address are one host here, but not to who reads the variables.
        assert set(proxy.targets) <= {second.address, first.address}


@pytest.mark.parametrize("several", [False, True], ids=["one", "list"])
def test_an_error_names_the_proxy(several, monkeypatch):
    proxy, server = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
    monkeypatch.setenv("https_proxy", f"http://user:secret@{proxy}")
    message = rf"it is asked through the proxy {proxy} \(of https_proxy\), unless no_proxy names it"
    with pytest.raises(ServerUnavailable, match=message) as caught:
        call(Client, [server, server] if several else server, predict, retry=FAST, timeout_s=30)
    assert "secret" not in str(caught.value)


def test_a_proxy_that_is_not_known_is_said_to_be(monkeypatch):
    monkeypatch.setenv("grpc_proxy", "http://no-such-proxy.invalid:3128")
    message = r"the proxy no-such-proxy.invalid:3128 \(of grpc_proxy\) is not known"
    with pytest.raises(ServerUnavailable, match=message):
        call(Client, ["127.0.0.1:1", "127.0.0.1:2"], predict)


@pytest.mark.parametrize(
    ("address", "proxied"),
    [
        ("localhost:8500", True),
        ("dns:///localhost:8500", True),
        ("ipv4:10.0.0.7:8500,10.0.0.8:8500", True),
        ("10.0.0.7:8500,10.0.0.8:8500", True),
        ("inside.example:8500", False),
        ("dns:inside.example:8500", False),
        ("unix:/run/x.sock", False),
        ("vsock:3:8500", False),
    ],
)
def test_a_target_is_asked_through_a_proxy_or_not(address, proxied, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://proxy.example:3128")
    monkeypatch.setenv("no_proxy", "inside.example")
    assert (str(proxy_of(address)) == "proxy.example:3128 (of http_proxy)") is proxied


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("http_proxy", ""),
        ("http_proxy", "socks5://a:1"),
        ("http_proxy", "a:1"),
        ("http_proxy", "http://a:b"),
        ("HTTP_PROXY", "http://a:1"),
    ],
)
def test_what_grpc_takes_for_no_proxy_is_none(variable, value, monkeypatch):
    monkeypatch.setenv(variable, value)
    assert proxy_of("localhost:8500") is None


def test_grpcs_own_exceptions_come_first(monkeypatch):
    monkeypatch.setenv("no_proxy", "a.example")
    assert is_excepted("a.example") and is_excepted("other", "b.A.example")
    monkeypatch.setenv("no_grpc_proxy", "fd00::/8")
    assert is_excepted("fd12::1") and not is_excepted("a.example") and not is_excepted("10.0.0.1")

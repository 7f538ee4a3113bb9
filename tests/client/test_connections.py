"""Connections that are refused, reset, silent or late, and what a client shares and compresses."""

import asyncio
import socket
import threading
from concurrent import futures

import numpy as np
import pytest

from inkling.client import AsyncClient, Client, Retry, ServerUnavailable
from tests.client.both import FAST, IMAGES, UNAVAILABLE
from tests.client.proxy import Counting, Proxy
from tests.client.stub_server import StubServer, predict
from tests.ports import free_port


def test_nobody_there_is_unavailable_at_once():
    with (
        Client(f"127.0.0.1:{free_port()}", retry=FAST) as client,
        pytest.raises(ServerUnavailable, match=r"Connection refused.*is the server running there\?"),
    ):
        client.predict(IMAGES)


def test_waiting_for_readiness_survives_a_server_that_starts_late():
    port = free_port()
    servers = []
    starter = threading.Timer(0.5, lambda: servers.append(StubServer(port=port)))
    starter.start()
    with Client(f"127.0.0.1:{port}", wait_for_ready=True) as client:
        assert len(client.predict(IMAGES, timeout_s=30)) == 2
    starter.join()
    servers[0].stop()


def test_wait_until_ready_waits_for_the_server_itself():
    port = free_port()
    servers = []
    starter = threading.Timer(0.5, lambda: servers.append(StubServer(port=port)))
    starter.start()
    with Client(f"127.0.0.1:{port}") as client:
        assert client.wait_until_ready(timeout_s=30).available == (1,)
    starter.join()
    servers[0].stop()


def test_a_connection_that_is_reset_between_calls_is_made_anew():
    with StubServer() as server, Proxy(server) as proxy, Client(proxy.address) as client:
        for _ in range(3):
            assert len(client.predict(IMAGES)) == 2
            proxy.reset_connections()


def test_connections_reset_at_birth_are_tried_again():
    with StubServer() as server, Proxy(server) as proxy:
        proxy.resets_left = 2
        with Client(proxy.address, wait_for_ready=True) as client:
            assert len(client.predict(IMAGES, timeout_s=30)) == 2


def test_a_server_that_dies_in_the_middle_of_a_call_is_asked_again():
    def die_once(request, context):
        if proxy.connections and len(server.requests) == 1:
            proxy.reset_connections()
        return predict(request, context)

    with (
        StubServer(Predict=die_once) as server,
        Proxy(server) as proxy,
        Client(proxy.address, retry=Retry(initial_backoff_s=0.5)) as client,
    ):
        assert len(client.predict(IMAGES)) == 2
        assert len(server.requests) == 2


def test_one_that_keeps_dying_is_unavailable():
    def die(request, context):
        proxy.reset_connections()
        return predict(request, context)

    with StubServer(Predict=die) as server, Proxy(server) as proxy, Client(proxy.address, retry=FAST) as client:
        with pytest.raises(ServerUnavailable) as caught:
            client.predict(IMAGES)
        assert caught.value.status is UNAVAILABLE


@pytest.mark.parametrize(("keepalive_s", "pinged"), [(0.1, True), (0, False)], ids=["on", "off"])
def test_a_silent_connection_under_a_call_is_pinged(keepalive_s, pinged):
    ping = b"\x00\x00\x08\x06\x00\x00\x00\x00\x00"  # the head of an HTTP/2 frame: 8 bytes, PING, no ACK
    silent, pings = threading.Event(), []

    def behave(request, context):
        pings.append(silent.wait(10 if pinged else 1))
        return predict(request, context)

    class Watching(Counting):
        def recv(self, size):
            data = super().recv(size)
            if ping in data:
                silent.set()
            return data

    allowed = [("grpc.http2.min_ping_interval_without_data_ms", 1), ("grpc.http2.max_ping_strikes", 0)]
    with StubServer(Predict=behave, options=allowed) as server, Proxy(server) as proxy:
        carry = proxy._carry
        proxy._carry = lambda source, sink: carry(
            Watching(source, []) if sink.getpeername()[1] == server.port else source, sink
        )
        with Client(proxy.address, keepalive_s=keepalive_s) as client:
            assert len(client.predict(IMAGES, timeout_s=30)) == 2
        assert pings == [pinged]


def test_calls_at_once_share_one_connection_from_the_first_on():
    async def ask(address):
        async with AsyncClient([address, address]) as client:
            await asyncio.gather(*(client.predict(IMAGES) for _ in range(20)))

    with StubServer() as server:
        asyncio.run(ask(server.address))
        with Client(server.address) as client, futures.ThreadPoolExecutor(8) as pool:
            assert len(list(pool.map(lambda _: client.predict(IMAGES), range(20)))) == 20
        assert len({context.peer() for context in server.contexts}) == 2  # one of each client


def test_compressed_requests_are_read_and_smaller():
    with StubServer() as server, Proxy(server) as proxy:
        sizes = []
        carry = proxy._carry
        proxy._carry = lambda source, sink: carry(Counting(source, sizes), sink)
        with Client(proxy.address, gzip=True) as client:
            assert len(client.predict(np.zeros((500, 28, 28), np.uint8))) == 500
        assert sum(sizes) < 50_000


def test_the_port_of_the_rest_api_is_recognised():
    """What comes back from it is HTTP/1."""
    listener = socket.create_server(("127.0.0.1", 0))

    def answer():
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
            connection.close()

    threading.Thread(target=answer, daemon=True).start()
    with (
        Client(f"127.0.0.1:{listener.getsockname()[1]}", retry=Retry(attempts=1)) as client,
        pytest.raises(ServerUnavailable, match=r"give the gRPC port \(8500\), not the REST port"),
    ):
        client.predict(IMAGES)
    listener.close()

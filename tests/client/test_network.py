"""What the client does when the network or the server misbehaves, and how it gets through to a server at all."""

import asyncio
import contextlib
import datetime
import ipaddress
import socket
import struct
import threading
import time
from concurrent import futures

import grpc
import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from inkling.client import (
    TLS,
    AccessDenied,
    AsyncClient,
    Client,
    DeadlineExceeded,
    InklingError,
    InvalidInput,
    MessageTooLarge,
    Retry,
    ServerOverloaded,
    ServerUnavailable,
)
from tests.client.stub_server import StubServer, failing, predict
from tests.patience import PATIENCE_S
from tests.ports import free_port

IMAGES = np.arange(2 * 28 * 28, dtype=np.uint8).reshape(2, 28, 28)
UNAVAILABLE = grpc.StatusCode.UNAVAILABLE
FAST = Retry(initial_backoff_s=0.01, max_backoff_s=0.02)


class Proxy:
    """Carries connections to a server, and does to them what a test wants."""

    def __init__(self, server):
        self._server = server
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.connections = []
        self.resets_left = 0
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def _accept(self):
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            if self.resets_left:
                self.resets_left -= 1
                self._reset(near)
                continue
            try:
                far = socket.create_connection(("127.0.0.1", self._server.port))
            except OSError:
                near.close()
                continue
            self.connections.append((near, far))
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._carry, args=(source, sink), daemon=True).start()

    def _carry(self, source, sink):
        try:
            while data := source.recv(1 << 16):
                sink.sendall(data)
        except OSError:
            pass

    def reset_connections(self):
        while self.connections:
            for end in self.connections.pop():
                self._reset(end)

    def _reset(self, end):
        with contextlib.suppress(OSError):  # the other side may have been first
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            end.shutdown(socket.SHUT_RD)  # wakes the thread that reads it, which would keep it open
        end.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._accepting.join()
        self._listener.close()
        self.reset_connections()


def unavailable(count):
    return [(UNAVAILABLE, "busy")] * count


def test_a_call_that_is_unavailable_twice_succeeds():
    with StubServer(Predict=failing(*unavailable(2))) as server, Client(server.address, retry=FAST) as client:
        assert len(client.predict(IMAGES)) == 2
        assert len(server.requests) == 3


def test_so_does_each_part_of_a_batch_over_the_size_that_grpc_retries_by_itself():
    images = np.zeros((2000, 28, 28), np.uint8)
    with (
        StubServer(Predict=failing(*unavailable(2))) as server,
        Client(server.address, retry=FAST, max_rows=1000) as client,
    ):
        assert len(client.predict(images)) == 2000
        assert {len(request.inputs["images"].tensor_content) for request in server.requests} == {784_000}
        assert len(server.requests) == 4


def test_retries_end_after_the_attempts_allowed():
    with StubServer(Predict=failing(*unavailable(9))) as server, Client(server.address, retry=FAST) as client:
        with pytest.raises(ServerUnavailable, match="busy"):
            client.predict(IMAGES)
        assert len(server.requests) == 4


def test_without_retries_there_is_one_attempt():
    with (
        StubServer(Predict=failing(*unavailable(1))) as server,
        Client(server.address, retry=Retry(attempts=1)) as client,
    ):
        with pytest.raises(ServerUnavailable):
            client.predict(IMAGES)
        assert len(server.requests) == 1


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code not in (UNAVAILABLE, grpc.StatusCode.OK)])
def test_nothing_else_is_retried(code):
    with StubServer(Predict=failing((code, "no"))) as server, Client(server.address, retry=FAST) as client:
        with pytest.raises(Exception, match="no"):
            client.predict(IMAGES)
        assert len(server.requests) == 1


def test_the_budget_ends_retries_during_an_outage():
    """Each failed attempt costs a token, and below half of them nothing is retried."""
    settings = Retry(initial_backoff_s=0.01, max_backoff_s=0.02, budget_tokens=10, tokens_per_success=0.1)
    with StubServer(Predict=failing(*unavailable(1000))) as server, Client(server.address, retry=settings) as client:
        for _ in range(20):
            with pytest.raises(ServerUnavailable):
                client.predict(IMAGES)
        assert 20 < len(server.requests) <= 20 + 5


def test_retries_never_go_past_the_deadline():
    slow = Retry(attempts=5, initial_backoff_s=6000, max_backoff_s=6000)
    with StubServer(Predict=failing(*unavailable(9))) as server, Client(server.address, retry=slow) as client:
        start = time.monotonic()
        with pytest.raises((DeadlineExceeded, ServerUnavailable)):
            client.predict(IMAGES, timeout_s=0.5)
        assert time.monotonic() - start < 600  # a retry would have come much later


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_a_slow_server_meets_the_deadline(kind):
    release = threading.Event()

    def slow(request, context):
        assert context.time_remaining() < 1
        release.wait(PATIENCE_S)
        return predict(request, context)

    with StubServer(Predict=slow) as server:
        with pytest.raises(DeadlineExceeded, match="longer timeout_s") as caught:
            call(kind, server.address, lambda client: client.predict(IMAGES, timeout_s=0.2))
        release.set()
    assert isinstance(caught.value, TimeoutError) and caught.value.address == server.address


def call(kind, address, ask, **settings):
    """The answer of one call by either client."""
    if kind is Client:
        with Client(address, **settings) as client:
            return ask(client)

    async def ask_async():
        async with AsyncClient(address, **settings) as client:
            return await ask(client)

    return asyncio.run(ask_async())


def test_the_deadline_covers_all_parts_of_a_batch():
    def slow(request, context):
        time.sleep(0.1)
        return predict(request, context)

    with StubServer(Predict=slow) as server, Client(server.address, max_rows=1, max_in_flight=1) as client:
        with pytest.raises(DeadlineExceeded):
            client.predict(np.zeros((100, 28, 28), np.uint8), timeout_s=0.55)
        assert len(server.requests) < 20


def test_without_one_of_the_call_each_part_has_the_clients_deadline():
    deadlines = []

    def slow(request, context):
        deadlines.append(time.monotonic() + context.time_remaining())
        time.sleep(0.1)
        return predict(request, context)

    with (
        StubServer(Predict=slow) as server,
        Client(server.address, timeout_s=30, max_rows=1, max_in_flight=1) as client,
    ):
        assert len(client.predict(np.zeros((15, 28, 28), np.uint8))) == 15
    assert deadlines[-1] - deadlines[0] > 0.5  # one for all would be the same each time


def test_every_call_has_a_deadline_of_the_clients():
    remaining = []

    def behave(request, context):
        remaining.append(context.time_remaining())
        return predict(request, context)

    with StubServer(Predict=behave) as server, Client(server.address, timeout_s=3000) as client:
        client.predict(IMAGES)
        client.predict(IMAGES, timeout_s=7000)
    assert remaining == [pytest.approx(3000, abs=900), pytest.approx(7000, abs=900)]


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


def test_a_cancelled_task_cancels_its_call():
    arrived, cancelled = threading.Event(), threading.Event()

    def behave(request, context):
        context.add_callback(cancelled.set)
        arrived.set()
        cancelled.wait(PATIENCE_S)
        return predict(request, context)

    async def ask(address):
        async with AsyncClient(address) as client:
            task = asyncio.create_task(client.predict(IMAGES, timeout_s=60))
            await asyncio.to_thread(arrived.wait, 30)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await asyncio.to_thread(cancelled.wait, 30)

    with StubServer(Predict=behave) as server:
        asyncio.run(ask(server.address))


@pytest.fixture
def held():
    """A server that holds each request to its end, and what is set when it has one."""
    arrived, release = threading.Event(), threading.Event()

    def behave(request, context):
        arrived.set()
        release.wait(PATIENCE_S)
        return predict(request, context)

    with StubServer(Predict=behave) as server:
        yield server, arrived
        release.set()


@pytest.mark.parametrize("rows", [1, 4], ids=["one call", "parts of a batch"])
def test_closing_a_client_ends_its_calls_with_a_word(held, rows):
    server, arrived = held
    client = Client(server.address, max_rows=1)
    closer = threading.Thread(target=lambda: arrived.wait(PATIENCE_S) and client.close())
    closer.start()
    with pytest.raises(InklingError, match="the client was closed; make a new one"):
        client.predict(np.zeros((rows, 28, 28), np.uint8), timeout_s=60)
    closer.join()
    with pytest.raises(InklingError, match="the client was closed"):
        client.predict(IMAGES)


@pytest.mark.parametrize("rows", [1, 4], ids=["one call", "parts of a batch"])
@pytest.mark.parametrize("stamped", [False, True], ids=["plain", "with an interceptor"])
def test_closing_an_async_client_does_so_too_and_cancels_no_task(held, rows, stamped):
    server, arrived = held

    async def ask():
        client = AsyncClient(server.address, max_rows=1, interceptors=[AsyncStamp()] if stamped else [])
        task = asyncio.create_task(client.predict(np.zeros((rows, 28, 28), np.uint8), timeout_s=60))
        await asyncio.to_thread(arrived.wait, 30)
        await client.close()
        with pytest.raises(InklingError, match="the client was closed; make a new one"):
            await task
        with pytest.raises(InklingError, match="the client was closed"):
            await client.predict(IMAGES)

    asyncio.run(ask())


def test_a_call_that_another_cancels_is_not_the_servers_failure():
    with (
        StubServer(Predict=failing((grpc.StatusCode.CANCELLED, "gone"))) as server,
        Client(server.address) as client,
        pytest.raises(InklingError, match="gone .CANCELLED.; the server, or something on the way to it"),
    ):
        client.predict(IMAGES)


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


def test_the_first_failure_cancels_the_other_parts():
    under_way, cancelled = threading.Event(), threading.Event()

    def behave(request, context):
        if 1 in request.inputs["images"].tensor_content:
            under_way.wait(PATIENCE_S)
            context.abort(grpc.StatusCode.INTERNAL, "one")
        context.add_callback(cancelled.set)
        under_way.set()
        cancelled.wait(PATIENCE_S)
        return predict(request, context)

    images = np.zeros((2, 28, 28), np.uint8)
    images[1] = 1
    with StubServer(Predict=behave) as server, Client(server.address, max_rows=1) as client:
        with pytest.raises(Exception, match="one"):
            client.predict(images)
        assert cancelled.wait(PATIENCE_S)


@pytest.mark.parametrize("kind", [Client, AsyncClient])
@pytest.mark.parametrize(
    ("settings", "options", "side", "message"),
    [
        ({"max_message_bytes": 1000}, (), "client", "this client refused the request: raise max_message_bytes"),
        (
            {},
            (("grpc.max_receive_message_length", 1000),),
            "server",
            "the server refused the request: send smaller batches",
        ),
        ({}, (("grpc.max_send_message_length", 60),), "server", "the server refused the response"),
    ],
    ids=["own limit on requests", "server's on requests", "server's on responses"],
)
def test_a_size_limit_says_whose_it_is(kind, settings, options, side, message):
    with StubServer(options=options) as server, pytest.raises(MessageTooLarge, match=message) as caught:
        call(kind, server.address, lambda client: client.predict(IMAGES), **settings)
    assert caught.value.side == side


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_a_response_over_the_clients_limit_is_refused_by_the_client(kind):
    with StubServer() as server, pytest.raises(MessageTooLarge, match="this client refused the response") as caught:
        call(kind, server.address, lambda client: client.predict(IMAGES[:, :1, :1]), max_message_bytes=120)
    assert caught.value.side == "client"


def test_a_full_queue_is_told_from_an_absent_server():
    words = "The batch scheduling queue to which this task was submitted is full; currently 10 batches enqueued"
    with (
        StubServer(Predict=failing(*[(UNAVAILABLE, words)] * 9)) as server,
        Client(server.address, retry=FAST) as client,
        pytest.raises(ServerOverloaded, match="send fewer calls at once"),
    ):
        client.predict(IMAGES)


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
    ],
)
def test_an_address_that_is_none_is_refused(address, message):
    with pytest.raises(InvalidInput, match=message):
        Client(address)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"timeout_s": 0}, "timeout_s=0; expected more than 0"),
        ({"timeout_s": float("inf")}, "timeout_s=inf; expected more than 0, and 1,000,000,000 at most"),
        ({"timeout_s": float("nan")}, "timeout_s=nan"),
        ({"keepalive_s": float("inf")}, "keepalive_s=inf"),
        ({"max_rows": 0}, "max_rows=0"),
        ({"keepalive_s": -1}, "keepalive_s=-1"),
        ({"token": "secret"}, "no tls: it would cross the network in the clear"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(InvalidInput, match=message):
        Client("localhost:8500", **settings)
    with pytest.raises(InvalidInput, match="attempts=6; expected 1"):
        Retry(attempts=6)


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


class Counting:
    def __init__(self, source, sizes):
        self._source, self._sizes = source, sizes

    def recv(self, size):
        data = self._source.recv(size)
        self._sizes.append(len(data))
        return data


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


class Stamp(grpc.UnaryUnaryClientInterceptor):
    def intercept_unary_unary(self, continuation, client_call_details, request):
        request.model_spec.signature_name = "stamped"
        return continuation(client_call_details, request)


class AsyncStamp(grpc.aio.UnaryUnaryClientInterceptor):
    async def intercept_unary_unary(self, continuation, client_call_details, request):
        request.model_spec.signature_name = "stamped"
        return await continuation(client_call_details, request)


@pytest.mark.parametrize(("kind", "interceptor"), [(Client, Stamp()), (AsyncClient, AsyncStamp())])
def test_interceptors_see_messages(kind, interceptor):
    with StubServer() as server:
        call(kind, server.address, lambda client: client.predict(IMAGES), interceptors=[interceptor])
        call(
            kind,
            server.address,
            lambda client: client.predict(np.zeros((9, 28, 28), np.uint8)),
            max_rows=3,
            interceptors=[interceptor],
        )
    assert {request.model_spec.signature_name for request in server.requests} == {"stamped"}
    with pytest.raises(InvalidInput, match="interceptors: .* takes grpc"):
        call(kind, server.address, lambda client: client.predict(IMAGES), interceptors=[object()])


def test_interceptors_do_not_hide_errors():
    with (
        StubServer(Predict=failing((grpc.StatusCode.INTERNAL, "inside"))) as server,
        pytest.raises(Exception, match="inside"),
    ):
        call(Client, server.address, lambda client: client.predict(IMAGES), interceptors=[Stamp()])


class Authority:
    """A certificate authority, and certificates from it."""

    def __init__(self):
        self.key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
        self.certificate = self._sign(name, self.key.public_key(), issuer=name, authority=True)

    def _sign(self, subject, key, *, issuer, authority, names=()):
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(self.key, hashes.SHA256())

    def pem(self):
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def issue(self, *names):
        """(key, certificate) for host names and IP addresses."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
        certificate = self._sign(
            subject,
            key.public_key(),
            issuer=self.certificate.subject,
            authority=False,
            names=[general(n) for n in names],
        )
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return private, certificate.public_bytes(serialization.Encoding.PEM)


def general(name):
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


@pytest.fixture(scope="module")
def authority():
    return Authority()


def secure_server(authority, *names, mutual=False, **behaviours):
    credentials = grpc.ssl_server_credentials(
        [authority.issue(*names)], root_certificates=authority.pem() if mutual else None, require_client_auth=mutual
    )
    return StubServer(credentials=credentials, **behaviours)


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_tls_trusts_the_authority_it_is_given(authority, tmp_path, kind):
    (tmp_path / "ca.pem").write_bytes(authority.pem())
    with secure_server(authority, "127.0.0.1") as server:
        for ca in (authority.pem(), tmp_path / "ca.pem", str(tmp_path / "ca.pem")):
            assert len(call(kind, server.address, lambda client: client.predict(IMAGES), tls=TLS(ca=ca))) == 2


@pytest.mark.parametrize("kind", [Client, AsyncClient])
@pytest.mark.parametrize("name", ["", "inkling.example"], ids=["the first one's", "given"])
def test_tls_holds_all_servers_of_a_list_to_one_name(authority, kind, name):
    with (
        secure_server(authority, name or "127.0.0.1") as first,
        secure_server(authority, name or "127.0.0.1") as second,
    ):
        addresses = [first.address, second.address]
        tls = TLS(ca=authority.pem(), server_name=name)

        def ask(client):
            return client.predict(np.zeros((200, 28, 28), np.uint8))

        assert len(call(kind, addresses, ask, tls=tls, max_rows=1, wait_for_ready=True)) == 200
        assert len(call(kind, addresses[::-1], ask, tls=tls, max_rows=1, wait_for_ready=True)) == 200
        assert first.requests and second.requests


def test_tls_refuses_a_stranger(authority):
    with (
        secure_server(Authority(), "127.0.0.1") as server,
        Client(server.address, tls=TLS(ca=authority.pem()), retry=Retry(attempts=1)) as client,
        pytest.raises(ServerUnavailable, match="certificate for this name and from an authority"),
    ):
        client.predict(IMAGES)


def test_tls_refuses_another_name_unless_told(authority):
    with secure_server(authority, "inkling.example") as server:
        with (
            Client(server.address, tls=TLS(ca=authority.pem()), retry=Retry(attempts=1)) as client,
            pytest.raises(ServerUnavailable),
        ):
            client.predict(IMAGES)
        with Client(server.address, tls=TLS(ca=authority.pem(), server_name="inkling.example")) as client:
            assert len(client.predict(IMAGES)) == 2


def test_mutual_tls_shows_the_clients_certificate(authority):
    key, certificate = authority.issue("client.example")
    with secure_server(authority, "127.0.0.1", mutual=True) as server:
        with Client(server.address, tls=TLS(ca=authority.pem(), key=key, certificate=certificate)) as client:
            assert len(client.predict(IMAGES)) == 2
            assert server.contexts[0].auth_context()["x509_common_name"] == [b"client.example"]
        with (
            Client(server.address, tls=TLS(ca=authority.pem()), retry=Retry(attempts=1)) as client,
            pytest.raises(ServerUnavailable),
        ):
            client.predict(IMAGES)
    with pytest.raises(InvalidInput, match="one of certificate and key; mutual TLS needs both"):
        TLS(certificate=certificate)
    with pytest.raises(InvalidInput, match="tls ca '/no/such.pem' cannot be read: No such file"):
        Client(server.address, tls=TLS(ca="/no/such.pem"))


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_a_token_goes_with_every_call_and_is_asked_for_anew(authority, kind):
    tokens = iter(["first", "second", "third"])
    with secure_server(authority, "127.0.0.1") as server:
        settings = {"tls": TLS(ca=authority.pem()), "token": lambda: next(tokens)}
        call(kind, server.address, lambda client: client.predict(IMAGES), **settings)
        call(kind, server.address, lambda client: client.predict(IMAGES), **settings)
        seen = [dict(context.invocation_metadata())["authorization"] for context in server.contexts]
    assert seen == ["Bearer first", "Bearer second"]


def test_a_token_crosses_plaintext_only_when_told():
    with StubServer() as server, Client(server.address, token="secret", token_over_plaintext=True) as client:
        client.predict(IMAGES)
        assert dict(server.contexts[0].invocation_metadata())["authorization"] == "Bearer secret"
        assert "secret" not in repr(client)


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_a_token_from_a_file_may_end_with_a_newline(kind):
    for token in ("secret\n", lambda: "secret\n"):
        with StubServer() as server:
            call(kind, server.address, lambda client: client.predict(IMAGES), token=token, token_over_plaintext=True)
            assert dict(server.contexts[0].invocation_metadata())["authorization"] == "Bearer secret"


@pytest.mark.parametrize("kind", [Client, AsyncClient])
@pytest.mark.parametrize("token", ["a\nsecret", "gehe\u00edm secret", " "], ids=["two lines", "not ASCII", "empty"])
def test_a_token_that_cannot_be_sent_is_refused_and_not_shown(kind, token):
    for given in (token, lambda: token):
        with StubServer() as server, pytest.raises(InvalidInput, match="the token is empty, or not print") as caught:
            call(kind, server.address, lambda client: client.predict(IMAGES), token=given, token_over_plaintext=True)
        assert "secret" not in str(caught.value) and not server.requests


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_what_a_function_for_tokens_raises_reaches_the_caller(kind):
    def token():
        raise ValueError("the vault is locked")

    for rows in (1, 4):
        images = np.zeros((rows, 28, 28), np.uint8)
        settings = {"token": token, "token_over_plaintext": True, "max_rows": 1}
        with StubServer() as server, pytest.raises(ValueError, match="^the vault is locked$"):
            call(kind, server.address, lambda client, images=images: client.predict(images), **settings)


def test_a_refused_token_is_access_denied():
    refusal = failing((grpc.StatusCode.UNAUTHENTICATED, "expired"))
    with (
        StubServer(Predict=refusal) as server,
        Client(server.address) as client,
        pytest.raises(AccessDenied, match="expired.*give a valid token="),
    ):
        client.predict(IMAGES)

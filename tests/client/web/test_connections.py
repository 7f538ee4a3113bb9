"""The page's connections, in a server of this process, whose limits are less patient than the page's."""

import contextlib
import threading

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from inkling.client.web.connections import PIECE_BYTES, BoundedConnection
from tests.client.web.peer import Peer
from tests.patience import wait_until
from tests.ports import free_port

pytestmark = pytest.mark.process

LARGE = 8 * 2**20  # more than the kernel takes on a connection that nobody reads
GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


async def _hello(request: Request) -> PlainTextResponse:
    return PlainTextResponse("hello")


async def _large(request: Request) -> PlainTextResponse:
    return PlainTextResponse("x" * LARGE)


async def _length(request: Request) -> PlainTextResponse:
    return PlainTextResponse(str(len(await request.body())))


@pytest.fixture
def serve():
    """A function that serves with a kind of connection, and returns a function that connects and sends."""
    with contextlib.ExitStack() as stack:

        def serve(kind):
            port = free_port()
            routes = [Route("/", _hello), Route("/large", _large), Route("/", _length, methods=["POST"])]
            app = Starlette(routes=routes)
            server = uvicorn.Server(uvicorn.Config(app, port=port, http=kind, log_level="error", ws="none"))
            thread = threading.Thread(target=server.run)
            thread.start()
            stack.callback(thread.join)
            stack.callback(setattr, server, "should_exit", True)
            wait_until(lambda: server.started)

            def connect(data, **options):
                peer = Peer(port, data, **options)
                stack.callback(peer.socket.close)
                return peer

            return connect

        yield serve


def _answered(peer, start=b"HTTP/1.1 200"):
    peer.is_closed()
    return peer.answer.startswith(start)


def test_a_header_that_does_not_end_ends_its_connection(serve):
    class Connection(BoundedConnection):
        header_s = 1.0

    connect = serve(Connection)
    peers = [connect(data) for data in (GET, b"GET / HTTP/1.1\r\nHost:", b"")]
    wait_until(lambda: all([peer.is_closed() for peer in peers]))
    assert _answered(peers[0])


def test_a_new_connection_ends_the_one_that_has_waited_longest_if_there_are_too_many(serve):
    class Connection(BoundedConnection):
        max_connections = 4
        header_s = 600.0

    connect = serve(Connection)
    held = [connect(b"GET / HTTP/1.1\r\n") for _ in range(4)]
    news = []

    def gets_in():
        news.append(connect(GET))
        wait_until(lambda: _answered(news[-1]) or news[-1].is_closed())
        return _answered(news[-1])

    wait_until(gets_in)  # until it has been seen that the others wait
    assert sum([peer.is_closed() for peer in held]) == 1


def test_an_answer_that_nobody_takes_is_given_up(serve):
    """Requests are sent on one connection and no answer is read, until neither side has room for more."""

    class Connection(BoundedConnection):
        unread_s = 1.0
        header_s = 600.0

    deaf = serve(Connection)(GET * 50_000, receive_bytes=4096)
    wait_until(lambda: _is_reset(deaf))


def test_answers_that_nobody_takes_have_a_limit_together(serve):
    class Connection(BoundedConnection):
        unread_s = 600.0
        max_unsent_bytes = 2**23

    connect = serve(Connection)
    get_large = GET.replace(b"GET /", b"GET /large")
    deaf = [connect(get_large, receive_bytes=4096) for _ in range(3)]
    wait_until(lambda: any([_is_reset(peer) for peer in deaf]))
    honest = connect(GET)
    wait_until(lambda: _answered(honest))


def _is_reset(peer):
    """Whether the connection was ended, without taking anything of what was sent on it."""
    try:
        peer.socket.send(b"x")
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


@pytest.mark.parametrize("length", [b"", b"Content-Length: 3\r\n"], ids=["alone", "beside a length"])
def test_a_request_in_chunks_is_the_last_and_its_body_is_not_parsed(serve, length):
    parsed = []

    class Connection(BoundedConnection):
        def handle_events(self):
            parsed.append(1)
            super().handle_events()

    head = b"GET / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n" + length + b"\r\n"
    peer = serve(Connection)(head + b"1\r\nx\r\n" * 100 * PIECE_BYTES)
    wait_until(peer.is_closed)
    assert _answered(peer) and len(parsed) <= 2


@pytest.mark.parametrize(
    "head",
    [
        b"Content-Length: 3\r\nContent-Length: 4\r\n",
        b"Content-Length: -3\r\n",
        b"Content-Length: +3\r\n",
        b"Content-Length: 3, 3\r\nContent-Length: 4\r\n",
        b"Transfer-Encoding: gzip\r\n",
        b"Transfer-Encoding: gzip, chunked\r\n",
        b"Transfer-Encoding : chunked\r\n",
    ],
)
def test_a_request_that_says_two_things_about_its_length_is_refused(serve, head):
    peer = serve(BoundedConnection)(b"POST / HTTP/1.1\r\nHost: localhost\r\n" + head + b"\r\n0\r\n\r\n" + GET)
    wait_until(peer.is_closed)
    assert peer.answer.count(b"HTTP/1.1 ") == 1 and peer.answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 501"))

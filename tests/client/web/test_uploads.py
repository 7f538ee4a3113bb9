"""Many uploads at once, honest and hostile: bounded in memory and in time, and the page goes on answering."""

import contextlib
import http.client
import io
import json
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from tests.client.reading.test_reading import PICTURES, TRUTH
from tests.client.web import hostile
from tests.client.web.peer import Peer
from tests.client.web.web_process import WebProcess
from tests.patience import PATIENCE_S, wait_until

pytestmark = pytest.mark.process

MANIFEST = Path(__file__).parents[3] / "k8s" / "base" / "client-web" / "deployment.yaml"
LIMIT_BYTES = int(re.search(r"limits: .*memory: (\d+)Mi", MANIFEST.read_text())[1]) * 2**20


class Memory:
    """The most that a process and its children have in memory together, as seen now and then."""

    def __init__(self, process):
        self._process = psutil.Process(process.pid)
        self._over = threading.Event()
        self._watch = threading.Thread(target=self._look)
        self.most = 0

    def _look(self):
        while not self._over.wait(0.02):
            with contextlib.suppress(psutil.NoSuchProcess):
                each = [self._process, *self._process.children(recursive=True)]
                self.most = max(self.most, sum(one.memory_info().rss for one in each))

    def __enter__(self):
        self._watch.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        self._watch.join()


@pytest.fixture
def web(digit_server):
    with WebProcess("--server", digit_server, "--timeout", "60") as web:
        yield web


def ask(web, method, path, body=None, **headers):
    connection = http.client.HTTPConnection("127.0.0.1", web.port, timeout=PATIENCE_S)
    with contextlib.closing(connection):
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        return response.status, response.read()


@pytest.fixture
def connect(web):
    """A function that opens connections, which are closed at the end."""
    peers = []

    def connect(data, **options):
        peers.append(Peer(web.port, data, **options))
        return peers[-1]

    yield connect
    for peer in peers:
        peer.socket.close()


def reads_a_drawing(web):
    status, answer = ask(web, "POST", "/read", (PICTURES / "two_lines.jpg").read_bytes())
    return status == 200 and json.loads(answer)["text"] == TRUTH["two_lines.jpg"]


def test_forty_stalled_uploads_stay_within_the_limit_and_end_while_the_page_answers(web, connect):
    size = hostile.UPLOAD_BYTES - 100
    head = b"POST /read HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % size
    with Memory(web.process) as memory, ThreadPoolExecutor(40) as pool:
        stalled = list(pool.map(lambda _: connect(head + bytes(size - 100)), range(40)))
        assert reads_a_drawing(web)
        assert ask(web, "GET", "/healthz")[0] == 200
        wait_until(lambda: any([peer.is_closed() for peer in stalled]))  # all are asked
    assert memory.most < LIMIT_BYTES
    assert any(b"did not arrive in time" in peer.answer for peer in stalled)


@pytest.mark.slow
def test_all_honest_uploads_that_are_let_in_are_read_within_the_limit(web):
    noise = np.random.default_rng(0).integers(0, 256, (2580, 2580, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "PNG", compress_level=1)
    assert 19 * 2**20 < len(file.getvalue()) < hostile.UPLOAD_BYTES
    with Memory(web.process) as memory, ThreadPoolExecutor(34) as pool:
        answers = list(pool.map(lambda _: ask(web, "POST", "/read", file.getvalue()), range(34)))
    assert memory.most < LIMIT_BYTES
    assert {status for status, _ in answers} <= {200, 429}
    assert [status for status, _ in answers].count(200) > 2
    assert reads_a_drawing(web)


@pytest.mark.parametrize(
    "content",
    [
        hostile.at_upload_size(hostile.jpeg_of_segments, each=4),
        hostile.at_upload_size(hostile.tiff_of_directories, each=114),
    ],
    ids=["segments", "directories"],
)
def test_a_hostile_picture_is_refused_while_the_page_answers(web, content):
    with Memory(web.process) as memory, ThreadPoolExecutor(4) as pool:
        refused = [pool.submit(ask, web, "POST", "/read", content) for _ in range(4)]
        assert ask(web, "GET", "/healthz")[0] == 200
        for each in refused:
            status, answer = each.result()
            assert status == 422 and "as no camera writes" in json.loads(answer)["error"]
    assert memory.most < LIMIT_BYTES

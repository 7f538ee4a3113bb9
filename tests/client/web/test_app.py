"""The web page's server, as a browser and a stranger meet it: `python -m client web` in a process of its own."""

import base64
import contextlib
import http.client
import io
import json
from pathlib import Path

import pytest
from PIL import Image

import inkling.client.web
from tests.client.reading.test_reading import PICTURES, TRUTH
from tests.client.stub_server import StubServer
from tests.client.web.web_process import WebProcess
from tests.patience import PATIENCE_S
from tests.ports import free_port
from tools.compose_kinds import compose_kind

pytestmark = pytest.mark.process

FOLDER = Path(inkling.client.web.__file__).parent / "page"


@pytest.fixture(scope="module")
def web(digit_server):
    with WebProcess("--server", digit_server) as web:
        yield web


@pytest.fixture(scope="module")
def lonely_web():
    """A page whose model server is not there."""
    with WebProcess("--server", f"127.0.0.1:{free_port()}", "--timeout", "1") as web:
        yield web


def get(web, path, **headers):
    """(status, headers, body) of a GET."""
    return ask(web, "GET", path, headers=headers)


def ask(web, method, path, body=None, headers=None):
    connection = http.client.HTTPConnection("127.0.0.1", web.port, timeout=PATIENCE_S)
    try:
        connection.request(method, path, body, headers or {}, encode_chunked=True)
        response = connection.getresponse()
        return response.status, dict(response.getheaders()), response.read()
    finally:
        connection.close()


def post(web, body, **headers):
    status, _, answer = ask(web, "POST", "/read", body, headers)
    return status, json.loads(answer)


def test_a_picture_is_read_and_comes_with_what_the_model_saw(web):
    status, answer = post(web, (PICTURES / "two_lines.jpg").read_bytes())
    assert status == 200 and answer["text"] == TRUTH["two_lines.jpg"]
    for line in answer["lines"]:
        for digit in line["digits"]:
            assert len(base64.b64decode(digit["image"])) == 28 * 28


def test_the_page_is_whole_and_loads_nothing_from_elsewhere(web):
    status, headers, page = get(web, "/")
    assert status == 200 and headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in headers["content-security-policy"]
    for name in sorted(file.name for file in FOLDER.iterdir() if file.name != "index.html"):
        status, headers, content = get(web, f"/{name}")
        assert status == 200 and headers["x-content-type-options"] == "nosniff"
        assert b"://" not in content.replace(b"http://www.w3.org/2000/svg", b"")
    assert b"http" not in page


def test_the_model_servers_state_is_told(web, lonely_web):
    assert json.loads(get(web, "/status")[2])["available"] is True
    away = json.loads(get(lonely_web, "/status")[2])
    assert away["available"] is False and away["reason"]


def test_health_is_the_pages_own(lonely_web):
    assert get(lonely_web, "/healthz")[0] == 200


def test_a_page_on_its_side_is_read_as_the_library_reads_it(web):
    written = compose_kind("turned 270", 12)
    buffer = io.BytesIO()
    Image.fromarray(written.picture).save(buffer, "PNG")
    status, answer = post(web, buffer.getvalue())
    assert status == 200 and answer["text"] == written.text and answer["turned_degrees"] == 270


def test_a_server_that_is_away_is_said_to_be(lonely_web):
    status, answer = post(lonely_web, (PICTURES / "clean.jpg").read_bytes())
    assert status == 503 and answer["away"] is True


@pytest.mark.parametrize(
    "path",
    ["/../cli.py", "/%2e%2e/cli.py", "/page/index.html", "//etc/passwd", "/..%2f..%2fcli.py", "/static/../app.py"],
)
def test_no_path_leads_to_other_files(web, path):
    assert get(web, path)[0] == 404


@pytest.mark.parametrize(
    ("body", "message"),
    [(b"", "is empty"), (b"no picture", "cannot be read as a picture"), (b"\x89PNG\r\n\x1a\n", "")],
    ids=["empty", "text", "header only"],
)
def test_what_is_no_picture_is_refused(web, body, message):
    status, answer = post(web, body)
    assert status == 422 and message in answer["error"]


def test_too_large_a_picture_is_refused_before_it_is_read(web):
    status, answer = post(web, b"", **{"Content-Length": str(10**9)})
    assert status == 413 and "larger than 20 MB" in answer["error"]


@pytest.mark.parametrize("headers", [{}, {"Content-Length": "10"}], ids=["alone", "beside a length"])
def test_a_body_in_chunks_is_not_read(web, headers):
    chunks = (b"x" * 2**16 for _ in range(400))
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # refused before all was sent
        status, _, answer = ask(web, "POST", "/read", chunks, {"Transfer-Encoding": "chunked", **headers})
        assert status == 411 and "Content-Length" in json.loads(answer)["error"]
    assert get(web, "/healthz")[0] == 200


def test_too_many_pixels_are_refused_before_they_are_decoded(web):
    buffer = io.BytesIO()
    Image.new("1", (5000, 5000)).save(buffer, "PNG")
    assert len(buffer.getvalue()) < 10_000
    status, answer = post(web, buffer.getvalue())
    assert status == 413 and "16 megapixels" in answer["error"]


def test_other_sites_may_not_ask(web):
    status, answer = post(web, (PICTURES / "clean.jpg").read_bytes(), **{"Sec-Fetch-Site": "cross-site"})
    assert status == 403 and "own page" in answer["error"]


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://evil.example", 403),
        ("http://localhost:1", 403),
        ("null", 403),
        ("", 403),
        ("http://[", 403),
        ("http://127.0.0.1:{port}", 200),
    ],
)
def test_the_origin_of_a_request_must_be_the_page(web, origin, status):
    picture = (PICTURES / "two_lines.jpg").read_bytes()
    assert post(web, picture, Origin=origin.format(port=web.port))[0] == status


def test_the_origin_may_be_the_name_that_a_gateway_forwards(web):
    picture = (PICTURES / "two_lines.jpg").read_bytes()
    headers = {"Origin": "https://inkling.example", "X-Forwarded-Host": "inkling.example"}
    assert post(web, picture, **headers)[0] == 200


def test_places_are_those_in_the_picture_that_was_sent(web):
    with Image.open(PICTURES / "two_lines.jpg") as picture:
        small, factor = picture.convert("L"), 7
    large = small.resize((small.width * factor, small.height * factor))
    answers = []
    for each in (small, large):
        buffer = io.BytesIO()
        each.save(buffer, "PNG")
        answers.append(post(web, buffer.getvalue())[1])
    assert (answers[1]["width"], answers[1]["height"]) == large.size
    for one, other in zip(*(answer["lines"][0]["digits"] for answer in answers), strict=True):
        assert [edge * factor for edge in one["box"]] == pytest.approx(other["box"], abs=2.5 * factor)


def test_other_names_are_not_answered_on_loopback(web):
    assert get(web, "/", Host="evil.example")[0] == 400
    assert get(web, "/", Host=f"localhost:{web.port}")[0] == 200


def test_only_the_methods_meant_are_there(web):
    assert get(web, "/read")[0] == 405
    assert ask(web, "POST", "/")[0] == 405


def test_an_address_in_use_is_an_error_in_one_line(web):
    second = WebProcess("--server", "127.0.0.1:1", port=web.port)
    code, errors = second.run_to_the_end()
    assert code == 1 and "address already in use" in errors


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--server", "a,b"), "error: 'a' in a list of addresses; expected host:port"),
        (("--tls-ca", "/no/such.pem"), "error: tls ca '/no/such.pem' cannot be read"),
        (("--tls-cert", "me.pem"), "error: tls has one of certificate and key"),
    ],
    ids=["address", "authorities", "certificate"],
)
def test_what_cannot_be_right_is_said_before_it_serves(flags, message):
    code, errors = WebProcess(*flags).run_to_the_end()
    assert code == 2 and errors.startswith(message) and errors.count("\n") == 1


def test_a_token_goes_to_the_model_server_and_never_in_the_clear_unless_told(monkeypatch):
    monkeypatch.setenv("INKLING_TOKEN", "secret")
    with StubServer() as server:
        code, errors = WebProcess("--server", server.address).run_to_the_end()
        assert code == 2 and "it would cross the network in the clear" in errors
        with WebProcess("--server", server.address, "--token-over-plaintext") as web:
            assert json.loads(get(web, "/status")[2])["available"] is True
        assert dict(server.contexts[0].invocation_metadata())["authorization"] == "Bearer secret"


def test_sigterm_ends_it_in_good_order(digit_server):
    with WebProcess("--server", digit_server) as web:
        assert get(web, "/healthz")[0] == 200
    assert web.process.returncode in (0, -15)  # uvicorn closes its connections, then lets the signal have its way

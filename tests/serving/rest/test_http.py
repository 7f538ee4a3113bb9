"""HTTP around the API: routes, status codes, bodies, limits, CORS, probes. The services behind it are made up."""

import asyncio
import gzip
import http.client
import json
import select
import socket
import threading
import time
import zlib
from contextlib import ExitStack, contextmanager, suppress
from types import SimpleNamespace

import grpc
import numpy as np
import pytest
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef
from tensorflow_serving.apis.get_model_status_pb2 import GetModelStatusResponse, ModelVersionStatus

from inkling.serving.config.files import MonitoringConfig
from inkling.serving.errors import ServingError, failed_precondition, not_found
from inkling.serving.flags import ServerConfig
from inkling.serving.load_shedding import Drain
from inkling.serving.model.input_checks import InputSpec
from inkling.serving.monitoring.metrics import Metrics
from inkling.serving.rest import api
from tests.patience import PATIENCE_S


class Call:
    """An open call; it is its own model, and its signature's definition."""

    def __init__(self, spec):
        self.spec = spec
        self.model = self

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        pass

    def signature(self, name):
        if name not in ("", "double"):
            raise failed_precondition(f'Serving signature key "{name}" not found.')
        definition = SignatureDef()
        definition.inputs["x"].dtype = types_pb2.DT_FLOAT
        definition.inputs["x"].tensor_shape.unknown_rank = True
        spec = InputSpec.of("x", definition.inputs["x"], definition)
        return SimpleNamespace(definition=definition, inputs=(spec,), trailing_ones_optional=False)

    def shape_check(self, signature):
        return lambda alias, shape: None


class Services:
    """Both services, with a model for each behaviour: `double` works, `slow` never ends, a status code's name fails."""

    def __init__(self):
        self.reasons = []
        self.specs = []
        self.entered = threading.Event()
        self.cancelled = threading.Event()

    def not_ready(self):
        return self.reasons

    def call(self, api, spec):
        self.specs.append(spec)
        if spec.name in grpc.StatusCode.__members__:
            raise ServingError(grpc.StatusCode[spec.name], f"it is {spec.name}")
        if spec.name not in ("double", "slow", "broken"):
            raise not_found(f"Servable not found for request: Latest({spec.name})")
        return Call(spec)

    async def predict_arrays(self, call, signature_name, inputs):
        if call.spec.name == "broken":
            raise RuntimeError("our mistake")
        if call.spec.name == "slow":
            self.entered.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.cancelled.set()
                raise
        return {"y": inputs["x"] * 2}

    async def get_model_status(self, request):
        response = GetModelStatusResponse()
        response.model_version_status.add(version=1, state=ModelVersionStatus.AVAILABLE)
        return response


class Server:
    def __init__(self, rest, services, drain, metrics, loop):
        self.rest, self.services, self.drain, self.metrics, self.loop = rest, services, drain, metrics, loop

    def ask(self, method, path, body=None, headers=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.rest.port, timeout=PATIENCE_S)
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        response.body = response.read()
        connection.close()
        return response

    def predict(self, body, model="double", headers=None):
        return self.ask("POST", f"/v1/models/{model}:predict", body, headers)

    def raw(self, data):
        """The answer to any bytes at all."""
        with socket.create_connection(("127.0.0.1", self.rest.port), timeout=PATIENCE_S) as connection:
            connection.sendall(data)
            answer = b""
            while chunk := connection.recv(65536):
                answer += chunk
                if b"\r\n\r\n" in answer:
                    break
        return answer


@contextmanager
def serving(monitoring=None, **flags):
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    services, drain, metrics = Services(), Drain(), Metrics()
    backend = api.Backend(predictions=services, models=services, drain=drain, metrics=metrics)
    config = ServerConfig(rest_api_port=0, **flags)
    rest = asyncio.run_coroutine_threadsafe(api.start(config, backend, monitoring), loop).result(30)
    try:
        yield Server(rest, services, drain, metrics, loop)
    finally:
        asyncio.run_coroutine_threadsafe(rest.stop(1), loop).result(30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@pytest.fixture(scope="module")
def server():
    monitoring = MonitoringConfig(enable=True, path="/monitoring/prometheus/metrics")
    with serving(monitoring, rest_api_max_body_mb=1, rest_api_max_json_depth=8) as server:
        yield server


def error_of(response):
    assert response.headers["Content-Type"].startswith("application/json")
    return json.loads(response.body)["error"]


def test_a_prediction_has_the_real_servers_layout_and_type(server):
    response = server.predict('{"instances": [1.5, 2]}')
    assert response.status == 200 and response.body == b'{\n    "predictions": [3.0, 4.0\n    ]\n}'
    assert response.headers["Content-Type"] == "application/json"


def test_both_kinds_of_localhost_are_answered(server):
    for address in ("127.0.0.1", "::1"):
        try:
            connection = http.client.HTTPConnection(address, server.rest.port, timeout=PATIENCE_S)
            connection.request("GET", "/healthz")
        except OSError:
            assert address == "::1"
            pytest.skip("no IPv6 here")
        assert connection.getresponse().status == 200
        connection.close()


@pytest.mark.parametrize(
    ("path", "name", "version", "label"),
    [
        ("/v1/models/double:predict", "double", 0, ""),
        ("/V1/Models/double/Versions/0012:predict", "double", 12, ""),
        ("/v1/models/double/labels/st%61ble:predict", "double", 0, "stable"),
        ("/v1/models/d%6Fuble:predict?query=1", "double", 0, ""),
    ],
)
def test_routes_name_model_version_and_label(server, path, name, version, label):
    assert server.ask("POST", path, '{"inputs": 1}').status == 200
    spec = server.services.specs[-1]
    assert (spec.name, spec.version.value, spec.version_label) == (name, version, label)


@pytest.mark.parametrize(
    ("method", "path", "message"),
    [
        ("GET", "/v1/foo", "Malformed request: GET /v1/foo"),
        ("POST", "/v1/models", "Malformed request: POST /v1/models"),
        ("GET", "/v1/models/foo:predict", "Malformed request: GET /v1/models/foo:predict"),
        ("GET", "/v1/models/a/b", "Malformed request: GET /v1/models/a/b"),
        ("POST", "/v1/models/foo/version/50:predict", "Malformed request: POST /v1/models/foo/version/50:predict"),
        ("POST", "/v1/models/foo/versions/HI:regress", "Malformed request: POST /v1/models/foo/versions/HI:regress"),
        ("POST", "/v1/models/foo/metadata", "Malformed request: POST /v1/models/foo/metadata"),
        ("POST", "/v1/models/foo:PREDICT", "Malformed request: POST /v1/models/foo:PREDICT"),
        ("PUT", "/v1/models/foo:predict", "Malformed request: PUT /v1/models/foo:predict"),
        ("GET", "/v1/models", "Missing model name in request."),
        ("GET", "/v1/models/", "Malformed request: GET /v1/models/"),
        (
            "POST",
            "/v1/models/foo/versions/18446744073709551615:regress",
            "Failed to convert version: 18446744073709551615 to numeric.",
        ),
        ("GET", f"/v1/models/foo/versions/{'9' * 5000}", f"Failed to convert version: {'9' * 5000} to numeric."),
    ],
    ids=lambda value: value[:50],
)
def test_other_paths_below_v1_are_malformed(server, method, path, message):
    response = server.ask(method, path)
    assert response.status == 400 and error_of(response) == message


@pytest.mark.parametrize("path", ["/", "/v1", "/index.html", "/v2/models/double", "//v1/models/double"])
def test_elsewhere_there_is_nothing(server, path):
    response = server.ask("GET", path)
    assert response.status == 404 and b"404 Not Found" in response.body
    assert response.headers["Content-Type"].startswith("text/html")


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK])
def test_every_status_code_has_its_http_status(server, code):
    expected = {
        "CANCELLED": 499, "UNKNOWN": 500, "INVALID_ARGUMENT": 400, "DEADLINE_EXCEEDED": 504, "NOT_FOUND": 404,
        "ALREADY_EXISTS": 409, "PERMISSION_DENIED": 403, "RESOURCE_EXHAUSTED": 429, "FAILED_PRECONDITION": 400,
        "ABORTED": 409, "OUT_OF_RANGE": 400, "UNIMPLEMENTED": 501, "INTERNAL": 500, "UNAVAILABLE": 503,
        "DATA_LOSS": 500, "UNAUTHENTICATED": 401,
    }  # fmt: skip
    response = server.predict('{"instances": [1]}', model=code.name)
    assert response.status == expected[code.name] and error_of(response) == f"it is {code.name}"


def test_an_unknown_model_is_looked_for_after_the_json_is_read(server):
    assert error_of(server.predict("{", model="nothing")).startswith("JSON Parse error")
    response = server.predict('{"instances": [1]}', model="nothing")
    assert response.status == 404 and error_of(response) == "Servable not found for request: Latest(nothing)"


def test_an_unknown_signature_is_the_callers_mistake(server):
    response = server.predict('{"signature_name": "other", "instances": [1]}')
    assert response.status == 400
    assert error_of(response) == 'Serving signature name: "other" not found in signature def'


@pytest.mark.parametrize(
    "body",
    [
        b'{"signature_name": "\xff", "instances": [1]}',
        b'{"signature_name": "\\ud800", "instances": [1]}',
        b'{"instances": ["\\ud800"]}',
        b'{"instances": ["\xff"]}',
        b'{"examples": [{"\xff": 1}]}',
        b'"\\udfff"',
    ],
)
def test_text_that_is_no_unicode_is_the_callers_mistake(server, body):
    for verb in ("predict", "classify"):
        response = server.ask("POST", f"/v1/models/double:{verb}", body)
        assert response.status == 400 and error_of(response)


def test_our_own_mistake_is_a_500_without_details(server):
    response = server.predict('{"instances": [1]}', model="broken")
    assert response.status == 500 and "our mistake" not in response.body.decode()
    assert server.predict('{"instances": [1]}').status == 200


def test_a_status_is_readable(server):
    response = server.ask("GET", "/v1/models/double/versions/1")
    assert response.status == 200
    assert json.loads(response.body)["model_version_status"][0]["version"] == "1"


def test_gzip_bodies_are_unpacked(server):
    body = gzip.compress(b'{"instances": [1]}')
    assert server.predict(body, headers={"Content-Encoding": "gzip"}).status == 200
    two_members = gzip.compress(b'{"instances":') + gzip.compress(b" [1]}")
    assert server.predict(two_members, headers={"Content-Encoding": "gzip"}).status == 200


@pytest.mark.parametrize(
    ("body", "encoding", "message"),
    [
        (b"not gzip", "gzip", "Request body is not valid gzip: "),
        (
            gzip.compress(b'{"instances": [1]}', mtime=0)[:-6],
            "gzip",
            "Request body is not valid gzip: it ends too early",
        ),
        (b"", "gzip", "Request body is not valid gzip: it ends too early"),
        (b"{}", "br", "Content-Encoding 'br' is not supported; send the body as it is, or with gzip"),
        (zlib.compress(b"{}"), "deflate", "Content-Encoding 'deflate' is not supported; "),
    ],
)
def test_a_broken_encoding_is_named(server, body, encoding, message):
    response = server.predict(body, headers={"Content-Encoding": encoding})
    assert response.status == 400 and error_of(response).startswith(message)


def test_a_gzip_bomb_is_stopped_at_the_limit(server):
    bomb = gzip.compress(bytes(200_000_000), 1)
    response = server.predict(bomb, headers={"Content-Encoding": "gzip"})
    assert response.status == 413 and "larger than 1000000 bytes (--rest_api_max_body_mb)" in error_of(response)


def test_bodies_over_the_limit_are_refused_before_they_are_read(server):
    head = b"POST /v1/models/double:predict HTTP/1.1\r\nHost: x\r\nContent-Length: 2000000\r\n\r\n"
    assert server.raw(head).startswith(b"HTTP/1.1 413 ")


def test_a_caller_that_asks_before_it_sends_is_told_to(server):
    body = b'{"instances": [1]}'
    head = f"POST /v1/models/double:predict HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: {len(body)}"
    with socket.create_connection(("127.0.0.1", server.rest.port), timeout=PATIENCE_S) as connection:
        connection.sendall(f"{head}\r\n\r\n".encode())
        assert connection.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(body)
        assert connection.recv(1000).startswith(b"HTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize("framing", ["Transfer-Encoding: chunked", "Content-Length: 1000"])
def test_a_body_that_breaks_off_is_not_our_mistake(server, caplog, framing):
    with socket.create_connection(("127.0.0.1", server.rest.port), timeout=PATIENCE_S) as connection:
        connection.sendall(f"POST /v1/models/double:predict HTTP/1.1\r\nHost: x\r\n{framing}\r\n\r\n5\r\n".encode())
        connection.shutdown(socket.SHUT_WR)
        connection.recv(1000)
    assert server.predict('{"instances": [1]}').status == 200
    assert "Traceback" not in caplog.text and "failed" not in caplog.text


def test_bodies_that_are_too_much_together_are_refused_and_forgotten(server):
    head = b"POST /v1/models/double:predict HTTP/1.1\r\nHost: x\r\nContent-Length: 999999\r\n\r\n"
    with ExitStack() as stack:
        connections = [
            stack.enter_context(socket.create_connection(("127.0.0.1", server.rest.port), timeout=PATIENCE_S))
            for _ in range(3)
        ]
        for connection in connections:
            connection.sendall(head + b" " * 900_000)
        ready, _, _ = select.select(connections, [], [], PATIENCE_S)
        assert ready[0].recv(1000).startswith(b"HTTP/1.1 503 ")
    deadline = time.monotonic() + PATIENCE_S
    while (status := server.predict(b'{"instances": [1]}' + b" " * 900_000).status) != 200:
        assert status == 503 and time.monotonic() < deadline


def test_a_chunked_body_over_the_limit_is_refused(server):
    chunks = (b"x" * 100_000 for _ in range(30))
    connection = http.client.HTTPConnection("127.0.0.1", server.rest.port, timeout=PATIENCE_S)
    with suppress(BrokenPipeError, ConnectionResetError):  # it does not wait for the rest
        headers = {"Transfer-Encoding": "chunked"}
        connection.request("POST", "/v1/models/double:predict", chunks, headers, encode_chunked=True)
    assert connection.getresponse().status == 413
    connection.close()


def test_json_that_would_fill_the_memory_is_refused(server):
    response = server.predict('{"instances": [' + "[]," * 300_000 + "[]]}")
    assert response.status == 413 and "too many lists and values" in error_of(response)


def test_deep_nesting_is_refused(server):
    for depth in (9, 70, 2000, 200_000):
        response = server.predict('{"instances": ' + "[" * depth + "1" + "]" * depth + "}")
        assert response.status == 400 and "nested" in error_of(response)


def test_large_bodies_and_answers_are_right_too():
    with serving() as server:
        numbers = np.arange(400_000) / 8
        response = server.predict(json.dumps({"instances": numbers.tolist()}))
        assert json.loads(response.body)["predictions"] == (numbers * 2).tolist()


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n" + b"a: b\r\n" * 10_000 + b"\r\n",
        b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: " + b"x" * 100_000 + b"\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"POST /v1/models/double:predict HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
        b"POST /v1/models/double:predict HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
    ids=["headers", "line", "header", "tls", "http2", "length", "chunk"],
)
def test_what_is_not_http_is_refused_and_the_next_request_answered(server, data):
    assert server.raw(data)[:12] in (b"HTTP/1.1 400", b"HTTP/1.0 400", b"HTTP/1.1 431")
    assert server.predict('{"instances": [1]}').status == 200


def test_preflights_need_an_origin(server):
    assert server.ask("OPTIONS", "/v1/models/double:predict", headers={"Origin": "http://a.b"}).status == 200
    response = server.ask("OPTIONS", "/v1/models/double:predict")
    assert response.status == 400 and error_of(response) == "Origin header is missing in CORS preflight"
    assert "Access-Control-Allow-Origin" not in response.headers


def test_cors_headers_come_with_their_flag():
    with serving(rest_api_enable_cors_support=True) as server:
        for response in (
            server.ask("OPTIONS", "/v1/models/double:predict", headers={"Origin": "https://a.b"}),
            server.predict('{"instances": [1]}'),
            server.predict("{"),
        ):
            assert response.headers["Access-Control-Allow-Origin"] == "*"
            assert response.headers["Access-Control-Allow-Methods"] == "POST, GET"
            assert response.headers["Access-Control-Allow-Headers"] == "Content-Type"


def test_a_request_that_takes_too_long_is_given_up():
    with serving(rest_api_timeout_in_ms=100) as server:
        response = server.predict('{"instances": [1]}', model="slow")
        assert response.status == 504 and "--rest_api_timeout_in_ms" in error_of(response)
        assert server.services.cancelled.wait(PATIENCE_S)


@pytest.mark.parametrize("model", ["double", "broken", "unknown"])
def test_a_caller_that_closes_its_own_direction_gets_its_response(server, model):
    body = b'{"instances": [1]}'
    head = f"POST /v1/models/{model}:predict HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.rest.port), timeout=PATIENCE_S) as connection:
        connection.sendall(head.encode() + body)
        connection.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))  # to the end: the server closes its own
    status = {"double": b"200 OK", "broken": b"500 Internal Server Error", "unknown": b"404 Not Found"}[model]
    assert answer.startswith(b"HTTP/1.1 " + status) and answer.endswith(b"}")


def test_a_caller_that_closes_its_own_direction_and_waits_is_told_that_it_goes_on(monkeypatch):
    monkeypatch.setattr("inkling.serving.rest.connections.PROBE_S", 0.05)
    with serving(rest_api_timeout_in_ms=500) as server:
        body = b'{"instances": [1]}'
        head = f"POST /v1/models/slow:predict HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
        with socket.create_connection(("127.0.0.1", server.rest.port), timeout=PATIENCE_S) as connection:
            connection.sendall(head.encode() + body)
            connection.shutdown(socket.SHUT_WR)
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
    before, _, response = answer.rpartition(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert set(before.split(b"\r\n")) <= {b"HTTP/1.1 100 Continue", b""}
    assert response.startswith(b"HTTP/1.1 504 ")


def test_a_caller_that_closes_before_it_has_sent_its_request_gets_none(server):
    head = b"POST /v1/models/double:predict HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{"
    with socket.create_connection(("127.0.0.1", server.rest.port), timeout=PATIENCE_S) as connection:
        connection.sendall(head)
        connection.shutdown(socket.SHUT_WR)
        connection.recv(1000)
    assert server.predict('{"instances": [1]}').status == 200


def test_responses_do_not_say_what_the_server_is_made_of(server):
    for response in (
        server.predict('{"instances": [1]}').headers.items(),
        server.ask("GET", "/healthz").headers.items(),
        server.ask("GET", "/nowhere").headers.items(),
    ):
        assert "Server" not in dict(response)
    assert b"aiohttp" not in server.raw(b"no http at all\r\n\r\n")


def test_a_request_whose_caller_has_gone_is_cancelled():
    with serving() as server:
        body = b'{"instances": [1]}'
        with socket.create_connection(("127.0.0.1", server.rest.port)) as connection:
            head = f"POST /v1/models/slow:predict HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
            connection.sendall(head.encode() + body)
            assert server.services.entered.wait(PATIENCE_S)
        assert server.services.cancelled.wait(PATIENCE_S)
        deadline = time.monotonic() + PATIENCE_S
        while b'request_count{model_name="slow",status="CANCELLED"} 1' not in server.metrics.exposition():
            assert time.monotonic() < deadline


def test_probes_tell_alive_and_ready():
    with serving() as server:
        assert server.ask("GET", "/healthz").status == 200 and server.ask("HEAD", "/readyz").status == 200
        server.services.reasons = ["model m has no available version"]
        response = server.ask("GET", "/readyz")
        assert response.status == 503 and b"model m has no available version" in response.body
        server.services.reasons = []
        server.drain.begin()
        assert server.ask("GET", "/readyz").status == 503 and server.ask("GET", "/healthz").status == 200
        assert server.predict('{"instances": [1]}').headers["Connection"] == "close"


def test_metrics_are_on_the_configured_path_only(server):
    server.predict('{"instances": [1]}')
    response = server.ask("GET", "/monitoring/prometheus/metrics")
    assert response.headers["Content-Type"].startswith("text/plain")
    assert b':request_latency_count{model_name="double",API="predict",entrypoint="REST"}' in response.body
    with serving(MonitoringConfig(enable=True, path="/m")) as other:
        assert other.ask("GET", "/m").status == 200
        assert other.ask("GET", "/monitoring/prometheus/metrics").status == 404
    with serving() as without:
        assert without.ask("GET", "/monitoring/prometheus/metrics").status == 404


def test_a_callers_request_id_comes_back(server):
    response = server.predict('{"instances": [1]}', headers={"X-Request-Id": "abc-1"})
    assert response.headers["X-Request-Id"] == "abc-1"


def test_stopping_takes_no_more_connections_and_gives_up_after_its_grace():
    with serving() as server:
        failures = []

        def ask():
            try:
                server.predict('{"instances": [1]}', model="slow")
            except http.client.HTTPException as error:
                failures.append(error)

        caller = threading.Thread(target=ask)
        caller.start()
        assert server.services.entered.wait(PATIENCE_S)
        asyncio.run_coroutine_threadsafe(server.rest.stop(0.2), server.loop).result(10)
        caller.join(10)
        assert failures and server.services.cancelled.is_set()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", server.rest.port))

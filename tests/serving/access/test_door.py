"""What a server with keys says on both ports: headers, limits, changed files, the audit log, and no key anywhere."""

import http.client
import json
import ssl
import urllib.request

import grpc
import numpy as np
import pytest
from tensorflow_serving.apis import (
    get_model_status_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    prediction_service_pb2_grpc,
)

from inkling.serving import cli
from inkling.serving.access.callers import Limits
from inkling.serving.access.keys import line_of, make_key
from tests.client.certificates import Authority
from tests.patience import PATIENCE_S, wait_until
from tests.server_process import ServerProcess
from tests.serving.conftest import predict_request

pytestmark = pytest.mark.process

STATUS = "/v1/models/scale"


@pytest.fixture(scope="module")
def keys():
    """Keys by name; those of `hasty` and `busy` have limits."""
    return {name: make_key(name) for name in ("alice", "hasty", "busy", "root", "later")}


@pytest.fixture(scope="module")
def folder(tmp_path_factory, keys):
    folder = tmp_path_factory.mktemp("door")
    lines = [line_of(keys["alice"]), line_of(keys["hasty"], Limits(0.001)), line_of(keys["busy"], Limits(0, 2))]
    (folder / "keys.txt").write_text("\n".join(lines))
    (folder / "admins.txt").write_text(line_of(keys["root"]))
    (folder / "monitoring.config").write_text("prometheus_config { enable: true }")
    return folder


@pytest.fixture(scope="module")
def server(repository, folder, keys):
    flags = [f"--api_keys_file={folder / 'keys.txt'}", f"--admin_api_keys_file={folder / 'admins.txt'}"]
    flags += ["--metrics_need_key", f"--audit_log_file={folder / 'audit'}", "--log_format=json"]
    flags += ["--rest_api_enable_cors_support", "--allow_model_control", "--drain_seconds=1"]
    flags += [f"--monitoring_config_file={folder / 'monitoring.config'}"]
    with ServerProcess("--model_name=scale", f"--model_base_path={repository / 'scale'}", *flags) as server:
        yield server
        everything = server.log_text() + (folder / "audit").read_text()
        assert not [name for name, key in keys.items() if key in everything or key[-20:] in everything]


@pytest.fixture
def channel(server):
    with grpc.insecure_channel(server.address) as channel:
        yield channel


def ask(server, path=STATUS, *, method="GET", body=None, **headers):
    """Status, headers and text of an HTTP request; underscores in names of headers are hyphens."""
    connection = http.client.HTTPConnection("127.0.0.1", server.rest_port, timeout=PATIENCE_S)
    connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
    response = connection.getresponse()
    text = response.read().decode()
    connection.close()
    return response.status, response.headers, text


def status_request():
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = "scale"
    return request


def status_of(channel, *metadata):
    """The error of a GetModelStatus; None if there is none."""
    try:
        model_service_pb2_grpc.ModelServiceStub(channel).GetModelStatus(
            status_request(), metadata=metadata, timeout=PATIENCE_S
        )
    except grpc.RpcError as error:
        return error
    return None


@pytest.mark.parametrize(
    ("name", "form"),
    [("authorization", "Bearer {}"), ("authorization", "bearer  {} "), ("x-api-key", "{}")],
    ids=["bearer", "blanks", "x-api-key"],
)
def test_a_key_is_taken_in_either_header_on_both_ports(server, channel, keys, name, form):
    value = form.format(keys["alice"])
    assert ask(server, **{name: value})[0] == 200
    assert status_of(channel, (name, value)) is None


def test_the_key_s_own_header_counts_beside_a_proxy_s_authorization(server, channel, keys):
    assert ask(server, authorization="Basic eDp5", x_api_key=keys["alice"])[0] == 200
    assert status_of(channel, ("authorization", "Bearer other"), ("x-api-key", keys["alice"])) is None


@pytest.mark.parametrize("header", ["x-api-key", "authorization"])
def test_of_several_keys_the_first_one_counts_on_both_ports(server, channel, keys, header):
    good, wrong = (f"Bearer {key}" if header == "authorization" else key for key in (keys["alice"], "other"))
    for pair, is_let_in in (((good, wrong), True), ((wrong, good), False)):
        connection = http.client.HTTPConnection("127.0.0.1", server.rest_port, timeout=PATIENCE_S)
        connection.putrequest("GET", STATUS)
        for value in pair:
            connection.putheader(header, value)
        connection.endheaders()
        assert connection.getresponse().status == (200 if is_let_in else 401)
        connection.close()
        assert (status_of(channel, *((header, value) for value in pair)) is None) is is_let_in


def test_without_a_key_both_ports_say_how_to_send_one(server, channel):
    status, headers, text = ask(server)
    assert status == 401 and headers["WWW-Authenticate"] == 'Bearer realm="models"'
    error = status_of(channel)
    assert error.code() is grpc.StatusCode.UNAUTHENTICATED
    assert dict(error.trailing_metadata())["www-authenticate"] == 'Bearer realm="models"'
    assert error.details() == json.loads(text)["error"]
    assert error.details().startswith("neither a key nor a token came with the request; send one as 'authorization: ")


def test_the_log_says_that_keys_come_in_the_clear(server):
    assert "keys and tokens come in the clear" in server.log_text()
    assert "give --ssl_config_file and --rest_ssl_config_file, or" in server.log_text()


def test_a_wrong_key_is_not_repeated(server, channel, keys):
    wrong = f"{keys['alice']}x"
    status, headers, text = ask(server, x_api_key=wrong)
    assert status == 401 and headers["WWW-Authenticate"].endswith('error="invalid_token"') and wrong not in text
    assert status_of(channel, ("x-api-key", wrong)).details() == "the key is not one of this server's"


def test_a_refused_body_is_not_waited_for(server):
    connection = http.client.HTTPConnection("127.0.0.1", server.rest_port, timeout=PATIENCE_S)
    connection.putrequest("POST", f"{STATUS}:predict")
    connection.putheader("Content-Length", "100000000")
    connection.endheaders()
    assert connection.getresponse().status == 401
    connection.close()


def test_a_refused_message_is_not_read(server, channel):
    call = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
    with pytest.raises(grpc.RpcError) as caught:
        call(b"x" * (3 << 20), timeout=PATIENCE_S)
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_a_caller_over_its_rate_is_told_when_to_come_back(server, channel, keys):
    assert ask(server, x_api_key=keys["hasty"])[0] == 200
    status, headers, text = ask(server, x_api_key=keys["hasty"])
    assert status == 429 and int(headers["Retry-After"]) > 900 and "hasty may send 0.001 requests a second" in text
    error = status_of(channel, ("x-api-key", keys["hasty"]))
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert int(dict(error.trailing_metadata())["retry-after"]) > 900


def test_requests_in_hand_are_counted_over_both_ports(server, channel, keys):
    """One request's body stays away: it is in hand as long as the caller holds it."""
    held = []
    for _ in range(2):
        connection = http.client.HTTPConnection("127.0.0.1", server.rest_port, timeout=PATIENCE_S)
        connection.putrequest("POST", f"{STATUS}:predict")
        connection.putheader("X-Api-Key", keys["busy"])
        connection.putheader("Content-Length", "20")
        connection.endheaders()
        held.append(connection)
    wait_until(lambda: ask(server, x_api_key=keys["busy"])[0] == 429)
    error = status_of(channel, ("x-api-key", keys["busy"]))
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert error.details() == "busy has 2 requests in hand and may have 2; wait for one to end"
    assert dict(error.trailing_metadata())["retry-after"] == "1"
    for connection in held:
        connection.close()
    wait_until(lambda: status_of(channel, ("x-api-key", keys["busy"])) is None)


def test_a_held_caller_s_requests_are_answered(server, channel, keys):
    predict = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict
    metadata = (("x-api-key", keys["busy"]),)
    for _ in range(5):
        response = predict(predict_request("scale", {"x": np.float32([3])}), metadata=metadata, timeout=PATIENCE_S)
        assert list(response.outputs["y"].float_val) == [6.0]


def test_a_key_that_is_added_counts_soon_and_one_that_is_taken_away_no_more(server, folder, keys):
    before = (folder / "keys.txt").read_text()
    assert ask(server, x_api_key=keys["later"])[0] == 401
    (folder / "keys.txt").write_text(f"{before}\n{line_of(keys['later'])}")
    wait_until(lambda: ask(server, x_api_key=keys["later"])[0] == 200)
    (folder / "keys.txt").write_text("nonsense")
    wait_until(lambda: "what it said before still counts" in server.log_text())
    assert ask(server, x_api_key=keys["later"])[0] == 200
    (folder / "keys.txt").write_text(before)
    wait_until(lambda: ask(server, x_api_key=keys["later"])[0] == 401)
    assert ask(server, x_api_key=keys["alice"])[0] == 200


def test_the_metrics_take_a_key_where_asked_and_count_refusals(server, keys):
    path = "/monitoring/prometheus/metrics"
    assert ask(server, path)[0] == 401
    status, _, text = ask(server, path, authorization=f"Bearer {keys['alice']}")
    assert status == 200 and 'inkling_serving_refused_total{entrypoint="REST",code="UNAUTHENTICATED"}' in text


def test_pages_of_other_origins_learn_that_they_may_send_a_key_and_read_refusals(server):
    status, headers, _ = ask(server, method="OPTIONS", Origin="https://page.test")
    assert status == 200
    assert headers["Access-Control-Allow-Headers"] == "Content-Type, Authorization, X-Api-Key"
    assert ask(server)[1]["Access-Control-Allow-Origin"] == "*"


def test_the_log_has_a_line_for_a_refusal_under_the_caller_s_id(server):
    assert ask(server, X_Request_Id="refused-1")[1]["X-Request-Id"] == "refused-1"
    wait_until(lambda: '"request_id": "refused-1"' in server.log_text())
    line = next(line for line in server.log_text().splitlines() if "refused-1" in line)
    assert json.loads(line)["code"] == "UNAUTHENTICATED"


def audited(folder):
    return [json.loads(line) for line in (folder / "audit").read_text().splitlines()]


def reload(channel, path, key):
    request = model_management_pb2.ReloadConfigRequest()
    request.config.model_config_list.config.add(name="scale", base_path=path, model_platform="tensorflow")
    stub = model_service_pb2_grpc.ModelServiceStub(channel)
    stub.HandleReloadConfigRequest(request, metadata=(("x-api-key", key),), timeout=PATIENCE_S)


def test_administration_is_written_down_whatever_came_of_it(server, channel, folder, keys, repository):
    seen = len(audited(folder))
    good = str(repository / "scale")
    reload(channel, good, keys["root"])
    for path, key in (("relative", keys["root"]), (good, keys["alice"]), (good, "ink_root_wrong")):
        with pytest.raises(grpc.RpcError):
            reload(channel, path, key)
    load = "/v2/repository/models/scale/load"
    assert ask(server, load, method="POST", x_api_key=keys["root"])[0] == 200
    assert ask(server, load, method="POST", x_api_key=keys["alice"])[0] == 403
    wait_until(lambda: len(audited(folder)) == seen + 6)
    lines = audited(folder)[seen:]
    assert [(line["caller"], line["kind"], line["outcome"]) for line in lines] == [
        ("root", "key", "OK"),
        ("root", "key", "INVALID_ARGUMENT"),
        ("alice", "key", "PERMISSION_DENIED"),
        ("", "nobody", "UNAUTHENTICATED"),
        ("root", "key", "OK"),
        ("alice", "key", "PERMISSION_DENIED"),
    ]
    assert lines[0]["about"] == f"scale={good}" and lines[0]["call"] == "HandleReloadConfigRequest"
    assert "Expected model scale to have an absolute path" in lines[1]["message"]
    assert lines[2]["message"] == "alice is no administrator, which HandleReloadConfigRequest takes"
    assert lines[4]["call"] == f"POST {load}" and lines[4]["peer"] == "127.0.0.1"
    assert lines[0]["peer"].startswith("ipv4:127.0.0.1:")


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (["--api_keys_file=/nowhere"], "/nowhere cannot be used: No such file or directory"),
        (["--api_keys_file=/etc/hostname"], "/etc/hostname cannot be used: line 1: "),
        (["--jwt_jwks=/j", "--jwt_issuer=i"], "missing: jwt_audience"),
        (["--admin_jwt_scope=s"], "missing: jwt_jwks, jwt_issuer, jwt_audience"),
        (["--metrics_need_key"], "give --api_keys_file or --jwt_jwks too"),
        (["--key_concurrent_requests=1"], "give --api_keys_file or --jwt_jwks too"),
    ],
)
def test_flags_that_cannot_keep_anybody_out_end_the_start(flags, text, capsys):
    assert cli.main(["--model_base_path=/m", *flags]) == 255
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("Failed to start server. Error: INVALID_ARGUMENT: ") and text in error


def test_the_real_binary_is_not_started_without_the_keys_it_cannot_ask_for(tmp_path, monkeypatch, capsys):
    binary = tmp_path / "tensorflow_model_server"
    binary.write_text("#!/bin/sh\n")
    binary.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert cli.main(["--engine=auto", "--model_base_path=/m", "--enable_admin=false", "--api_keys_file=k"]) == 255
    assert "has no --api_keys_file, --enable_admin, and would be open without" in capsys.readouterr().err


@pytest.fixture(scope="module")
def authority():
    return Authority()


def write_ssl_config(file, authority, *, verify):
    key, certificate = (text.decode() for text in authority.issue("localhost"))
    quoted = {"server_key": key, "server_cert": certificate, "custom_ca": authority.pem().decode()}
    lines = [f"{name}: {json.dumps(text)}" for name, text in quoted.items()]
    file.write_text("\n".join([*lines, f"client_verify: {str(verify).lower()}"]))
    return file


def get(server, context):
    with urllib.request.urlopen(
        f"https://localhost:{server.rest_port}{STATUS}", context=context, timeout=PATIENCE_S
    ) as r:
        return r.status


@pytest.mark.parametrize("verify", [False, True], ids=["server's certificate", "mutual"])
def test_rest_speaks_tls(repository, authority, tmp_path, verify):
    config = write_ssl_config(tmp_path / "ssl.txt", authority, verify=verify)
    flags = [f"--rest_ssl_config_file={config}", "--drain_seconds=1"]
    trusting = ssl.create_default_context(cadata=authority.pem().decode())
    known = ssl.create_default_context(cadata=authority.pem().decode())
    key, certificate = authority.issue("client")
    (tmp_path / "client.pem").write_bytes(key + certificate)
    known.load_cert_chain(tmp_path / "client.pem")
    with ServerProcess("--model_name=scale", f"--model_base_path={repository / 'scale'}", *flags) as server:
        assert get(server, known) == 200
        for context in [ssl.create_default_context(), *([trusting] if verify else [])]:
            with pytest.raises(OSError, match=r"CERTIFICATE|certificate|closed|reset|EOF"):
                get(server, context)
        assert verify or get(server, trusting) == 200
        with pytest.raises((http.client.HTTPException, OSError)):
            ask(server)
        assert "Traceback" not in server.log_text() and "no effect when using ssl" not in server.log_text()


def test_a_certificate_that_is_none_ends_the_start(tmp_path, repository):
    (tmp_path / "ssl.txt").write_text('server_key: "k" server_cert: "c"')
    flags = [f"--rest_ssl_config_file={tmp_path / 'ssl.txt'}", f"--model_base_path={repository / 'scale'}"]
    with ServerProcess(*flags, ready=False) as server:
        assert server.process.wait(PATIENCE_S) == 255
        assert "The certificates of --rest_ssl_config_file are not usable" in server.log_text()

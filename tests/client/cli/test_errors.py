"""The command line when something is wrong: one line on standard error, and the exit status."""

import os
import signal
import time

import grpc
import numpy as np
import pytest

from inkling.client.cli import main
from inkling.client.protocol import wire_pb2 as wire
from tests.client.cli.command_line import ROOT, process, run
from tests.client.stub_server import StubServer, failing, status_response
from tests.patience import PATIENCE_S


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["status", "--server", "127.0.0.1:1", "--timeout", "2"], 3, "is the server running there?"),
        (["bench", "--server", "127.0.0.1:1", "--timeout", "2"], 3, "is the server running there?"),
        (["predict", "/no/such.npy"], 1, "error: /no/such.npy: No such file or directory\n"),
        (["predict", str(ROOT / "pyproject.toml")], 2, "pyproject.toml is not a .npy file of numbers"),
        (["predict", "{zip}"], 2, "zip.npy is not a .npy file of numbers"),
        (["status", "--server", "a,b"], 2, "'a' in a list of addresses; expected host:port"),
        (["status", "--server", "\udcff:80"], 2, "address '\\udcff:80'; expected host:port"),
        (["status", "--model", "\udcff"], 2, "'\\udcff' cannot be sent: not valid Unicode"),
        (["metadata", "--model-version", "1180591620717411303424"], 2, "expected an integer of 64 bits"),
        (
            ["wait", "--server", "127.0.0.1:1,no-such-host.invalid:1", "--timeout", "0.5"],
            3,
            "not ready after 0.5 s: 'no",
        ),
        (["status", "--tls-cert", "x"], 2, "one of certificate and key"),
        (["status", "--tls-ca", "/no/such.pem"], 2, "tls ca '/no/such.pem' cannot be read"),
    ],
)
def test_errors_are_one_line_and_have_a_status(arguments, status, message, capsys, monkeypatch, tmp_path):
    monkeypatch.delenv("INKLING_SERVER", raising=False)
    (tmp_path / "zip.npy").write_bytes(b"PK\x03\x04 and no more")
    arguments = [argument.format(zip=tmp_path / "zip.npy") for argument in arguments]
    found, output, errors = run(capsys, *arguments)
    assert (found, output) == (status, "")
    assert message in errors and errors.startswith("error: ") and errors.count("\n") == 1


def test_the_servers_refusal_is_a_failure(server, array, tmp_path, capsys):
    server.behaviours["Predict"] = failing((grpc.StatusCode.NOT_FOUND, "Servable not found for request: Latest(mnist)"))
    status, output, errors = run(capsys, "predict", array)
    assert (status, output) == (1, "") and "Servable not found for request: Latest(mnist) (NOT_FOUND)" in errors


def test_a_token_is_read_from_the_environment_and_kept_off_plaintext(server, capsys, monkeypatch):
    monkeypatch.setenv("INKLING_TOKEN", "secret")
    status, _, errors = run(capsys, "status")
    assert status == 2 and "it would cross the network in the clear" in errors and "secret" not in errors
    assert run(capsys, "status", "--token-over-plaintext")[0] == 0
    assert dict(server.contexts[-1].invocation_metadata())["authorization"] == "Bearer secret"


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nonsense"],
        ["predict"],
        ["bench", "--concurrency", "0"],
        ["status", "--timeout", "inf"],
        ["web", "--timeout", "0"],
    ],
)
def test_wrong_usage_ends_with_status_2(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2 and "usage: inkling" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["read", "predict", "status", "metadata", "wait", "bench", "web"])
def test_every_help_lists_environment_and_exit_status(command, capsys):
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    text = capsys.readouterr().out
    assert ended.value.code == 0 and "INKLING_SERVER" in text and "exit status:" in text


@pytest.mark.process
def test_a_reader_that_goes_away_is_no_error(server, tmp_path):
    np.save(tmp_path / "many.npy", np.zeros((60_000, 28, 28), np.uint8))
    with process("predict", str(tmp_path / "many.npy")) as child:
        assert child.stdout.readline() == b"7\t0.9910\n"
        child.stdout.close()
        assert child.stderr.read() == b"" and child.wait(PATIENCE_S) == 141


@pytest.mark.process
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_quietly(number, tmp_path):
    hanging = StubServer(GetModelStatus=lambda request, context: status_response((1, "LOADING", "")))
    with hanging as server:
        child = process("wait", "--server", server.address, "--timeout", "60")
        deadline = time.monotonic() + PATIENCE_S
        while not server.requests:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        child.send_signal(number)
        output, errors = child.communicate(timeout=PATIENCE_S)
    assert (child.returncode, output, errors) == (130, b"", b"")


@pytest.mark.process
def test_a_connection_refused_leaves_nothing_else_on_stderr():
    """gRPC's core has log lines of its own."""
    environment = {**os.environ, "INKLING_SERVER": "127.0.0.1:1"}
    child = process("status", env=environment)
    _, errors = child.communicate(timeout=PATIENCE_S)
    assert child.returncode == 3 and errors.count(b"\n") == 1


def test_garbage_from_the_server_is_one_line(capsys):
    with StubServer(GetModelStatus=lambda request, context: b"\xff\xff") as server:
        status, _, errors = run(capsys, "status", "--server", server.address)
    assert status == 1 and "2 bytes that are not a GetModelStatusResponse" in errors and errors.count("\n") == 1


def test_an_unknown_dtype_in_metadata_is_shown_by_its_number(capsys):
    answer = wire.GetModelMetadataResponse()
    signatures = wire.SignatureDefMap()
    signatures.signature_def["s"].inputs["x"].dtype = 77
    answer.metadata["signature_def"].type_url = "type.googleapis.com/tensorflow.serving.SignatureDefMap"
    answer.metadata["signature_def"].value = signatures.SerializeToString()
    with StubServer(GetModelMetadata=lambda request, context: answer) as server:
        status, output, _ = run(capsys, "metadata", "--server", server.address)
    assert status == 0 and "dtype 77 []" in output

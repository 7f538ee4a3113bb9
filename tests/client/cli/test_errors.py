"""The command line when something is wrong: one line on standard error, and the exit status."""

import os
import re
import signal
import time

import grpc
import numpy as np
import pytest

from inkling.client.cli import main
from inkling.client.flag_names import in_flags
from inkling.client.protocol import status as statuses
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
        (
            ["metadata", "--model-version", "1180591620717411303424"],
            2,
            "--model-version=1180591620717411303424; expected an",
        ),
        (
            ["wait", "--server", "127.0.0.1:1,no-such-host.invalid:1", "--timeout", "0.5"],
            3,
            "not ready after 0.5 s: 'no",
        ),
        (["status", "--tls-cert", "x"], 2, "one of certificate and key"),
        (["status", "--server", "localhost:99999"], 2, "there is no port 99999"),
        (["status", "--server", "https://localhost"], 2, "give localhost:8500 and --tls, with the port of gRPC"),
        (["predict", "{picture}"], 2, "digit.png is a picture; `inkling read {picture}` reads it"),
        (["predict", "{flat}"], 2, "reshape to 28 x 28"),
        (["predict", "{inverted}"], 2, "invert these: 255 - images; --as-is sends them all the same"),
        (["read", "/no/such.png"], 1, "error: /no/such.png: No such file or directory\n"),
        (["read", str(ROOT / "pyproject.toml")], 1, "pyproject.toml: cannot be read as a picture"),
        (["read", "{flat}"], 1, "it is an array and no picture; `inkling predict {flat}` classifies it"),
        (["status", "--tls-ca", "/no/such.pem"], 2, "tls ca '/no/such.pem' cannot be read"),
    ],
)
def test_errors_are_one_line_and_have_a_status(arguments, status, message, capsys, monkeypatch, tmp_path, digit):
    monkeypatch.delenv("INKLING_SERVER", raising=False)
    (tmp_path / "zip.npy").write_bytes(b"PK\x03\x04 and no more")
    np.save(tmp_path / "flat.npy", np.zeros((5, 784), np.uint8))
    np.save(tmp_path / "inverted.npy", 255 - np.eye(28, dtype=np.uint8)[None] * 255)
    files = {name: tmp_path / f"{name}.npy" for name in ("zip", "flat", "inverted")} | {"picture": digit}
    found, output, errors = run(capsys, *(argument.format(**files) for argument in arguments))
    assert (found, output) == (status, "")
    assert message.format(**files) in errors and errors.startswith("error: ") and errors.count("\n") == 1


def test_the_servers_refusal_is_a_failure(server, array, tmp_path, capsys):
    server.behaviours["Predict"] = failing((grpc.StatusCode.NOT_FOUND, "Servable not found for request: Latest(mnist)"))
    status, output, errors = run(capsys, "predict", array)
    assert (status, output) == (1, "") and "Servable not found for request: Latest(mnist) (NOT_FOUND)" in errors


def test_what_a_server_writes_is_shown_and_not_obeyed(server, array, capsys):
    hostile = "\x1b]0;owned\x07\x1b[2J"
    server.behaviours["GetModelStatus"] = failing((grpc.StatusCode.INVALID_ARGUMENT, hostile))
    status, _, errors = run(capsys, "status")
    assert status == 1 and r"\x1b]0;owned\x07\x1b[2J (INVALID_ARGUMENT)" in errors and errors[:-1].isprintable()
    server.behaviours["GetModelStatus"] = lambda request, context: status_response((1, "END", hostile))
    status, output, _ = run(capsys, "status")
    assert status == 0 and r"\x1b]0;owned" in output and "\x1b" not in output
    assert r"\u001b]0;owned" in run(capsys, "status", "--json")[1]


@pytest.mark.parametrize(
    ("code", "words", "hint"),
    [
        (grpc.StatusCode.DEADLINE_EXCEEDED, "too late", "give a longer --timeout, or smaller batches"),
        (grpc.StatusCode.UNAVAILABLE, "no handshake", "from an authority in --tls-ca?"),
        (grpc.StatusCode.UNAVAILABLE, "gone", "one with TLS needs --tls"),
        (
            grpc.StatusCode.UNAUTHENTICATED,
            "who",
            "INKLING_API_KEY (--api-key-file), or a client certificate in --tls-cert",
        ),
        (grpc.StatusCode.INVALID_ARGUMENT, "larger than maximum input batch size 0", "give it fewer images at once"),
        (
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            "SERVER: Sent message larger than max",
            "send smaller batches, or raise its",
        ),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "CLIENT: Sent message larger than max", "give it less at once"),
    ],
)
def test_advice_names_flags(server, array, capsys, code, words, hint):
    server.behaviours["Predict"] = failing(*[(code, words)] * 9)
    errors = run(capsys, "predict", array)[2]
    assert (
        hint in errors and "timeout_s" not in errors and "TLS(" not in errors and "max_" not in errors.partition(";")[2]
    )


def test_every_keyword_in_advice_has_a_flag():
    """What the library may say of its keywords, the command line says otherwise."""
    advice = [hint for _, hint in statuses._BY_STATUS.values()] + [rule[3] for rule in statuses._BY_WORDS]
    assert not [hint for hint in advice if re.search(r"timeout_s|TLS\(|token=|max_rows|status\(\)", in_flags(hint))]


def test_a_token_is_read_from_the_environment_and_kept_off_plaintext(server, capsys, monkeypatch):
    monkeypatch.setenv("INKLING_TOKEN", "secret")
    status, _, errors = run(capsys, "status")
    assert status == 2 and "it would cross the network in the clear" in errors and "secret" not in errors
    assert run(capsys, "status", "--token-over-plaintext")[0] == 0
    assert dict(server.contexts[-1].invocation_metadata())["authorization"] == "Bearer secret"


def test_an_api_key_is_read_from_the_environment_or_a_file(server, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("INKLING_API_KEY", "secret")
    status, _, errors = run(capsys, "status")
    assert status == 2 and "an API key was given, but no tls" in errors and "secret" not in errors
    assert run(capsys, "status", "--token-over-plaintext")[0] == 0
    (tmp_path / "key").write_text("another\n")
    assert run(capsys, "status", "--token-over-plaintext", "--api-key-file", str(tmp_path / "key"))[0] == 0
    keys = [dict(context.invocation_metadata())["x-api-key"] for context in server.contexts[-2:]]
    assert keys == ["secret", "another"]


@pytest.mark.parametrize("content", [None, "", "two\nlines"], ids=["no file", "empty", "two lines"])
def test_a_key_file_without_a_key_is_refused_and_not_passed_over(server, capsys, monkeypatch, tmp_path, content):
    monkeypatch.setenv("INKLING_API_KEY", "secret")
    if content is not None:
        (tmp_path / "key").write_text(content)
    status, _, errors = run(capsys, "status", "--token-over-plaintext", "--api-key-file", str(tmp_path / "key"))
    assert status == 2 and ("cannot be read" if content is None else "the API key is empty, or not print") in errors
    assert "lines" not in errors and not server.contexts


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


def test_without_arguments_it_shows_its_help(capsys):
    with pytest.raises(SystemExit) as ended:
        main([])
    shown = capsys.readouterr()
    assert ended.value.code == 2 and shown.out == ""
    assert "inkling read page.jpg" in shown.err and "exit status:" in shown.err


def test_the_version_is_that_of_the_project(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"inkling {(ROOT / 'VERSION').read_text().strip()}\n"


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (["raed", "page.jpg"], "did you mean read?"),
        (["page.jpg"], "did you mean `inkling read page.jpg`?"),
        (["status", "--timout", "3"], "did you mean --timeout?"),
        (["bench", "--concurency=3"], "did you mean --concurrency?"),
        (["bench", "--warmup", "nan"], "expected a finite number, 0 or more, got nan"),
        (["web", "--port", "99999"], "expected a port from 1 to 65535, got 99999"),
        (["status", "--draw", "x"], "unrecognized arguments: --draw x\n"),
        (["xyzzy"], "'web')\n"),
    ],
)
def test_what_was_probably_meant_is_said(arguments, meant, capsys):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2 and meant in capsys.readouterr().err.replace("bench, web)", "'web')")


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
    assert status == 0 and "dtype 77 [...]" in output

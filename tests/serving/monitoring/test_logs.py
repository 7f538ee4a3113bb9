"""The log is text for people or JSON for machines; in JSON it carries the request's id."""

import asyncio
import errno
import json
import logging

import grpc
import pytest

from inkling.serving.monitoring import logs


@pytest.fixture
def log(capsys):
    """Turns the log on in a format; gives a function that reads its lines."""
    root = logging.getLogger()
    before = root.handlers[:], root.level, logs.requests.level

    def configure(log_format):
        logs.configure(log_format)
        return lambda: capsys.readouterr().err.splitlines()

    token = logs.request_id.set("")
    yield configure
    logs.request_id.reset(token)
    root.handlers[:], root.level = before[0], before[1]
    logs.requests.setLevel(before[2])


def test_text_lines_have_time_severity_and_message(log):
    lines = log("text")
    logging.getLogger("serving.x").warning("loaded %s", "m")
    logs.request_finished(entrypoint="REST", api="predict", model_name="m", code=grpc.StatusCode.OK, latency_s=1)
    [line] = lines()
    assert line.endswith("WARNING serving.x: loaded m") and line[:2] == "20"


def test_json_lines_carry_the_request_id_and_each_request_has_one(log):
    lines = log("json")
    logging.getLogger("serving.x").info("before")
    assert logs.begin_request("caller-7") == "caller-7"
    logging.getLogger("serving.x").error("during")
    code = grpc.StatusCode.NOT_FOUND
    logs.request_finished(entrypoint="GRPC", api="Predict", model_name="m", code=code, latency_s=0.0123, error="no")
    before, during, finished = map(json.loads, lines())
    assert before["message"] == "before" and "request_id" not in before and before["severity"] == "INFO"
    assert during["request_id"] == finished["request_id"] == "caller-7"
    assert finished["code"] == "NOT_FOUND" and finished["latency_ms"] == 12.3 and finished["error"] == "no"
    assert finished["entrypoint"] == "GRPC" and finished["api"] == "Predict" and finished["model_name"] == "m"


def test_an_exception_is_one_json_line(log):
    lines = log("json")
    try:
        raise ValueError("first\nsecond")
    except ValueError:
        logging.getLogger("serving.x").exception("failed")
    [line] = lines()
    assert "ValueError: first\nsecond" in json.loads(line)["exception"]


@pytest.mark.parametrize("identifier", [None, "", "with blank", "new\nline", "x" * 129])
def test_an_unusable_request_id_is_replaced(log, identifier):
    log("json")
    assert len(logs.begin_request(identifier)) == 32


def test_connections_that_cannot_be_taken_are_told_once_a_minute(caplog):
    loop = asyncio.new_event_loop()
    handle = logs.quieten_accept_errors()
    for _ in range(1000):
        handle(loop, {"message": "socket.accept() out of system resource", "exception": OSError(errno.EMFILE, "many")})
    assert caplog.text.count("REST connections wait to be taken: [Errno 24] many; raise the limit") == 1
    handle(loop, {"message": "other trouble", "exception": ValueError("other")})
    assert "other trouble" in caplog.text
    loop.close()

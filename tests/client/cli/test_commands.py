"""The commands: what each prints where."""

import json
import os
import pty
import subprocess
import sys
import threading
from pathlib import Path

import grpc
import numpy as np
import psutil
import pytest
from PIL import Image

from inkling.client.protocol import wire_pb2 as wire
from tests.client.cli.command_line import ROOT, process, run, seven
from tests.client.stub_server import StubServer, failing, status_response
from tests.patience import PATIENCE_S


def test_predict_prints_a_line_for_each_image(server, array, capsys):
    assert run(capsys, "predict", array) == (0, "7\t0.9910\n" * 3, "")


def test_predict_prints_json(server, array, capsys):
    status, output, errors = run(capsys, "predict", array, "--json")
    answer = json.loads(output)
    assert status == 0 and errors == "" and output.count("\n") == 1
    assert answer["classes"] == [7, 7, 7] and np.shape(answer["probabilities"]) == (3, 10)
    assert (answer["model"], answer["model_version"]) == ("mnist", 1)


def test_images_unlike_mnist_are_sent_when_told(server, tmp_path, capsys):
    np.save(tmp_path / "inverted.npy", 255 - np.eye(28, dtype=np.uint8)[None] * 255)
    assert run(capsys, "predict", str(tmp_path / "inverted.npy"), "--as-is") == (0, "7\t0.9910\n", "")


@pytest.mark.process
def test_predict_reads_standard_input(server, array):
    with open(array, "rb") as file:
        child = process("predict", "-", stdin=file)
        output, errors = child.communicate(timeout=PATIENCE_S)
    assert (child.returncode, output, errors) == (0, b"7\t0.9910\n" * 3, b"")


def test_a_version_or_a_label_may_be_asked_for(server, array, capsys):
    run(capsys, "predict", array, "--model-version", "3", "--model", "letters")
    run(capsys, "predict", array, "--label", "stable")
    assert [request.model_spec.version.value for request in server.requests] == [3, 0]
    assert server.requests[0].model_spec.name == "letters"
    assert server.requests[1].model_spec.version_label == "stable"


def test_read_prints_the_text(server, digit, capsys):
    status, output, _ = run(capsys, "read", digit)
    assert (status, output) == (0, "7\n")


@pytest.mark.process
def test_read_takes_a_picture_from_standard_input(server, digit):
    with open(digit, "rb") as file:
        child = process("read", "-", "--json", stdin=file)
        output, _ = child.communicate(timeout=PATIENCE_S)
    answer = json.loads(output)
    assert (child.returncode, answer["picture"], answer["text"]) == (0, "stdin", "7")


def test_read_takes_folders_and_names_each_picture(server, digit, tmp_path, capsys):
    folder = tmp_path / "scans"
    (folder / "deeper").mkdir(parents=True)
    for name in ("b.png", "a.PNG", "deeper/c.png"):
        (folder / name).write_bytes(Path(digit).read_bytes())
    (folder / "notes.txt").write_text("not a picture")
    status, output, errors = run(capsys, "read", str(folder))
    assert status == 0
    assert output == f"{folder}/a.PNG:7\n{folder}/b.png:7\n{folder}/deeper/c.png:7\n"
    assert "\r" not in errors  # progress is for terminals
    status, output, _ = run(capsys, "read", str(folder), "--json")
    assert [json.loads(line)["text"] for line in output.splitlines()] == ["7"] * 3


@pytest.mark.process
def test_several_jobs_read_as_one_does_and_end_when_they_are_told(server, digit, tmp_path, capsys):
    folder = tmp_path / "scans"
    folder.mkdir()
    for number in range(4):
        (folder / f"{number}.png").write_bytes(Path(digit).read_bytes())
    (folder / "2.png").write_bytes(b"no picture")
    alone = run(capsys, "read", str(folder), "--draw", str(tmp_path / "drawn"))
    assert run(capsys, "read", str(folder), "--draw", str(tmp_path / "drawn_too"), "--jobs", "2") == alone
    assert alone[0] == 1 and alone[1] == "".join(f"{folder}/{number}.png:7\n" for number in (0, 1, 3))
    assert sorted(os.listdir(tmp_path / "drawn_too")) == ["0.png", "1.png", "3.png"]

    asked, answered = threading.Event(), threading.Event()
    server.behaviours["Predict"] = lambda request, context: (asked.set(), answered.wait(PATIENCE_S))[1]
    child = process("read", str(folder), "--jobs", "2", "--timeout", str(PATIENCE_S))
    assert asked.wait(PATIENCE_S)
    readers = psutil.Process(child.pid).children(recursive=True)
    child.kill()
    child.communicate(timeout=PATIENCE_S)
    answered.set()
    assert psutil.wait_procs(readers, timeout=PATIENCE_S)[1] == []


def test_one_bad_picture_does_not_stop_the_others(server, digit, tmp_path, capsys):
    bad, missing = tmp_path / "bad.png", tmp_path / "missing.png"
    bad.write_bytes(b"no picture")
    status, output, errors = run(capsys, "read", str(bad), digit, str(missing))
    assert status == 1 and output == f"{digit}:7\n"
    lines = [line for line in errors.splitlines() if line.startswith("error: ")]
    assert [line.split(":")[1].strip() for line in lines] == [str(bad), str(missing)]


def test_read_draws(server, digit, tmp_path, capsys):
    target = tmp_path / "drawn" / "out.png"
    assert run(capsys, "read", digit, "--draw", str(target))[0] == 0
    with Image.open(target) as drawn:
        assert drawn.width >= 28
    other = tmp_path / "other.png"
    other.write_bytes(Path(digit).read_bytes())
    assert run(capsys, "read", digit, str(other), "--draw", str(tmp_path / "all"))[0] == 0
    assert sorted(path.name for path in (tmp_path / "all").iterdir()) == ["digit.png", "other.png"]
    status, _, errors = run(capsys, "read", digit, digit, "--draw", str(tmp_path / "all"))
    assert status == 2 and "more than once" in errors


def test_read_writes_a_table(server, digit, tmp_path, capsys):
    assert run(capsys, "read", "--table", digit)[:2] == (0, "7\r\n")
    target = tmp_path / "out.csv"
    assert run(capsys, "read", "--table", digit, "-o", str(target))[:2] == (0, "")
    assert target.read_bytes() == b"7\r\n"


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--table", "{digit}", "{digit}"), "the table of one picture; got 2 names"),
        (("--table", "--json", "{digit}"), "the table of one picture; got --json"),
        (("{digit}", "-o", "out.csv"), "add --table"),
    ],
)
def test_a_table_is_of_one_picture(server, digit, capsys, flags, words):
    status, output, errors = run(capsys, "read", *(flag.format(digit=digit) for flag in flags))
    assert (status, output) == (2, "") and words in errors


def test_a_drawing_that_cannot_be_saved_hides_no_reading(server, digit, tmp_path, capsys):
    (tmp_path / "file").touch()
    status, output, errors = run(capsys, "read", digit, "--draw", str(tmp_path / "file" / "out.png"))
    assert (status, output) == (1, "7\n") and "error: " in errors and errors.count("\n") == 1


@pytest.mark.parametrize(
    ("code", "words"),
    [(grpc.StatusCode.NOT_FOUND, "Could not find any versions"), (grpc.StatusCode.PERMISSION_DENIED, "not you")],
)
def test_what_every_picture_would_meet_is_said_once(digit, capsys, code, words):
    with StubServer(Predict=failing(*[(code, words)] * 3)) as server:
        status, output, errors = run(capsys, "read", digit, digit, digit, "--server", server.address)
        assert (status, output, errors.count(words), len(server.requests)) == (1, "", 1, 2)  # one for metadata


@pytest.mark.process
def test_names_that_are_no_unicode_come_out_as_they_are(server, digit, tmp_path):
    folder = os.fsencode(tmp_path / "scans")
    os.mkdir(folder)
    for name in (b"\xff.png", b"b.png"):
        Path(os.fsdecode(folder + b"/" + name)).write_bytes(Path(digit).read_bytes())
    output, errors = process("read", os.fsdecode(folder)).communicate(timeout=PATIENCE_S)
    assert (output, errors) == (folder + b"/b.png:7\n" + folder + b"/\xff.png:7\n", b"")
    output, _ = process("read", os.fsdecode(folder), "--json").communicate(timeout=PATIENCE_S)
    names = [json.loads(line)["picture"] for line in output.splitlines()]
    assert names == [os.fsdecode(folder + b"/b.png"), os.fsdecode(folder + b"/\xff.png")]


@pytest.mark.process
def test_a_folder_shows_how_far_it_is_on_a_terminal(server, digit, tmp_path):
    folder = tmp_path / "scans"
    folder.mkdir()
    for name in ("a.png", "b.png"):
        (folder / name).write_bytes(Path(digit).read_bytes())
    ours, theirs = pty.openpty()
    child = subprocess.Popen(
        [sys.executable, "-m", "client", "read", str(folder)], cwd=ROOT, stdout=subprocess.PIPE, stderr=theirs
    )
    os.close(theirs)
    output, _ = child.communicate(timeout=PATIENCE_S)
    shown = os.read(ours, 1 << 16).decode()
    os.close(ours)
    assert output.decode() == f"{folder}/a.png:7\n{folder}/b.png:7\n"
    steps = [step for step in shown.split("\r\x1b[K") if step]
    assert steps == [f"1/2 {folder}/a.png", f"2/2 {folder}/b.png"]
    assert shown.endswith("\r\x1b[K")  # nothing of it stays


def test_an_empty_folder_is_wrong_usage(server, tmp_path, capsys):
    status, output, errors = run(capsys, "read", str(tmp_path))
    assert (status, output) == (2, "") and errors.startswith(f"error: folder {tmp_path} has no pictures (.bmp,")


def test_status_is_a_table(server, capsys):
    assert run(capsys, "status") == (0, "model  version  state      error\nmnist  1        AVAILABLE\n", "")
    status, output, _ = run(capsys, "status", "--json", "--model", "other")
    assert json.loads(output) == {"model": "other", "versions": [{"version": 1, "state": "AVAILABLE", "error": ""}]}


def test_metadata_is_a_table(server, capsys):
    status, output, _ = run(capsys, "metadata")
    assert status == 0 and "serving_default  in   images         uint8 [-1, 28, 28]" in output
    assert output.endswith("(mnist version 1)\n")
    signature = json.loads(run(capsys, "metadata", "--json")[1])["signatures"]["serving_default"]
    assert signature["inputs"] == {"images": {"dtype": "uint8", "shape": [-1, 28, 28]}}


def test_wait_ends_when_the_model_is_served(capsys):
    answers = [status_response((1, "LOADING", "")), status_response((1, "AVAILABLE", ""))]
    with StubServer(GetModelStatus=lambda request, context: answers.pop(0)) as server:
        status, output, _ = run(capsys, "wait", "--server", server.address)
    assert status == 0 and "AVAILABLE" in output and not answers


def test_wait_takes_a_version(capsys):
    asked: list[int] = []

    def answer(request, context):
        asked.append(request.model_spec.version.value)
        return status_response((2, "AVAILABLE" if len(asked) == 2 else "LOADING", ""))

    with StubServer(GetModelStatus=answer) as server:
        status, output, _ = run(capsys, "wait", "--server", server.address, "--model-version", "2")
    assert (status, asked) == (0, [2, 2]) and "AVAILABLE" in output


def test_wait_gives_up(capsys):
    with StubServer(GetModelStatus=lambda request, context: status_response((1, "LOADING", ""))) as server:
        status, output, errors = run(capsys, "wait", "--server", server.address, "--timeout", "0.3")
    assert (status, output) == (3, "") and "not ready after 0.3 s: version 1: LOADING" in errors


def test_bench_measures(server, array, capsys):
    arguments = ["bench", "--duration", "0.5", "--warmup", "0.1", "--concurrency", "4", "--batch-size", "5"]
    status, output, errors = run(capsys, *arguments, "--images", array)
    assert (status, errors) == (0, "")
    assert output.startswith("load") and "requests/s" in output and "p99.9 ms" in output and "errors" in output
    report = json.loads(run(capsys, *arguments, "--json")[1])
    assert report["requests"] > 0 and report["errors"] == {}
    assert report["images_per_s"] == pytest.approx(5 * report["requests_per_s"])
    assert 0 < report["latency_ms"]["p50"] <= report["latency_ms"]["p99"] <= report["latency_ms"]["max"]
    predictions = [request for request in server.requests if isinstance(request, wire.PredictRequest)]
    assert {len(request.inputs["images"].tensor_content) for request in predictions} == {5 * 784}


def test_bench_wants_an_image_at_least(server, tmp_path, capsys):
    np.save(tmp_path / "none.npy", np.zeros((0, 28, 28), np.uint8))
    status, _, errors = run(capsys, "bench", "--images", str(tmp_path / "none.npy"))
    assert (status, errors) == (2, "error: there are no images to send; expected one at least\n")


def test_bench_counts_errors_by_status(capsys):
    with StubServer(Predict=failing(*[(grpc.StatusCode.INTERNAL, "broken")] * 3, then=seven)) as server:
        arguments = ["--duration", "0.3", "--warmup", "0", "--concurrency", "2"]
        status, output, errors = run(capsys, "bench", "--server", server.address, *arguments)
    assert status == 1 and "3 INTERNAL" in output
    assert errors.count("\n") == 1 and "broken" in errors


def test_a_bench_in_which_nothing_finished_is_an_error(server, capsys):
    release = threading.Event()
    server.behaviours["Predict"] = lambda request, context: (release.wait(0.5), seven(request, context))[1]
    arguments = ["bench", "--duration", "0.05", "--warmup", "0.1", "--concurrency", "2"]
    status, output, errors = run(capsys, *arguments)
    assert status == 1 and "requests/s  0" in output
    assert errors == (
        "error: no call began and ended while it was measured; give a longer --duration, or fewer images at once\n"
    )

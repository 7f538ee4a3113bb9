"""`python -m serving tune`: what it tries, what it reads, what it prints; and a real search with real servers."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest
import tensorflow as tf
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

from inkling.serving import flags
from inkling.serving.config import files
from inkling.serving.tuning import command, trials
from inkling.serving.tuning.load import Measured, UnusableLog, read_log
from inkling.serving.tuning.settings import Setting, rounds
from inkling.serving.tuning.trials import Trial
from tests.patience import PATIENCE_S, wait_until
from tests.serving.conftest import predict_request

ROOT = Path(__file__).parents[2]
SETTINGS = [Setting(), Setting(threads=2), Setting(max_batch_size=8, timeout_us=1000)]


def write_log(path, *models, version=7):
    with tf.io.TFRecordWriter(str(path)) as writer:
        for model in models:
            log = PredictionLog()
            log.predict_log.request.CopyFrom(predict_request(model, {"x": np.float32([1.0])}, version=version))
            writer.write(log.SerializeToString())
    return str(path)


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_a_setting_is_flags_and_a_file_that_the_server_reads(setting, tmp_path):
    file = tmp_path / "batching.config"
    file.write_text(setting.parameters())
    parsed = flags.parse(setting.flags(file))
    assert not parsed.unknown and parsed.config.tensorflow_intra_op_parallelism == setting.threads
    assert parsed.config.enable_batching is bool(setting.max_batch_size)
    if setting.max_batch_size:
        parameters = files.read_batching(parsed.config.batching_parameters_file)
        assert (parameters.max_batch_size, parameters.batch_timeout_s) == (8, 0.001)


def test_each_round_varies_one_thing_of_the_best_so_far():
    threads, sizes, timeouts, *_ = rounds(4)
    assert [setting.threads for setting in threads(Setting())] == [0, 1, 2, 4]
    assert {setting.threads for setting in sizes(Setting(threads=2))} == {2}
    assert timeouts(Setting(threads=2)) == []  # nothing waits without batching parameters
    assert {setting.max_batch_size for setting in timeouts(Setting(max_batch_size=32))} == {32}


def test_of_a_log_the_models_own_requests_are_sent_to_its_newest_version(tmp_path):
    requests = read_log(write_log(tmp_path / "log", "a", "b", "a"), "a")
    assert {request.path for request in requests} == {"/tensorflow.serving.PredictionService/Predict"}
    expected = predict_request("a", {"x": np.float32([1.0])})
    assert [request.content for request in requests] == [expected.SerializeToString()] * 2


def test_a_log_that_cannot_be_used_is_told(tmp_path, capsys):
    with pytest.raises(UnusableLog, match="no request for a model 'c'"):
        read_log(write_log(tmp_path / "log", "a"), "c")
    (tmp_path / "text").write_text("no records, but long enough to look like some")
    for name in ("text", "missing"):
        with pytest.raises(UnusableLog, match="is not a TFRecord of PredictionLog"):
            read_log(str(tmp_path / name), "a")
    arguments = ["--request_log_file", str(tmp_path / "missing"), "--model_base_path", str(tmp_path)]
    assert command.main(arguments) == 1 and capsys.readouterr().err.startswith("error: ")


def trial(setting, *steps, failure=""):
    return Trial(setting, [Measured(*step, {}) for step in steps], latency_ms=20.0, failure=failure)


TRIALS = [
    trial(SETTINGS[0], (1, 100.0, 5.0, 9.0), (2, 180.0, 8.0, 19.0), (4, 300.0, 9.0, 30.0)),
    trial(SETTINGS[2], (1, 90.0, 5.0, 9.0), (2, 190.0, 8.0, 19.0)),
    trial(SETTINGS[1], failure="the server ended with 1: no"),
]


def report(*arguments, found=TRIALS):
    needed = ["--request_log_file=x", "--model_base_path=y", "--latency_ms=20"]
    return command._report(found, command._parse([*needed, *arguments]))


def test_the_best_has_the_most_requests_of_those_in_time(capsys):
    assert report() == 0
    printed = capsys.readouterr().out
    assert printed.startswith("best: threads auto, batches of 8, 1000 us: 190 requests/s of 2 callers, p50 8.0 ms")
    assert "--enable_batching --batching_parameters_file=batching.config" in printed
    assert "max_batch_size { value: 8 }" in printed


def test_the_result_as_json_has_all_that_was_tried(capsys):
    assert report("--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["best"]["max_batch_size"] == 8 and [each["requests_per_s"] for each in found["trials"]] == [
        180,
        190,
        0,
    ]
    assert found["trials"][2]["failure"] == "the server ended with 1: no"


def test_where_nothing_is_in_time_that_is_the_result(capsys):
    assert report(found=[trial(SETTINGS[0], (1, 10.0, 50.0, 90.0))]) == 1
    assert "no setting answers within 20 ms, even one caller" in capsys.readouterr().err


def test_errors_count_as_too_late():
    refused = Measured(256, 9000.0, 1.0, 2.0, {"UNAVAILABLE": 3})
    assert not trials.is_within(refused, 20.0) and Trial(Setting(), [refused], latency_ms=20.0).best is None


def test_what_was_measured_is_drawn(tmp_path):
    assert report(f"--plot={tmp_path / 'tuning.png'}") == 0
    assert (tmp_path / "tuning.png").read_bytes().startswith(b"\x89PNG")


def tune(repository, tmp_path, *arguments):
    log = write_log(tmp_path / "requests", *["scale"] * 5, version=2)
    model = ["--model_name=scale", f"--model_base_path={repository / 'scale'}"]
    return subprocess.Popen(
        [sys.executable, "-m", "serving", "tune", f"--request_log_file={log}", *model, *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
@pytest.mark.process
def test_a_real_search_prints_a_setting_of_a_real_server(repository, tmp_path):
    arguments = ["--seconds=0.5", "--cpus=1", "--latency_ms=500", "--json", f"--plot={tmp_path / 'tuning.png'}"]
    done = tune(repository, tmp_path, *arguments, "--", "--max_queued_requests=500")
    output, errors = done.communicate(timeout=PATIENCE_S)
    assert done.returncode == 0, errors
    found = json.loads(output)
    assert all(each["requests_per_s"] > 0 and not each["failure"] for each in found["trials"])
    assert len(found["trials"]) >= 5 and found["best"]["flags"] is not None and (tmp_path / "tuning.png").exists()
    assert "5 requests of " in errors


@pytest.mark.slow
@pytest.mark.process
def test_a_search_that_is_interrupted_says_what_it_has_and_leaves_no_server(repository, tmp_path):
    process = tune(repository, tmp_path, "--seconds=0.5", "--cpus=1", "--latency_ms=500")
    assert process.stderr is not None
    while not process.stderr.readline().startswith("1  "):
        assert process.poll() is None
    wait_until(lambda: psutil.Process(process.pid).children())
    servers = psutil.Process(process.pid).children()
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130 and output.startswith("best: ") and "Traceback" not in errors
    assert not any(server.is_running() for server in servers)


@pytest.mark.slow
@pytest.mark.process
def test_a_server_that_does_not_start_is_told_with_its_last_line(repository, tmp_path):
    process = tune(
        repository, tmp_path, "--cpus=1", "--", "--max_num_load_retries=0", "--model_name=nobody/", "--port=-1"
    )
    output, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 1 and output == "" and "the server ended with" in errors

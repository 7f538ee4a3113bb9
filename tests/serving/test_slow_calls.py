"""Calls that take long hold up nobody else, and end when nobody waits for them any more."""

import json
import urllib.error
import urllib.request

import grpc
import numpy as np
import psutil
import pytest
from tensorflow_serving.apis import prediction_service_pb2_grpc

from tests.patience import PATIENCE_S, wait_until
from tests.server_process import ServerProcess
from tests.serving import saved_models
from tests.serving.conftest import predict_request, write_model_config

HOURS = np.int64([10**12])  # steps of the loop
COUNTERS = ("counter", "another_counter")
IDLE_CPU_S = 0.5  # of a second
pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Its REST requests time out after a second."""
    root = tmp_path_factory.mktemp("models")
    for name in COUNTERS:
        saved_models.write_counter(root / name / "1")
    saved_models.write_table(root / "table" / "1")
    file = write_model_config(root / "models.config", root, [*COUNTERS, "table"])
    with ServerProcess(f"--model_config_file={file}", "--rest_api_timeout_in_ms=1000") as process:
        yield process


@pytest.fixture(scope="module")
def predict(server):
    with grpc.insecure_channel(server.address) as channel:
        yield prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict


def slow_call(predict, timeout_s, model="counter"):
    return predict.future(predict_request(model, {"steps": HOURS}), timeout=timeout_s)


def is_idle(server):
    return psutil.Process(server.process.pid).cpu_percent(interval=1) < 100 * IDLE_CPU_S


def test_a_run_ends_when_its_callers_have_given_up(server, predict):
    calls = [slow_call(predict, 1) for _ in range(4)]
    assert {call.code() for call in calls} == {grpc.StatusCode.DEADLINE_EXCEEDED}
    wait_until(lambda: is_idle(server))


def test_over_rest_too(server):
    body = json.dumps({"inputs": HOURS.tolist()}).encode()
    with pytest.raises(urllib.error.HTTPError, match="504"):
        urllib.request.urlopen(f"{server.rest_url}/v1/models/counter:predict", body, timeout=PATIENCE_S)
    wait_until(lambda: is_idle(server))


def test_others_are_computed_meanwhile(server, predict):
    slow = [slow_call(predict, 60, model) for model in COUNTERS for _ in range(2 * psutil.cpu_count())]
    wait_until(lambda: not is_idle(server))
    words = predict(predict_request("table", {"words": np.array([b"two"])}), timeout=PATIENCE_S)
    counted = predict(predict_request("counter", {"steps": np.int64([3])}), timeout=PATIENCE_S)
    assert list(words.outputs["ids"].int64_val) == [2]
    assert list(counted.outputs["counted"].int64_val) == [3]
    assert not any(call.done() for call in slow)
    for call in slow:
        call.cancel()

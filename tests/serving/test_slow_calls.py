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
from tests.serving.conftest import predict_request, write_model_config

HOURS = np.int32([10**8])  # steps of a millisecond
IDLE_CPU_S = 0.5  # of a second
pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def server(repository, tmp_path_factory):
    """Its REST requests time out after a second."""
    file = write_model_config(tmp_path_factory.mktemp("config") / "models.config", repository, ["several", "table"])
    with ServerProcess(f"--model_config_file={file}", "--rest_api_timeout_in_ms=1000") as process:
        yield process


@pytest.fixture(scope="module")
def predict(server):
    with grpc.insecure_channel(server.address) as channel:
        yield prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict


def slow_call(predict, timeout_s):
    return predict.future(predict_request("several", {"rounds": HOURS}, signature="slow"), timeout=timeout_s)


def is_idle(server):
    return psutil.Process(server.process.pid).cpu_percent(interval=1) < 100 * IDLE_CPU_S


def test_other_models_and_signatures_are_computed_meanwhile(server, predict):
    slow = [slow_call(predict, 30) for _ in range(2 * psutil.cpu_count())]
    wait_until(lambda: not is_idle(server))
    words = predict(predict_request("table", {"words": np.array([b"two"])}), timeout=PATIENCE_S)
    rows = predict(
        predict_request("several", {"x": np.ones([1, 3], np.float32)}, signature="row_sum"), timeout=PATIENCE_S
    )
    assert list(words.outputs["ids"].int64_val) == [2]
    assert list(rows.outputs["sum"].float_val) == [3]
    assert not any(call.done() for call in slow)
    for call in slow:
        call.cancel()


def test_a_run_ends_when_its_callers_have_given_up(server, predict):
    calls = [slow_call(predict, 1) for _ in range(4)]
    assert {call.code() for call in calls} == {grpc.StatusCode.DEADLINE_EXCEEDED}
    wait_until(lambda: is_idle(server))


def test_over_rest_too(server):
    body = json.dumps({"signature_name": "slow", "inputs": HOURS.tolist()}).encode()
    with pytest.raises(urllib.error.HTTPError, match="504"):
        urllib.request.urlopen(f"{server.rest_url}/v1/models/several:predict", body, timeout=PATIENCE_S)
    wait_until(lambda: is_idle(server))

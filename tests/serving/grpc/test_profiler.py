"""TensorFlow's own profiler client traces the server."""

import threading
import time

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.tsl.profiler.protobuf import xplane_pb2
from tensorflow_serving.apis import prediction_service_pb2_grpc

from tests.patience import PATIENCE_S
from tests.server_process import ServerProcess
from tests.serving.conftest import predict_request

pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def server(repository):
    with ServerProcess("--model_name=scale", f"--model_base_path={repository / 'scale'}") as server:
        yield server


@pytest.fixture
def channel(server):
    with grpc.insecure_channel(server.address) as channel:
        yield channel


def test_tensorflows_client_traces_requests(server, channel, tmp_path):
    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    failures = []

    def trace():
        try:
            tf.profiler.experimental.client.trace(f"grpc://{server.address}", str(tmp_path), 1000)
        except tf.errors.OpError as error:
            failures.append(error)

    thread = threading.Thread(target=trace)
    thread.start()
    while thread.is_alive():
        stub.Predict(predict_request("scale", {"x": np.ones(3, np.float32)}), timeout=PATIENCE_S)
    assert not failures
    (file,) = tmp_path.glob("plugins/profile/*/*.xplane.pb")
    space = xplane_pb2.XSpace.FromString(file.read_bytes())
    events = {metadata.name for plane in space.planes for metadata in plane.event_metadata.values()}
    assert any("ExecutorState" in event or "Mul" in event for event in events), sorted(events)[:50]


LONG = b"\x08\xe0\xd4\x03" + b"\x32\x01a"  # duration_ms 60,000, session_id a


def profile(channel, content):
    return channel.unary_unary("/tensorflow.ProfilerService/Profile").future(content, timeout=PATIENCE_S)


def test_a_trace_can_be_terminated_and_there_is_one_at_a_time(channel):
    running, refused = profile(channel, LONG), None
    while refused is None:
        refused = profile(channel, b"\x08\x01").exception()
        if running.done():  # the short one came first
            running, refused = profile(channel, LONG), None
    assert refused.code() == grpc.StatusCode.UNAVAILABLE and "Another profiler" in refused.details()
    channel.unary_unary("/tensorflow.ProfilerService/Terminate")(b"\x0a\x01a", timeout=PATIENCE_S)
    assert running.result() == b""  # empty_trace is false


def test_a_trace_whose_caller_goes_away_ends(channel):
    for wait_s in (0.0, 0.02, 0.2):  # while it begins, and while it runs
        call = profile(channel, LONG)
        time.sleep(wait_s)
        call.cancel()
        deadline = time.monotonic() + PATIENCE_S
        while (error := profile(channel, b"\x08\x01").exception()) is not None:
            assert error.code() == grpc.StatusCode.UNAVAILABLE and time.monotonic() < deadline


@pytest.mark.parametrize("content", [b"\xff", b"\x32\x04../a", b"\x3a\x02.."], ids=["no message", "session", "host"])
def test_what_is_no_request_or_would_leave_the_folder_is_refused(channel, content):
    assert profile(channel, content).exception().code() == grpc.StatusCode.INVALID_ARGUMENT


def test_the_profiler_can_be_turned_off(repository):
    flags = ["--model_name=scale", f"--model_base_path={repository / 'scale'}", "--enable_profiler=false"]
    with ServerProcess(*flags) as server, grpc.insecure_channel(server.address) as channel:
        assert profile(channel, LONG).exception().code() == grpc.StatusCode.UNIMPLEMENTED

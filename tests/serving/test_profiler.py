"""TensorFlow's own profiler client traces the server."""

import threading

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.tsl.profiler.protobuf import xplane_pb2
from tensorflow_serving.apis import prediction_service_pb2_grpc

from tests.server_process import ServerProcess
from tests.serving.conftest import predict_request


@pytest.fixture
def flags(repository):
    return ["--model_name=scale", f"--model_base_path={repository / 'scale'}"]


def test_tensorflows_client_traces_requests(flags, tmp_path):
    with ServerProcess(*flags) as server, grpc.insecure_channel(server.address) as channel:
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
            stub.Predict(predict_request("scale", {"x": np.ones(3, np.float32)}), timeout=20)
        assert not failures
    (file,) = tmp_path.glob("plugins/profile/*/*.xplane.pb")
    space = xplane_pb2.XSpace.FromString(file.read_bytes())
    events = {metadata.name for plane in space.planes for metadata in plane.event_metadata.values()}
    assert any("ExecutorState" in event or "Mul" in event for event in events), sorted(events)[:50]


def profile(channel, content, **settings):
    return channel.unary_unary("/tensorflow.ProfilerService/Profile")(content, timeout=30, **settings)


LONG = b"\x08\xe0\xd4\x03" + b"\x32\x01a"  # duration_ms 60,000, session_id a


def test_a_trace_can_be_terminated_and_there_is_one_at_a_time(flags):
    with ServerProcess(*flags) as server, grpc.insecure_channel(server.address) as channel:
        running = channel.unary_unary("/tensorflow.ProfilerService/Profile").future(LONG, timeout=60)
        terminate = channel.unary_unary("/tensorflow.ProfilerService/Terminate")
        refused = None
        while refused is None:  # until the first one has begun
            try:
                profile(channel, b"\x08\x01")
            except grpc.RpcError as error:
                refused = error
        assert refused.code() == grpc.StatusCode.UNAVAILABLE and "Another profiler" in refused.details()
        terminate(b"\x0a\x01a", timeout=20)
        assert running.result() == b""  # empty_trace is false


@pytest.mark.parametrize("content", [b"\xff", b"\x32\x04../a", b"\x3a\x02.."], ids=["no message", "session", "host"])
def test_what_is_no_request_or_would_leave_the_folder_is_refused(flags, content):
    with ServerProcess(*flags) as server, grpc.insecure_channel(server.address) as channel:
        with pytest.raises(grpc.RpcError) as caught:
            profile(channel, content)
        assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT


def test_the_profiler_can_be_turned_off(flags):
    with ServerProcess(*flags, "--enable_profiler=false") as server, grpc.insecure_channel(server.address) as channel:
        with pytest.raises(grpc.RpcError) as caught:
            profile(channel, LONG)
        assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED

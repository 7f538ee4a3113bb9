"""How a server ends, what it refuses, and how it is reached: signals, drain, overload, TLS, sockets, limits."""

import asyncio
import os
import shutil
import signal
import subprocess
import time
import urllib.request

import grpc
import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import text_format
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tensorflow_serving.apis import (
    model_management_pb2,
    model_service_pb2_grpc,
    prediction_log_pb2,
    prediction_service_pb2_grpc,
)
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from tests.patience import PATIENCE_S, wait_until
from tests.server_process import ServerProcess
from tests.serving import saved_models
from tests.serving.conftest import predict_request

pytestmark = pytest.mark.process

ROUNDS_FOR_SECONDS = 4000  # of the signature `slow`: at least a second on any machine


def slow_request(rounds=ROUNDS_FOR_SECONDS):
    return predict_request("several", {"rounds": np.array([rounds], np.int32)}, signature="slow")


def quick_request():
    return predict_request("several", {"x": np.ones((1, 2), np.float32)})


@pytest.fixture
def several(repository):
    return ["--model_name=several", f"--model_base_path={repository / 'several'}"]


def stub_of(channel):
    return prediction_service_pb2_grpc.PredictionServiceStub(channel)


def reload_request(text):
    config = text_format.Parse(f"model_config_list {{ {text} }}", ModelServerConfig())
    return model_management_pb2.ReloadConfigRequest(config=config)


def wait_until_running(server, stub):
    """Return when a request that was sent has reached the runtime: a later one is answered by the same process."""
    stub.Predict(quick_request(), timeout=PATIENCE_S)
    assert server.process.poll() is None


def test_sigterm_answers_what_was_accepted_and_refuses_the_rest(several):
    with ServerProcess(*several) as server, grpc.insecure_channel(server.address) as channel:
        stub = stub_of(channel)
        slow = [stub.Predict.future(slow_request(), timeout=PATIENCE_S) for _ in range(3)]
        wait_until_running(server, stub)
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), timeout=PATIENCE_S)
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        server.process.send_signal(signal.SIGTERM)
        assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
        server.wait_for_log("draining")
        with pytest.raises(grpc.RpcError) as caught:
            stub.Predict(quick_request(), timeout=PATIENCE_S)
        assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
        with pytest.raises(grpc.RpcError) as caught:
            model_service_pb2_grpc.ModelServiceStub(channel).HandleReloadConfigRequest(
                reload_request(""), timeout=PATIENCE_S
            )
        assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
        watch.cancel()
        assert all(future.result().outputs["rounds"].int_val[0] == ROUNDS_FOR_SECONDS for future in slow)
        assert server.process.wait(PATIENCE_S) == 0


def test_the_drain_ends_after_its_time(several):
    with (
        ServerProcess(*several, "--drain_seconds=0.5") as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        stub = stub_of(channel)
        endless = stub.Predict.future(slow_request(20 * ROUNDS_FOR_SECONDS), timeout=300)
        wait_until_running(server, stub)
        server.process.send_signal(signal.SIGTERM)
        assert endless.exception(PATIENCE_S) is not None
        assert server.process.wait(PATIENCE_S) == 0


def test_a_second_sigint_stops_at_once(several):
    with ServerProcess(*several) as server, grpc.insecure_channel(server.address) as channel:
        stub = stub_of(channel)
        endless = stub.Predict.future(slow_request(20 * ROUNDS_FOR_SECONDS), timeout=300)
        wait_until_running(server, stub)
        server.process.send_signal(signal.SIGINT)
        server.wait_for_log("draining")
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(PATIENCE_S) == 130
        assert endless.exception(PATIENCE_S) is not None


def answer_when_there(stub, request, timeout_s=PATIENCE_S):
    """The answer, once what the request asks for exists."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            return stub.Predict(request, timeout=PATIENCE_S)
        except grpc.RpcError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def hanging_version(folder, source, file):
    """A version of which `file` is a FIFO: who opens it to read waits for one who writes."""
    shutil.copytree(source, folder)
    (folder / file).unlink()
    os.mkfifo(folder / file)
    return folder / file


@pytest.mark.parametrize("serves", [False, True], ids=["at the start", "while it serves"])
def test_a_base_path_that_hangs_does_not_keep_the_process(serves, repository, tmp_path):
    folder, source = tmp_path / "scale", repository / "scale" / "1"
    if serves:
        shutil.copytree(source, folder / "1")
    with ServerProcess("--model_name=scale", f"--model_base_path={folder}", ready=serves) as server:
        hanging_version(folder / "2", source, "saved_model.pb")
        looked_at = hanging_version(folder / "3", source, "saved_model.pb")
        looked_at.open("wb").close()  # returns when the server has come so far; it goes on to version 2, and hangs
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(PATIENCE_S) == 0


def test_a_load_that_hangs_does_not_keep_the_process(repository, tmp_path):
    hanging_version(tmp_path / "scale" / "1", repository / "scale" / "1", "variables/variables.data-00000-of-00001")
    with ServerProcess("--model_name=scale", f"--model_base_path={tmp_path / 'scale'}", ready=False) as server:
        server.wait_for_log("loading scale version 1")
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(PATIENCE_S) == 0


def test_a_reload_whose_caller_goes_away_is_done_to_the_end(repository, tmp_path):
    folder = tmp_path / "several"
    for number in (1, 2):
        shutil.copytree(repository / "several" / "1", folder / str(number))
    log = prediction_log_pb2.PredictionLog()
    log.predict_log.request.CopyFrom(slow_request())
    (folder / "2" / "assets.extra").mkdir()
    with tf.io.TFRecordWriter(str(folder / "2" / "assets.extra" / "tf_serving_warmup_requests")) as writer:
        writer.write(log.SerializeToString())
    model = f'name: "several" base_path: "{folder}" model_platform: "tensorflow" model_version_policy {{ all {{}} }}'
    (tmp_path / "models.config").write_text("model_config_list {}")
    with (
        ServerProcess(f"--model_config_file={tmp_path / 'models.config'}") as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        reload = model_service_pb2_grpc.ModelServiceStub(channel).HandleReloadConfigRequest
        with pytest.raises(grpc.RpcError) as caught:
            reload(reload_request(f'config {{ {model} version_labels {{ key: "new" value: 2 }} }}'), timeout=0.5)
        assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        request = quick_request()
        request.model_spec.version_label = "new"
        assert answer_when_there(stub_of(channel), request).model_spec.version.value == 2


def test_an_empty_config_file_takes_no_model_away(repository, tmp_path):
    file = tmp_path / "models.config"
    model = f'name: "several" base_path: "{repository / "several"}" model_platform: "tensorflow"'
    file.write_text(f"model_config_list {{ config {{ {model} }} }}")
    flags = [f"--model_config_file={file}", "--model_config_file_poll_wait_seconds=1"]
    with ServerProcess(*flags) as server, grpc.insecure_channel(server.address) as channel:
        file.write_text("")  # as who writes it sees it between opening and writing
        server.wait_for_log("Taking no action for empty config.")
        assert stub_of(channel).Predict(quick_request(), timeout=PATIENCE_S).outputs


def test_what_a_base_path_had_answers_until_the_next_one_does(tmp_path):
    saved_models.write_scale(tmp_path / "old" / "1", 1.0)
    (tmp_path / "new" / "1").mkdir(parents=True)
    (tmp_path / "new" / "1" / "saved_model.pb").write_bytes(b"no model")
    model = 'name: "scale" model_platform: "tensorflow"'
    file = tmp_path / "models.config"
    file.write_text(f'model_config_list {{ config {{ {model} base_path: "{tmp_path}/old" }} }}')
    flags = [f"--model_config_file={file}", "--max_num_load_retries=0"]
    with ServerProcess(*flags) as server, grpc.insecure_channel(server.address) as channel:

        def factor():
            request = predict_request("scale", {"x": np.ones(1, np.float32)})
            return stub_of(channel).Predict(request, timeout=PATIENCE_S).outputs["y"].float_val[0]

        reload = model_service_pb2_grpc.ModelServiceStub(channel).HandleReloadConfigRequest
        with pytest.raises(grpc.RpcError, match="did not become available"):
            reload(reload_request(f'config {{ {model} base_path: "{tmp_path}/new" }}'), timeout=PATIENCE_S)
        assert factor() == 1.0
        shutil.rmtree(tmp_path / "new" / "1")
        saved_models.write_scale(tmp_path / "new" / "1", 2.0)
        deadline = time.monotonic() + PATIENCE_S
        while (found := factor()) != 2.0:
            assert found == 1.0 and time.monotonic() < deadline
            time.sleep(0.05)
        server.wait_for_log("unloaded scale version 1")
        page = urllib.request.urlopen(f"{server.rest_url}/readyz")
        assert page.status == 200 and factor() == 2.0


def test_a_killed_server_starts_again_on_the_same_ports(several, tmp_path):
    socket = tmp_path / "socket"
    with ServerProcess(*several, f"--grpc_socket_path={socket}") as server:
        server.process.kill()
        server.process.wait()
        server.start()
        with grpc.insecure_channel(f"unix:{socket}") as channel:
            assert stub_of(channel).Predict(quick_request(), timeout=PATIENCE_S).outputs


def test_a_request_whose_caller_has_gone_is_not_computed(several):
    # A long one is running; those that are given up behind it must not run after it.
    with ServerProcess(*several) as server, grpc.insecure_channel(server.address) as channel:
        stub = stub_of(channel)
        before = server.cpu_s()
        first = [stub.Predict.future(slow_request(4 * ROUNDS_FOR_SECONDS), timeout=PATIENCE_S)]
        while server.cpu_s() < before + 0.5:
            time.sleep(0.02)
        given_up = [stub.Predict.future(slow_request(50 * ROUNDS_FOR_SECONDS), timeout=0.5) for _ in range(8)]
        assert {future.exception().code() for future in given_up} == {grpc.StatusCode.DEADLINE_EXCEEDED}
        for future in first:
            future.result()
        assert stub.Predict(slow_request(1), timeout=PATIENCE_S).outputs


async def flood(address, *, callers, seconds, request, until):
    """Closed-loop callers that try again after 5 ms when refused; returns the numbers of answers and of refusals.

    They go on for the seconds, and then until `until(answered, refused)`.
    """
    answered, refused = 0, 0
    async with grpc.aio.insecure_channel(address) as channel:
        predict = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict
        end, last_end = time.monotonic() + seconds, time.monotonic() + PATIENCE_S

        def is_over():
            return time.monotonic() > (end if until(answered, refused) else last_end)

        async def call():
            nonlocal answered, refused
            while not is_over():
                try:
                    await predict(request, timeout=PATIENCE_S)
                    answered += 1
                except grpc.aio.AioRpcError as error:
                    assert error.code() == grpc.StatusCode.UNAVAILABLE, error
                    assert "queue to which this task was submitted is full" in error.details()
                    refused += 1
                    await asyncio.sleep(0.005)

        await asyncio.gather(*[call() for _ in range(callers)])
    return answered, refused


def test_overload_is_refused_and_what_is_taken_is_answered(several):
    request = slow_request(20)
    with ServerProcess(*several, "--max_queued_requests=16") as server:
        answered, refused = asyncio.run(
            flood(server.address, callers=8, seconds=2, request=request, until=lambda answered, refused: answered)
        )
        assert answered and not refused
        memory = server.memory_mb()
        answered, refused = asyncio.run(
            flood(
                server.address,
                callers=200,
                seconds=4,
                request=request,
                until=lambda answered, refused: answered and refused,
            )
        )
        assert answered and refused
        assert server.memory_mb() - memory < 200
        wait_until(server.is_serving, server.log_text)


def test_requests_that_are_too_much_together_are_refused(several):
    with ServerProcess(*several, "--grpc_max_pending_mb=1") as server, grpc.insecure_channel(server.address) as channel:
        stub = stub_of(channel)
        big = predict_request("several", {"x": np.zeros((100_000, 2), np.float32)})
        answers = [stub.Predict.future(big, timeout=PATIENCE_S) for _ in range(12)]
        errors = [error for error in (future.exception() for future in answers) if error is not None]
        assert all(error.code() == grpc.StatusCode.UNAVAILABLE for error in errors)
        assert all("bytes of requests" in error.details() for error in errors)
        assert stub.Predict(quick_request(), timeout=PATIENCE_S).outputs


def test_a_message_larger_than_grpcs_default_is_taken(server):
    request = predict_request("several", {"x": np.ones((700_000, 2), np.float32)}, outputs=("sum",))
    assert request.ByteSize() > 4 << 20
    with grpc.insecure_channel(server.address, options=[("grpc.max_receive_message_length", -1)]) as channel:
        assert len(stub_of(channel).Predict(request, timeout=PATIENCE_S).outputs["sum"].float_val) == 700_000


def make_certificates(folder):
    """A CA, and a server's and a client's key and certificate signed by it."""
    (folder / "san").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1")
    commands = ["req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.crt -days 2 -subj /CN=ca"]
    for name in ("server", "client"):
        commands += [
            f"req -newkey rsa:2048 -nodes -keyout {name}.key -out {name}.csr -subj /CN={name}",
            f"x509 -req -in {name}.csr -CA ca.crt -CAkey ca.key -CAcreateserial -out {name}.crt -days 2 -extfile san",
        ]
    for command in commands:
        subprocess.run(["openssl", *command.split()], cwd=folder, check=True, capture_output=True)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_mutual_tls(several, tmp_path):
    files = make_certificates(tmp_path)
    quoted = {name: content.decode().replace("\n", "\\n") for name, content in files.items()}
    (tmp_path / "ssl.txt").write_text(
        f'server_key: "{quoted["server.key"]}" server_cert: "{quoted["server.crt"]}" '
        f'custom_ca: "{quoted["ca.crt"]}" client_verify: true'
    )
    with ServerProcess(*several, f"--ssl_config_file={tmp_path / 'ssl.txt'}", ready=False) as server:
        server.wait_for_log("Running gRPC ModelServer")
        known = grpc.ssl_channel_credentials(files["ca.crt"], files["client.key"], files["client.crt"])
        with grpc.secure_channel(f"localhost:{server.port}", known) as channel:
            assert stub_of(channel).Predict(quick_request(), timeout=PATIENCE_S).outputs
        stranger = grpc.ssl_channel_credentials(files["ca.crt"])
        for channel in (
            grpc.secure_channel(f"localhost:{server.port}", stranger),
            grpc.insecure_channel(server.address),
        ):
            with channel, pytest.raises(grpc.RpcError) as caught:
                stub_of(channel).Predict(quick_request(), timeout=5)
            assert caught.value.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


def test_channel_arguments_and_a_unix_socket(several, tmp_path):
    flags = [
        f"--grpc_socket_path={tmp_path / 'socket'}",
        "--grpc_channel_arguments=grpc.max_connection_age_ms=2000,grpc.lb_policy_name=grpclb",
    ]
    with ServerProcess(*several, *flags), grpc.insecure_channel(f"unix:{tmp_path / 'socket'}") as channel:
        assert stub_of(channel).Predict(quick_request(), timeout=PATIENCE_S).outputs


def test_tensor_content_is_sent_when_asked(several):
    with (
        ServerProcess(*several, "--enable_serialization_as_tensor_content") as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        tensor = stub_of(channel).Predict(quick_request(), timeout=PATIENCE_S).outputs["y"]
        assert np.frombuffer(tensor.tensor_content, np.float32).tolist() == [2.0, 2.0] and not tensor.float_val


def test_a_full_disk_under_the_request_log_fails_no_request(several):
    with (
        ServerProcess(*several, "--request_log_file=/dev/full") as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        for _ in range(20):
            assert stub_of(channel).Predict(quick_request(), timeout=PATIENCE_S).outputs
        assert server.is_serving()

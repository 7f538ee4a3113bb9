"""How a server ends, what it refuses, and how it is reached: signals, drain, overload, TLS, sockets, limits."""

import asyncio
import collections
import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
import urllib.error
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
from tests.serving.conftest import predict_request, write_model_config

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


def write_warmup(version, request):
    """Have `request` run before the version in this folder serves."""
    log = prediction_log_pb2.PredictionLog()
    log.predict_log.request.CopyFrom(request)
    (version / "assets.extra").mkdir()
    with tf.io.TFRecordWriter(str(version / "assets.extra" / "tf_serving_warmup_requests")) as writer:
        writer.write(log.SerializeToString())


def test_a_load_that_hangs_does_not_keep_the_process(repository, tmp_path):
    shutil.copytree(repository / "several" / "1", tmp_path / "several" / "1")
    write_warmup(tmp_path / "several" / "1", slow_request(10**6))
    with ServerProcess("--model_name=several", f"--model_base_path={tmp_path / 'several'}", ready=False) as server:
        server.wait_for_log("loading several version 1")
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(PATIENCE_S) == 0


def test_only_the_server_itself_writes_to_its_log(repository, tmp_path):
    """TensorFlow's own lines look like failures to somebody who has not asked for them."""
    file = write_model_config(tmp_path / "models.config", repository, ["half_plus_two", "several", "table"])
    with ServerProcess(f"--model_config_file={file}") as server:
        with grpc.insecure_channel(server.address) as channel:
            predict = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict
            predict(predict_request("half_plus_two", {"x": np.float32([[1]])}), timeout=PATIENCE_S)
        server.stop()
        lines = server.log_text().splitlines()
    assert lines and all(re.match(r"\d{4}-\d\d-\d\d [\d:.]+ INFO serving\.", line) for line in lines), lines


def test_a_version_of_pipes_and_circles_holds_nobody(repository, tmp_path):
    for name in ("odd", "scale"):
        shutil.copytree(repository / "scale" / "1", tmp_path / name / "1")
    config = write_model_config(tmp_path / "models.config", tmp_path, ["odd", "scale"])
    with ServerProcess(f"--model_config_file={config}") as server, grpc.insecure_channel(server.address) as channel:
        odd = tmp_path / "odd" / "2"
        shutil.copytree(repository / "scale" / "2", odd)
        (odd / "a").symlink_to(".")
        (odd / "b").symlink_to(".")
        (odd / "saved_model.pb").unlink()
        os.mkfifo(odd / "saved_model.pb")
        server.wait_for_log("it has no saved_model.pb (only regular files count")
        shutil.copytree(repository / "scale" / "2", tmp_path / "scale" / "2")
        request = predict_request("scale", {"x": np.ones(1, np.float32)}, version=2)
        assert answer_when_there(stub_of(channel), request).outputs["y"].float_val[0] == 2.0


def test_a_port_is_open_before_the_first_models_are_there(repository, tmp_path):
    shutil.copytree(repository / "several" / "1", tmp_path / "several" / "1")
    write_warmup(tmp_path / "several" / "1", slow_request(10**6))
    shutil.copytree(repository / "scale" / "1", tmp_path / "scale" / "1")
    config = write_model_config(tmp_path / "models.config", tmp_path, ["several", "scale"])
    with (
        ServerProcess(f"--model_config_file={config}", ready=False) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        health = health_pb2_grpc.HealthStub(channel).Check
        wait_until(lambda: server.is_serving("scale"), server.log_text)
        for service in ("", "several"):
            answer = health(health_pb2.HealthCheckRequest(service=service), timeout=PATIENCE_S)
            assert answer.status == health_pb2.HealthCheckResponse.NOT_SERVING
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(f"{server.rest_url}/readyz")
        assert caught.value.code == 503 and b"loading the first models" in caught.value.read()
        assert stub_of(channel).Predict(predict_request("scale", {"x": np.ones(1, np.float32)}), timeout=PATIENCE_S)
        reload = model_service_pb2_grpc.ModelServiceStub(channel).HandleReloadConfigRequest
        for call, request in ((stub_of(channel).Predict, quick_request()), (reload, reload_request(""))):
            with pytest.raises(grpc.RpcError) as refused:
                call(request, timeout=PATIENCE_S)
            assert refused.value.code() == grpc.StatusCode.UNAVAILABLE
            # TensorFlow Serving's own test takes a server for ready when an unknown model's error has this word.
            assert "Servable" not in refused.value.details()
        assert "Running gRPC ModelServer" not in server.log_text()


@pytest.mark.parametrize(
    "name", ["SIGHUP", *(pytest.param(name, marks=pytest.mark.slow) for name in ("SIGINT", "SIGUSR1", "SIGUSR2"))]
)
def test_other_signals_that_end_a_process_drain_too(several, name):
    with ServerProcess(*several) as server, grpc.insecure_channel(server.address) as channel:
        stub = stub_of(channel)
        slow = stub.Predict.future(slow_request(), timeout=PATIENCE_S)
        wait_until_running(server, stub)
        server.process.send_signal(getattr(signal, name))
        assert slow.result().outputs["rounds"].int_val[0] == ROUNDS_FOR_SECONDS
        assert server.process.wait(PATIENCE_S) == 0


def test_a_signal_that_was_to_be_ignored_is_ignored(several):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does; inherited by the process
    try:
        with ServerProcess(*several) as server, grpc.insecure_channel(server.address) as channel:
            server.process.send_signal(signal.SIGHUP)
            assert stub_of(channel).Predict(quick_request(), timeout=PATIENCE_S).outputs
            assert "draining" not in server.log_text()
    finally:
        signal.signal(signal.SIGHUP, before)


def test_callers_that_go_on_asking_are_told_that_the_server_is_unavailable(several):
    """Each on a connection of its own, one call after the other, over the whole drain and beyond."""
    codes, stop = collections.Counter(), threading.Event()

    def ask(address):
        with grpc.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
            while not stop.is_set():
                try:
                    stub_of(channel).Predict(quick_request(), timeout=PATIENCE_S)
                    codes["OK"] += 1
                except grpc.RpcError as error:
                    codes[error.code().name] += 1
                    stop.wait(0.02)

    with ServerProcess(*several) as server:
        callers = [threading.Thread(target=ask, args=[server.address]) for _ in range(8)]
        for caller in callers:
            caller.start()
        wait_until(lambda: codes["OK"] > 100)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(PATIENCE_S) == 0
        stop.set()
        for caller in callers:
            caller.join()
    assert codes.keys() == {"OK", "UNAVAILABLE"}, codes


def test_a_reload_whose_caller_goes_away_is_done_to_the_end(repository, tmp_path):
    folder = tmp_path / "several"
    for number in (1, 2):
        shutil.copytree(repository / "several" / "1", folder / str(number))
    write_warmup(folder / "2", slow_request())
    model = f'name: "several" base_path: "{folder}" model_platform: "tensorflow" model_version_policy {{ all {{}} }}'
    (tmp_path / "models.config").write_text("model_config_list {}")
    with (
        ServerProcess(f"--model_config_file={tmp_path / 'models.config'}", ready=False) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        server.wait_for_log("Running gRPC ModelServer")
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
    unix = tmp_path / "socket"
    with ServerProcess(*several, f"--grpc_socket_path={unix}") as server:
        server.process.kill()
        server.process.wait()
        server.start()
        with grpc.insecure_channel(f"unix:{unix}") as channel:
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


def frame(kind, flags, stream, payload=b""):
    """An HTTP/2 frame."""
    return len(payload).to_bytes(3) + bytes([kind, flags]) + stream.to_bytes(4) + payload


def read_to_the_end(connection):
    with contextlib.suppress(OSError):
        while connection.recv(1 << 16):
            pass


def reset_rapidly(port, *, streams):
    """Open so many streams on one connection, and reset each at once."""
    fields = {b":path": b"/tensorflow.serving.PredictionService/Predict", b":authority": b"x"}
    fields |= {b"content-type": b"application/grpc", b"te": b"trailers"}
    headers = b"\x83\x86" + b"".join(  # POST, http; the others literally
        b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value for name, value in fields.items()
    )
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        reader = threading.Thread(target=read_to_the_end, args=[connection])
        reader.start()
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0) + frame(4, 1, 0))
        for first in range(1, 2 * streams, 200):
            numbers = range(first, first + 200, 2)
            connection.sendall(b"".join(frame(1, 4, n, headers) + frame(3, 0, n, bytes([0, 0, 0, 8])) for n in numbers))
        connection.shutdown(socket.SHUT_RDWR)
        reader.join(PATIENCE_S)


def test_streams_that_are_reset_at_once_do_not_fill_the_memory(several):
    with ServerProcess(*several) as server, grpc.insecure_channel(server.address) as channel:
        assert stub_of(channel).Predict(quick_request(), timeout=PATIENCE_S).outputs
        memory = server.memory_mb()
        with contextlib.suppress(OSError):  # that the server hangs up, or reads no further, is fine too
            reset_rapidly(server.port, streams=60_000)
        assert stub_of(channel).Predict(quick_request(), timeout=PATIENCE_S).outputs
        assert server.memory_mb() - memory < 250


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
    unix = tmp_path / "socket"
    flags = [f"--ssl_config_file={tmp_path / 'ssl.txt'}", f"--grpc_socket_path={unix}"]
    with ServerProcess(*several, *flags, ready=False) as server:
        server.wait_for_log("Running gRPC ModelServer")
        assert f"the REST API on port {server.rest_port} is plaintext, and asks callers for no certificate" in (
            server.log_text()
        )
        known = grpc.ssl_channel_credentials(files["ca.crt"], files["client.key"], files["client.crt"])
        for address in (f"localhost:{server.port}", f"unix:{unix}"):
            with grpc.secure_channel(address, known, [("grpc.ssl_target_name_override", "localhost")]) as channel:
                assert stub_of(channel).Predict(quick_request(), timeout=PATIENCE_S).outputs
        stranger = grpc.ssl_channel_credentials(files["ca.crt"])
        for channel in (
            grpc.secure_channel(f"localhost:{server.port}", stranger),
            grpc.insecure_channel(server.address),
            grpc.insecure_channel(f"unix:{unix}"),
        ):
            with channel, pytest.raises(grpc.RpcError) as caught:
                stub_of(channel).Predict(quick_request(), timeout=5)
            assert caught.value.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


def test_channel_arguments_and_a_unix_socket(several, tmp_path):
    flags = [
        f"--grpc_socket_path={tmp_path / 'socket'}",
        "--grpc_channel_arguments=grpc.max_connection_age_ms=2000,grpc.lb_policy_name=grpclb",
    ]
    with ServerProcess(*several, *flags) as server:
        with grpc.insecure_channel(f"unix:{tmp_path / 'socket'}") as channel:
            assert stub_of(channel).Predict(quick_request(), timeout=PATIENCE_S).outputs
        assert server.stop() == 0 and not (tmp_path / "socket").exists()


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

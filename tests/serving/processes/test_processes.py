"""A server of two processes on the same ports is one server to its callers."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections import Counter

import grpc
import numpy as np
import psutil
import pytest
import tensorflow as tf
from google.protobuf import text_format
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tensorflow_serving.apis import (
    get_model_status_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    prediction_service_pb2_grpc,
)
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from inkling.serving.access.callers import Limits
from inkling.serving.access.keys import line_of, make_key
from tests.patience import PATIENCE_S, wait_until
from tests.ports import free_port
from tests.server_process import ROOT, ServerProcess
from tests.serving import saved_models
from tests.serving.conftest import predict_request

pytestmark = pytest.mark.process

NUM_CHANNELS = 16  # that all of them reach one of two processes happens once in 32,768 times
SLOW_ROUNDS = 4000  # of the signature `slow`: at least a second on any machine
OWN_CONNECTION = [("grpc.use_local_subchannel_pool", 1)]  # or all channels of a process would share one
MONITORING = 'prometheus_config { enable: true path: "/metrics" }'


class Channels:
    """Connections of their own, which the system spreads over the processes."""

    def __init__(self, address, number=NUM_CHANNELS):
        self._channels = [grpc.insecure_channel(address, OWN_CONNECTION) for _ in range(number)]
        self.predictions = [prediction_service_pb2_grpc.PredictionServiceStub(each) for each in self._channels]
        self.models = [model_service_pb2_grpc.ModelServiceStub(each) for each in self._channels]

    def __enter__(self):
        for channel in self._channels:
            grpc.channel_ready_future(channel).result(PATIENCE_S)
        return self

    def __exit__(self, *error):
        for channel in self._channels:
            channel.close()

    def predict(self, request):
        """The first output of each channel's answer."""
        answers = [stub.Predict.future(request, timeout=PATIENCE_S) for stub in self.predictions]
        return [tf.make_ndarray(next(iter(answer.result().outputs.values()))).item(0) for answer in answers]


def scale_request(**which):
    return predict_request("scale", {"x": np.ones(1, np.float32)}, **which)


def slow_request(rounds=SLOW_ROUNDS):
    return predict_request("several", {"rounds": np.array([rounds], np.int32)}, signature="slow")


def children_of(server):
    """The server's processes, as many as there are now."""
    found = psutil.Process(server.process.pid).children()
    return [child for child in found if "serving.worker" in " ".join(child.cmdline())]


def connections_of(child, port):
    """How many callers a process has on `port`."""
    found = child.net_connections(kind="tcp")
    return sum(1 for each in found if each.laddr.port == port and each.status == psutil.CONN_ESTABLISHED)


def metrics(server):
    with urllib.request.urlopen(f"{server.rest_url}/metrics", timeout=PATIENCE_S) as page:
        lines = page.read().decode().splitlines()
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if not line.startswith("#")}


def count_of(server, model, status="OK"):
    return metrics(server).get(f':tensorflow:serving:request_count{{model_name="{model}",status="{status}"}}', 0)


def reload(stub, folder, scale=""):
    text = "".join(
        f'config {{ name: "{name}" base_path: "{folder / name}" model_platform: "tensorflow" {extra} }}'
        for name, extra in (("scale", scale), ("several", ""))
    )
    config = text_format.Parse(f"model_config_list {{ {text} }}", ModelServerConfig())
    stub.HandleReloadConfigRequest(model_management_pb2.ReloadConfigRequest(config=config), timeout=PATIENCE_S)


def states(stub, model):
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = model
    answer = stub.GetModelStatus(request, timeout=PATIENCE_S)
    return {status.version: status.state for status in answer.model_version_status}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    saved_models.write_scale(folder / "scale" / "1", 1.0)
    saved_models.write_scale(folder / "spare", 2.0)
    saved_models.write_several(folder / "several" / "1")
    (folder / "monitoring.config").write_text(MONITORING)
    return folder


@pytest.fixture(scope="module")
def server(folder):
    """Two processes. The tests below go from one to the next: what one has changed the others see."""
    file = folder / "models.config"
    models = [
        f'config {{ name: "{name}" base_path: "{folder / name}" model_platform: "tensorflow" }}'
        for name in ("scale", "several")
    ]
    file.write_text("model_config_list {" + "".join(models) + "}")
    flags = (
        "--num_processes=2",
        f"--model_config_file={file}",
        f"--monitoring_config_file={folder / 'monitoring.config'}",
        f"--request_log_file={folder / 'log'}",
        f"--grpc_socket_path={folder / 'socket'}",
        f"--drain_seconds={PATIENCE_S}",
    )
    with ServerProcess(*flags) as server:
        server.wait_for_log("Running gRPC")
        yield server


@pytest.fixture(scope="module")
def channels(server):
    with Channels(server.address) as channels:
        yield channels


def test_both_processes_serve_and_are_counted_as_one(server, channels, folder):
    children = children_of(server)
    assert len(children) == 2
    assert channels.predict(scale_request()) == [1.0] * NUM_CHANNELS
    assert all(connections_of(child, server.port) for child in children)
    assert sum(connections_of(child, server.port) for child in children) == NUM_CHANNELS
    assert count_of(server, "scale") == NUM_CHANNELS
    found = metrics(server)
    assert found['inkling_serving_model_available{model_name="scale",version="1"}'] == 1
    wait_until(lambda: len(list(tf.data.TFRecordDataset(str(folder / "log")))) == NUM_CHANNELS)


def num_unix_connections(child, path):
    return sum(1 for each in child.net_connections(kind="unix") if each.laddr.startswith(path)) - 1  # one listens


def test_the_unix_socket_leads_to_both_processes(server, folder):
    path = str(folder / "socket")
    before, sent = count_of(server, "scale"), 0
    with contextlib.ExitStack() as stack:
        while not all(num_unix_connections(child, path) for child in children_of(server)):
            assert stack.enter_context(Channels(f"unix:{path}", 1)).predict(scale_request()) == [1.0]
            sent += 1
            time.sleep(0.05)  # the link goes on
    assert count_of(server, "scale") == before + sent


def test_a_reload_is_answered_when_all_processes_have_done_it(channels, folder):
    reload(channels.models[0], folder, 'version_labels { key: "stable" value: 1 }')
    assert channels.predict(scale_request(label="stable")) == [1.0] * NUM_CHANNELS
    with pytest.raises(grpc.RpcError, match="not currently available"):
        reload(channels.models[0], folder, 'version_labels { key: "stable" value: 7 }')
    assert channels.predict(scale_request(label="stable")) == [1.0] * NUM_CHANNELS


def test_a_version_is_available_when_all_processes_have_it(channels, folder):
    shutil.copytree(folder / "spare", folder / "scale" / "2")
    wait_until(lambda: states(channels.models[0], "scale").get(2) == get_model_status_pb2.ModelVersionStatus.AVAILABLE)
    assert channels.predict(scale_request(version=2)) == [2.0] * NUM_CHANNELS
    wait_until(lambda: states(channels.models[1], "scale")[1] == get_model_status_pb2.ModelVersionStatus.END)
    reload(channels.models[2], folder, 'version_labels { key: "canary" value: 2 }')


def test_a_killed_process_fails_its_own_calls_alone_and_is_replaced(server, channels, folder):
    before = count_of(server, "several")
    killed, kept = children_of(server)
    num_lost = connections_of(killed, server.port)
    calls = [stub.Predict.future(slow_request(), timeout=PATIENCE_S) for stub in channels.predictions]
    channels.predict(scale_request())  # answered over the same connections: the calls have come
    killed.send_signal(signal.SIGKILL)
    ends = Counter(call.exception(PATIENCE_S) and call.exception(PATIENCE_S).code() for call in calls)
    assert ends == Counter({None: NUM_CHANNELS - num_lost, grpc.StatusCode.UNAVAILABLE: num_lost})
    server.wait_for_log(f"(pid {killed.pid}) was ended by SIGKILL")
    wait_until(lambda: len(children_of(server)) == 2)
    server.wait_for_log("serves\n")
    assert kept.is_running() and count_of(server, "several") == before + NUM_CHANNELS - num_lost
    with Channels(server.address) as anew:
        assert anew.predict(scale_request(label="canary")) == [2.0] * NUM_CHANNELS
        assert all(connections_of(child, server.port) for child in children_of(server))
    assert server.is_serving()


def test_sigterm_has_all_processes_answer_what_they_have_accepted(server, folder):
    with Channels(server.address) as channels:
        watch = health_pb2_grpc.HealthStub(channels._channels[0]).Watch(health_pb2.HealthCheckRequest())
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        calls = [stub.Predict.future(slow_request(), timeout=PATIENCE_S) for stub in channels.predictions]
        channels.predict(scale_request())  # answered over the same connections: the calls have come
        server.process.send_signal(signal.SIGTERM)
        assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
        watch.cancel()
        assert all(call.exception(PATIENCE_S) is None for call in calls)
    assert server.process.wait(PATIENCE_S) == 0
    assert not list(folder.glob("socket*"))


def start_two(*flags):
    command = [sys.executable, "-m", "serving", "--num_processes=2", *flags]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def test_the_processes_end_with_a_supervisor_that_is_killed(tmp_path):
    with start_two(f"--port={free_port()}", f"--model_base_path={tmp_path}") as supervisor:
        parent = psutil.Process(supervisor.pid)
        wait_until(lambda: len(parent.children()) == 2)
        children = parent.children()
        supervisor.kill()
        assert not psutil.wait_procs(children, timeout=PATIENCE_S)[1]


@pytest.fixture
def taken_port():
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        taken.listen()
        yield taken.getsockname()[1]


def test_a_taken_port_is_told_before_anything_is_started(taken_port, tmp_path):
    with start_two(f"--port={taken_port}", f"--model_base_path={tmp_path}") as supervisor:
        assert supervisor.stderr.read().endswith(f"gRPC cannot listen on 0.0.0.0:{taken_port}: it is in use\n")
        assert supervisor.wait(PATIENCE_S) == 255


@pytest.mark.slow
def test_a_start_that_fails_is_told_once(tmp_path):
    version = tmp_path / "broken" / "1"
    version.mkdir(parents=True)
    (version / "saved_model.pb").write_bytes(b"no model")
    flags = (f"--port={free_port()}", f"--model_base_path={version.parent}", "--max_num_load_retries=0")
    with start_two(*flags) as supervisor:
        assert supervisor.stderr.read().count("Failed to start server") == 1
        assert supervisor.wait(PATIENCE_S) == 255


@pytest.mark.slow
def test_a_caller_has_one_limit_over_all_processes(tmp_path):
    saved_models.write_scale(tmp_path / "scale" / "1", 1.0)
    key = make_key("alice")
    (tmp_path / "keys").write_text(line_of(key, Limits(0.001, 0)))  # one request, and then one in 1,000 s
    flags = (
        "--num_processes=2",
        "--model_name=scale",
        f"--model_base_path={tmp_path / 'scale'}",
        f"--api_keys_file={tmp_path / 'keys'}",
    )
    with ServerProcess(*flags) as server, Channels(server.address) as channels:
        metadata = [("x-api-key", key)]
        calls = [
            stub.Predict.future(scale_request(), timeout=PATIENCE_S, metadata=metadata) for stub in channels.predictions
        ]
        ends = Counter(call.exception(PATIENCE_S) and call.exception(PATIENCE_S).code() for call in calls)
    assert ends == Counter({None: 1, grpc.StatusCode.RESOURCE_EXHAUSTED: NUM_CHANNELS - 1})


@pytest.mark.slow
def test_a_process_that_ends_again_and_again_is_replaced_later(tmp_path):
    saved_models.write_scale(tmp_path / "scale" / "1", 1.0)
    flags = ("--num_processes=2", "--model_name=scale", f"--model_base_path={tmp_path / 'scale'}")
    with ServerProcess(*flags) as server:
        server.wait_for_log("Running gRPC")
        victim = children_of(server)[0]
        for when in ("takes its place at once", "2 times in a row; another takes its place in 1 s"):
            victim.kill()
            server.wait_for_log(when)
            assert server.is_serving()
            wait_until(lambda: len(children_of(server)) == 2)
            victim = max(children_of(server), key=lambda child: child.create_time())
            server.wait_for_log(f"(pid {victim.pid}) serves")

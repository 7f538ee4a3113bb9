"""The canary's program, run as its Job runs it: real servers of two versions, and an API that keeps a route."""

import base64
import importlib.util
import io
import json
import signal
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import grpc
import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import text_format
from tensorflow_serving.apis import model_management_pb2, model_service_pb2_grpc
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from tests.k8s import manifests
from tests.patience import PATIENCE_S, wait_until
from tests.server_process import ServerProcess

pytestmark = pytest.mark.process

PROGRAM = manifests.K8S / "components/canary/canary.py"
GOOD, SLOW, WRONG = 2, 3, 4  # versions, beside 1
# What a machine under load adds to a call is no difference between two versions; the slow one takes far more.
CALM = ["--slower=8", "--slower_ms=150"]


@pytest.fixture(scope="module")
def canary():
    spec = importlib.util.spec_from_file_location("canary", PROGRAM)
    module = importlib.util.module_from_spec(spec)
    sys.modules["canary"] = module  # where its dataclasses look for their module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["canary"]


class Model(tf.Module):
    """Says of each image what the sum of its pixels ends with, a little late or by one too much."""

    def __init__(self, rounds: int = 0, error: int = 0) -> None:
        super().__init__()
        self.rounds, self.error = rounds, error

    @tf.function(input_signature=[tf.TensorSpec([None, 28, 28], tf.uint8, name="images")])
    def __call__(self, images):
        work = tf.ones([512, 512])
        for _ in tf.range(self.rounds):
            work = tf.matmul(work, work) / 512.0
        sums = tf.reduce_sum(tf.cast(images, tf.int64), [1, 2]) + tf.cast(work[0, 0], tf.int64) - 1
        classes = (sums + self.error) % 10
        return {"classes": classes, "probabilities": tf.one_hot(classes, 10)}


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "mnist"
    for version, model in {1: Model(), GOOD: Model(), SLOW: Model(rounds=100), WRONG: Model(error=1)}.items():
        tf.saved_model.save(model, str(folder / str(version)), signatures=model.__call__)
    return folder


def _config(models: Path, version: int) -> str:
    model = f'name: "mnist" base_path: "{models}" model_platform: "tensorflow"'
    return f"model_config_list {{ config {{ {model} model_version_policy {{ specific {{ versions: {version} }} }} }} }}"


@pytest.fixture(scope="module")
def servers(models, tmp_path_factory):
    """(of version 1, of another one)"""
    folder = tmp_path_factory.mktemp("config")
    for name, version in (("stable", 1), ("canary", GOOD)):
        (folder / name).write_text(_config(models, version))
    with (
        ServerProcess(f"--model_config_file={folder}/stable") as stable,
        ServerProcess(f"--model_config_file={folder}/canary") as canary,
    ):
        yield stable, canary


@pytest.fixture
def serve(servers, models):
    """Have the canary's server serve a version."""

    def change(version: int) -> None:
        config = text_format.Parse(_config(models, version), ModelServerConfig())
        with grpc.insecure_channel(servers[1].address) as channel:
            stub = model_service_pb2_grpc.ModelServiceStub(channel)
            stub.HandleReloadConfigRequest(model_management_pb2.ReloadConfigRequest(config=config), timeout=PATIENCE_S)

    return change


class Api(ThreadingHTTPServer):
    """Keeps one route, changes it by JSON patches of `test` and `replace`, and remembers the weights."""

    PATH = "/apis/gateway.networking.k8s.io/v1/namespaces/inkling/grpcroutes/serving"

    def __init__(self, route: manifests.Object) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.route, self.weights = route, []

    def patch(self, operations: list[dict]) -> None:
        for operation in operations:
            *steps, last = operation["path"].strip("/").split("/")
            place = self.route
            for step in steps:
                place = place[int(step)] if step.isdigit() else place[step]
            if operation["op"] == "test":
                assert place[last] == operation["value"]
            else:
                place[last] = operation["value"]
        self.weights.append([backend["weight"] for backend in self.route["spec"]["rules"][0]["backendRefs"]])


class Handler(BaseHTTPRequestHandler):
    server: Api

    def do_GET(self) -> None:
        assert self.path == Api.PATH
        self._answer()

    def do_PATCH(self) -> None:
        assert (self.path, self.headers["Content-Type"]) == (Api.PATH, "application/json-patch+json")
        self.server.patch(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self._answer()

    def _answer(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(self.server.route).encode())

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def api(tmp_path):
    objects = manifests.with_component(tmp_path, "cpu", "canary")
    with Api(manifests.find(objects, "GRPCRoute", "serving")) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def probe(tmp_path_factory) -> Path:
    images = np.random.default_rng(0).integers(0, 256, (24, 28, 28), np.uint8)
    file = io.BytesIO()
    np.savez(file, images=images, labels=images.sum((1, 2), np.int64) % 10)
    path = tmp_path_factory.mktemp("probe") / "probe.npz.base64"
    path.write_bytes(base64.encodebytes(file.getvalue()))
    return path


@pytest.fixture
def start(servers, api, probe):
    """Start the program as the Job does; returns its process."""

    def run(*arguments: str) -> subprocess.Popen:
        command = [sys.executable, str(PROGRAM), "--route=grpcroutes/serving", f"--probe={probe}"]
        command += [f"--api=http://127.0.0.1:{api.server_port}", f"--stable={servers[0].address}"]
        command += [f"--canary={servers[1].address}", "--hold_s=0", *CALM, *arguments]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    return run


def test_a_version_as_good_as_the_one_before_gets_all_calls_once_it_is_there(serve, start, api):
    serve(1)
    process = start(f"--wait_s={PATIENCE_S}")
    assert "both serve version 1; another one may come" in process.stdout.readline()
    serve(GOOD)
    output, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, output
    assert api.weights == [[99, 1], [90, 10], [50, 50], [0, 100]]
    assert "version 2 has all calls; promote it" in output


@pytest.mark.parametrize(
    ("version", "reason"),
    [(SLOW, "its calls take"), (WRONG, "0.0% of its answers are right, of the others' 100.0%")],
    ids=["slow", "wrong"],
)
def test_a_bad_version_never_gets_past_the_first_step(serve, start, api, version, reason):
    serve(version)
    output, _ = (process := start()).communicate(timeout=PATIENCE_S)
    assert (process.returncode, api.weights) == (1, [[99, 1], [100, 0]]), output
    assert f"version {version} is worse than 1: " in output and reason in output


def test_a_job_that_is_stopped_gives_the_calls_back(serve, start, api):
    serve(GOOD)
    process = start("--hold_s=3600")
    wait_until(lambda: api.weights == [[99, 1]], lambda: api.weights)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, api.weights[-1]) == (128 + signal.SIGTERM, [100, 0]), output


def test_where_both_serve_one_version_nothing_is_moved(serve, start, api):
    serve(1)
    output, _ = (process := start("--wait_s=0")).communicate(timeout=PATIENCE_S)
    assert (process.returncode, api.weights) == (0, []), output
    assert "both serve version 1: there is nothing to try" in output


def _measured(canary, *, answers: list[int], times_ms: list[float], failures: int = 0):
    labels = [np.array([1, 2, 3, 4] * 5)]
    return canary.Measured([np.array(answers * 5)], labels, times_ms, ["UNAVAILABLE"] * failures)


@pytest.mark.parametrize(
    ("answers", "times_ms", "failures", "reason"),
    [
        ([1, 2, 3, 4], [1.9], 0, None),
        ([1, 2, 3, 4], [2.9], 0, None),  # three times as long, but 1.9 ms
        ([1, 2, 3, 4], [3.1], 0, "its calls take 3.1 ms, the others 1.0 ms (percentile 50)"),
        ([1, 2, 3, 4], [1.0] * 9 + [50.0], 0, "(percentile 95)"),
        ([1, 2, 3, 5], [1.0], 0, "75.0% of its answers are right, of the others' 100.0%"),
        ([1, 2, 3, 5], [1.0], 0, "25.0% of the images have another answer"),
        ([1, 2, 3, 4], [1.0], 1, "100.0% of its calls fail: UNAVAILABLE"),
    ],
)
def test_what_is_worse_is_told(canary, answers, times_ms, failures, reason):
    stable = _measured(canary, answers=[1, 2, 3, 4], times_ms=[1.0])
    reasons = canary.worse(
        _measured(canary, answers=answers, times_ms=times_ms, failures=failures), stable, canary.Limits()
    )
    assert not reasons if reason is None else any(reason in found for found in reasons)


def test_a_version_that_errs_elsewhere_as_often_is_told_by_its_other_answers(canary):
    one, other = ([1, 2, 3, 5], [1, 2, 9, 4])
    reasons = canary.worse(
        _measured(canary, answers=one, times_ms=[1.0]),
        _measured(canary, answers=other, times_ms=[1.0]),
        canary.Limits(),
    )
    assert reasons == ["50.0% of the images have another answer"]


def test_with_the_tls_component_both_sets_have_names_in_the_certificate(tmp_path):
    objects = manifests.with_components(tmp_path, "cpu", "tls", "gateway", "canary")
    names = manifests.find(objects, "Certificate", "serving-tls")["spec"]["dnsNames"]  # by which the Job asks
    assert {"serving", "serving-canary"} <= set(names)
    [flag] = [word for word in _job_args(objects) if word.startswith("--tls_ca=")]
    assert flag == "--tls_ca=/etc/authority/ca.crt"
    second = manifests.find(objects, "Deployment", "serving-canary")["spec"]["template"]["spec"]
    assert "--ssl_config_file=/etc/ssl-config/ssl.config" in second["containers"][0]["args"]


def _job_args(objects: list[manifests.Object]) -> list[str]:
    job = manifests.find(objects, "CronJob", "canary")["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    return job["containers"][0]["args"]


def test_the_probe_has_labelled_images_of_all_digits():
    content = base64.b64decode((PROGRAM.parent / "probe.npz.base64").read_bytes())
    with np.load(io.BytesIO(content)) as file:
        assert (file["images"].shape, file["images"].dtype) == ((256, 28, 28), np.uint8)
        assert np.bincount(file["labels"], minlength=10).min() >= 15

"""The tables of docs/serving.md: each of their cells is tried on a server with its flags, over gRPC and REST."""

import contextlib
import itertools
import json
import os
import re
import urllib.error
import urllib.request
from pathlib import Path

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    prediction_service_pb2_grpc,
    regression_pb2,
)

from inkling.serving.access.keys import line_of, make_key
from inkling.serving.proto import open_inference_pb2 as v2
from inkling.serving.proto import profiler_pb2
from tests.patience import PATIENCE_S
from tests.server_process import ROOT, ServerProcess
from tests.serving.conftest import predict_request, write_model_config

pytestmark = pytest.mark.process

PAGE = (Path(__file__).parents[3] / "docs" / "serving.md").read_text()
CALLERS = ("nobody", "wrong key", "expired token", "predictor", "administrator")
REFUSALS = {"UNAUTHENTICATED": "401", "PERMISSION_DENIED": "403"}
LET_IN = ("OK", "NOT_FOUND", "INVALID_ARGUMENT", "UNIMPLEMENTED", "400")  # what the server says to what makes no sense


def tables():
    """The page's three: the right of each call; what each caller gets by flags and right; by flags and call."""
    section = PAGE.partition("### Who may do what")[2].partition("\n### ")[0]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in section.splitlines() if line.startswith("|")]
    calls = {row[0]: row[1] for row in rows if row[0].startswith(("`", "probes")) and len(row) == 3}
    cells = {(row[0], row[1]): dict(zip(CALLERS, row[2:], strict=True)) for row in rows if len(row) == 7}
    by_right = {key: value for key, value in cells.items() if key[1] in ("predict", "admin")}
    return calls, by_right, {key: value for key, value in cells.items() if key[1] in calls}


RIGHTS, CELLS, CLOSED = tables()
FLAGS = list(dict.fromkeys(flags for flags, _ in CELLS))
CLOSING = ("--allow_model_control=false", "--enable_profiler=false", "--metrics_need_key")


def rest(server, method, path, token=None, body=None):
    """The name of an HTTP request's status."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    content = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{server.rest_url}{path}", content, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as response:
            return "OK" if response.status == 200 else str(response.status)
    except urllib.error.HTTPError as error:
        with error:
            return {401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND"}.get(error.code, str(error.code))


def rpc(call, request, token=None):
    """The status of an RPC."""
    metadata = (("x-api-key", token),) if token else ()
    try:
        call(request, timeout=PATIENCE_S, metadata=metadata)
    except grpc.RpcError as error:
        return error.code().name
    return "OK"


def v2_call(channel, name):
    return channel.unary_unary(
        f"/inference.GRPCInferenceService/{name}", request_serializer=lambda message: message.SerializeToString()
    )


def raw(channel, method):
    """An RPC of bytes."""
    return channel.unary_unary(method)


def first_of(stream):
    """The status of a stream, of which the first message is enough."""
    try:
        next(stream)
    except grpc.RpcError as error:
        return error.code().name
    finally:
        stream.cancel()
    return "OK"


def reflected(channel, token):
    """The status of a question to gRPC's reflection."""
    metadata = (("x-api-key", token),) if token else ()
    ask = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo
    question = reflection_pb2.ServerReflectionRequest(list_services="")
    return first_of(ask(iter([question]), timeout=PATIENCE_S, metadata=metadata))


def watched(channel, token):
    """The status of a watch of the server's health."""
    metadata = (("x-api-key", token),) if token else ()
    return first_of(
        health_pb2_grpc.HealthStub(channel).Watch(
            health_pb2.HealthCheckRequest(), timeout=PATIENCE_S, metadata=metadata
        )
    )


def calls_of(server, channel, config):
    """Each call of the page's first table, by its name there, as functions of a key or token."""
    predictions = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    models = model_service_pb2_grpc.ModelServiceStub(channel)
    profile = channel.unary_unary(
        "/tensorflow.ProfilerService/Profile", request_serializer=lambda message: message.SerializeToString()
    )
    metadata = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    metadata.model_spec.name = "scale"
    status = get_model_status_pb2.GetModelStatusRequest()
    status.model_spec.name = "scale"
    reload = model_management_pb2.ReloadConfigRequest()
    for name in ("scale", "half_plus_two"):
        entry = reload.config.model_config_list.config.add(name=name, model_platform="tensorflow")
        entry.base_path = str(config / name)
    infer = v2.ModelInferRequest(model_name="scale")
    infer.inputs.add(name="x", datatype="FP32", shape=[1]).contents.fp32_contents.append(3)
    infer_json = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "data": [3]}]}

    def http(method, path, body=None):
        return lambda token: rest(server, method, path, token, body)

    def grpc_(call, request):
        return lambda token: rpc(call, request, token)

    unload = v2.RepositoryModelUnloadRequest(model_name="half_plus_two")
    repository = "/v2/repository/models/half_plus_two"
    return {
        "`Predict`, `POST …:predict`": [
            grpc_(predictions.Predict, predict_request("scale", {"x": np.float32([3])})),
            http("POST", "/v1/models/scale:predict", {"instances": [3.0]}),
        ],
        "`ModelInfer`, `POST …/infer`": [
            grpc_(v2_call(channel, "ModelInfer"), infer),
            http("POST", "/v2/models/scale/infer", infer_json),
        ],
        "`GetModelMetadata`, `ModelMetadata`, their routes": [
            grpc_(predictions.GetModelMetadata, metadata),
            grpc_(v2_call(channel, "ModelMetadata"), v2.ModelMetadataRequest(name="scale")),
            http("GET", "/v1/models/scale/metadata"),
            http("GET", "/v2/models/scale"),
        ],
        "`GetModelStatus`, `RepositoryIndex`, their routes": [
            grpc_(models.GetModelStatus, status),
            grpc_(v2_call(channel, "RepositoryIndex"), v2.RepositoryIndexRequest()),
            http("GET", "/v1/models/scale"),
            http("POST", "/v2/repository/index"),
        ],
        "`Classify`, `Regress`, `MultiInference`, their routes": [
            grpc_(predictions.Classify, classification_pb2.ClassificationRequest()),
            grpc_(predictions.Regress, regression_pb2.RegressionRequest()),
            grpc_(predictions.MultiInference, inference_pb2.MultiInferenceRequest()),
            http("POST", "/v1/models/scale:classify", {}),
            http("POST", "/v1/models/scale:regress", {}),
        ],
        "`ServerMetadata`, `GET /v2`, `grpc.reflection`": [
            grpc_(v2_call(channel, "ServerMetadata"), v2.ServerMetadataRequest()),
            http("GET", "/v2"),
            lambda token: reflected(channel, token),
        ],
        "`HandleReloadConfigRequest`": [grpc_(models.HandleReloadConfigRequest, reload)],
        "`RepositoryModelUnload`, `POST …/unload`": [
            grpc_(v2_call(channel, "RepositoryModelUnload"), unload),
            http("POST", f"{repository}/load"),
            http("POST", f"{repository}/unload"),
        ],
        "`RepositoryModelLoad`, `POST …/load`": [
            grpc_(v2_call(channel, "RepositoryModelLoad"), v2.RepositoryModelLoadRequest(model_name="half_plus_two")),
            http("POST", f"{repository}/load"),
        ],
        "`ProfilerService`": [
            grpc_(profile, profiler_pb2.ProfileRequest(duration_ms=1)),
            grpc_(raw(channel, "/tensorflow.ProfilerService/Terminate"), b""),
            grpc_(raw(channel, "/tensorflow.ProfilerService/Monitor"), b""),
        ],
        "`grpc.channelz`, other RPCs": [
            grpc_(raw(channel, "/grpc.channelz.v1.Channelz/GetServers"), b""),
            grpc_(raw(channel, "/tensorflow.serving.SessionService/SessionRun"), b""),
            grpc_(raw(channel, "/no.Such/Thing"), b""),
        ],
        "`/v1/…`, `/v2/…` and others that there are not": [
            http("GET", "/v1/nothing"),
            http("POST", "/v2/trace/setting"),
            http("GET", "/debug/pprof"),
        ],
        "`OPTIONS`": [http("OPTIONS", "/v1/models/scale:predict"), http("OPTIONS", "/v2/repository/models/scale/load")],
        "probes: `grpc.health.v1`, `/healthz`, `/readyz`, V2's": [
            grpc_(health_pb2_grpc.HealthStub(channel).Check, health_pb2.HealthCheckRequest(service="scale")),
            lambda token: watched(channel, token),
            grpc_(v2_call(channel, "ServerLive"), v2.ServerLiveRequest()),
            grpc_(v2_call(channel, "ServerReady"), v2.ServerReadyRequest()),
            grpc_(v2_call(channel, "ModelReady"), v2.ModelReadyRequest(name="scale")),
            http("GET", "/healthz"),
            http("GET", "/readyz"),
            http("GET", "/v2/health/live"),
            http("GET", "/v2/health/ready"),
            http("GET", "/v2/models/scale/ready"),
        ],
        "`GET` of the metrics' path": [http("GET", "/monitoring/prometheus/metrics")],
    }


class Credentials:
    """Keys and tokens of each kind of caller, and the files by which servers know them."""

    def __init__(self, folder):
        self.folder = folder
        predictor, admin = make_key("alice"), make_key("root")
        (folder / "keys.txt").write_text(line_of(predictor))
        (folder / "admins.txt").write_text(line_of(admin))
        self.of = {
            "nobody": [None],
            "wrong key": [make_key("alice"), make_key("root"), "nonsense"],
            "expired token": [make_key("nobody")],
            "predictor": [predictor],
            "administrator": [admin],
        }

    def add_tokens(self, issuer):
        (self.folder / "jwks.json").write_text(issuer.jwks())
        self.of["expired token"] = [issuer.token(exp=1), issuer.token(exp=1, scope="inkling.admin")]
        self.of["predictor"].append(issuer.token())
        self.of["administrator"].append(issuer.token(scope="inkling.admin"))

    def flags(self, text):
        """The command line that a row of the table means."""
        if text == "none":
            return []
        files = {"keys": "keys.txt", "admins": "admins.txt", "jwks": "jwks.json"}
        words = [word.strip("`") for word in re.findall(r"`[^`]+`", text)]
        values = {"--api_keys_file": "keys", "--admin_api_keys_file": "admins", "--jwt_jwks": "jwks"}
        return [f"{word}={self.folder / files[values[word]]}" if word in values else word for word in words]


@pytest.fixture(scope="module", params=FLAGS)
def case(request, repository, tmp_path_factory):
    folder = tmp_path_factory.mktemp("access")
    credentials = Credentials(folder)
    environment = {}
    if "jwt" in request.param:
        jwt = pytest.importorskip("jwt", reason="PyJWT is not installed: pip install 'inkling-serving[jwt]'")
        from tests.serving.access.issuer import AUDIENCE, ISSUER, Issuer

        credentials.add_tokens(Issuer())
        environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(Path(jwt.__file__).parents[1])])
    flags = credentials.flags(request.param)
    if "jwt" in request.param:
        flags += [f"--jwt_issuer={ISSUER}", f"--jwt_audience={AUDIENCE}"]
    with serving([*flags, "--allow_model_control"], repository, folder, environment) as (calls, log_text):
        yield request.param, calls, credentials
        for token in itertools.chain(*credentials.of.values()):
            assert not token or token not in log_text()


@contextlib.contextmanager
def serving(flags, repository, folder, environment=None):
    """The calls of a server with `flags`, and what gives its log."""
    models = write_model_config(folder / "models.config", repository, ["scale", "half_plus_two"])
    (folder / "monitoring.config").write_text("prometheus_config { enable: true }")
    flags = [*flags, f"--model_config_file={models}", f"--monitoring_config_file={folder / 'monitoring.config'}"]
    with (
        ServerProcess(*flags, environment=environment) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        yield calls_of(server, channel, repository), server.log_text


def outcome(status):
    return REFUSALS.get(status, "yes" if status in LET_IN else status)


@pytest.mark.parametrize("has_keys", [False, True], ids=["no keys", "keys"])
def test_flags_that_close_more_do_so_for_whom_the_table_says(has_keys, repository, tmp_path):
    rows = {key: cells for key, cells in CLOSED.items() if ("--api_keys_file" in key[0]) is has_keys}
    credentials = Credentials(tmp_path)
    flags = dict.fromkeys(flag for text, _ in rows for flag in credentials.flags(text))
    assert {flag for flag in flags if flag in CLOSING} == set(CLOSING if has_keys else CLOSING[:2])
    with serving(flags, repository, tmp_path) as (calls, _):
        for ((_, name), cells), caller in itertools.product(rows.items(), CALLERS):
            for token, call in itertools.product(credentials.of[caller], calls[name]):
                status = call(token)
                assert REFUSALS.get(status, "yes" if status == "OK" else status) == cells[caller], (name, caller)


@pytest.mark.parametrize("caller", CALLERS)
def test_each_caller_may_do_what_the_table_says(case, caller):
    flags, calls, credentials = case
    assert set(calls) == set(RIGHTS)
    for name, tries in calls.items():
        right = RIGHTS[name]
        expected = "yes" if right == "open" else CELLS[flags, right][caller]
        for token, (index, call) in itertools.product(credentials.of[caller], enumerate(tries)):
            assert outcome(call(token)) == expected, (name, index, caller)


def test_the_table_has_each_right_for_each_set_of_flags():
    assert len(FLAGS) >= 5 and {(flags, right) for flags in FLAGS for right in ("predict", "admin")} == set(CELLS)

"""GetModelStatus, GetModelMetadata, HandleReloadConfigRequest, health and reflection."""

import json
import urllib.error
import urllib.request

import grpc
import numpy as np
import pytest
from google.protobuf import descriptor_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2, model_management_pb2
from tensorflow_serving.config import model_server_config_pb2

from tests.patience import PATIENCE_S, wait_until
from tests.server_process import ServerProcess
from tests.serving.conftest import predict_request

pytestmark = pytest.mark.process

AVAILABLE = get_model_status_pb2.ModelVersionStatus.AVAILABLE


def status_request(name, version=None):
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = name
    if version is not None:
        request.model_spec.version.value = version
    return request


def refusal(call, request):
    with pytest.raises(grpc.RpcError) as caught:
        call(request, timeout=PATIENCE_S)
    return caught.value.code().name, caught.value.details()


def test_status_lists_all_versions_newest_first(model_service):
    statuses = model_service.GetModelStatus(status_request("scale"), timeout=PATIENCE_S).model_version_status
    assert [(each.version, each.state, each.status.error_code) for each in statuses] == [
        (2, AVAILABLE, 0),
        (1, AVAILABLE, 0),
    ]


def test_status_of_one_version(model_service):
    statuses = model_service.GetModelStatus(
        status_request("half_plus_two", 123), timeout=PATIENCE_S
    ).model_version_status
    assert [(each.version, each.state) for each in statuses] == [(123, AVAILABLE)]


@pytest.mark.parametrize(
    "request_, code, text",
    [
        (status_request("nope"), "NOT_FOUND", "Could not find any versions of model nope"),
        (status_request("scale", 7), "NOT_FOUND", "Could not find version 7 of model scale"),
        (get_model_status_pb2.GetModelStatusRequest(), "INVALID_ARGUMENT", "Missing ModelSpec"),
    ],
    ids=["unknown model", "unknown version", "no spec"],
)
def test_status_refuses(model_service, request_, code, text):
    assert refusal(model_service.GetModelStatus, request_) == (code, text)


def metadata_request(name, *fields):
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=fields)
    request.model_spec.name = name
    return request


def test_metadata_holds_the_signatures(predictions):
    response = predictions.GetModelMetadata(metadata_request("half_plus_two", "signature_def"), timeout=PATIENCE_S)
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert response.metadata["signature_def"].Unpack(signatures)
    assert {"serving_default", "regress_x_to_y", "classify_x_to_y"} <= set(signatures.signature_def)
    info = signatures.signature_def["serving_default"].inputs["x"]
    assert info.name == "x:0" and [dim.size for dim in info.tensor_shape.dim] == [-1, 1]
    assert response.model_spec.version.value == 123


@pytest.mark.parametrize(
    "fields, text",
    [
        ([], "GetModelMetadataRequest must specify at least one metadata_field"),
        (["nope"], "Metadata field nope is not supported"),
    ],
)
def test_metadata_refuses(predictions, fields, text):
    assert refusal(predictions.GetModelMetadata, metadata_request("scale", *fields)) == ("INVALID_ARGUMENT", text)


def reload_request(*models):
    request = model_management_pb2.ReloadConfigRequest()
    for name, path in models:
        request.config.model_config_list.config.add(name=name, base_path=str(path), model_platform="tensorflow")
    return request


@pytest.mark.parametrize(
    "change, code, text",
    [
        (lambda configs: configs.append(configs[0]), "INVALID_ARGUMENT", "Illegal to list model scale multiple times"),
        (
            lambda configs: setattr(configs[0], "base_path", "models/scale"),
            "INVALID_ARGUMENT",
            "Expected model scale to have an absolute path or URI; got base_path()=models/scale",
        ),
        (
            lambda configs: setattr(configs[0], "model_platform", "caffe"),
            "INVALID_ARGUMENT",
            "Illegal to change a model's platform. For model scale platform was tensorflow and new platform "
            "requested is caffe",
        ),
        (
            lambda configs: setattr(configs[0], "model_platform", ""),
            "INVALID_ARGUMENT",
            "Illegal setting neither ModelServerConfig::model_type (deprecated) nor",
        ),
    ],
    ids=["twice", "relative path", "platform", "no platform"],
)
def test_reload_refuses_an_unusable_config(model_service, repository, change, code, text):
    request = reload_request(("scale", repository / "scale"))
    change(request.config.model_config_list.config)
    found_code, found_text = refusal(model_service.HandleReloadConfigRequest, request)
    assert found_code == code and text in found_text


def test_reload_without_a_list_is_refused(model_service):
    code, text = refusal(model_service.HandleReloadConfigRequest, model_management_pb2.ReloadConfigRequest())
    assert code == "INVALID_ARGUMENT" and "Only ModelConfigList is currently supported" in text


def test_reload_replaces_the_models_and_assigns_labels(repository):
    with (
        ServerProcess("--model_name=scale", f"--model_base_path={repository / 'scale'}") as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc

        models = model_service_pb2_grpc.ModelServiceStub(channel)
        predictions = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        request = reload_request(("table", repository / "table"), ("scale", repository / "scale"))
        config = request.config.model_config_list.config[1]
        config.model_version_policy.specific.versions.append(1)
        config.version_labels["stable"] = 1
        request.metric_names.extend(["inkling_serving_model_loads_total", "/tensorflow/serving/request_count", "other"])
        response = models.HandleReloadConfigRequest(request, timeout=PATIENCE_S)
        assert response.status.error_code == 0
        assert [metric.int64_value_increase for metric in response.metric] == [1, 0, 0]
        assert [metric.name for metric in response.metric] == list(request.metric_names)
        x = np.array([3.0], np.float32)
        answer = predictions.Predict(predict_request("scale", {"x": x}, label="stable"), timeout=PATIENCE_S)
        assert answer.model_spec.version.value == 1 and list(answer.outputs["y"].float_val) == [3.0]
        assert predictions.Predict(predict_request("table", {"words": np.array([b"one"], object)}), timeout=PATIENCE_S)

        config.version_labels["canary"] = 2
        code, text = refusal(models.HandleReloadConfigRequest, request)
        assert code == "FAILED_PRECONDITION"
        assert text == (
            "Request to assign label to version 2 of model scale, which is not currently available for inference"
        )

        gone = reload_request(("table", repository / "table"))
        models.HandleReloadConfigRequest(gone, timeout=PATIENCE_S)
        code, text = refusal(predictions.Predict, predict_request("scale", {"x": x}))
        assert (code, text) == ("NOT_FOUND", "Servable not found for request: Latest(scale)")
        wait_until(lambda: status_over_rest(server, "scale") == [("2", "END"), ("1", "END")])

        broken = reload_request(("broken", repository / "nowhere"))
        code, text = refusal(models.HandleReloadConfigRequest, broken)
        assert code == "UNKNOWN" and text.startswith("1 model(s) did not become available: {")


def status_over_rest(server, name):
    with urllib.request.urlopen(f"{server.rest_url}/v1/models/{name}") as page:
        return [(each["version"], each["state"]) for each in json.load(page)["model_version_status"]]


def test_a_server_without_models_is_not_ready(repository):
    from tensorflow_serving.apis import model_service_pb2_grpc

    with (
        ServerProcess("--model_name=scale", f"--model_base_path={repository / 'scale'}") as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        models = model_service_pb2_grpc.ModelServiceStub(channel)
        models.HandleReloadConfigRequest(empty_reload_request(), timeout=PATIENCE_S)
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(f"{server.rest_url}/readyz")
        assert caught.value.code == 503 and caught.value.read() == b"no model is configured\n"
        wait_until(lambda: not server.is_serving())
        models.HandleReloadConfigRequest(reload_request(("scale", repository / "scale")), timeout=PATIENCE_S)
        wait_until(server.is_serving)


def empty_reload_request():
    request = model_management_pb2.ReloadConfigRequest()
    request.config.model_config_list.SetInParent()
    return request


@pytest.mark.parametrize("service", ["", "tensorflow.serving.PredictionService", "ModelService", "scale"])
def test_health_is_serving(channel, service):
    answer = health_pb2_grpc.HealthStub(channel).Check(
        health_pb2.HealthCheckRequest(service=service), timeout=PATIENCE_S
    )
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_health_does_not_know_other_services(channel):
    call = health_pb2_grpc.HealthStub(channel).Check
    assert refusal(call, health_pb2.HealthCheckRequest(service="nope"))[0] == "NOT_FOUND"


@pytest.mark.parametrize(
    "method",
    [
        "/grpc.health.v1.Health/Check",
        "/tensorflow.serving.ModelService/GetModelStatus",
        "/tensorflow.ProfilerService/Profile",
    ],
)
def test_bytes_that_are_no_request_are_the_callers_mistake(channel, server, method):
    before = len(server.log_text())  # the server is other files' too
    code, text = refusal(channel.unary_unary(method), b"\xff\xff\xff")
    assert code == "INVALID_ARGUMENT" and text.startswith("cannot parse the request as ")
    assert "Traceback" not in server.log_text()[before:]


@pytest.mark.parametrize(
    "call",
    [
        lambda channel: channel.unary_stream("/grpc.health.v1.Health/Watch")(b"\xff\xff\xff", timeout=PATIENCE_S),
        lambda channel: channel.stream_stream("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo")(
            iter([b"\xff\xff\xff"]), timeout=PATIENCE_S
        ),
    ],
    ids=["watch", "reflection"],
)
def test_bytes_that_are_no_request_of_a_stream_are_the_callers_mistake(channel, server, call):
    before = len(server.log_text())
    with pytest.raises(grpc.RpcError) as caught:
        next(call(channel))
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "Traceback" not in server.log_text()[before:]


def test_health_can_be_watched(channel):
    stream = health_pb2_grpc.HealthStub(channel).Watch(
        health_pb2.HealthCheckRequest(service="scale"), timeout=PATIENCE_S
    )
    assert next(stream).status == health_pb2.HealthCheckResponse.SERVING
    stream.cancel()


def test_reflection_lists_the_services(channel):
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    requests = iter([reflection_pb2.ServerReflectionRequest(list_services="")])
    answer = next(stub.ServerReflectionInfo(requests, timeout=PATIENCE_S))
    names = {service.name for service in answer.list_services_response.service}
    assert {"tensorflow.serving.PredictionService", "tensorflow.serving.ModelService", "grpc.health.v1.Health"} <= names


def described(channel, symbol):
    """The files in which reflection finds `symbol`; the error's code where it does not."""
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    request = reflection_pb2.ServerReflectionRequest(file_containing_symbol=symbol)
    answer = next(stub.ServerReflectionInfo(iter([request]), timeout=PATIENCE_S))
    if answer.HasField("error_response"):
        return answer.error_response.error_code
    return [
        descriptor_pb2.FileDescriptorProto.FromString(file)
        for file in answer.file_descriptor_response.file_descriptor_proto
    ]


@pytest.mark.parametrize("service", ["PredictionService", "ModelService"])
def test_reflection_describes_the_services(channel, service):
    files = described(channel, f"tensorflow.serving.{service}")
    assert service in {described.name for file in files for described in file.service}


@pytest.mark.parametrize(
    ("symbol", "file"),
    [
        ("tensorflow.serving.PredictionService.Predict", "tensorflow_serving/apis/prediction_service.proto"),
        ("tensorflow.serving.ModelService.GetModelStatus", "tensorflow_serving/apis/model_service.proto"),
        ("grpc.health.v1.Health.Check", "grpc_health/v1/health.proto"),
        ("tensorflow.serving.PredictRequest", "tensorflow_serving/apis/predict.proto"),
        ("tensorflow.serving.PredictRequest.inputs", "tensorflow_serving/apis/predict.proto"),
        ("tensorflow.serving.ModelSpec.version_choice", "tensorflow_serving/apis/model.proto"),
        ("tensorflow.serving.ModelVersionStatus.State", "tensorflow_serving/apis/get_model_status.proto"),
        ("tensorflow.serving.ModelVersionStatus.State.LOADING", "tensorflow_serving/apis/get_model_status.proto"),
    ],
)
def test_reflection_finds_what_clients_ask_for(channel, symbol, file):
    assert file in {described.name for described in described(channel, symbol)}


@pytest.mark.parametrize(
    "symbol", ["tensorflow.serving.PredictionService.Nope", "tensorflow.serving.PredictRequest.nope", "nope", ""]
)
def test_reflection_does_not_find_what_is_not_there(channel, symbol):
    assert described(channel, symbol) == grpc.StatusCode.NOT_FOUND.value[0]


def test_config_kinds_do_not_mix(model_service):
    request = model_management_pb2.ReloadConfigRequest()
    request.config.CopyFrom(model_server_config_pb2.ModelServerConfig())
    request.config.custom_model_config.SetInParent()
    code, text = refusal(model_service.HandleReloadConfigRequest, request)
    assert code == "INVALID_ARGUMENT" and "Only ModelConfigList" in text

"""The calls about models: metadata, status, waiting, reload and health."""

import grpc
import pytest

from inkling.client import InvalidResponse, NotSupported, ServedModel, ServerError
from inkling.client.protocol import wire_pb2 as wire
from tests.client.stub_server import failing, status_response


def test_metadata_prints_as_a_table(start, make_client):
    found = make_client(start()).metadata()
    assert str(found).splitlines()[1] == "serving_default  in   images         uint8 [-1, 28, 28]"
    assert found.signatures["serving_default"].outputs["classes"].dtype == "int64"


@pytest.mark.parametrize("any_value", [b"\xff\xff", b""], ids=["garbage", "another type"])
def test_wrong_metadata_is_a_bad_answer(start, make_client, any_value):
    answer = wire.GetModelMetadataResponse()
    if any_value:
        answer.metadata["signature_def"].type_url = "type.googleapis.com/tensorflow.serving.SignatureDefMap"
    answer.metadata["signature_def"].value = any_value
    with pytest.raises(InvalidResponse):
        make_client(start(GetModelMetadata=lambda request, context: answer)).metadata()


def test_status_lists_versions_newest_first(start, make_client):
    answer = status_response((1, "END", "no such op"), (3, "LOADING", ""), (2, "AVAILABLE", ""))
    status = make_client(start(GetModelStatus=lambda request, context: answer)).status()
    assert [one.version for one in status.versions] == [3, 2, 1] and status.available == (2,)
    assert str(status).splitlines()[3] == "mnist  1        END        no such op"


def test_waiting_ends_when_a_version_is_available(start, make_client):
    loading = failing(
        (grpc.StatusCode.NOT_FOUND, "Could not find any versions of model mnist"),
        (grpc.StatusCode.NOT_FOUND, "Could not find any versions of model mnist"),
        then=lambda request, context: answers.pop(0),
    )
    answers = [status_response((1, "LOADING", "")), status_response((1, "AVAILABLE", ""))]
    assert make_client(start(GetModelStatus=loading)).wait_until_ready().available == (1,)


def test_waiting_ends_when_no_version_can_load(start, make_client):
    answer = status_response((1, "END", "no such op"))
    with pytest.raises(ServerError, match=r"version 1: END \(no such op\); the version does not load"):
        make_client(start(GetModelStatus=lambda request, context: answer)).wait_until_ready()


def test_waiting_for_what_never_comes_says_what_it_saw(start, make_client):
    answer = status_response((1, "LOADING", ""))
    with pytest.raises(TimeoutError, match=r"not ready after 0.3 s: version 1: LOADING"):
        make_client(start(GetModelStatus=lambda request, context: answer)).wait_until_ready(timeout_s=0.3)


def test_waiting_for_a_server_that_is_not_there_says_so(start, make_client):
    server = start()
    server.stop()
    with pytest.raises(TimeoutError, match=r"not ready after 0.5 s: .*; are address and name right"):
        make_client(server).wait_until_ready(timeout_s=0.5)


def test_a_state_of_a_newer_server_is_shown_by_its_number(start, make_client):
    answer = wire.GetModelStatusResponse()
    answer.model_version_status.add(version=1, state=77)
    server = start(GetModelStatus=lambda request, _: answer, Check=lambda *_: wire.HealthCheckResponse(status=9))
    assert str(make_client(server).status().versions[0]) == "version 1: 77"
    assert make_client(server).health() == "9"


def test_reload_sends_a_configuration(start, make_client):
    def behave(request, context):
        response = wire.ReloadConfigResponse()
        response.metric.add(name="loads", int64_value_increase=1)
        return response

    server = start(HandleReloadConfigRequest=behave)
    models = [ServedModel(name="a", base_path="/models/a", versions=(1, 2), labels={"stable": 1})]
    assert make_client(server).reload(models, metrics=["loads"]) == {"loads": 1}
    (config,) = server.requests[0].config.model_config_list.config
    assert (config.name, config.base_path, dict(config.version_labels)) == ("a", "/models/a", {"stable": 1})


def test_reload_reads_the_status_in_the_answer(start, make_client):
    answer = wire.ReloadConfigResponse()
    answer.status.error_code, answer.status.error_message = wire.INVALID_ARGUMENT, "Illegal to list model a"
    with pytest.raises(ServerError, match=r"Illegal to list model a; .*refused \(INVALID_ARGUMENT\)"):
        make_client(start(HandleReloadConfigRequest=lambda request, context: answer)).reload([])


def test_health_is_what_the_health_service_says(start, make_client):
    server = start(Check=lambda request, context: wire.HealthCheckResponse(status="NOT_SERVING"))
    assert make_client(server).health("PredictionService") == "NOT_SERVING"
    assert server.requests[0].service == "PredictionService"


def test_health_that_is_switched_off_names_the_switch(start, make_client):
    with pytest.raises(NotSupported, match="--enable_grpc_healthcheck_service=true"):
        make_client(start()).health()

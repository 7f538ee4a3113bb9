"""What each call takes, whatever is registered."""

import pytest
from tensorflow_serving.apis import model_service_pb2, prediction_service_pb2

from inkling.serving.access import rights
from inkling.serving.access.rights import BY_RPC, Right, of_request, of_rpc
from inkling.serving.grpc import health, profiler, reflection
from inkling.serving.proto import open_inference_pb2, profiler_pb2
from inkling.serving.rest.v2 import routes


@pytest.mark.parametrize("module", [prediction_service_pb2, model_service_pb2, open_inference_pb2])
def test_every_rpc_has_a_right(module):
    for service in module.DESCRIPTOR.services_by_name.values():
        package = "inference" if module is open_inference_pb2 else "tensorflow.serving"  # as it is on the wire
        for method in service.methods:
            assert f"/{package}.{service.name}/{method.name}" in BY_RPC


def test_the_services_of_other_packages_are_known_by_their_names():
    named = {service for services in rights.RPCS.values() for service in services}
    assert {health.SERVICE, profiler.SERVICE, reflection.SERVICE} <= named
    assert profiler_pb2.DESCRIPTOR.package in profiler.SERVICE or profiler.SERVICE.startswith("tensorflow.")


@pytest.mark.parametrize("method", ["/tensorflow.serving.SessionService/SessionRun", "/x", "", "/a/Predict"])
def test_an_rpc_that_is_not_known_takes_an_administrator(method):
    assert of_rpc(method) is Right.ADMIN


@pytest.mark.parametrize(
    ("method", "path", "right"),
    [
        ("GET", "/healthz", Right.OPEN),
        ("GET", "/v2/models/a/versions/1/ready", Right.OPEN),
        ("OPTIONS", "/v1/models/a:predict", Right.OPEN),
        ("GET", "/metrics", Right.OPEN),
        ("POST", "/v1/models/a:predict", Right.PREDICT),
        ("GET", "/v1/models/healthz", Right.PREDICT),
        ("GET", "/v2", Right.PREDICT),
        ("POST", "/v2/repository/index", Right.PREDICT),
        ("POST", "/v2/models/a/ready/infer", Right.PREDICT),
        ("POST", "/v2/repository/models/a/load", Right.ADMIN),
        ("GET", "/v2/repository/models/", Right.ADMIN),
        ("GET", "/healthz/", Right.PREDICT),
        ("GET", "/", Right.PREDICT),
    ],
)
def test_http_requests_take_what_their_path_says(method, path, right):
    assert of_request(method, path, open_path="/metrics") is right


def test_every_route_that_changes_something_takes_an_administrator():
    for pattern, method, call in routes.ROUTES:
        path = pattern.pattern.replace("([^/]+)", "m").replace("(?:/versions/m)?", "").rstrip("?").rstrip("/")
        is_probe = call in ("live", "ready", "model_ready")
        right = Right.OPEN if is_probe else Right.ADMIN if call in ("load", "unload") else Right.PREDICT
        assert of_request(method, path) is right, path

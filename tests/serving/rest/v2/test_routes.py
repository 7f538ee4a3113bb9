"""Paths of the Open Inference Protocol."""

import pytest

from inkling.serving.rest.v2.routes import NoRoute, Target, is_v2, parse


@pytest.mark.parametrize(
    ("method", "path", "target"),
    [
        ("GET", "/v2", Target("server_metadata")),
        ("GET", "/v2/", Target("server_metadata")),
        ("GET", "/v2/health/live", Target("live")),
        ("GET", "/v2/health/ready", Target("ready")),
        ("GET", "/v2/models/m", Target("metadata", "m")),
        ("GET", "/v2/models/m/versions/3", Target("metadata", "m", "3")),
        ("GET", "/v2/models/m/ready", Target("model_ready", "m")),
        ("GET", "/v2/models/m/versions/stable/ready", Target("model_ready", "m", "stable")),
        ("POST", "/v2/models/a%20b%2Fc/infer", Target("infer", "a b/c")),
        ("POST", "/v2/models/m/versions/1/infer", Target("infer", "m", "1")),
        ("POST", "/v2/repository/index", Target("index")),
        ("POST", "/v2/repository/models/m/load", Target("load", "m")),
        ("POST", "/v2/repository/models/m/unload", Target("unload", "m")),
    ],
)
def test_a_path_says_what_is_wanted(method, path, target):
    assert parse(method, path) == target


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v2/models", 404),
        ("GET", "/v2/models//ready", 404),
        ("GET", "/v2/models/m/config", 404),
        ("POST", "/v2/models/m/versions/infer", 405),  # the version is called infer
        ("GET", "/v2/models/m/infer", 405),
        ("POST", "/v2/health/live", 405),
        ("GET", "/v2/repository/index", 405),
        ("GET", "/v2/repository/models/m/delete", 404),
    ],
)
def test_other_paths_and_methods_have_no_route(method, path, status):
    with pytest.raises(NoRoute) as caught:
        parse(method, path)
    assert caught.value.status == status


def test_only_its_own_paths_are_the_protocols():
    assert is_v2("/v2") and is_v2("/v2/x")
    assert not is_v2("/v20") and not is_v2("/v1/models/v2")

"""The schema checks refuse what an API server refuses."""

import pytest

from tests.k8s import manifests, schemas

pytestmark = pytest.mark.process


def _train() -> manifests.Object:
    return manifests.find(manifests.overlay("cpu"), "RayJob", "train")


def test_an_unknown_field_is_refused():
    train = _train()
    train["spec"]["rayClusterSpec"]["headGroupSpec"]["replicas"] = 1
    assert "replicas" in schemas.problems(train)[0]


def test_a_wrong_type_is_refused():
    train = _train()
    train["spec"]["backoffLimit"] = "2"
    assert schemas.problems(train) == ["spec.backoffLimit: '2' is not of type 'integer'"]


def test_an_unknown_field_deep_in_a_pod_is_refused():
    train = _train()
    head = train["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["containers"][0]
    head["securityContext"]["readOnlyRootFileSystem"] = True  # the S is small
    assert "readOnlyRootFileSystem" in schemas.problems(train)[0]


@pytest.mark.parametrize(
    ("strategy", "message"),
    [
        ({"onSuccess": {"policy": "DeleteCluster"}}, "BOTH onSuccess and onFailure"),
        (
            {
                "deletionRules": [
                    {
                        "policy": "DeleteCluster",
                        "condition": {"jobStatus": "FAILED", "jobDeploymentStatus": "Failed", "ttlSeconds": 1},
                    }
                ]
            },
            "cannot be used together",
        ),
    ],
    ids=["half a strategy", "two conditions"],
)
def test_a_broken_cel_rule_of_kuberay_is_named(strategy, message):
    train = _train()
    train["spec"]["deletionStrategy"] = strategy
    assert message in schemas.problems(train)[0]


def test_an_unknown_field_of_a_built_in_kind_is_refused():
    serving = manifests.find(manifests.overlay("cpu"), "Deployment", "serving")
    serving["spec"]["template"]["spec"]["containers"][0]["readinesProbe"] = {}
    assert "readinesProbe" in schemas.problems(serving)[0]


def test_an_unknown_field_of_prometheus_operator_is_refused(tmp_path):
    objects = manifests.with_components(tmp_path, "cpu", "monitoring")
    monitor = manifests.find(objects, "ServiceMonitor", "serving")
    monitor["spec"]["endpoints"][0]["port_name"] = "http"
    assert "port_name" in schemas.problems(monitor)[0]

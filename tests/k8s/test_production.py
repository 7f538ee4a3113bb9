"""The overlay with everything switched on: that it has everything, on each of its servers."""

import pytest

from tests.k8s import manifests
from tests.k8s.manifests import Object, of_kind

pytestmark = pytest.mark.process

# What a platform team would switch on: the kinds of objects, or the flags of its servers, that it takes.
KINDS = {
    "TLS": "Certificate",
    "the Gateway by TLS too": "BackendTLSPolicy",
    "monitoring": "ServiceMonitor",
    "alerts": "PrometheusRule",
    "Kueue": "LocalQueue",
    "KEDA": "ScaledObject",
    "routes": "GRPCRoute",
    "canary": "CronJob",
    "budgets": "PodDisruptionBudget",
}
FLAGS = ("ssl_config_file", "api_keys_file", "admin_api_keys_file", "audit_log_file", "verify_models", "log_format")


def _servers() -> list[Object]:
    found = of_kind(manifests.overlay("production"), "Deployment")
    return [item for item in found if item["metadata"]["name"] in ("serving", "serving-canary")]


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_production_has(kind):
    assert of_kind(manifests.overlay("production"), kind)


def test_every_server_of_production_is_closed_signed_traced_spread_and_of_a_registry():
    servers = _servers()
    assert len(servers) == 2
    for item in servers:
        pod = item["spec"]["template"]["spec"]
        [container] = pod["containers"]
        assert {argument.removeprefix("--").partition("=")[0] for argument in container["args"]} >= set(FLAGS)
        assert "OTEL_EXPORTER_OTLP_ENDPOINT" in {entry["name"] for entry in container["env"]}
        assert len(pod["topologySpreadConstraints"]) == 2
        assert any("image" in volume for volume in pod["volumes"])


def test_production_keeps_no_models_and_no_runs_on_a_shared_disk():
    objects = manifests.overlay("production")
    assert of_kind(objects, "PersistentVolumeClaim") == []
    [job] = of_kind(objects, "RayJob")
    values = {entry["name"]: entry["value"] for entry in
              job["spec"]["submitterPodTemplate"]["spec"]["containers"][0]["env"]}  # fmt: skip
    assert values["STORAGE"].startswith("s3://") and values["MODEL_DIR"].startswith("oci://")

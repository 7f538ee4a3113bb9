"""The overlay with everything switched on: that it has everything, and that its servers' doors are closed."""

import re
import shutil
import urllib.error
import urllib.request

import numpy as np
import pytest

pytest.importorskip("model_signing", reason="model-signing is not installed: pip install 'inkling-serving[sign]'")

from inkling.client import AccessDenied, Client, ServedModel
from inkling.serving.access.callers import Limits
from inkling.serving.access.keys import line_of, make_key
from inkling.train.publishing import signing
from tests.k8s import manifests
from tests.k8s.manifests import Object, of_kind
from tests.patience import wait_until
from tests.server_process import ServerProcess
from tests.signing_keys import write_key_pair

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


@pytest.fixture(scope="module")
def doors(tmp_path_factory, digit_models):
    """(a server with production's doors, its keys by their names, its audit log)"""
    folder = tmp_path_factory.mktemp("doors")
    keys = {name: make_key(name) for name in ("caller", "root")}
    (folder / "predict.txt").write_text(line_of(keys["caller"], Limits(0.0, 0)) + "\n")
    (folder / "admin.txt").write_text(line_of(keys["root"], Limits(0.0, 0)) + "\n")
    private, public = write_key_pair(folder, "key")
    shutil.copytree(digit_models / "mnist" / "1", folder / "models" / "mnist" / "1")
    signing.sign(folder / "models" / "mnist" / "1", private)
    [container] = _servers()[0]["spec"]["template"]["spec"]["containers"]
    # Without TLS, which has tests of its own. In place of the Secret, of the ConfigMap and of a container's pipe there
    # is a folder: two who write one file at once would overwrite each other.
    flags = [
        re.sub("/etc/serving/keys|/etc/serving/signing|/dev(?=/stdout)", str(folder), argument)
        for argument in container["args"]
        if argument.partition("=")[0] in ("--api_keys_file", "--admin_api_keys_file", "--audit_log_file",
                                          "--verify_models", "--log_format")
    ]  # fmt: skip
    assert (len(flags), public.name) == (5, "key.pub")
    with ServerProcess(f"--model_base_path={folder}/models/mnist", "--model_name=mnist", *flags) as server:
        shutil.copytree(digit_models / "mnist" / "1", folder / "unsigned")
        (folder / "unsigned").rename(folder / "models" / "mnist" / "2")
        yield server, keys, folder / "stdout"


def _client(server, key=None) -> Client:
    return Client(server.address, api_key=key, token_over_plaintext=key is not None)


@pytest.mark.slow
def test_nobody_predicts_without_a_key_and_callers_do(doors):
    server, keys, _ = doors
    with _client(server) as nobody, pytest.raises(AccessDenied):
        nobody.predict(np.zeros((28, 28), np.uint8))
    with _client(server, keys["caller"]) as caller:
        assert caller.predict(np.zeros((28, 28), np.uint8)).version == 1


@pytest.mark.slow
def test_a_reload_takes_an_administrators_key_and_is_written_down(doors):
    server, keys, audit = doors
    models = [ServedModel(name="mnist", base_path="/nowhere/mnist")]
    for key in (None, keys["caller"]):
        with _client(server, key) as somebody, pytest.raises(AccessDenied):
            somebody.reload(models)
    wait_until(lambda: audit.read_text().count('"call": "HandleReloadConfigRequest"') >= 2, audit.read_text)


@pytest.mark.slow
def test_an_unsigned_version_is_never_served_though_it_is_the_newest(doors):
    server, keys, _ = doors
    wait_until(lambda: "has no model.sig" in server.log_text(), server.log_text)
    with _client(server, keys["caller"]) as caller:
        assert caller.predict(np.zeros((28, 28), np.uint8)).version == 1


@pytest.mark.slow
@pytest.mark.parametrize("probe", ["startupProbe", "readinessProbe", "livenessProbe"])
def test_the_kubelet_needs_no_key(doors, probe):
    server, _, _ = doors
    [container] = _servers()[0]["spec"]["template"]["spec"]["containers"]
    assert _status(server.rest_url + container[probe]["httpGet"]["path"]) == 200


def _status(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code

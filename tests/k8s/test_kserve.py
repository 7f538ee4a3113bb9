"""KServe's component: what KServe makes of it keeps the rules of all pods, and the server understands its flags."""

import copy
import dataclasses

import pytest

from inkling.serving.flags import ServerConfig, parse
from tests.k8s import manifests, schemas
from tests.k8s.rules import RULES

pytestmark = pytest.mark.process

MODELS = "/mnt/models"  # where KServe mounts the folder that storageUri names


@pytest.fixture
def objects(tmp_path):
    return manifests.with_components(tmp_path, "cpu", "kserve")


def runtime_and_service(objects):
    return manifests.find(objects, "ServingRuntime", "inkling"), manifests.find(objects, "InferenceService", "mnist")


def made_by_kserve(objects):
    """The objects, with the Deployment that KServe makes in place of its own kinds."""
    runtime, service = runtime_and_service(copy.deepcopy(objects))
    predictor = service["spec"]["predictor"]
    claim, _, path = predictor["model"]["storageUri"].removeprefix("pvc://").partition("/")
    [container] = runtime["spec"]["containers"]
    container["args"] = [arg.replace("{{.Name}}", service["metadata"]["name"]) for arg in container["args"]]
    container["volumeMounts"].append({"name": "source", "mountPath": MODELS, "subPath": path, "readOnly": True})
    own = ("securityContext", "terminationGracePeriodSeconds", "automountServiceAccountToken", "enableServiceLinks")
    pod = {key: predictor[key] for key in own}
    source = {"name": "source", "persistentVolumeClaim": {"claimName": claim}}
    pod |= {"containers": [container], "volumes": [*runtime["spec"]["volumes"], source]}
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "mnist-predictor", "labels": predictor["labels"], "namespace": "inkling"},
        "spec": {
            "strategy": predictor["deploymentStrategy"],
            "selector": {"matchLabels": predictor["labels"]},
            "template": {"metadata": {"labels": predictor["labels"]}, "spec": pod},
        },
    }
    return [item for item in objects if item["kind"] not in ("ServingRuntime", "InferenceService")] + [deployment]


def test_the_pods_that_kserve_makes_keep_all_rules(objects):
    made = made_by_kserve(objects)
    assert {name: found for name, rule in RULES.items() if (found := rule(made))} == {}


def test_the_pods_are_behind_no_service_of_the_fleet(objects):
    labels = manifests.find(made_by_kserve(objects), "Deployment", "mnist-predictor")["metadata"]["labels"]
    for service in manifests.of_kind(objects, "Service"):
        assert not service["spec"]["selector"].items() <= labels.items(), service["metadata"]["name"]


def test_the_server_understands_every_flag(objects):
    [container] = runtime_and_service(objects)[0]["spec"]["containers"]
    parsed = parse(container["args"])
    assert parsed.unknown == ()
    assert parsed.config.enable_v2
    assert parsed.config.model_base_path == MODELS
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"http1": parsed.config.rest_api_port, "grpc": parsed.config.port}


def test_the_service_asks_for_what_the_runtime_has(objects):
    runtime, service = runtime_and_service(objects)
    model = service["spec"]["predictor"]["model"]
    assert runtime["spec"]["protocolVersions"] == ["v1", "v2", "grpc-v1", "grpc-v2"]
    assert model["protocolVersion"] in runtime["spec"]["protocolVersions"]
    assert model["runtime"] == runtime["metadata"]["name"]
    formats = [(supported["name"], supported["version"]) for supported in runtime["spec"]["supportedModelFormats"]]
    assert (model["modelFormat"]["name"], model["modelFormat"]["version"]) in formats


def test_the_model_lies_where_the_training_publishes_it(objects):
    claim, folder, name = runtime_and_service(objects)[1]["spec"]["predictor"]["model"]["storageUri"].rsplit("/", 2)
    assert (claim, folder) == ("pvc://model-repository", "models")
    [submitter] = manifests.containers(manifests.find(objects, "RayJob", "train")["spec"]["submitterPodTemplate"])
    assert {entry["name"]: entry["value"] for entry in submitter["env"]}["MODEL_DIR"] == "/models"
    config = manifests.find(objects, "ConfigMap", "serving-models")["data"]["models.config"]
    assert f'base_path: "/models/{name}"' in config


def test_stopping_leaves_the_time_for_a_drain(objects):
    runtime, service = runtime_and_service(objects)
    [drain] = [field.default for field in dataclasses.fields(ServerConfig) if field.name == "drain_seconds"]
    pause = runtime["spec"]["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pause + drain < service["spec"]["predictor"]["terminationGracePeriodSeconds"]


@pytest.mark.parametrize(
    ("kind", "name", "path", "value", "message"),
    [
        ("ServingRuntime", "inkling", ["protocolVersion"], "v2", "protocolVersion"),
        ("InferenceService", "mnist", ["predictor", "model", "storageUrl"], "pvc://x", "storageUrl"),
        ("InferenceService", "mnist", ["predictor", "minReplicas"], "2", "'2' is not of type 'integer'"),
        ("InferenceService", "mnist", ["predictor", "scaleMetric"], "gpu", "'gpu' is not one of"),
    ],
)
def test_the_crds_refuse_what_kserve_would(objects, kind, name, path, value, message):
    item = manifests.find(objects, kind, name)
    place = item["spec"]
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    assert message in schemas.problems(item)[0]

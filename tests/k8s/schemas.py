"""Is an object what the API server would take?

Built-in kinds by Kubernetes' schemas, KubeRay's and KServe's by their CRDs with their CEL rules, other operators' kinds
by the fields that we use.
"""

import functools
import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import celpy
import jsonschema
import kubernetes_validate
import yaml
from celpy.adapter import json_to_cel

KUBERNETES = "1.36"
CRDS = Path(__file__).parent / "crds"
FOREIGN = ("monitoring.coreos.com", "cert-manager.io", "gateway.networking.k8s.io")
CUSTOM = {
    "RayJob": "ray.io_rayjobs",
    "RayCronJob": "ray.io_raycronjobs",
    "RayCluster": "ray.io_rayclusters",
    "ServingRuntime": "serving.kserve.io_servingruntimes",
    "InferenceService": "serving.kserve.io_inferenceservices",
}


def problems(item: dict[str, Any]) -> list[str]:
    """What the API server would object to; empty if nothing."""
    group = item["apiVersion"].partition("/")[0]
    if item["kind"] in CUSTOM:
        return _custom_problems(item)
    if group in FOREIGN:
        return _foreign_problems(item)
    try:
        kubernetes_validate.validate(item, KUBERNETES, strict=True)
    except kubernetes_validate.ValidationError as error:
        return [f"{'.'.join(map(str, error.path))}: {error.message}"]
    return []


@functools.cache
def _crd_schema(kind: str, api_version: str) -> dict[str, Any]:
    text = gzip.decompress((CRDS / f"{CUSTOM[kind]}.yaml.gz").read_bytes())
    spec = yaml.load(text, yaml.CSafeLoader)["spec"]
    [schema] = [
        version["schema"]["openAPIV3Schema"]
        for version in spec["versions"]
        if f"{spec['group']}/{version['name']}" == api_version
    ]
    schema["properties"]["metadata"] = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    return dict(_strict(schema))


def _strict(schema: Any) -> Any:
    """The CRD's schema as a JSON schema that refuses unknown fields, as the server does with `--validate=strict`."""
    if isinstance(schema, list):
        return [_strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("x-kubernetes-int-or-string"):
        return {"anyOf": [{"type": "integer"}, {"type": "string"}]}
    strict = {
        key: {name: _strict(part) for name, part in value.items()} if key == "properties" else _strict(value)
        for key, value in schema.items()
        if key != "description"
    }
    if "properties" in strict and not schema.get("x-kubernetes-preserve-unknown-fields"):
        strict.setdefault("additionalProperties", False)
    return strict


def _custom_problems(item: dict[str, Any]) -> list[str]:
    schema = _crd_schema(item["kind"], item["apiVersion"])
    errors = jsonschema.Draft202012Validator(schema).iter_errors(item)
    found = [f"{'.'.join(map(str, error.absolute_path))}: {error.message}" for error in errors]
    return found or list(_broken_rules(schema, item, item["kind"]))


def _broken_rules(schema: dict[str, Any], value: Any, path: str) -> Iterator[str]:
    """The CEL rules in the schema that the value breaks. Rules about a change (oldSelf) have nothing to compare."""
    for rule in schema.get("x-kubernetes-validations", []):
        if "oldSelf" not in rule["rule"] and not _program(rule["rule"]).evaluate({"self": json_to_cel(value)}):
            yield f"{path}: {rule['message']}"
    if isinstance(value, dict):
        for name, part in value.items():
            inner = schema.get("properties", {}).get(name, schema.get("additionalProperties"))
            if isinstance(inner, dict):
                yield from _broken_rules(inner, part, f"{path}.{name}")
    elif isinstance(value, list) and isinstance(schema.get("items"), dict):
        for index, part in enumerate(value):
            yield from _broken_rules(schema["items"], part, f"{path}.{index}")


@functools.cache
def _program(rule: str) -> celpy.Runner:
    environment = celpy.Environment()
    return environment.program(environment.compile(rule))


@functools.cache
def _used_fields() -> dict[str, Any]:
    return dict(yaml.safe_load((CRDS / "used-fields.yaml").read_text()))


def _foreign_problems(item: dict[str, Any]) -> list[str]:
    errors = jsonschema.Draft202012Validator(_used_fields()[item["kind"]]).iter_errors(item["spec"])
    return [f"spec.{'.'.join(map(str, error.absolute_path))}: {error.message}" for error in errors]

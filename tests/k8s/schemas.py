"""Is an object what the API server would take?

Built-in kinds by Kubernetes' schemas, those of operators by their CRDs in crds/, with their CEL rules.
"""

import functools
import gzip
import re
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


def problems(item: dict[str, Any]) -> list[str]:
    """What the API server would object to; empty if nothing."""
    if is_custom(item):
        return _custom_problems(item)
    try:
        kubernetes_validate.validate(item, KUBERNETES, strict=True)
    except kubernetes_validate.ValidationError as error:
        return [f"{'.'.join(map(str, error.path))}: {error.message}"]
    return []


def is_custom(item: dict[str, Any]) -> bool:
    """Whether crds/ has the definition of the object's kind."""
    return _crd(item["apiVersion"], item["kind"]).exists()


def _crd(api_version: str, kind: str) -> Path:
    name = kind.lower()
    ending = "ies" if re.search("[^aeiou]y$", name) else "es" if name.endswith("s") else "s"
    plural = name.removesuffix("y" if ending == "ies" else "") + ending
    return CRDS / f"{api_version.partition('/')[0]}_{plural}.yaml.gz"


def definition(path: Path) -> str:
    """The CustomResourceDefinition in one of the files of crds/."""
    return gzip.decompress(path.read_bytes()).decode()


@functools.cache
def _crd_schema(api_version: str, kind: str) -> dict[str, Any]:
    versions = yaml.load(definition(_crd(api_version, kind)), yaml.CSafeLoader)["spec"]["versions"]
    wanted = api_version.partition("/")[2]
    [schema] = [version["schema"]["openAPIV3Schema"] for version in versions if version["name"] == wanted]
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
    schema = _crd_schema(item["apiVersion"], item["kind"])
    errors = jsonschema.Draft202012Validator(schema).iter_errors(item)
    found = [f"{'.'.join(map(str, error.absolute_path))}: {error.message}" for error in errors]
    return found or list(_broken_rules(schema, _with_defaults(schema, item), item["kind"]))


def _with_defaults(schema: dict[str, Any], value: Any) -> Any:
    """The value as the server completes it before it asks the rules."""
    if isinstance(value, list):
        return [_with_defaults(schema.get("items", {}), part) for part in value]
    if not isinstance(value, dict):
        return value
    fields = schema.get("properties", {})
    missing = {name: field["default"] for name, field in fields.items() if "default" in field and name not in value}
    others = schema.get("additionalProperties")
    inner = others if isinstance(others, dict) else {}
    return {name: _with_defaults(fields.get(name, inner), part) for name, part in (value | missing).items()}


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


def fields(item: dict[str, Any]) -> dict[str, Any]:
    """The fields that an object of a custom kind may have, each a dictionary of its own fields."""
    return _fields(_crd_schema(item["apiVersion"], item["kind"]))


def _fields(schema: dict[str, Any]) -> dict[str, Any]:
    return {name: _fields(inner) or {"": {}} for name, inner in schema.get("properties", {}).items()}


def defaults_left_out(item: dict[str, Any]) -> Iterator[str]:
    """The paths, inside lists of a custom object, of fields that the server would fill in."""
    yield from _left_out(_crd_schema(item["apiVersion"], item["kind"]), item, "", in_list=False)


def _left_out(schema: dict[str, Any], value: Any, path: str, *, in_list: bool) -> Iterator[str]:
    if isinstance(value, list):
        for index, part in enumerate(value):
            yield from _left_out(schema.get("items", {}), part, f"{path}.{index}", in_list=True)
    if not isinstance(value, dict):
        return
    for name, inner in schema.get("properties", {}).items():
        if name in value:
            yield from _left_out(inner, value[name], f"{path}.{name}", in_list=in_list)
        elif in_list and "default" in inner:
            yield f"{path}.{name}".removeprefix(".")

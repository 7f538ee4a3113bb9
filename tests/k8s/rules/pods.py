"""Rules for each pod and container: who it runs as, what it may use, where it comes from."""

import re
import tomllib

from tests.k8s.manifests import ROOT, Object, every_container, label, of_kind, pod_templates
from tests.k8s.rules.quantities import amount

OWN_IMAGE = re.compile(r"(?:^|/)inkling/(train|serving|client)$")
LABELS = ("app.kubernetes.io/name", "app.kubernetes.io/component", "app.kubernetes.io/part-of")


def _privileged_namespaces(objects: list[Object]) -> set[str]:
    """Namespaces made for what restricted ones refuse."""
    return {
        item["metadata"]["name"]
        for item in of_kind(objects, "Namespace")
        if item["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "privileged"
    }


def _restricted(objects: list[Object]) -> list[Object]:
    exempt = _privileged_namespaces(objects)
    return [item for item in objects if item["metadata"].get("namespace") not in exempt]


def containers_run_restricted(objects: list[Object]) -> list[str]:
    """Non-root by number, read-only root, no new privileges, no capabilities, seccomp, for each container."""
    found = []
    for name, template, container in every_container(_restricted(objects)):
        pod = template["spec"].get("securityContext", {})
        own = container.get("securityContext", {})
        wanted = {
            "runAsNonRoot": pod.get("runAsNonRoot") is True,
            "runAsUser": isinstance(pod.get("runAsUser"), int) and pod["runAsUser"] > 0,
            "seccompProfile": pod.get("seccompProfile") == {"type": "RuntimeDefault"},
            "allowPrivilegeEscalation": own.get("allowPrivilegeEscalation") is False,
            "readOnlyRootFilesystem": own.get("readOnlyRootFilesystem") is True,
            "capabilities": own.get("capabilities") == {"drop": ["ALL"]},
        }
        found += [f"{name}: {field} is not as it must be" for field, right in wanted.items() if not right]
        found += [f"{name}: {field} is overridden" for field in ("runAsUser", "seccompProfile") if field in own]
    return found


def pods_share_no_host_namespace(objects: list[Object]) -> list[str]:
    """Nor mount the host's files."""
    found = []
    for item in _restricted(objects):
        for name, template in pod_templates(item):
            spec = template["spec"]
            found += [f"{name}: {field}" for field in ("hostNetwork", "hostPID", "hostIPC") if spec.get(field)]
            found += [
                f"{name}: hostPath {volume['name']}" for volume in spec.get("volumes", []) if "hostPath" in volume
            ]
    return found


def read_only_roots_have_a_tmp(objects: list[Object]) -> list[str]:
    """What runs for long writes somewhere: /tmp is a volume. Init containers that write say where."""
    return [
        f"{name}: nothing is mounted at /tmp"
        for name, template, container in every_container(_restricted(objects))
        if container in template["spec"]["containers"]
        and "/tmp" not in {mount["mountPath"] for mount in container.get("volumeMounts", [])}
    ]


def images_are_pinned(objects: list[Object]) -> list[str]:
    """A tag that is not `latest`; our own images carry the project's version."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    found = []
    for name, _, container in every_container(objects):
        image, _, tag = container["image"].rpartition(":")
        if not image or "/" in tag or tag == "latest":
            found.append(f"{name}: image {container['image']} has no fixed tag")
        elif OWN_IMAGE.search(image) and tag not in (version, f"{version}-gpu"):
            found.append(f"{name}: image {container['image']} is not of version {version}")
    return found


def requests_are_within_limits(objects: list[Object]) -> list[str]:
    """Requests for CPU and memory, a limit for memory, none below the request."""
    found = []
    for name, _, container in every_container(objects):
        requests = container.get("resources", {}).get("requests", {})
        limits = container.get("resources", {}).get("limits", {})
        found += [f"{name}: no request for {resource}" for resource in ("cpu", "memory") if resource not in requests]
        found += [f"{name}: no limit for memory"] * ("memory" not in limits)
        found += [
            f"{name}: asks for {value} of {resource}, over its limit {limits[resource]}"
            for resource, value in requests.items()
            if resource in limits and amount(value) > amount(limits[resource])
        ]
    return found


def pods_carry_the_labels(objects: list[Object]) -> list[str]:
    """name, component and part-of, and the object that makes the pods the same ones."""
    found = []
    for item in objects:
        for name, template in pod_templates(item):
            labels = template.get("metadata", {}).get("labels", {})
            found += [f"{name}: no label {key}" for key in LABELS if key not in labels]
            own = item["metadata"].get("labels", {}).get(LABELS[0])
            found += [f"{name}: is named {labels.get(LABELS[0])}, {label(item)} {own}"] * (labels.get(LABELS[0]) != own)
    return found


def stopping_takes_less_than_the_grace(objects: list[Object]) -> list[str]:
    """preStop's sleep leaves time for the calls that are left."""
    found = []
    for name, template, container in every_container(objects):
        seconds = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        grace = template["spec"].get("terminationGracePeriodSeconds", 30)
        found += [f"{name}: sleeps {seconds} s of {grace} s"] * (2 * seconds > grace)
    return found


def rollouts_keep_every_pod_until_its_successor_is_ready(objects: list[Object]) -> list[str]:
    """maxUnavailable 0 and a readiness probe, where calls come in."""
    found = []
    for item in of_kind(objects, "Deployment"):
        if item["spec"]["strategy"].get("rollingUpdate", {}).get("maxUnavailable") != 0:
            found.append(f"{label(item)}: maxUnavailable is not 0")
        found += [
            f"{label(item)} {container['name']}: no {probe}"
            for container in item["spec"]["template"]["spec"]["containers"]
            for probe in ("readinessProbe", "livenessProbe", "startupProbe")
            if probe not in container
        ]
    return found


RULES = (
    containers_run_restricted,
    pods_share_no_host_namespace,
    read_only_roots_have_a_tmp,
    images_are_pinned,
    requests_are_within_limits,
    pods_carry_the_labels,
    stopping_takes_less_than_the_grace,
    rollouts_keep_every_pod_until_its_successor_is_ready,
)

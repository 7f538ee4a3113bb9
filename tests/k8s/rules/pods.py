"""Rules for each pod and container: who it runs as, what it may use, where it comes from."""

import dataclasses
import re

from inkling.serving.flags import ServerConfig
from tests.k8s.manifests import ROOT, Object, autoscalers, every_container, label, of_kind, pod_templates
from tests.k8s.rules.quantities import amount

# What a Job in a namespace of its own may do to make a folder of the node.
FOLDER = "/var/lib/inkling"
FOLDER_CAPABILITIES = {"CHOWN", "DAC_OVERRIDE", "FOWNER"}
DIGEST = re.compile(r"@sha256:[0-9a-f]{64}$")
OWN_IMAGE = re.compile(r"(?:^|/)inkling/(train|serving|client|batch)$")
LABELS = ("app.kubernetes.io/name", "app.kubernetes.io/component", "app.kubernetes.io/part-of")


def _privileged_namespaces(objects: list[Object]) -> set[str]:
    """Namespaces made for what restricted ones refuse."""
    return {
        item["metadata"]["name"]
        for item in of_kind(objects, "Namespace")
        if item["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "privileged"
    }


def _in_privileged(objects: list[Object], *, wanted: bool) -> list[Object]:
    namespaces = _privileged_namespaces(objects)
    return [item for item in objects if (item["metadata"].get("namespace") in namespaces) is wanted]


def containers_run_restricted(objects: list[Object]) -> list[str]:
    """Non-root by number, read-only root, no new privileges, no capabilities, seccomp, for each container.

    In a privileged namespace root is let through, with the capabilities that making a folder takes, and nothing else.
    """
    found = []
    restricted = _in_privileged(objects, wanted=False)
    for name, template, container in [*every_container(restricted), *autoscalers(restricted)]:
        pod, own = template["spec"].get("securityContext", {}), container.get("securityContext", {})
        wanted = _wanted_anywhere(pod, own) | {
            "runAsNonRoot": pod.get("runAsNonRoot") is True,
            "runAsUser": isinstance(pod.get("runAsUser"), int) and pod["runAsUser"] > 0,
            "capabilities": own.get("capabilities") == {"drop": ["ALL"]},
        }
        found += [f"{name}: {field} is not as it must be" for field, right in wanted.items() if not right]
        overridden = own.keys() & {"runAsUser", "runAsNonRoot", "seccompProfile"}
        found += [f"{name}: {field} is overridden" for field in sorted(overridden)]
    for name, template, container in every_container(_in_privileged(objects, wanted=True)):
        own = container.get("securityContext", {})
        capabilities = own.get("capabilities", {})
        wanted = _wanted_anywhere(template["spec"].get("securityContext", {}), own) | {
            "capabilities": capabilities.get("drop") == ["ALL"]
            and {*capabilities.get("add", [])} <= FOLDER_CAPABILITIES
        }
        found += [f"{name}: {field} is not as it must be" for field, right in wanted.items() if not right]
    return found


def _wanted_anywhere(pod: Object, own: Object) -> dict[str, bool]:
    return {
        "seccompProfile": own.get("seccompProfile", pod.get("seccompProfile")) == {"type": "RuntimeDefault"},
        "allowPrivilegeEscalation": own.get("allowPrivilegeEscalation") is False,
        "readOnlyRootFilesystem": own.get("readOnlyRootFilesystem") is True,
        "privileged": not own.get("privileged"),
    }


def pods_share_no_host_namespace(objects: list[Object]) -> list[str]:
    """Nor mount the host's files, but for the one folder, from a privileged namespace."""
    found = []
    makers = [label(item) for item in _in_privileged(objects, wanted=True)]
    for item in objects:
        for name, template in pod_templates(item):
            spec = template["spec"]
            found += [f"{name}: {field}" for field in ("hostNetwork", "hostPID", "hostIPC") if spec.get(field)]
            paths = [volume["hostPath"]["path"] for volume in spec.get("volumes", []) if "hostPath" in volume]
            found += [f"{name}: hostPath {path}" for path in paths if path != FOLDER or label(item) not in makers]
    return found


def read_only_roots_have_a_tmp(objects: list[Object]) -> list[str]:
    """What runs for long writes somewhere: /tmp is a volume. Init containers that write say where."""
    restricted = _in_privileged(objects, wanted=False)
    long = [entry for entry in every_container(restricted) if entry[2] in entry[1]["spec"]["containers"]]
    return [
        f"{name}: nothing is mounted at /tmp"
        for name, _, container in [*long, *autoscalers(restricted)]
        if "/tmp" not in {mount["mountPath"] for mount in container.get("volumeMounts", [])}
    ]


def images_are_pinned(objects: list[Object]) -> list[str]:
    """A digest, or a tag that is not `latest`; our own images carry the project's version, where they have a tag."""
    version = (ROOT / "VERSION").read_text().strip()
    found = []
    for name, _, container in every_container(objects):
        if DIGEST.search(container["image"]):
            continue
        image, _, tag = container["image"].rpartition(":")
        if "@" in image or not image or "/" in tag or tag == "latest":
            found.append(f"{name}: image {container['image']} has no fixed tag")
        elif OWN_IMAGE.search(image) and tag not in (version, f"{version}-gpu"):
            found.append(f"{name}: image {container['image']} is not of version {version}")
    return found


def mounted_images_are_named_by_digest(objects: list[Object]) -> list[str]:
    """An image volume is what was published and looked at, whoever moves a tag; so it is pulled once."""
    return [
        f"{name}: the volume {volume['name']} is {volume['image']}"
        for item in objects
        for name, template in pod_templates(item)
        for volume in template["spec"].get("volumes", [])
        if "image" in volume
        and not (DIGEST.search(volume["image"]["reference"]) and volume["image"].get("pullPolicy") == "IfNotPresent")
    ]


def image_volumes_are_mounted_whole_and_read_only(objects: list[Object]) -> list[str]:
    """As containerd asks; a subPath needs a newer one, and our images have the paths that the servers look for."""
    found = []
    for name, template, container in every_container(objects):
        images = {volume["name"] for volume in template["spec"].get("volumes", []) if "image" in volume}
        for mount in container.get("volumeMounts", []):
            if mount["name"] in images and (not mount.get("readOnly") or "subPath" in mount):
                found.append(f"{name}: {mount['mountPath']} must be read-only, and without a subPath")
    return found


def requests_are_within_limits(objects: list[Object]) -> list[str]:
    """Requests for CPU and memory, a limit for memory, none below the request."""
    found = []
    for name, _, container in [*every_container(objects), *autoscalers(objects)]:
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
    """name, component and part-of, and the object that makes the pods the same ones. KubeRay names Ray's pods."""
    found = []
    for item in objects:
        for name, template in pod_templates(item):
            labels = template.get("metadata", {}).get("labels", {})
            found += [f"{name}: no label {key}" for key in LABELS if key not in labels]
            if "ray.io/is-ray-node" in labels:
                continue
            own = item["metadata"].get("labels", {}).get(LABELS[0])
            found += [f"{name}: is named {labels.get(LABELS[0])}, {label(item)} {own}"] * (labels.get(LABELS[0]) != own)
    return found


def stopping_outlasts_every_connection(objects: list[Object]) -> list[str]:
    """The signal comes when no connection to a model server is left, and leaves the time for a drain before the end.

    Proxies withdraw the endpoint within 10 s. A connection made until then lasts for its age, which gRPC varies by
    10 %, and for the grace of its calls.
    """
    found = []
    [drain] = [field.default for field in dataclasses.fields(ServerConfig) if field.name == "drain_seconds"]
    for name, template, container in every_container(objects):
        sleep = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        grace = template["spec"].get("terminationGracePeriodSeconds", 30)
        words = " ".join(container.get("args", []))
        if "--model_config_file" not in words:
            found += [f"{name}: sleeps {sleep} s of {grace} s"] * (sleep > 0 and sleep + 10 > grace)
            continue
        ages = dict(re.findall(r"grpc\.max_connection_(age|age_grace)_ms=(\d+)", words))
        if ages.keys() != {"age", "age_grace"}:
            found.append(f"{name}: its connections have no end")
        elif sleep < (least := 1.1 * int(ages["age"]) / 1000 + int(ages["age_grace"]) / 1000 + 10):
            found.append(f"{name}: sleeps {sleep} s; its last connection may end after {least:g} s")
        found += [f"{name}: sleeps {sleep} s of {grace} s, and may drain for {drain} s"] * (sleep + drain > grace)
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
    mounted_images_are_named_by_digest,
    image_volumes_are_mounted_whole_and_read_only,
    requests_are_within_limits,
    pods_carry_the_labels,
    stopping_outlasts_every_connection,
    rollouts_keep_every_pod_until_its_successor_is_ready,
)

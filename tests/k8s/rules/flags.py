"""Rules for command lines: flags that the programs have, files that are mounted where they point."""

import dataclasses
import re
import subprocess
import sys
from functools import cache

from inkling.serving.flags import ServerConfig
from tests.k8s.manifests import K8S, ROOT, Object, containers, every_container, find, of_kind, pod_templates

STDOUT = "/dev/stdout"  # of the container's user, as runc and crun have it
# Polled by the servers that mount them, so an edit must not be a new name.
POLLED = {"serving-models", "serving-canary-models"}
SERVER_FLAGS = {field.name for field in dataclasses.fields(ServerConfig)}


def _server(objects: list[Object]) -> list[tuple[str, Object, Object]]:
    return [found for found in every_container(objects) if "--model_config_file" in " ".join(found[2].get("args", []))]


def server_flags_exist(objects: list[Object]) -> list[str]:
    """Every flag of the model server is one that it knows; an unknown one would only be logged and passed over."""
    return [
        f"{name}: the server has no flag {argument}"
        for name, _, container in _server(objects)
        for argument in container["args"]
        if argument.removeprefix("--").partition("=")[0] not in SERVER_FLAGS
    ]


def words_point_at_mounted_files(objects: list[Object]) -> list[str]:
    """A path among a container's words, as a flag's value or by itself, is in a volume that is mounted and has it."""
    found = []
    for name, template, container in every_container(objects):
        for word in [*container.get("command", []), *container.get("args", [])]:
            path = word.partition("=")[2] if word.startswith("--") else word
            if path.startswith("/") and path != STDOUT and not _is_mounted(objects, template, container, path):
                found.append(f"{name}: {word}, where nothing is mounted")
    return found


def _is_mounted(objects: list[Object], template: Object, container: Object, path: str) -> bool:
    volumes = {volume["name"]: volume for volume in template["spec"].get("volumes", [])}
    for mount in container.get("volumeMounts", []):
        if path == mount["mountPath"] or path.startswith(mount["mountPath"] + "/"):
            return _has(objects, template, volumes[mount["name"]], path.removeprefix(mount["mountPath"] + "/"))
    return False


def _has(objects: list[Object], template: Object, volume: Object, file: str) -> bool:
    """Whether a volume has a file: by name where it lists them, by somebody who writes where it begins empty."""
    listed = volume.get("secret", volume.get("configMap", {})).get("items")
    if listed or "secret" in volume:
        return file in [item["path"] for item in listed or []]
    if "configMap" in volume:
        return file in find(objects, "ConfigMap", volume["configMap"]["name"])["data"]
    if "emptyDir" in volume:
        mounts = [mount for container in containers(template) for mount in container.get("volumeMounts", [])]
        return any(mount["name"] == volume["name"] and not mount.get("readOnly") for mount in mounts)
    return True


def polled_files_are_mounted_as_folders(objects: list[Object]) -> list[str]:
    """The kubelet never updates a file that is mounted by subPath, and a polled ConfigMap keeps its name."""
    found = []
    for name, template, container in _server(objects):
        if _models(template) not in POLLED:
            found.append(
                f"{name}: its models.config is not mounted under a name that stays, so that an edit is a rollout"
            )
        volumes = {volume["name"] for volume in template["spec"]["volumes"] if "configMap" in volume}
        found += [
            f"{name}: {mount['mountPath']} is mounted by subPath"
            for mount in container["volumeMounts"]
            if mount["name"] in volumes and "subPath" in mount
        ]
    return found


def _models(template: Object) -> str:
    """The name of the ConfigMap with the models."""
    [name] = [volume["configMap"]["name"] for volume in template["spec"]["volumes"] if volume["name"] == "models"]
    return str(name)


def models_lie_in_the_repository(objects: list[Object]) -> list[str]:
    """Each base_path in models.config is in the repository's mount, which the servers cannot write."""
    found = []
    for name, template, container in _server(objects):
        config = find(objects, "ConfigMap", _models(template))["data"]["models.config"]
        mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
        for path in re.findall(r'^ *base_path: "(.*)"', config, re.MULTILINE):
            mount = mounts.get(path.rpartition("/")[0])
            if mount is None:
                found.append(f"{name}: {path} is in no mount")
            elif not mount.get("readOnly"):
                found.append(f"{name}: {mount['mountPath']} can be written")
    return found


def ports_are_those_of_the_flags(objects: list[Object]) -> list[str]:
    """--port and --rest_api_port are what the container opens; the web page's --port too."""
    found = []
    for name, _, container in every_container(objects):
        arguments = [*container.get("command", []), *container.get("args", [])]
        flags = dict(
            argument.split("=", 1) for argument in arguments if re.fullmatch(r"--(rest_api_)?port=\d+", argument)
        )
        opened = {str(port["containerPort"]) for port in container.get("ports", [])}
        if flags and set(flags.values()) != opened:
            found.append(f"{name}: flags say {sorted(flags.values())}, ports {sorted(opened)}")
    return found


@cache
def train_flags() -> frozenset[str]:
    """The flags of `python -m train`, from its help."""
    command = [sys.executable, "-m", "train", "--help"]
    text = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True).stdout
    return frozenset(re.findall(r"--[a-z0-9-]+", text))


def trainings(objects: list[Object]) -> list[Object]:
    """The RayJobs that train."""
    return [item for item in of_kind(objects, "RayJob") if "inkling.train" in item["spec"]["entrypoint"]]


def train_flags_exist(objects: list[Object]) -> list[str]:
    """Every flag in an entrypoint is one of the training job's."""
    entrypoints = [item["spec"]["entrypoint"] for item in trainings(objects)]
    return [
        f"entrypoint: the training has no flag {flag}"
        for entrypoint in entrypoints
        for flag in re.findall(r"--[a-z0-9-]+", entrypoint)
        if flag not in train_flags()
    ]


def train_writes_into_mounts(objects: list[Object]) -> list[str]:
    """The folders of runs and models are volumes of head and workers, or in a store whose credentials they have."""
    found = []
    for item in trainings(objects):
        [submitter] = containers(item["spec"]["submitterPodTemplate"])
        folders = {entry["name"]: entry["value"] for entry in submitter.get("env", [])}
        for name, template in pod_templates(item):
            if name.endswith("submitter"):
                continue
            [container] = containers(template)
            mounts = {mount["mountPath"] for mount in container["volumeMounts"]} - read_only(container)
            for variable in ("STORAGE", "MODEL_DIR"):
                folder = folders.get(variable, "")
                if f"${{{variable}}}" not in item["spec"]["entrypoint"]:
                    found.append(f"{name}: the entrypoint does not use {variable}")
                elif folder.startswith("s3://"):
                    found += [f"{name}: no credentials for {folder}"] * ("envFrom" not in container)
                elif folder.startswith("oci://"):  # the head pushes, and nobody else
                    is_lost = name.endswith(" head") and _docker_config(container) not in read_only(container)
                    found += [f"{name}: no credentials for {folder}"] * is_lost
                elif folder not in mounts:
                    found.append(f"{name}: {variable} is {folder!r}, where nothing is mounted")
    return found


def read_only(container: Object) -> set[str]:
    """Where a container has mounts that it cannot write."""
    return {mount["mountPath"] for mount in container.get("volumeMounts", []) if mount.get("readOnly")}


def _docker_config(container: Object) -> str:
    return next((entry["value"] for entry in container.get("env", []) if entry["name"] == "DOCKER_CONFIG"), "")


@cache
def web_flags() -> frozenset[str]:
    """The flags of `python -m client web`, from its help."""
    command = [sys.executable, "-m", "client", "web", "--help"]
    text = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True).stdout
    return frozenset(re.findall(r"--[a-z0-9-]+", text))


def web_flags_exist(objects: list[Object]) -> list[str]:
    """Every flag of the web page is one of the client's."""
    return [
        f"{name}: the web page has no flag {argument}"
        for name, _, container in every_container(objects)
        if container.get("args", [])[:1] == ["web"]
        for argument in container["args"][1:]
        if argument.partition("=")[0] not in web_flags()
    ]


@cache
def canary_flags() -> frozenset[str]:
    """The flags of the canary's program, from its help."""
    command = [sys.executable, str(K8S / "components/canary/canary.py"), "--help"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return frozenset(re.findall(r"--[a-z_]+", text))


def canary_flags_exist(objects: list[Object]) -> list[str]:
    """Every flag of the canary's Job is one of its program's."""
    return [
        f"{name}: the canary has no flag {argument}"
        for name, _, container in every_container(objects)
        if container.get("command", [])[-1:] == ["/etc/canary/canary.py"]
        for argument in container["args"]
        if argument.partition("=")[0] not in canary_flags()
    ]


RULES = (
    web_flags_exist,
    canary_flags_exist,
    server_flags_exist,
    words_point_at_mounted_files,
    polled_files_are_mounted_as_folders,
    models_lie_in_the_repository,
    ports_are_those_of_the_flags,
    train_flags_exist,
    train_writes_into_mounts,
)

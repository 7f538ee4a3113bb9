"""Rules for servers whose doors are closed: they are closed for everybody, and open for those who have a key."""

from collections.abc import Iterator
from urllib.parse import urlsplit

from inkling.serving.flags import ACCESS
from tests.k8s.manifests import Object, every_container, of_kind, pod_templates
from tests.k8s.rules.network import CLIENT_LABEL

PREDICT, ADMIN, VERIFY = "api_keys_file", "admin_api_keys_file", "verify_models"
OPEN_PATHS = ("/healthz", "/readyz", "/v2/health/live", "/v2/health/ready")
KEY = "INKLING_API_KEY"


def _servers(objects: list[Object]) -> Iterator[tuple[str, Object, dict[str, str]]]:
    """(name in messages, container, its flags)"""
    for name, _, container in every_container(objects):
        arguments = container.get("args", [])
        if any(argument.startswith("--model_config_file=") for argument in arguments):
            pairs = (argument.removeprefix("--").partition("=") for argument in arguments)
            yield name, container, {flag: value for flag, _, value in pairs}


def closed_servers_are_ours(objects: list[Object]) -> list[str]:
    """TensorFlow Serving knows none of the flags that keep somebody out, and with `--engine` is not told them."""
    return [
        f"{name}: {container['command'][0]} does not know --{flag}, and is open"
        for name, container, flags in _servers(objects)
        for flag in sorted(ACCESS & flags.keys())
        if container["command"][-1] != "inkling.serving"
    ]


def administration_takes_another_key(objects: list[Object]) -> list[str]:
    """Where callers have keys, administrators have others, or nobody administers; and what they do is written down."""
    found = []
    for name, _, flags in _servers(objects):
        if PREDICT in flags and ADMIN not in flags and flags.get("enable_admin") != "false":
            found.append(f"{name}: --{PREDICT} without --{ADMIN} or --enable_admin=false")
        if flags.get(ADMIN) and flags[ADMIN] == flags.get(PREDICT):
            found.append(f"{name}: every caller is an administrator")
        if ADMIN in flags and "audit_log_file" not in flags:
            found.append(f"{name}: nobody knows who administered; give --audit_log_file")
    return found


def all_servers_are_closed_alike(objects: list[Object]) -> list[str]:
    """A second set of servers that is open, or loads what nobody signed, makes the first one's door a decoration."""
    closed = {name: {flag: flags[flag] for flag in ACCESS & flags.keys()} for name, _, flags in _servers(objects)}
    return [
        f"{name}: other doors than the other servers'" for name in closed if closed[name] != next(iter(closed.values()))
    ]


def probes_need_no_key(objects: list[Object]) -> list[str]:
    """The kubelet has none: with keys it asks what is open to everybody, and by TLS it cannot ask gRPC."""
    found = []
    for name, container, flags in _servers(objects):
        for probe in ("startupProbe", "readinessProbe", "livenessProbe") if PREDICT in flags else ():
            path = urlsplit(container[probe].get("httpGet", {}).get("path", "")).path
            if path not in OPEN_PATHS and not ("grpc" in container[probe] and "ssl_config_file" not in flags):
                found.append(f"{name}: {probe} asks {path or 'gRPC'}, for which the kubelet lacks a key")
    return found


def callers_have_keys(objects: list[Object]) -> list[str]:
    """Our own callers, where the servers ask for keys; and TLS to send them by."""
    if not any(PREDICT in flags for _, _, flags in _servers(objects)):
        return []
    found = [] if of_kind(objects, "Certificate") else ["keys would cross the network in the clear: there is no TLS"]
    for item in objects:
        callers = [pair for pair in pod_templates(item) if pair[1]["metadata"]["labels"].get(CLIENT_LABEL) == "true"]
        for name, template in callers:
            if item["kind"] == "RayJob":  # whose readers have the key from their head
                template = item["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]
            names = {entry["name"] for entry in template["spec"]["containers"][0].get("env", [])}
            found += [f"{name}: the servers take no call without {KEY}"] * (KEY not in names)
    return found


RULES = (
    closed_servers_are_ours,
    administration_takes_another_key,
    all_servers_are_closed_alike,
    probes_need_no_key,
    callers_have_keys,
)

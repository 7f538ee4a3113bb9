"""Rules for the RayJobs that read a bucket of pictures."""

import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache

from tests.k8s.manifests import ROOT, Object, containers, label, of_kind, pod_templates, services
from tests.k8s.rules.network import CLIENT_LABEL


@cache
def batch_flags() -> frozenset[str]:
    """The flags of `python -m client.batch`, from its help."""
    command = [sys.executable, "-m", "client.batch", "--help"]
    text = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True).stdout
    return frozenset(re.findall(r"--[a-z0-9-]+", text))


def _jobs(objects: list[Object]) -> Iterator[tuple[Object, str]]:
    """(RayJob, its command line as the submitter's shell makes it)"""
    for item in of_kind(objects, "RayJob"):
        entrypoint = item["spec"]["entrypoint"]
        if "inkling.client.batch" in entrypoint:
            [submitter] = containers(item["spec"]["submitterPodTemplate"])
            values = {entry["name"]: entry.get("value", "") for entry in submitter["env"]}
            yield item, re.sub(r"\$\{(\w+)\}", lambda found, values=values: values.get(found[1], ""), entrypoint)


def _ray_pods(item: Object) -> list[tuple[str, Object]]:
    """As `pod_templates`, for head and readers."""
    return [(name, template) for name, template in pod_templates(item) if not name.endswith(" submitter")]


def batch_flags_exist(objects: list[Object]) -> list[str]:
    """Every flag of a batch job is one of its program's."""
    return [
        f"{label(item)}: a batch job has no flag {flag}"
        for item, line in _jobs(objects)
        for flag in re.findall(r"(?<= )--[a-z0-9_-]+", line)
        if flag not in batch_flags()
    ]


def batch_jobs_reach_their_pictures(objects: list[Object]) -> list[str]:
    """Two places in a store, of which head and readers have the credentials."""
    found = []
    for item, line in _jobs(objects):
        places = [word for word in line.split() if "://" in word and not word.startswith("dns:")]
        if len(places) != 2 or places[0] == places[1]:
            found.append(f"{label(item)}: two places are read and written, got {places}")
        for name, template in _ray_pods(item):
            if not any("secretRef" in source for source in template["spec"]["containers"][0].get("envFrom", [])):
                found.append(f"{name}: no credentials for {places}")
    return found


def readers_reach_the_servers(objects: list[Object]) -> list[str]:
    """By the label of a client, at a Service's port; by TLS where the servers have it, with a key where they ask."""
    found = []
    known = {
        f"{item['metadata']['name']}:{port['port']}" for item in services(objects) for port in item["spec"]["ports"]
    }
    has_tls = bool(of_kind(objects, "Certificate"))
    for item, line in _jobs(objects):
        server = re.search(r"--server (\S+)", line)
        if server is None or server[1].removeprefix("dns:///") not in known:
            found.append(f"{label(item)}: no Service is behind {server and server[1]}")
        if ("--tls-ca=" in line) is not has_tls:
            found.append(f"{label(item)}: the servers have {'' if has_tls else 'no '}TLS, its flags say otherwise")
        for name, template in _ray_pods(item):
            is_client = template["metadata"]["labels"].get(CLIENT_LABEL) == "true"
            found += [f"{name}: no policy lets it call the servers"] * (not is_client and not name.endswith(" head"))
    return found


RULES = (batch_flags_exist, batch_jobs_reach_their_pictures, readers_reach_the_servers)

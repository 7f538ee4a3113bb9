"""A dress rehearsal without a cluster: what each documented command would find among the rendered objects."""

import os
import re
import shlex
import subprocess
import sys
import tempfile
import tomllib
from functools import cache
from pathlib import Path

import pytest
import yaml
from google.protobuf import text_format
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from inkling.client import cli
from inkling.serving import rollout, version_labels
from tests.k8s import commands, manifests
from tests.k8s.broken import BROKEN_COMMANDS, HEAD, put
from tests.k8s.rules import network

pytestmark = pytest.mark.process

TEXT = commands.README.read_text()
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join([str(manifests.ROOT), *filter(None, sys.path)])}


@cache
def _objects(overlay: str, components: tuple[str, ...]) -> list[manifests.Object]:
    if not components:
        return manifests.overlay(overlay)
    with tempfile.TemporaryDirectory() as folder:
        return manifests.with_components(Path(folder), overlay, *components)


@pytest.mark.parametrize("overlay", manifests.OVERLAYS)
def test_every_command_finds_what_it_asks_for(overlay):
    found = {}
    for command in commands.of_readme():
        is_meant = command.overlay == overlay or (not command.overlay and overlay != "local-canary")
        if is_meant and (not command.components or overlay == "cpu"):
            found[str(command)] = commands.problems(command, _objects(overlay, command.components))
    assert len(found) >= (8 if overlay == "local-canary" else 20)
    assert {command: problems for command, problems in found.items() if problems} == {}


@pytest.mark.parametrize("text", BROKEN_COMMANDS)
def test_a_command_that_does_not_is_found(text):
    [words] = commands.kubectl_words(text)
    assert commands.problems(commands.Command(words, ()), _objects("cpu", ())) != []


def test_a_service_of_kuberays_that_selects_no_head_is_found(tmp_path):
    objects = put(f"{HEAD} template metadata labels app.kubernetes.io/name", "train").objects(tmp_path)
    [words] = commands.kubectl_words("kubectl -n inkling port-forward service/train-head-svc 8265 &")
    assert commands.problems(commands.Command(words, ()), objects) == ["the Service train-head-svc selects no pod"]


def test_commands_inside_commands_are_found():
    text = "for pod in $(kubectl get pods -o name | head -1); do\n  kubectl logs $pod > /dev/null &\ndone"
    assert list(commands.kubectl_words(text)) == [("get", "pods", "-o", "name"), ("logs", "$pod")]


def _lines(pattern: str) -> list[str]:
    """The commands of the README's blocks that begin so, whole and without what follows a pipe."""
    blocks = [text.replace("\\\n", " ") for text in re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL)]
    found = re.findall(rf"^ *({pattern}[^|;>\n]*)", "\n".join(blocks), re.MULTILINE)
    return [line.partition(" #")[0].strip() for line in found]


@pytest.mark.parametrize("line", sorted({*_lines("inkling ")}))
def test_a_command_of_the_clients_is_understood(line):
    words = shlex.split(line.replace("$version", "1"))[1:]
    assert cli.make_parser().parse_args(words).command


PROGRAMS = {
    ("inkling.serving", "keys"): ["keys", "new"],
    ("train", "publish"): ["publish"],
    ("tools.compose_page", "-o"): [],
}


@pytest.mark.parametrize(("program", "words"), PROGRAMS.items(), ids=" ".join)
def test_a_command_of_our_other_programs_has_the_flags_that_it_is_given(program, words):
    lines = _lines("python -m " + " ".join(program))
    command = [sys.executable, "-m", program[0], *words, "--help"]
    text = subprocess.run(command, capture_output=True, text=True, check=True, env=ENVIRONMENT).stdout
    flags = {word for line in lines for word in shlex.split(line)[4:] if word.startswith("--")}
    assert lines and {flag for flag in flags if not re.search(rf"{flag}\b", text)} == set()


def test_all_programs_of_the_readme_are_among_those():
    found = {tuple(line.split()[2:4]) for line in _lines("python -m ")}
    assert found - {("inkling.serving", "promote"), ("inkling.serving", "rollback")} == PROGRAMS.keys()


@pytest.mark.parametrize("line", sorted({*_lines("pip install ")}))
def test_what_pip_is_to_install_is_there_with_its_extras(line):
    folder, _, extras = shlex.split(line)[-1].rstrip("]").partition("[")
    project = tomllib.loads((manifests.ROOT / folder / "pyproject.toml").read_text())["project"]
    assert {*filter(None, extras.split(","))} <= project["optional-dependencies"].keys()


@pytest.mark.parametrize("names", re.findall(r"k8s/images/build.sh (.*)$", TEXT, re.MULTILINE))
def test_the_images_that_are_built_by_name_have_dockerfiles(names):
    assert [name for name in names.split() if not (manifests.K8S / f"images/{name}.Dockerfile").exists()] == []


def test_the_images_that_are_loaded_into_a_node_are_those_that_run_there():
    lines = re.findall(r"^kind load docker-image (.*)$", TEXT, re.MULTILINE)
    for line, overlay in zip(lines, ("local", "local-canary"), strict=True):
        runs = {container["image"] for _, _, container in manifests.every_container(manifests.overlay(overlay))}
        assert set(line.split()) == runs


def test_the_workflow_sets_its_cluster_up_as_the_readme_does():
    workflow = yaml.safe_load((manifests.ROOT / ".github/workflows/cluster.yml").read_text())
    runs = [step["run"] for step in workflow["jobs"]["kind"]["steps"] if "run" in step]
    blocks = [block for block in re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL) if "\nkind load" in block]
    assert runs[1:4] == blocks[0].splitlines()[:3]
    [gateway] = [line for line in blocks[1].splitlines() if "gateway-helm" in line]
    assert gateway in runs[4]
    assert (runs[0].split()[:3], runs[-1]) == (["kind", "create", "cluster"], "make test-cluster")


def _promotions() -> str:
    [block] = [block for block in re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL) if "--label canary" in block]
    return block


def test_the_first_switch_to_labels_waits_for_every_version_that_they_need():
    before, waits, _ = re.split(r"^(for .*?^done)$", _promotions(), flags=re.MULTILINE | re.DOTALL)
    config = text_format.Parse((manifests.K8S / "base/serving/models.config").read_text(), ModelServerConfig())
    for line in re.findall(r"^python -m inkling.serving (.*)$", before, re.MULTILINE):
        flags = rollout.parse(line.split())
        config = version_labels.promoted(config, model_name=flags.model_name, version=flags.version, label=flags.label)
    needed = version_labels.find_model(config, "mnist").model_version_policy.specific.versions
    [versions] = re.findall(r"for version in ([\d ]+); do\n +inkling wait .*--model-version \$version", waits)
    assert [int(version) for version in versions.split()] == list(needed)


ENDS = {end.name: end for flows in network.FLOWS.values() for flow in flows for end in flow[:2]}


def _documented_flows() -> set[tuple[str, network.Flow]]:
    """(the key of FLOWS, the flow) for each row of the README's table."""
    [table] = re.findall(r"^\| from \| to \| port \| where \|\n\|[-|]+\n((?:\|.*\n)+)", TEXT, re.MULTILINE)
    found = set()
    for row in table.splitlines():
        sources, targets, ports, where = (cell.strip() for cell in row.strip("|").split("|"))
        numbers = [network.ANY_PORT] if ports == "all" else [int(port) for port in ports.split(", ")]
        where = re.sub(r"^with its autoscaler.*", "scaled", where).partition(", ")[0]
        reason = {"without `tls`": "plaintext"}.get(where, where)
        for source in sources.split(", "):
            for target in targets.split(", "):
                found |= {(reason.strip("`"), (ENDS[source], ENDS[target], number)) for number in numbers}
    return found


def test_the_flows_of_the_readme_are_those_that_the_rules_hold_open():
    assert _documented_flows() == {(reason, flow) for reason, flows in network.FLOWS.items() for flow in flows}

"""The commands of k8s/README.md, and what each of them would find among the objects of an overlay."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass

from tests.k8s import kuberay, schemas
from tests.k8s.manifests import COMPONENTS, K8S, NEEDS, ROOT, Object, containers, in_order, of_kind, pod_templates

README = K8S / "README.md"
RESULT = "RESULT"  # in place of what a command inside another one prints
VARIABLE = re.compile(r"^\$\w+$")
KINDS = {
    "certificate": "Certificate",
    "cronjob": "CronJob",
    "deployment": "Deployment",
    "grpcroute": "GRPCRoute",
    "hpa": "HorizontalPodAutoscaler",
    "job": "Job",
    "namespace": "Namespace",
    "pod": "Pod",
    "pvc": "PersistentVolumeClaim",
    "rayjob": "RayJob",
    "scaledobject": "ScaledObject",
    "secret": "Secret",
    "service": "Service",
    "svc": "Service",
    "workload": "Workload",
}
# Of operators, or of the reader: nothing here makes them.
EXAMPLES = {"Job/canary-2", "Namespace/my-team", "RayJob/retrain-x7k2p", "Secret/object-store", "Secret/registry"}
MADE_BY_OPERATORS = {"Workload"}


@dataclass(frozen=True)
class Command:
    """A kubectl command, the components that the heading above it names, and the overlay that it comes after."""

    words: tuple[str, ...]
    components: tuple[str, ...]
    overlay: str = ""  # the last one, where a section applies several; else any

    def __str__(self) -> str:
        return " ".join(self.words)

    def flag(self, *names: str) -> str | None:
        """The value of a flag, as the next word or after `=`."""
        for word, following in zip(self.words, (*self.words[1:], ""), strict=True):
            if word in names:
                return following
            if word.partition("=")[0] in names:
                return word.partition("=")[2]
        return None

    def plain(self) -> list[str]:
        """The words that are neither flags nor their values."""
        found, words = [], iter(self.words)
        for word in words:
            if word in ("-n", "-l", "-o", "-k", "-c"):
                next(words)
            elif not word.startswith("-"):
                found.append(word)
        return found


def of_readme() -> list[Command]:
    """Every kubectl command in the README's blocks and in its running text."""
    found = []
    for part in README.read_text().split("\n## "):
        heading = part.partition("\n")[0]
        named = [name for name in re.findall(r"`([\w-]+)`", heading) if name in COMPONENTS]
        components = tuple(in_order({name for each in named for name in (*NEEDS.get(each, ()), each)}))
        fenced = re.findall(r"```sh\n(.*?)```", part, re.DOTALL)
        spans = re.findall(r"`([^`]+)`", re.sub(r"```.*?```", "", part, flags=re.DOTALL))
        overlays = [name for text in fenced for name in re.findall(r"apply -k k8s/overlays/([\w-]+)", text)]
        overlay = overlays[-1] if len(overlays) > 1 else ""
        for text in [*fenced, *(span.replace("\n", " ") for span in spans)]:
            found += [Command(words, components, overlay) for words in kubectl_words(text)]
    return [command for command in found if len(command.words) > 2]  # `kubectl diff` alone is a name


def kubectl_words(text: str) -> Iterator[tuple[str, ...]]:
    """What follows `kubectl` in each command of a shell text, those inside other commands first."""
    text = text.replace("\\\n", " ")
    while inner := re.search(r"\$\(([^()]*)\)", text):
        yield from kubectl_words(inner[1])
        text = text[: inner.start()] + RESULT + text[inner.end() :]
    for part in re.split(r"\|+|&&?|;|\n|\bdo\b|> \S+", text):
        if re.match(r"\s*kubectl\s", part):
            yield tuple(shlex.split(part, comments=True)[1:])


def problems(command: Command, objects: list[Object]) -> list[str]:
    """Why the command would not do on a cluster with these objects what the README says of it; empty if it would."""
    made = [made for job in of_kind(objects, "RayJob") for made in kuberay.made_of(job)]
    return [*_namespace(command, objects), *_verb(command, [*objects, *made])]


def _namespace(command: Command, objects: list[Object]) -> Iterator[str]:
    name = command.flag("-n")
    if name is not None and name not in {item["metadata"]["name"] for item in of_kind(objects, "Namespace")}:
        yield f"there is no namespace {name}"


def _verb(command: Command, objects: list[Object]) -> Iterator[str]:
    verb, *rest = command.plain()
    if verb in ("apply", "diff", "delete") and command.flag("-k") is not None:
        yield from _folder(command, verb)
    elif verb == "rollout":
        yield from _exists(rest[1], objects)
    elif verb == "logs":
        yield from _logs(command, rest, objects)
    elif verb == "port-forward":
        yield from _port_forward(rest[0], rest[1], objects)
    elif verb in ("get", "delete", "label", "wait", "describe"):
        yield from _get(command, rest, objects)
    elif verb == "create" and (source := command.flag("--from")) is not None:
        yield from _exists(source, objects)
    elif verb == "apply" and (file := command.flag("-f")) is not None:
        if file != "-" and not (ROOT / file).exists():  # - is what the command before it prints
            yield f"there is no {file}"
    elif verb not in ("create", "cp", "annotate", "patch", "drain", "uncordon"):
        yield f"no rule for the verb {verb}"


def _folder(command: Command, verb: str) -> Iterator[str]:
    folder = command.flag("-k") or ""
    if folder not in (".", "k8s/overlays/mine") and not (ROOT / folder / "kustomization.yaml").exists():
        yield f"there is no kustomization in {folder}"
    if verb == "delete" and "--ignore-not-found" not in command.words:
        yield "fails where one of the objects is gone already; give --ignore-not-found"


def _exists(target: str, objects: list[Object], kind: str = "pod") -> Iterator[str]:
    """Nothing, if KIND/NAME is there."""
    kind, _, name = target.rpartition("/") if "/" in target else (kind, "", target)
    found = {(item["kind"], item["metadata"]["name"]) for item in objects}
    wanted = KINDS[kind.removesuffix("s")]
    is_known = name == RESULT or VARIABLE.match(name) or f"{wanted}/{name}" in EXAMPLES
    if not is_known and (wanted, name) not in found:
        yield f"there is no {wanted} {name}"


def _logs(command: Command, rest: list[str], objects: list[Object]) -> Iterator[str]:
    if rest and rest[0].startswith("job/"):
        yield "of a Job's pods it takes the first, which may have failed; take the newest by --sort-by"
    if (selector := command.flag("-l")) is not None:
        yield from _selected("Pod", selector, objects)


def _get(command: Command, rest: list[str], objects: list[Object]) -> Iterator[str]:
    kind, _, name = rest[0].partition("/")
    names = [name] if name else [word for word in rest[1:] if "=" not in word]
    known = KINDS.get(kind.removesuffix("s"))
    if known is None:
        yield f"no rule for the kind {kind}"
        return
    for name in names if "--ignore-not-found" not in command.words else ():
        yield from _exists(f"{kind}/{name}", objects)
    if (selector := command.flag("-l")) is not None and known not in MADE_BY_OPERATORS:
        yield from _selected(known, selector, objects)
    for given in filter(None, (command.flag("-o"), command.flag("--for"))):
        if given.startswith("jsonpath="):
            yield from _has_field(known, given.removeprefix("jsonpath=").partition("=")[0].strip("{}."), objects)


def _selected(kind: str, selector: str, objects: list[Object]) -> Iterator[str]:
    wanted = dict(part.split("=", 1) for part in selector.split(","))
    if not any(wanted.items() <= labels.items() for labels in _labels(kind, objects)):
        yield f"no {kind} has the labels {selector}"


def _labels(kind: str, objects: list[Object]) -> Iterator[Object]:
    if kind == "Pod":
        for item in objects:
            yield from (template["metadata"]["labels"] for _, template in pod_templates(item))
    for item in of_kind(objects, kind):
        yield item["metadata"].get("labels", {})


def _has_field(kind: str, path: str, objects: list[Object]) -> Iterator[str]:
    """Nothing, if objects of the kind have the field: by its definition, or by those that are there."""
    for item in of_kind(objects, kind):
        value = schemas.fields(item) if schemas.is_custom(item) else item
        for name in path.split("."):
            value = value.get(name, {})
        if value != {}:
            return
    yield f"no {kind} has a field {path}"


def _port_forward(target: str, ports: str, objects: list[Object]) -> Iterator[str]:
    kind, _, name = target.partition("/")
    port = int(ports.rpartition(":")[2])
    if VARIABLE.match(target) or target == RESULT:
        opened = {p["containerPort"] for _, c in _containers(objects) for p in c.get("ports", [])}
        if port not in opened:
            yield f"no container opens {port}"
        return
    yield from _exists(target, objects)
    for service in of_kind(objects, KINDS[kind]):
        if service["metadata"]["name"] == name:
            yield from _reaches(service, port, objects)


def _containers(objects: list[Object]) -> Iterator[tuple[Object, Object]]:
    """(labels of the pod, container)"""
    for item in objects:
        for _, template in pod_templates(item):
            for container in containers(template):
                yield template["metadata"]["labels"], container


def _reaches(service: Object, port: int, objects: list[Object]) -> Iterator[str]:
    """Nothing, if the Service has the port, and pods that open what it stands for."""
    targets = [entry.get("targetPort", entry["port"]) for entry in service["spec"]["ports"] if entry["port"] == port]
    selector = service["spec"]["selector"]
    behind = [container for labels, container in _containers(objects) if selector.items() <= labels.items()]
    opened = {value for c in behind for p in c.get("ports", []) for value in (p.get("name"), p["containerPort"])}
    if not targets:
        yield f"the Service {service['metadata']['name']} has no port {port}"
    elif not behind:
        yield f"the Service {service['metadata']['name']} selects no pod"
    elif not opened.issuperset(targets):
        yield f"no pod behind the Service {service['metadata']['name']} opens {targets[0]}"

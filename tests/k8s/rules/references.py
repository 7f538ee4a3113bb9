"""Rules for what objects say of each other: names, labels, ports, volumes."""

import re
from collections.abc import Iterator

from tests.k8s.manifests import Object, containers, every_container, label, of_kind, pod_templates, services

# Made by people; a Certificate names its own, which cert-manager makes.
FOREIGN = {
    "ConfigMap/signing",
    "Secret/object-store",
    "Secret/registry",
    "Secret/serving-callers",
    "Secret/serving-keys",
}


def _pods(objects: list[Object]) -> Iterator[tuple[str, Object]]:
    for item in objects:
        yield from pod_templates(item)


def _selects(selector: Object, labels: Object) -> bool:
    return selector.items() <= labels.items()


def _labels(template: Object) -> Object:
    return dict(template.get("metadata", {}).get("labels", {}))


def selectors_find_pods(objects: list[Object]) -> list[str]:
    """Deployments their own; Services, those that KubeRay makes among them, budgets and PodMonitors at least one."""
    found = []
    for item in of_kind(objects, "Deployment"):
        selector = item["spec"]["selector"]["matchLabels"]
        if not _selects(selector, _labels(item["spec"]["template"])):
            found.append(f"{label(item)}: its selector does not match its own pods")
    for item in [*services(objects), *of_kind(objects, "PodDisruptionBudget", "PodMonitor")]:
        selector = item["spec"]["selector"]
        selector = selector.get("matchLabels", selector)
        if not any(_selects(selector, _labels(template)) for _, template in _pods(objects)):
            found.append(f"{label(item)}: selects no pod")
    return found


def ports_have_short_unique_names(objects: list[Object]) -> list[str]:
    """At most 15 characters, each once in its container or Service; a longer one is refused at the pod's creation."""
    found = []
    named = [(name, container.get("ports", [])) for name, _, container in every_container(objects)]
    named += [(label(item), item["spec"]["ports"]) for item in of_kind(objects, "Service")]
    for name, ports in named:
        names = [port.get("name", "") for port in ports]
        found += [f"{name}: port name {port!r} has more than 15 characters" for port in names if len(port) > 15]
        found += [f"{name}: port name {port!r} is there twice" for port in set(names) if names.count(port) > 1]
    return found


def services_reach_open_ports(objects: list[Object]) -> list[str]:
    """A Service's target port is one that a container of the pods behind it opens."""
    found = []
    for item in services(objects):
        behind = [template for _, template in _pods(objects) if _selects(item["spec"]["selector"], _labels(template))]
        for port in item["spec"]["ports"]:
            target = port.get("targetPort", port["port"])
            found += [
                f"{label(item)}: nothing opens the target port {target}"
                for template in behind
                if not any(_opens(container, target) for container in containers(template))
            ]
    return found


def probes_ask_open_ports(objects: list[Object]) -> list[str]:
    """A probe's port is one of its container's."""
    found = []
    for name, _, container in every_container(objects):
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            for way in ("grpc", "httpGet", "tcpSocket"):
                port = container.get(probe, {}).get(way, {}).get("port")
                if port is not None and not _opens(container, port):
                    found.append(f"{name}: {probe} asks port {port}, which it does not open")
    return found


def _opens(container: Object, target: str | int) -> bool:
    return any(target in (port.get("name"), port["containerPort"]) for port in container.get("ports", []))


def mounts_have_volumes(objects: list[Object]) -> list[str]:
    """Each mount a volume, each volume a mount, no two mounts at one path."""
    found = []
    for name, template in (pair for item in objects for pair in pod_templates(item)):
        volumes = {volume["name"] for volume in template["spec"].get("volumes", [])}
        mounted = set()
        for container in containers(template):
            mounts = container.get("volumeMounts", [])
            mounted |= {mount["name"] for mount in mounts}
            paths = [mount["mountPath"] for mount in mounts]
            found += [f"{name}: two mounts at {path}" for path in set(paths) if paths.count(path) > 1]
        found += [f"{name}: no volume {volume}" for volume in mounted - volumes]
        found += [f"{name}: nothing mounts {volume}" for volume in volumes - mounted]
    return found


def named_objects_exist(objects: list[Object]) -> list[str]:
    """Claims, ConfigMaps, Secrets, ServiceAccounts and scale targets that pods and objects name."""
    known = {label(item) for item in objects}
    known |= {f"Secret/{item['spec']['secretName']}" for item in of_kind(objects, "Certificate")}
    known |= FOREIGN
    wanted: list[tuple[str, str]] = []
    for name, template in (pair for item in objects for pair in pod_templates(item)):
        wanted += [(name, reference) for reference in _references(template)]
    for item in of_kind(objects, "HorizontalPodAutoscaler", "ScaledObject"):
        target = item["spec"]["scaleTargetRef"]
        wanted.append((label(item), f"{target['kind']}/{target['name']}"))
    for item in of_kind(objects, "Ingress"):
        for rule in item["spec"]["rules"]:
            wanted += [(label(item), f"Service/{path['backend']['service']['name']}") for path in rule["http"]["paths"]]
    wanted += [(label(item), f"Service/{backend['name']}") for item, backend in _route_backends(objects)]
    for item in of_kind(objects, "BackendTLSPolicy"):
        ends = [*item["spec"]["targetRefs"], *item["spec"]["validation"]["caCertificateRefs"]]
        wanted += [(label(item), f"{end['kind']}/{end['name']}") for end in ends]
    for item in of_kind(objects, "RoleBinding"):
        wanted += [(label(item), f"{end['kind']}/{end['name']}") for end in (item["roleRef"], *item["subjects"])]
    return [f"{name}: there is no {reference}" for name, reference in wanted if reference not in known]


def _route_backends(objects: list[Object]) -> Iterator[tuple[Object, Object]]:
    for item in of_kind(objects, "HTTPRoute", "GRPCRoute"):
        for rule in item["spec"]["rules"]:
            yield from ((item, backend) for backend in rule["backendRefs"])


def routes_reach_ports_of_services(objects: list[Object]) -> list[str]:
    """A route's backend is a Service's port, and no host name is two routes'."""
    found = []
    ports = {
        (item["metadata"]["name"], port["port"])
        for item in of_kind(objects, "Service")
        for port in item["spec"]["ports"]
    }
    for item, backend in _route_backends(objects):
        if (backend["name"], backend["port"]) not in ports:
            found.append(f"{label(item)}: no Service {backend['name']} has a port {backend['port']}")
    names = [name for item in of_kind(objects, "HTTPRoute", "GRPCRoute") for name in item["spec"]["hostnames"]]
    return found + [f"host name {name} is of several routes" for name in set(names) if names.count(name) > 1]


def gateways_speak_as_their_backends_do(objects: list[Object]) -> list[str]:
    """Where the servers have TLS, so has the Gateway's way to each of them, by a name of their certificate."""
    names = {name for item in of_kind(objects, "Certificate") for name in item["spec"].get("dnsNames", [])}
    policies = of_kind(objects, "BackendTLSPolicy")
    covered = {end["name"] for item in policies for end in item["spec"]["targetRefs"]}
    asked = [(label(item), item["spec"]["validation"]["hostname"]) for item in policies]
    found = [f"{name}: no certificate has the name {host}" for name, host in asked if host not in names]
    routes = of_kind(objects, "GRPCRoute") if policies else []
    backends = {end["name"] for item in routes for rule in item["spec"]["rules"] for end in rule["backendRefs"]}
    return found + [f"Service/{name}: the Gateway speaks plaintext with it" for name in sorted(backends - covered)]


def _references(template: Object) -> Iterator[str]:
    if account := template["spec"].get("serviceAccountName"):
        yield f"ServiceAccount/{account}"
    for volume in template["spec"].get("volumes", []):
        if "persistentVolumeClaim" in volume:
            yield f"PersistentVolumeClaim/{volume['persistentVolumeClaim']['claimName']}"
        if "configMap" in volume:
            yield f"ConfigMap/{volume['configMap']['name']}"
        if "secret" in volume and not volume["secret"].get("optional"):
            yield f"Secret/{volume['secret']['secretName']}"
    for container in containers(template):
        for source in container.get("envFrom", []):
            if "secretRef" in source:
                yield f"Secret/{source['secretRef']['name']}"
        for variable in container.get("env", []):
            source = variable.get("valueFrom", {}).get("secretKeyRef", {"optional": True})
            if not source.get("optional"):
                yield f"Secret/{source['name']}"


def monitors_scrape_named_ports(objects: list[Object]) -> list[str]:
    """A ServiceMonitor's endpoint is a port of a Service that it selects, a PodMonitor's one of the pods'."""
    found = []
    for item in of_kind(objects, "ServiceMonitor"):
        selector = item["spec"]["selector"]["matchLabels"]
        chosen = [
            service
            for service in of_kind(objects, "Service")
            if _selects(selector, service["metadata"].get("labels", {}))
        ]
        ports = {port["name"] for service in chosen for port in service["spec"]["ports"]}
        found += [f"{label(item)}: no port {e['port']}" for e in item["spec"]["endpoints"] if e["port"] not in ports]
    for item in of_kind(objects, "PodMonitor"):
        selector = item["spec"]["selector"]["matchLabels"]
        for endpoint in item["spec"]["podMetricsEndpoints"]:
            behind = [
                container
                for _, template in _pods(objects)
                if _selects(selector, _labels(template))
                for container in containers(template)
            ]
            if not any(_opens(container, endpoint["port"]) for container in behind):
                found.append(f"{label(item)}: no port {endpoint['port']}")
    return found


def monitors_are_looked_at(objects: list[Object]) -> list[str]:
    """kube-prometheus-stack's Prometheus selects the objects that have its Helm release's name as a label."""
    return [
        f"{label(item)}: no label release: kube-prometheus-stack"
        for item in of_kind(objects, "ServiceMonitor", "PodMonitor", "PrometheusRule")
        if item["metadata"].get("labels", {}).get("release") != "kube-prometheus-stack"
    ]


def variables_are_set_before_their_use(objects: list[Object]) -> list[str]:
    """$(NAME) stands for a variable of the same list, further up; what envFrom brings is not replaced."""
    found = []
    for name, _, container in every_container(objects):
        known: set[str] = set()
        for variable in container.get("env", []):
            used = set(re.findall(r"\$\((\w+)\)", variable.get("value", "")))
            found += [f"{name}: {variable['name']} uses $({other})" for other in used - known]
            known.add(variable["name"])
        words = " ".join([*container.get("command", []), *container.get("args", [])])
        used = set(re.findall(r"(?<!\$)\$\(([A-Z_]+)\)", words))
        found += [f"{name}: its command uses $({other})" for other in used - known]
    return found


RULES = (
    variables_are_set_before_their_use,
    selectors_find_pods,
    ports_have_short_unique_names,
    services_reach_open_ports,
    probes_ask_open_ports,
    mounts_have_volumes,
    named_objects_exist,
    monitors_scrape_named_ports,
    monitors_are_looked_at,
    routes_reach_ports_of_services,
    gateways_speak_as_their_backends_do,
)

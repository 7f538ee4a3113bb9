"""Rules for the Job that gives a new version its calls step by step."""

from collections.abc import Iterator

from tests.k8s.manifests import Object, label, of_kind

KINDS = {"grpcroutes": "GRPCRoute", "httproutes": "HTTPRoute"}


def _routes(objects: list[Object]) -> Iterator[tuple[Object, str, str]]:
    """(CronJob, plural of the kind, name) for each route that a canary is told to move."""
    for item in of_kind(objects, "CronJob"):
        for container in item["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]:
            for word in container.get("args", []):
                if word.startswith("--route="):
                    plural, _, name = word.removeprefix("--route=").partition("/")
                    yield item, plural, name


def a_canary_moves_routes_that_are_there(objects: list[Object]) -> list[str]:
    """Each has a backend whose name ends in -canary, which begins with no calls; and the Job's role lets it."""
    found = []
    for job, plural, name in _routes(objects):
        routes = [r for r in of_kind(objects, KINDS.get(plural, "")) if r["metadata"]["name"] == name]
        backends = [backend for route in routes for rule in route["spec"]["rules"] for backend in rule["backendRefs"]]
        weights = [backend.get("weight", 1) for backend in backends if backend["name"].endswith("-canary")]
        if not weights:
            found.append(f"{label(job)}: no {plural}/{name} with a backend that ends in -canary")
        elif any(weights):
            found.append(f"{label(job)}: {plural}/{name} gives the canary calls before it was looked at")
        rules = [rule for role in of_kind(objects, "Role") for rule in role["rules"]]
        if not any(plural in r["resources"] and name in r["resourceNames"] and "patch" in r["verbs"] for r in rules):
            found.append(f"{label(job)}: no role lets it patch {plural}/{name}")
    return found


def a_canary_is_tried_once(objects: list[Object]) -> list[str]:
    """A version that was found worse is not tried again by itself, and no two Jobs move the same weights."""
    return [
        f"{label(item)}: backoffLimit must be 0, concurrencyPolicy Forbid"
        for item in of_kind(objects, "CronJob")
        if item["spec"]["jobTemplate"]["spec"].get("backoffLimit") != 0
        or item["spec"].get("concurrencyPolicy") != "Forbid"
    ]


def a_canary_serves_another_version(objects: list[Object]) -> list[str]:
    """Its servers take the newest version, by a models.config of their own, or another image of a version."""
    by_name = {item["metadata"]["name"]: item for item in of_kind(objects, "Deployment")}
    return [
        f"{label(item)}: serves what {name.removesuffix('-canary')} serves"
        for name, item in by_name.items()
        if name.endswith("-canary") and _served(item) == _served(by_name[name.removesuffix("-canary")])
    ]


def _served(deployment: Object) -> list[str]:
    volumes = deployment["spec"]["template"]["spec"]["volumes"]
    images = [volume["image"]["reference"] for volume in volumes if "image" in volume]
    return images or [volume["configMap"]["name"] for volume in volumes if volume["name"] == "models"]


RULES = (a_canary_moves_routes_that_are_there, a_canary_is_tried_once, a_canary_serves_another_version)

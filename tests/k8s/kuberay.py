"""What KubeRay 1.7 makes of a RayJob, as far as manifests, policies and people refer to it.

The labels are those of ray-operator/controllers/ray/common/pod.go, the Services those of service.go and job.go there.
"""

from collections.abc import Iterator
from typing import Any

Object = dict[str, Any]

APP_NAME = "app.kubernetes.io/name"
SUFFIX = "abcde"  # in place of the five letters that KubeRay draws for each cluster
METRICS = {"metrics": 8080}  # opened whether the template says so or not


def cluster_name(job_name: str) -> str:
    """The name of the RayCluster of a RayJob's first try."""
    return f"{job_name}-{SUFFIX}"


def own_labels(job_name: str, node_type: str) -> dict[str, str]:
    """The labels that KubeRay gives a Ray pod, where its template has no other ones; it selects heads by them."""
    return {
        "ray.io/cluster": cluster_name(job_name),
        "ray.io/node-type": node_type,
        "ray.io/identifier": f"{cluster_name(job_name)}-{node_type}",
        APP_NAME: "kuberay",
        "app.kubernetes.io/created-by": "kuberay-operator",
    }


def labelled(job_name: str, node_type: str, template: Object) -> Object:
    """A Ray pod's template with the labels that its pods have."""
    labels = own_labels(job_name, node_type) | {"ray.io/is-ray-node": "yes"} | _labels(template)
    return {**template, "metadata": {**template.get("metadata", {}), "labels": labels}}


def _labels(template: Object) -> Object:
    return dict(template.get("metadata", {}).get("labels", {}))


def made_of(job: Object) -> Iterator[Object]:
    """The Services, the submitter's Job and the token's Secret of a RayJob."""
    name, cluster = job["metadata"]["name"], cluster_name(job["metadata"]["name"])
    head = job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]
    selector = own_labels(name, "head")
    # The cluster's Service heeds the name that the template gives its pods, the job's does not.
    heeded = selector | {key: value for key, value in _labels(head).items() if key == APP_NAME}
    ports = METRICS | {port["name"]: port["containerPort"] for port in head["spec"]["containers"][0].get("ports", [])}
    listed = [{"name": key, "port": port} for key, port in ports.items()]
    labels = {"ray.io/originated-from-cr-name": name, "ray.io/node-type": "head"}
    yield _object(job, "Service", f"{cluster}-head-svc", heeded, spec={"selector": heeded, "ports": listed})
    yield _object(job, "Service", f"{name}-head-svc", labels, spec={"selector": selector, "ports": listed})
    yield _object(job, "Job", name, {}, spec={"template": job["spec"]["submitterPodTemplate"]})
    yield _object(job, "Secret", cluster, {}, data={"auth_token": "c2VjcmV0"})


def _object(job: Object, kind: str, name: str, labels: Object, **content: Object) -> Object:
    metadata = {"name": name, "namespace": job["metadata"].get("namespace", "inkling"), "labels": labels}
    return {"apiVersion": "v1", "kind": kind, "metadata": metadata, **content}

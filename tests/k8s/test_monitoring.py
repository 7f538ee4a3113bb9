"""Dashboards and alerts ask for metrics that somebody really exposes, in words that Prometheus understands."""

import json
import re
import shutil
import subprocess
import urllib.request
from pathlib import Path

import grpc
import pytest
import ray
import tensorflow as tf
import yaml
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from tests.k8s import manifests
from tests.patience import PATIENCE_S, wait_until
from tests.server_process import ServerProcess

pytestmark = pytest.mark.process

DASHBOARDS = sorted((manifests.K8S / "components/monitoring/dashboards").glob("*.json"))
RULES = sorted((manifests.K8S / "components/monitoring").glob("prometheusrule-*.yaml"))
ALERT_TESTS = Path(__file__).parent / "alerts_test.yaml"
# tensorflow/serving: tensorflow_serving/servables/tensorflow/util.cc, batching/batching_session.cc, model_servers/
TENSORFLOW_SERVING = {
    "request_count", "request_latency", "runtime_latency", "request_log_count", "model_warmup_latency",
    "model_warmup_records_read", "batching_session:queuing_latency", "batching_session:wrapped_run_count",
}  # fmt: skip
# kuberay/ray-operator: controllers/ray/metrics/ray_job_metrics.go
KUBERAY = {
    "kuberay_job_deployment_status": {"name", "namespace", "deployment_status"},
    "kuberay_job_execution_duration_seconds": {"name", "namespace", "job_deployment_status", "retry_count"},
}
# kube-state-metrics: docs/metrics/workload/pod-metrics.md
KUBE_STATE = {
    "kube_pod_start_time": {"namespace", "pod"},
    "kube_pod_init_container_info": {"namespace", "pod", "container"},
}
# Words of PromQL that are neither a function, which has its parentheses, nor a metric.
WORDS = {"and", "or", "unless", "bool", "offset", "group_left", "group_right"}
# What Prometheus adds to each series, by the monitors and their relabelling.
ADDED = {"namespace", "job", "pod", "instance", "ray_io_cluster", "le"}
# Labels of Ray's series: ray/dashboard/modules/reporter/reporter_agent.py, train/v2/_internal/metrics/
RAY_LABELS = {"GpuIndex", "Location", "ray_train_run_name", "ray_train_controller_state"}


def _expressions(path: Path) -> list[str]:
    if path.suffix == ".json":
        dashboard = json.loads(path.read_text())
        found = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
        # A variable's values, as the aggregation that they are.
        asked = [v["query"]["query"] for v in dashboard["templating"]["list"] if v["type"] == "query"]
        found += [re.sub(r"^label_values\((.*), (\w+)\)$", r"count by (\2) (\1)", query) for query in asked]
        # As Grafana fills them in.
        return [e.replace("$__rate_interval", "1m").replace("$namespace", "inkling") for e in found]
    groups = yaml.safe_load(path.read_text())["spec"]["groups"]
    return [rule["expr"] for group in groups for rule in group["rules"]]


def _selectors(expression: str) -> set[tuple[str, str]]:
    """(metric, label) for each label that a selector names or an aggregation keeps; every metric has a namespace."""
    text = re.sub(r'"(?:[^"\\]|\\.)*"', '""', expression)  # a value may look like anything
    kept = {label.strip() for by in re.findall(r"by \((.*?)\)", text) for label in by.split(",")}
    text = re.sub(r"\b(?:by|on|without|ignoring|group_left|group_right)\s*\(.*?\)|\[.*?\]", "", text)
    found = set()
    for metric, inside in re.findall(r"(?<![\w:])([a-zA-Z_:][\w:]*)\b(?!\s*\()(\{[^}]*\})?", text):
        if metric not in WORDS:
            named = re.findall(r"(\w+)\s*(?:=~|!~|=|!=)", inside)
            found |= {(metric, label) for label in {*named, *kept, "namespace"}}
    return found


def test_every_metric_of_an_expression_is_found():
    expression = 'sum by (a) (rate(x:y{b=~"c|d(", e="{"}[5m])) / on (f) group_left z > bool 1 and time() - w{g!="h"}'
    assert {metric for metric, _ in _selectors(expression)} == {"x:y", "z", "w"}
    assert {label for metric, label in _selectors(expression) if metric == "x:y"} == {"a", "b", "e", "namespace"}


@pytest.fixture(scope="module")
def scrape(tmp_path_factory) -> dict[str, set[str]]:
    """metric -> its labels, as `python -m serving` shows them after some calls."""
    folder = tmp_path_factory.mktemp("monitoring")
    doubler = tf.Module()
    doubler.double = tf.function(
        lambda x: {"y": 2 * x, "classes": tf.cast(x, tf.int64)},
        input_signature=[tf.TensorSpec([None], tf.float32, name="x")],
    )
    tf.saved_model.save(doubler, str(folder / "doubler/1"), signatures=doubler.double)
    _write_warmup(folder / "doubler/1")
    class_counts = {"edges": [0.5], "counts": [1, 99], "ordered": True}
    card = {"reference": {"features": {"class": class_counts}}}
    (folder / "doubler/1/model_card.json").write_text(json.dumps(card))
    for name in ("batching", "monitoring"):
        shutil.copy(manifests.K8S / f"base/serving/{name}.config", folder)
    flags = [
        "--model_name=doubler",
        f"--model_base_path={folder}/doubler",
        "--enable_batching",
        f"--batching_parameters_file={folder}/batching.config",
        f"--monitoring_config_file={folder}/monitoring.config",
    ]
    with ServerProcess(*flags) as server, grpc.insecure_channel(server.address) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        path = yaml.safe_load((manifests.K8S / "components/monitoring/servicemonitor.yaml").read_text())
        url = server.rest_url + path["spec"]["endpoints"][0]["path"]
        text = ""

        def is_complete() -> bool:
            nonlocal text
            stub.Predict(_request(num_rows=64), timeout=PATIENCE_S)
            text = urllib.request.urlopen(url, timeout=PATIENCE_S).read().decode()
            return "inkling_serving_drift_kolmogorov_smirnov{" in text  # there are enough examples

        wait_until(is_complete)
    found: dict[str, set[str]] = {}
    for line in text.splitlines():
        if match := re.match(r"([a-zA-Z_:][\w:]*)(?:\{(.*)\})? ", line):
            found.setdefault(match[1], set()).update(re.findall(r'(\w+)="', match[2] or ""))
    return found


def _request(num_rows: int = 1) -> predict_pb2.PredictRequest:
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "doubler"
    request.inputs["x"].CopyFrom(tf.make_tensor_proto([1.0] * num_rows))
    return request


def _write_warmup(version: Path) -> None:
    from tensorflow_serving.apis import prediction_log_pb2

    log = prediction_log_pb2.PredictionLog(predict_log=prediction_log_pb2.PredictLog(request=_request()))
    (version / "assets.extra").mkdir()
    with tf.io.TFRecordWriter(str(version / "assets.extra/tf_serving_warmup_requests")) as writer:
        writer.write(log.SerializeToString())


def _ray_names() -> str:
    folder = Path(ray.__file__).parent
    sources = [*(folder / "dashboard/modules").rglob("*.py"), *(folder / "train/v2").rglob("*.py")]
    return "\n".join(path.read_text() for path in sources)


@pytest.mark.parametrize("path", [*DASHBOARDS, *RULES], ids=lambda path: path.name)
def test_every_metric_and_label_is_one_that_is_exposed(path, scrape):
    ray_names = _ray_names()
    for metric, label in {pair for expression in _expressions(path) for pair in _selectors(expression)}:
        if metric.startswith((":tensorflow:serving:", "inkling_serving_")):
            assert metric in scrape, metric
            assert label in scrape[metric] | ADDED, f"{metric} has no label {label}"
        elif metric.startswith("ray_"):
            assert f'"{metric.removeprefix("ray_")}"' in ray_names or metric in ray_names, metric
            assert label in ADDED | RAY_LABELS, f"{metric} has no label {label}"
        elif metric.startswith("kuberay_"):
            assert label in KUBERAY[metric], f"{metric} has no label {label}"
        elif metric.startswith("kube_"):
            assert label in KUBE_STATE[metric], f"{metric} has no label {label}"
        else:
            assert (metric, label in ADDED) == ("up", True)
        if metric.startswith(":tensorflow:serving:"):
            name = metric.removeprefix(":tensorflow:serving:")
            assert {name, re.sub("_(bucket|sum|count)$", "", name)} & TENSORFLOW_SERVING, metric


def _promtool() -> str:
    path = shutil.which("promtool")
    if path is None:
        pytest.skip("promtool is not installed; Debian's package prometheus brings it")
    return path


def _check_rules(groups: object, folder: Path) -> None:
    (folder / "rules.yaml").write_text(yaml.safe_dump({"groups": groups}))
    done = subprocess.run([_promtool(), "check", "rules", str(folder / "rules.yaml")], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", RULES, ids=lambda path: path.name)
def test_promtool_accepts_the_alerts(path, tmp_path):
    _check_rules(yaml.safe_load(path.read_text())["spec"]["groups"], tmp_path)


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.name)
def test_promtool_understands_the_panels(path, tmp_path):
    """Each expression as a recording rule, which promtool checks and a panel is not."""
    rules = [{"record": f"panel:{index}", "expr": e} for index, e in enumerate(_expressions(path))]
    _check_rules([{"name": "panels", "rules": rules}], tmp_path)


def test_the_alerts_fire_and_the_series_are_recorded_as_they_should(tmp_path):
    groups = [group for path in RULES for group in yaml.safe_load(path.read_text())["spec"]["groups"]]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": groups}))
    shutil.copy(ALERT_TESTS, tmp_path)
    command = [_promtool(), "test", "rules", ALERT_TESTS.name]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_a_scenario_in_which_it_fires():
    alerts = {
        rule["alert"]
        for path in RULES
        for group in yaml.safe_load(path.read_text())["spec"]["groups"]
        for rule in group["rules"]
        if "alert" in rule
    }
    scenarios = yaml.safe_load(ALERT_TESTS.read_text())["tests"]
    fired = {
        test["alertname"]
        for scenario in scenarios
        for test in scenario.get("alert_rule_test", [])
        if test.get("exp_alerts")
    }
    assert fired == alerts


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.name)
def test_a_dashboard_has_panels_that_do_not_overlap(path):
    dashboard = json.loads(path.read_text())
    taken = set()
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not taken & cells, panel["title"]
        assert place["x"] + place["w"] <= 24, panel["title"]
        taken |= cells
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])


def test_the_adapter_hands_on_what_the_autoscaler_asks_for(tmp_path):
    objects = manifests.with_component(tmp_path, "cpu", "queue-time")
    autoscaler = manifests.find(objects, "HorizontalPodAutoscaler", "serving")
    asked = [metric["pods"]["metric"]["name"] for metric in autoscaler["spec"]["metrics"] if metric["type"] == "Pods"]
    values = yaml.safe_load((manifests.K8S / "components/queue-time/prometheus-adapter.yaml").read_text())
    assert [rule["seriesQuery"].partition("{")[0] for rule in values["rules"]["custom"]] == asked

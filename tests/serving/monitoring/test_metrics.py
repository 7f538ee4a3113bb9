"""The metrics page has TensorFlow Serving's names, labels and layout, and ours by version and signature."""

import re
import urllib.request

import grpc
import numpy as np
import pytest
from tensorflow_serving.apis import prediction_service_pb2_grpc

from inkling.serving.monitoring.exposition import Counter, Gauge, Histogram, exponential_bounds
from inkling.serving.monitoring.metrics import MAX_UNKNOWN_NAMES, OTHER, REMEMBERED_PATHS, REMEMBERED_VERSIONS, Metrics
from tests.patience import PATIENCE_S
from tests.server_process import ServerProcess
from tests.serving.conftest import predict_request

TENSORFLOW_FAMILIES = {
    ":tensorflow:serving:request_count": "counter",
    ":tensorflow:serving:request_latency": "histogram",
    ":tensorflow:serving:runtime_latency": "histogram",
    ":tensorflow:serving:request_example_counts": "histogram",
    ":tensorflow:serving:request_example_count_total": "counter",
    ":tensorflow:serving:request_log_count": "counter",
    ":tensorflow:serving:model_warmup_latency": "histogram",
    ":tensorflow:serving:model_warmup_records_read": "counter",
    ":tensorflow:serving:batching_session:queuing_latency": "histogram",
    ":tensorflow:serving:batching_session:wrapped_run_count": "counter",
    ":tensorflow:serving:batching_session:input_batch_size": "counter",
    ":tensorflow:serving:batching_session:processed_batch_size": "counter",
    ":tensorflow:serving:batching_session:padding_size": "counter",
    ":tensorflow:serving:mlmd_map": "gauge",
}
OK = grpc.StatusCode.OK


def page(metrics):
    return metrics.exposition().decode()


def samples(metrics):
    """The value of each series by its name and label values."""
    return samples_of(page(metrics))


def samples_of(text):
    lines = re.findall(r"^([a-zA-Z:_]+)(?:\{(.*)\})? (\S+)$", text, re.MULTILINE)
    return {(name, *re.findall(r'="([^"]*)"', labels)): float(value) for name, labels, value in lines}


def test_all_families_of_tensorflow_serving_are_there_before_anything_happens():
    text = page(Metrics())
    for name, kind in TENSORFLOW_FAMILIES.items():
        assert f"# TYPE {name} {kind}\n" in text
        assert f"# HELP {name}" not in text


def test_requests_are_counted_by_status_and_only_good_ones_are_timed():
    metrics = Metrics()
    for code in (OK, OK, grpc.StatusCode.NOT_FOUND):
        metrics.request_finished(model_name="m", api="Predict", entrypoint="GRPC", code=code, latency_s=0.000_02)
    text = page(metrics)
    assert ':tensorflow:serving:request_count{model_name="m",status="OK"} 2\n' in text
    assert ':tensorflow:serving:request_count{model_name="m",status="NOT_FOUND"} 1\n' in text
    series = ':tensorflow:serving:request_latency_bucket{model_name="m",API="Predict",entrypoint="GRPC",le='
    assert f'{series}"18"}} 0\n' in text and f'{series}"32.4"}} 2\n' in text and f'{series}"+Inf"}} 2\n' in text
    assert ':tensorflow:serving:request_latency_sum{model_name="m",API="Predict",entrypoint="GRPC"} 40\n' in text
    assert ':tensorflow:serving:request_latency_count{model_name="m",API="Predict",entrypoint="GRPC"} 2\n' in text


def test_a_status_request_over_rest_is_counted_and_not_timed():
    metrics = Metrics()
    metrics.request_finished(model_name="m", api="", entrypoint="REST", code=OK, latency_s=1)
    assert 'request_count{model_name="m",status="OK"} 1' in page(metrics)
    assert "request_latency_count" not in page(metrics)


def test_an_event_of_every_kind_shows():
    metrics = Metrics()
    of = {"model_name": "m", "version": 3, "signature_name": "s"}
    metrics.model_loaded(model_name="m", version=3, load_s=2.5)
    metrics.signature_finished(**of, code=OK, latency_s=0.02)
    metrics.runtime_finished(**of, api="Predict", latency_s=0.01)
    metrics.examples(model_name="m", num_examples=5)
    metrics.batch_executed(**of, num_rows=5, num_padded_rows=8, queue_s=[0.001, 0.002], run_s=0.004)
    metrics.queue_depth(**of, num_requests=7)
    metrics.warmup_finished(model_path="/m/3", code=OK, latency_s=0.1, num_records=9)
    metrics.request_logged(model_name="m", code=OK)
    found = samples(metrics)
    assert found[":tensorflow:serving:runtime_latency_count", "m", "Predict", "TF1"] == 1
    assert found[":tensorflow:serving:request_example_count_total", "m"] == 5
    assert found[":tensorflow:serving:batching_session:input_batch_size",] == 5
    assert found[":tensorflow:serving:batching_session:processed_batch_size",] == 8
    assert found[":tensorflow:serving:batching_session:padding_size", "8"] == 3
    assert found[":tensorflow:serving:batching_session:queuing_latency_count", ""] == 2
    assert found[":tensorflow:serving:model_warmup_records_read", "/m/3"] == 9
    assert found[":tensorflow:serving:request_log_count", "m", "OK"] == 1
    assert found["inkling_serving_requests_total", "m", "3", "s", "OK"] == 1
    assert found["inkling_serving_batch_size_sum", "m", "3", "s"] == 5
    assert found["inkling_serving_queue_depth", "m", "3", "s"] == 7
    assert found["inkling_serving_model_load_seconds", "m", "3"] == 2.5
    assert found["process_resident_memory_bytes",] > 0
    assert any(key[0] == "inkling_serving_build_info" for key in found)


def test_names_of_models_that_do_not_exist_cannot_fill_the_memory():
    metrics = Metrics()
    code = grpc.StatusCode.NOT_FOUND
    for number in range(MAX_UNKNOWN_NAMES + 50):
        metrics.request_finished(model_name=f"m{number}", api="Predict", entrypoint="REST", code=code, latency_s=0)
    metrics.model_loaded(model_name="real", version=1, load_s=1)
    metrics.request_finished(model_name="real", api="Predict", entrypoint="REST", code=OK, latency_s=0)
    found = samples(metrics)
    assert found[":tensorflow:serving:request_count", OTHER, "NOT_FOUND"] == 50
    assert found[":tensorflow:serving:request_count", "real", "OK"] == 1


def test_a_very_long_name_of_no_model_is_not_kept():
    metrics = Metrics()
    code = grpc.StatusCode.NOT_FOUND
    metrics.request_finished(model_name="m" * 10**6, api="Predict", entrypoint="GRPC", code=code, latency_s=0)
    assert samples(metrics)[":tensorflow:serving:request_count", OTHER, "NOT_FOUND"] == 1


def test_versions_long_gone_leave_the_page():
    metrics = Metrics()
    for version in range(1, REMEMBERED_VERSIONS + 3):
        metrics.model_loaded(model_name="m", version=version, load_s=1)
        metrics.signature_finished(model_name="m", version=version, signature_name="s", code=OK, latency_s=0.1)
        metrics.model_unloaded(model_name="m", version=version)
    found = samples(metrics)
    assert ("inkling_serving_requests_total", "m", "1", "s", "OK") not in found
    assert ("inkling_serving_requests_total", "m", "2", "s", "OK") not in found
    assert ("inkling_serving_requests_total", "m", "3", "s", "OK") in found
    assert not any(key[0] == "inkling_serving_model_available" for key in found)


def test_warm_ups_long_ago_leave_the_page():
    metrics = Metrics()
    for version in range(REMEMBERED_PATHS + 1):
        metrics.warmup_finished(model_path=f"/m/{version}", code=OK, latency_s=0.1, num_records=1)
    found = samples(metrics)
    assert (":tensorflow:serving:model_warmup_latency_count", "/m/0", "OK") not in found
    assert found[":tensorflow:serving:model_warmup_latency_count", "/m/1", "OK"] == 1


def test_the_text_format_is_the_real_exporters():
    counter = Counter(":test:total", ("name",))
    counter.add(('"abc\\"',), 2)
    assert list(counter.lines()) == ["# TYPE :test:total counter", ':test:total{name="\\"abc\\\\\\""} 2']
    gauge = Gauge("g", ("x", "y"), "Says what.")
    gauge.set(("abc", "def"), 5.5)
    assert list(gauge.lines()) == ["# HELP g Says what.", "# TYPE g gauge", 'g{x="abc",y="def"} 5.5']


def test_a_histogram_counts_what_is_below_each_bound():
    histogram = Histogram(":h", ("status",), exponential_bounds(1, 2, 10))
    for value in (2, 20, 200):
        histogram.observe(("good",), value)
    lines = list(histogram.lines())
    assert lines[0] == "# TYPE :h histogram"
    assert lines[1:4] == [
        f':h_bucket{{status="good",le="{limit}"}} {count}' for limit, count in ((1, 0), (2, 0), (4, 1))
    ]
    assert lines[-3:] == [
        ':h_bucket{status="good",le="+Inf"} 3',
        ':h_sum{status="good"} 222',
        ':h_count{status="good"} 3',
    ]


@pytest.mark.parametrize(("bound", "text"), [(0, "10"), (5, "188.957"), (8, "1102"), (32, "1.47476e+09")])
def test_bounds_are_those_of_the_real_server(bound, text):
    assert f"{exponential_bounds(10, 1.8, 33)[bound]:g}" == text


@pytest.fixture(scope="module")
def watched(repository, tmp_path_factory):
    """A server with a queue of four and a page of metrics; gives a stub and what reads the page's series."""
    file = tmp_path_factory.mktemp("watched") / "monitoring"
    file.write_text('prometheus_config { enable: true path: "/metrics" }')
    flags = ["--model_name=several", f"--model_base_path={repository / 'several'}", "--max_queued_requests=4"]
    with (
        ServerProcess(*flags, f"--monitoring_config_file={file}") as server,
        grpc.insecure_channel(server.address) as channel,
    ):

        def read():
            with urllib.request.urlopen(server.rest_url + "/metrics", timeout=PATIENCE_S) as page:
                return samples_of(page.read().decode())

        yield prediction_service_pb2_grpc.PredictionServiceStub(channel), read


@pytest.mark.process
def test_every_refusal_of_a_full_queue_is_counted(watched):
    stub, read = watched
    request = predict_request("several", {"rounds": np.array([50], np.int32)}, signature="slow")
    codes = [future.code() for future in [stub.Predict.future(request, timeout=PATIENCE_S) for _ in range(300)]]
    assert codes.count(grpc.StatusCode.UNAVAILABLE) > 100
    counted = read()
    for code in (OK, grpc.StatusCode.UNAVAILABLE):
        assert counted["inkling_serving_requests_total", "several", "1", "slow", code.name] == codes.count(code)


@pytest.mark.process
def test_examples_that_a_request_only_claims_are_not_counted(watched):
    stub, read = watched
    request = predict_request("several", {"x": np.ones((3, 2), np.float32)})
    stub.Predict(request, timeout=PATIENCE_S)
    series = (":tensorflow:serving:request_example_count_total", "several")
    before = read()[series]
    request.inputs["x"].tensor_shape.dim[0].size = 2**62
    with pytest.raises(grpc.RpcError):
        stub.Predict(request, timeout=PATIENCE_S)
    request.inputs["x"].tensor_shape.dim[0].size = 3
    stub.Predict(request, timeout=PATIENCE_S)
    assert read()[series] == before + 3


def test_a_look_at_a_base_path_ages_until_the_next_one():
    metrics = Metrics()

    def age():
        found = re.search(rb'inkling_serving_base_path_look_age_seconds\{model_name="m"\} (\S+)', metrics.exposition())
        return float(found[1]) if found else None

    assert age() is None
    metrics.look_finished(model_name="m")
    first, second = age(), age()
    assert first is not None and 0 <= first <= second
    metrics.model_removed(model_name="m")
    assert age() is None

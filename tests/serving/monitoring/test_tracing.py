"""Traces from a client's call to the run, as a collector gets them from real processes."""

import asyncio
import json
import logging
import os
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from pathlib import Path

import grpc
import numpy as np
import pytest

from inkling.serving.monitoring import trace_export, tracing
from tests.patience import wait_until
from tests.ports import free_port
from tests.server_process import ServerProcess
from tests.serving.conftest import predict_request

pytest.importorskip("opentelemetry.exporter.otlp.proto.grpc", reason="needs the extra otel")

from tests.otlp import Collector

ROOT = Path(__file__).parents[3]
PREDICT = "/tensorflow.serving.PredictionService/Predict"
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED, NOT_SAMPLED = f"00-{TRACE}-{PARENT}-01", f"00-{TRACE}-{PARENT}-00"
PATHS = {"PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)])}


@pytest.fixture(scope="module")
def collector():
    with Collector() as found:
        yield found


@pytest.fixture(scope="module")
def traced_server(repository, collector, tmp_path_factory):
    """A server that runs two rows at a time, and waits for the second one."""
    parameters = tmp_path_factory.mktemp("batching") / "parameters.txt"
    parameters.write_text("max_batch_size { value: 2 } batch_timeout_micros { value: 3600000000 }")
    batching = ("--enable_batching", f"--batching_parameters_file={parameters}")
    flags = ("--model_name=scale", f"--model_base_path={repository / 'scale'}", "--log_format=json", *batching)
    with ServerProcess(*flags, environment={**PATHS, **collector.environment}) as process:
        yield process


def predict(server, *, traceparent=None, model="scale", x=(1.0, 2.0)):
    metadata = (("traceparent", traceparent), ("tracestate", "vendor=1")) if traceparent else None
    with grpc.insecure_channel(server.address) as channel:
        call = channel.unary_unary(PREDICT)
        return call(
            predict_request(model, {"x": np.array(x, np.float32)}).SerializeToString(), metadata=metadata, timeout=60
        )


def spans_of(collector, name, traces):
    return [span for span in collector.spans if span.name == name and span.trace in traces]


def only(spans, **attributes):
    found = [span for span in spans if all(getattr(span, name) == value for name, value in attributes.items())]
    assert len(found) == 1, found
    return found[0]


@pytest.mark.process
def test_a_call_is_a_span_of_its_callers_trace_with_queue_batch_and_run(traced_server, collector):
    predict(traced_server, traceparent=SAMPLED)
    wait_until(lambda: spans_of(collector, PREDICT[1:], [TRACE]) and spans_of(collector, "run", [TRACE]))
    spans = [span for span in collector.spans if span.trace == TRACE]
    rpc, queue, batch, run = (only(spans, name=name) for name in (PREDICT[1:], "queue", "batch", "run"))
    assert rpc.parent == PARENT and rpc.kind == "SERVER" and rpc.service == "inkling-serving"
    assert rpc.proto.trace_state == "vendor=1"
    assert queue.parent == batch.parent == rpc.id and run.parent == batch.id
    assert batch.links == {rpc.id} and queue.links == {batch.id}
    assert rpc.attributes["rpc.system.name"] == "grpc" and rpc.attributes["rpc.response.status_code"] == "OK"
    assert rpc.attributes["inkling.model"] == "scale" and rpc.attributes["inkling.version"] == 2
    assert batch.attributes["inkling.batch.num_rows"] == 2
    times = [queue.proto.start_time_unix_nano, batch.proto.start_time_unix_nano, run.proto.start_time_unix_nano]
    assert sorted(times) == times and rpc.proto.start_time_unix_nano <= times[0]


@pytest.mark.process
def test_requests_that_share_a_batch_are_linked_to_it_each_from_its_own_trace(traced_server, collector):
    traces = ["a" * 32, "b" * 32]
    threads = [
        threading.Thread(
            target=predict,
            args=(traced_server,),
            kwargs={"traceparent": SAMPLED.replace(TRACE, trace), "x": [1.0]},
        )
        for trace in traces
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wait_until(lambda: len(spans_of(collector, "queue", traces)) == len(spans_of(collector, PREDICT[1:], traces)) == 2)
    calls, queues = (spans_of(collector, name, traces) for name in (PREDICT[1:], "queue"))
    [batch] = spans_of(collector, "batch", traces)
    assert batch.links == {call.id for call in calls} and batch.parent in batch.links
    assert batch.attributes["inkling.batch.num_requests"] == 2
    assert {queue.parent for queue in queues} == {call.id for call in calls}
    assert all(queue.links == {batch.id} for queue in queues)


@pytest.mark.process
def test_what_a_caller_does_not_sample_makes_no_spans(traced_server, collector):
    silent, loud = "9" * 32, "8" * 32
    predict(traced_server, traceparent=NOT_SAMPLED.replace(TRACE, silent))
    predict(traced_server, traceparent=SAMPLED.replace(TRACE, loud))
    wait_until(lambda: spans_of(collector, PREDICT[1:], [loud]))
    assert not [span for span in collector.spans if span.trace == silent]


@pytest.mark.process
def test_a_rest_request_is_a_span_with_its_route_and_status(traced_server, collector):
    def post(path):
        headers = {"traceparent": SAMPLED.replace(TRACE, "e" * 32)}
        request = urllib.request.Request(traced_server.rest_url + path, b'{"instances": [1.0, 2.0]}', headers)
        try:
            return urllib.request.urlopen(request).status
        except urllib.error.HTTPError as error:
            return error.code

    assert post("/v1/models/scale/versions/2:predict") == 200
    assert post("/v1/models/nobody:predict") == 404
    names = ("POST /v1/models/{model}/versions/{version}:predict", "POST /v1/models/{model}:predict")
    found, missing = (only(collector.wait_for(*names), name=name) for name in names)
    assert found.trace == missing.trace == "e" * 32 and found.parent == PARENT and found.kind == "SERVER"
    assert found.attributes["http.response.status_code"] == 200 and found.attributes["inkling.version"] == 2
    assert missing.attributes["http.response.status_code"] == 404 and not missing.failed


@pytest.mark.process
def test_log_lines_of_a_traced_request_have_its_ids(traced_server):
    predict(traced_server, traceparent=SAMPLED.replace(TRACE, "d" * 32))
    traced_server.wait_for_log("d" * 32)
    lines = [json.loads(line) for line in traced_server.log_text().splitlines() if "d" * 32 in line]
    assert [line["trace_id"] for line in lines] == ["d" * 32] and len(lines[0]["span_id"]) == 16


@pytest.mark.process
def test_a_caller_who_is_wrong_is_no_error_of_the_server(traced_server, collector):
    with pytest.raises(grpc.RpcError, match="nobody"):
        predict(traced_server, model="nobody", traceparent=SAMPLED.replace(TRACE, "c" * 32))
    wait_until(lambda: spans_of(collector, PREDICT[1:], ["c" * 32]))
    [call] = spans_of(collector, PREDICT[1:], ["c" * 32])
    assert call.attributes["rpc.response.status_code"] == "NOT_FOUND" and not call.failed


@pytest.mark.process
def test_a_collector_that_is_away_costs_one_line_and_gets_the_next_traces(repository):
    port = free_port()
    environment = {
        **PATHS,
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}",
        "OTEL_EXPORTER_OTLP_TIMEOUT": "0.5",
        "OTEL_BSP_SCHEDULE_DELAY": "50",
    }
    flags = ("--model_name=scale", f"--model_base_path={repository / 'scale'}")
    with ServerProcess(*flags, environment=environment) as server:
        predict(server)
        server.wait_for_log("traces do not get to")
        for _ in range(3):
            predict(server)
        with Collector(port) as collector:
            while not collector.spans:
                predict(server)
            server.wait_for_log("again")
        assert server.log_text().count("traces do not get to") == 1
        assert "Traceback" not in server.log_text() and "Transient" not in server.log_text()


@pytest.mark.process
def test_a_server_without_variables_does_not_import_opentelemetry():
    program = (
        "import sys, serving.cli; from serving.monitoring import logs, trace_export, tracing; "
        "assert trace_export.from_environment({}) is tracing.OFF; "
        "print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, False),
        ({"OTEL_SERVICE_NAME": "x", "OTEL_TRACES_SAMPLER": "always_on"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4317"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://collector:4317"}, True),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, True),
        ({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4317"}, False),
        ({"OTEL_SDK_DISABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4317"}, False),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, dict) else "",
)
def test_an_exporter_or_an_endpoint_turns_traces_on(variables, expected):
    assert trace_export.is_wanted(variables) is expected


def test_an_exporter_that_is_not_installed_is_told_and_the_server_goes_on_without(caplog):
    caplog.set_level(logging.WARNING)
    assert trace_export.from_environment({"OTEL_TRACES_EXPORTER": "carrier-pigeon"}) is tracing.OFF
    assert "there is no exporter 'carrier-pigeon'" in caplog.text and "inkling-serving[otel]" in caplog.text


def test_without_tracing_a_handler_is_what_it_was():
    async def handler(request):
        return request

    assert tracing.OFF.rpc("a/B", handler) is handler and tracing.OFF.http(handler) is handler
    assert asyncio.run(handler(7)) == 7 and tracing.current() is tracing.UNTRACED

"""Traces from a client's call to the run, as a collector gets them from real processes."""

import asyncio
import json
import logging
import os
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from types import SimpleNamespace

import grpc
import numpy as np
import pytest

from inkling.serving.batching.parameters import BatchingParameters
from inkling.serving.batching.queues import ParameterisedQueue
from inkling.serving.batching.scheduler import QueueContext, Waiting
from inkling.serving.batching.threads import RuntimeThreads
from inkling.serving.errors import invalid_argument
from inkling.serving.load_shedding import KnownFullQueues
from inkling.serving.monitoring import trace_export, tracing
from inkling.serving.monitoring.events import ServerEvents
from inkling.serving.names import ModelKey
from tests.patience import wait_until
from tests.ports import free_port
from tests.server_process import ServerProcess
from tests.serving.conftest import predict_request

pytest.importorskip("opentelemetry.exporter.otlp.proto.grpc", reason="needs the extra otel")

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, ParentBased, TraceIdRatioBased

from inkling.serving.monitoring.otel import OtelTracing
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
def traced_server(repository, digit_models, collector, tmp_path_factory):
    file = tmp_path_factory.mktemp("config") / "models.config"
    entries = [("scale", repository / "scale"), ("mnist", digit_models / "mnist")]
    configs = [
        f'config {{ name: "{name}" base_path: "{path}" model_platform: "tensorflow" }}' for name, path in entries
    ]
    file.write_text(f"model_config_list {{ {' '.join(configs)} }}")
    flags = (f"--model_config_file={file}", "--log_format=json")
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


def in_process(*requests, function=lambda inputs: inputs):
    """The spans of requests that a queue for two rows gets at once."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    threads = RuntimeThreads(1, name="run")

    async def send_all():
        parameters = BatchingParameters(max_batch_size=2, batch_timeout_s=3600)
        context = QueueContext(
            threads=threads,
            key=ModelKey(model_name="m", version=1, signature_name="s"),
            events=ServerEvents(),
            shedding=KnownFullQueues(),
            waiting=Waiting(),
        )
        queue = ParameterisedQueue(function, parameters, context)
        rpc = OtelTracing(provider).rpc("a.B/C", lambda content, _: queue.run([content], len(content)))
        return await asyncio.gather(*[rpc(request, NoMetadata()) for request in requests], return_exceptions=True)

    asyncio.run(send_all())
    threads.close()
    return exporter.get_finished_spans()


class NoMetadata:
    """The context of an RPC that came without any."""

    def invocation_metadata(self):
        return ()

    def code(self):
        return grpc.StatusCode.OK

    def details(self):
        return ""


def named(spans, name):
    return [span for span in spans if span.name == name]


def test_requests_that_share_a_batch_are_linked_to_it_each_from_its_own_trace():
    spans = in_process(np.float32([1]), np.float32([2]))
    calls, queues, [batch] = named(spans, "a.B/C"), named(spans, "queue"), named(spans, "batch")
    ids = {call.context.span_id for call in calls}
    assert len({call.context.trace_id for call in calls}) == 2 and batch.parent.span_id in ids
    assert {link.context.span_id for link in batch.links} == ids == {queue.parent.span_id for queue in queues}
    assert all([link.context.span_id for link in queue.links] == [batch.context.span_id] for queue in queues)
    assert batch.attributes["inkling.batch.num_requests"] == batch.attributes["inkling.batch.num_rows"] == 2


@pytest.mark.parametrize(
    ("sampler", "traceparent", "expected"),
    [
        (ParentBased(ALWAYS_ON), None, 1),
        (ParentBased(ALWAYS_ON), SAMPLED, 1),
        (ParentBased(ALWAYS_ON), NOT_SAMPLED, 0),
        (ParentBased(ALWAYS_ON), NOT_SAMPLED[:-2] + "02", 0),
        (ParentBased(ALWAYS_ON), NOT_SAMPLED.replace(TRACE, "0" * 32), 1),
        (ParentBased(ALWAYS_ON), "nonsense-00", 1),
        (ParentBased(ALWAYS_OFF), SAMPLED, 1),
        (ParentBased(ALWAYS_OFF), None, 0),
        (ALWAYS_ON, NOT_SAMPLED, 1),
        (ALWAYS_OFF, SAMPLED, 0),
    ],
)
def test_the_callers_decision_holds_for_samplers_that_ask_for_it(sampler, traceparent, expected):
    exporter, provider = InMemorySpanExporter(), TracerProvider(sampler=sampler)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    headers = {"traceparent": traceparent} if traceparent else {}
    path = "/v1/models/m:predict"
    request = SimpleNamespace(raw_path=path, path=path, method="POST", scheme="http", headers=headers)
    context = (
        NoMetadata()
        if not headers
        else SimpleNamespace(invocation_metadata=lambda: tuple(headers.items()), code=lambda: 0, details=lambda: b"")
    )
    answer = SimpleNamespace(status=200)

    async def both():
        await OtelTracing(provider).http(lambda _: asyncio.sleep(0, answer))(request)
        await OtelTracing(provider).rpc("a.B/C", lambda *_: asyncio.sleep(0, b""))(b"", context)

    asyncio.run(both())
    assert len(exporter.get_finished_spans()) == 2 * expected


@pytest.mark.parametrize("wrap", [ParentBased, lambda root: root], ids=["parentbased", "plain"])
@pytest.mark.parametrize("rate", [0.0, 0.25, 1.0])
def test_a_share_of_the_requests_is_sampled_by_their_ids_as_others_would(wrap, rate):
    exporter, sampler = InMemorySpanExporter(), TraceIdRatioBased(rate)
    provider = TracerProvider(sampler=wrap(sampler))
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    rpc = OtelTracing(provider).rpc("a.B/C", lambda content, _: asyncio.sleep(0))

    async def send():
        for _ in range(2000):
            await rpc(b"", NoMetadata())

    asyncio.run(send())
    spans = exporter.get_finished_spans()
    assert abs(len(spans) - 2000 * rate) <= 200  # ten standard deviations
    ids = {span.context.trace_id for span in spans}
    assert len(ids) == len(spans)
    assert all(trace_id & sampler.TRACE_ID_LIMIT < sampler.bound for trace_id in ids)
    assert all(span.context.trace_flags.random_trace_id for span in spans)


def test_a_batch_that_fails_is_run_again_one_by_one_and_that_is_no_second_wait():
    def function(inputs):
        if min(inputs[0]) < 0:
            raise invalid_argument("minus one")
        return inputs

    spans = in_process(np.float32([1]), np.float32([-1]), function=function)
    outcomes = [span.status.is_ok or span.status.is_unset for span in named(spans, "batch")]
    assert sorted(outcomes) == [False, False, True] and len(named(spans, "queue")) == 2
    [failed] = [call for call in named(spans, "a.B/C") if call.status.description]
    assert failed.status.description == "minus one" and failed.attributes["error.type"] == "INVALID_ARGUMENT"


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


@pytest.mark.slow
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


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, ["otlp_proto_grpc"]),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, ["otlp_proto_http"]),
        ({"OTEL_TRACES_EXPORTER": "console, otlp"}, ["console", "otlp_proto_grpc"]),
    ],
    ids=["gRPC", "HTTP", "several"],
)
def test_exporters_are_those_of_the_variables_and_installed(variables, expected):
    assert trace_export._exporter_names(variables) == expected
    assert len(list(trace_export._exporters(variables))) == len(expected)


def test_a_service_has_its_own_name_or_that_of_its_variable(monkeypatch):
    monkeypatch.delenv("OTEL_SERVICE_NAME", raising=False)
    assert trace_export._resource().attributes["service.name"] == "inkling-serving"
    monkeypatch.setenv("OTEL_SERVICE_NAME", "digits")
    assert trace_export._resource().attributes["service.name"] == "digits"


def test_an_exporter_that_is_not_installed_is_told_and_the_server_goes_on_without(caplog):
    caplog.set_level(logging.WARNING)
    assert trace_export.from_environment({"OTEL_TRACES_EXPORTER": "carrier-pigeon"}) is tracing.OFF
    assert "there is no exporter 'carrier-pigeon'" in caplog.text and "inkling-serving[otel]" in caplog.text


def test_without_tracing_a_handler_is_what_it_was():
    async def handler(request):
        return request

    assert tracing.OFF.rpc("a/B", handler) is handler and tracing.OFF.http(handler) is handler
    assert asyncio.run(handler(7)) == 7 and tracing.current() is tracing.UNTRACED


@pytest.mark.process
def test_a_page_that_is_read_is_one_trace_from_the_command_to_the_models_run(traced_server, collector, tmp_path):
    page = str(tmp_path / "page.png")
    subprocess.run([sys.executable, "-m", "tools.compose_page", "-o", page], cwd=ROOT, check=True)
    command = [sys.executable, "-m", "client", "read", page, "--server", traced_server.address]
    environment = {**os.environ, **PATHS, **collector.environment}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and "traces" not in done.stderr
    wait_until(lambda: _trace_of_read(collector, "run") and _trace_of_read(collector, PREDICT[1:], "SERVER"))
    span, above = _trace_of_read(collector, "run")[0], []
    by_id = {each.id: each for each in collector.spans}
    while span.parent:
        span = by_id[span.parent]
        above.append((span.service, span.name, span.kind))
    assert above == [
        ("inkling-serving", "batch", "INTERNAL"),
        ("inkling-serving", PREDICT[1:], "SERVER"),
        ("inkling-client", PREDICT[1:], "CLIENT"),
        ("inkling-client", "inkling.read", "INTERNAL"),
    ]


def _trace_of_read(collector, name, kind="INTERNAL"):
    roots = [span.trace for span in collector.spans if span.name == "inkling.read"]
    return [span for span in spans_of(collector, name, roots) if span.kind == kind]

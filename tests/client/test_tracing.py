"""Spans of a client's calls, in a program that traces; the trace of a command, from the client to the model's run."""

import os
import subprocess
import sys
from pathlib import Path

import grpc
import numpy as np
import pytest

from inkling.client import AsyncClient, Client, InvalidInput
from inkling.client.protocol.rpc import PREDICT
from tests.client.both import IMAGES, SIX_IMAGES, call
from tests.client.stub_server import StubServer, failing
from tests.ports import free_port

pytest.importorskip("opentelemetry.sdk.trace", reason="needs the extra otel")

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider, sampling
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

ROOT = Path(__file__).parents[2]
METHOD = PREDICT.path[1:]
BOTH = pytest.mark.parametrize("kind", [Client, AsyncClient])


@pytest.fixture
def provide(monkeypatch):
    """Makes this a program that traces; gives a function with the spans that have ended."""

    def provide(sampler=sampling.ALWAYS_ON):
        exporter, provider = InMemorySpanExporter(), TracerProvider(sampler=sampler)
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        monkeypatch.setattr("opentelemetry.trace._TRACER_PROVIDER", provider)  # a program may set it once only
        return exporter.get_finished_spans

    return provide


def is_sampled(traceparent):
    return int(traceparent[-2:], 16) & 1 == 1


@BOTH
def test_a_call_is_a_span_in_its_methods_span_and_tells_the_server(provide, kind):
    spans = provide()
    with StubServer() as server:
        call(kind, server.address, lambda client: client.predict(IMAGES))
        sent = dict(server.contexts[0].invocation_metadata())["traceparent"]
    rpc, method = spans()
    assert (rpc.name, method.name) == (METHOD, "inkling.predict")
    assert rpc.parent.span_id == method.context.span_id and rpc.kind is trace.SpanKind.CLIENT
    assert sent.startswith(f"00-{rpc.context.trace_id:032x}-{rpc.context.span_id:016x}-") and is_sampled(sent)
    assert rpc.attributes["rpc.method"] == METHOD and rpc.attributes["rpc.response.status_code"] == "OK"
    assert (rpc.attributes["server.address"], rpc.attributes["server.port"]) == ("127.0.0.1", server.port)


@BOTH
def test_each_part_of_a_large_batch_is_a_span(provide, kind):
    spans = provide()
    with StubServer() as server:
        call(kind, server.address, lambda client: client.predict(SIX_IMAGES), max_rows=2)
    *parts, method = spans()
    assert [part.name for part in parts] == [METHOD] * 3 and method.name == "inkling.predict"
    assert {part.parent.span_id for part in parts} == {method.context.span_id}


@BOTH
def test_a_call_that_fails_and_its_method_have_failed(provide, kind):
    spans = provide()
    with (
        StubServer(Predict=failing((grpc.StatusCode.INVALID_ARGUMENT, "no such input"))) as server,
        pytest.raises(InvalidInput),
    ):
        call(kind, server.address, lambda client: client.predict(IMAGES))
    rpc, method = spans()
    assert rpc.attributes["rpc.response.status_code"] == rpc.attributes["error.type"] == "INVALID_ARGUMENT"
    assert not rpc.status.is_ok and "no such input" in rpc.status.description and not method.status.is_ok


@BOTH
def test_what_is_not_sampled_tells_the_server_not_to_sample(provide, kind):
    spans = provide(sampling.ALWAYS_OFF)
    with StubServer() as server:
        call(kind, server.address, lambda client: client.predict(IMAGES))
        assert not is_sampled(dict(server.contexts[0].invocation_metadata())["traceparent"])
    assert not spans()


@BOTH
def test_reading_a_picture_has_spans_of_the_work_on_it(provide, kind):
    spans = provide()
    with StubServer() as server:
        call(kind, server.address, lambda client: client.read(IMAGES[0] // 2 * 2))
    names = [span.name for span in spans()]
    assert names[0] == "find digits" and names[-1] == "inkling.read"


@BOTH
def test_a_program_that_does_not_trace_sends_nothing_more(kind):
    with StubServer() as server:
        call(kind, server.address, lambda client: client.predict(IMAGES))
        assert "traceparent" not in dict(server.contexts[0].invocation_metadata())


@pytest.mark.process
def test_a_program_that_does_not_trace_does_not_import_opentelemetry():
    program = (
        "import sys, client.cli; from client import Client; Client().close(); "
        "print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def inkling(*arguments, **environment):
    paths = os.pathsep.join([str(ROOT), *filter(None, sys.path)])
    return subprocess.run(
        [sys.executable, "-m", "client", *arguments],
        env={**os.environ, "PYTHONPATH": paths, **environment},
        capture_output=True,
        text=True,
    )


@pytest.mark.process
def test_a_command_whose_collector_is_away_says_so_once_and_does_its_work(array_file):
    with StubServer() as server:
        endpoint = f"http://127.0.0.1:{free_port()}"
        done = inkling("predict", array_file, "--server", server.address, OTEL_EXPORTER_OTLP_ENDPOINT=endpoint)
    assert done.returncode == 0 and len(done.stdout.splitlines()) == len(IMAGES)
    assert done.stderr == f"warning: traces do not get to {endpoint}, and are dropped: is a collector there?\n"


@pytest.mark.process
def test_a_command_without_the_extra_says_how_to_get_it(array_file):
    with StubServer() as server:
        done = inkling("predict", array_file, "--server", server.address, OTEL_TRACES_EXPORTER="carrier-pigeon")
    assert done.returncode == 0 and len(done.stderr.splitlines()) == 1
    assert "there is no exporter 'carrier-pigeon'" in done.stderr and "'inkling-client[otel]'" in done.stderr


@pytest.fixture
def array_file(tmp_path):
    np.save(tmp_path / "images.npy", IMAGES)
    return str(tmp_path / "images.npy")

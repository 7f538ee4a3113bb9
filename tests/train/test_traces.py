"""A run as a trace: its parts by what happened, and those of a real run as a collector gets them."""

import os
from dataclasses import dataclass, field

import pytest

from inkling.train import config as configs
from inkling.train import progress
from inkling.train.progress import Advance, Published, Saved, Validated
from inkling.train.tracking import traces
from tests.train.ray_processes import ENVIRONMENT, ROOT, SMALL, Job

pytest.importorskip("opentelemetry.sdk.trace", reason="needs the extra otel")

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter


@dataclass
class Folder:
    name: str = "first"


@dataclass
class Run:
    """What a trace asks of a run."""

    config: configs.TrainConfig = field(default_factory=configs.TrainConfig)
    job: configs.JobConfig = field(default_factory=configs.JobConfig)
    folder: Folder = field(default_factory=Folder)


def advance(step):
    return Advance(step, 4, step / 2, 2, 1000.0, 0.5, 0.9, 1e-3, 60.0)


def trace_of(events, status="finished"):
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace = traces.RunTrace(provider, Run())
    for event in events:
        trace.put(event)
    trace.close(status)
    return exporter.get_finished_spans()


EPOCHS = [
    advance(1),
    advance(2),
    Validated(2, 1, 2, 0.5, 0.25, 0.75),
    Saved(2, 0.1),
    advance(3),
    Saved(3, 0.1),
    advance(4),
    Validated(4, 2, 2, 0.5, 0.2, 0.8),
    Saved(4, 0.1),
]


def test_the_parts_of_a_run_follow_each_other_below_one_span():
    spans = trace_of([*EPOCHS, progress.Tested(4, {"test_accuracy": 0.9}), Published("mnist", "models/mnist/7")])
    root = spans[-1]
    parts = [span for span in spans[:-1] if span.parent.span_id == root.context.span_id]
    assert [(span.name, span.attributes.get("inkling.epoch")) for span in parts] == [
        ("start", None), ("epoch", 1), ("epoch", 2), ("test", None), ("publish", None),
    ]  # fmt: skip
    assert [part.attributes.get("inkling.validation_accuracy") for part in parts[1:3]] == [0.75, 0.8]
    assert parts[3].attributes["inkling.test_accuracy"] == 0.9 and parts[4].attributes["inkling.version"] == 7
    assert root.name == "train" and root.attributes["inkling.run"] == "first" and not root.status.description


def test_checkpoints_are_in_their_epochs():
    spans = trace_of(EPOCHS)
    epochs = {span.context.span_id: span.attributes["inkling.epoch"] for span in spans if span.name == "epoch"}
    saved = [span for span in spans if span.name == "checkpoint"]
    assert [(span.attributes["inkling.step"], epochs[span.parent.span_id]) for span in saved] == [
        (2, 1),
        (3, 2),
        (4, 2),
    ]
    assert all(span.end_time - span.start_time >= 100_000_000 for span in saved)


def test_a_run_that_fails_is_a_trace_that_failed():
    *_, root = trace_of(EPOCHS[:1], "failed")
    assert not root.status.is_ok and root.attributes["inkling.status"] == "failed"


def test_without_variables_there_is_no_trace_and_a_missing_exporter_is_told():
    told = []
    assert type(traces.trace_of(Run(), {}, told.append)) is traces.NoTrace and told == []
    variables = {"OTEL_TRACES_EXPORTER": "carrier-pigeon"}
    assert type(traces.trace_of(Run(), variables, told.append)) is traces.NoTrace
    assert "there is no exporter 'carrier-pigeon'" in told[0] and "inkling-train[otel]" in told[0]


@pytest.mark.slow
@pytest.mark.process
def test_a_real_run_is_a_trace_at_the_collector(digits_file, tmp_path):
    pytest.importorskip("opentelemetry.exporter.otlp.proto.grpc", reason="needs the extra otel")
    from tests.otlp import Collector

    paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    with Collector() as collector:
        environment = ENVIRONMENT | collector.environment | {"PYTHONPATH": paths}
        run = ["--in-process", *SMALL, "--epochs", "2", "--data", digits_file]
        status, output = Job(tmp_path, *run, environment=environment).wait()
        spans = collector.spans
    assert status == 0, output
    [root] = [span for span in spans if not span.parent]
    parts = sorted((span for span in spans if span.parent == root.id), key=lambda span: span.proto.start_time_unix_nano)
    assert (root.name, root.service) == ("train", "inkling-train") and {span.trace for span in spans} == {root.trace}
    assert [part.name for part in parts] == ["start", "epoch", "epoch", "test", "publish"]
    assert {span.parent for span in spans if span.name == "checkpoint"} == {part.id for part in parts[1:3]}

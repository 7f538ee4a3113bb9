"""What traces cost, and what one looks like.

    python -m benchmarks.tracing               throughput of servers that trace nothing, 1 % of requests, all of them
    python -m benchmarks.tracing --plot FILE   reads a page with `inkling read`, and draws the trace as it was exported
    python -m benchmarks.tracing --own         the time of a request that is not sampled, without a server

For the first, four servers get some hundred requests each in their turns, as in benchmarks/side_by_side.py; a collector
in a process of its own takes the spans and forgets them. The second one that traces nothing shows what is noise.
"""

import argparse
import asyncio
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc

from .side_by_side import ROOT, Contender, measure, ratios, running, table

EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
OFF = "nothing"
MOST = 0.02  # of the throughput, that traces of 1 % of requests may cost
CALLS = 1000
TRACEPARENT = ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00")
NOT_SAMPLED = SimpleNamespace(invocation_metadata=lambda: (("user-agent", "grpc"), TRACEPARENT))
COLOURS = {"inkling-client": "#4269d0", "inkling-serving": "#efb118"}


class Collector(grpc.GenericRpcHandler):
    """Takes spans as they come, serialized; with `keep` they can be looked at."""

    def __init__(self, *, keep: bool) -> None:
        self.exports: list[bytes] = []
        self._keep = keep
        self._server = grpc.server(ThreadPoolExecutor(2), handlers=[self])
        self.port = self._server.add_insecure_port("127.0.0.1:0")
        self._server.start()

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """The handler of the one RPC there is."""
        if handler_call_details.method != EXPORT:
            return None
        return grpc.unary_unary_rpc_method_handler(self._take)

    def _take(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        if self._keep:
            self.exports.append(request)
        return b""

    def stop(self) -> None:
        """Take no more."""
        self._server.stop(0).wait()


@contextlib.contextmanager
def collector_process() -> Iterator[str]:
    """A collector that is nobody's load but its own; yields its endpoint."""
    command = [sys.executable, "-m", "benchmarks.tracing", "--collect"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.terminate()
        process.wait()


def collect() -> None:
    """Be that process, until it is ended."""
    print(Collector(keep=False).port, flush=True)
    while True:
        time.sleep(3600)


def environment_of(endpoint: str, share: str) -> dict[str, str]:
    """The variables of a server that traces `share` of its requests, from 0 to 1."""
    ratio = {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": share}
    return {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, **ratio}


def contenders(endpoint: str) -> list[Contender]:
    """The servers that are compared."""
    return [
        Contender(OFF, (), ""),
        Contender("1 % of requests", (), "", environment_of(endpoint, "0.01")),
        Contender("all requests", (), "", environment_of(endpoint, "1")),
        Contender("nothing, again", (), ""),
    ]


def own_time_us() -> dict[str, float]:
    """What a request that is not sampled takes more by being asked about, in microseconds of a thread's own time.

    In this process and without a server, so that what else the machine does hardly shows.
    """
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

    from inkling.serving.monitoring.otel import OtelTracing

    tracing = OtelTracing(TracerProvider(sampler=ParentBased(TraceIdRatioBased(0.0))))

    async def answer(*_: object) -> None:
        return None

    rpc, http = tracing.rpc("tensorflow.serving.PredictionService/Predict", answer), tracing.http(answer)
    return {
        "gRPC": asyncio.run(_time_us(lambda: rpc(b"", SimpleNamespace(invocation_metadata=tuple)))),
        "gRPC, as its caller decided": asyncio.run(_time_us(lambda: rpc(b"", NOT_SAMPLED))),
        "REST": asyncio.run(_time_us(lambda: http(SimpleNamespace(raw_path="/v1/x", method="POST", headers={})))),
    }


async def _time_us(call: Callable[[], Awaitable[Any]]) -> float:
    """The least that a call took, of many rounds."""
    least = float("inf")
    for _ in range(20):
        began = time.thread_time()
        for _ in range(CALLS):
            await call()
        least = min(least, (time.thread_time() - began) / CALLS * 1e6)
    return least


@dataclass(frozen=True, slots=True)
class Bar:
    """A span, as the picture has it."""

    name: str
    service: str
    begin_ms: float
    duration_ms: float
    id: bytes
    parent: bytes
    links: tuple[bytes, ...]


def bars(exports: Sequence[bytes]) -> list[Bar]:
    """The spans of the trace that begins at the client, each below its parent and by the time that it began."""
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    spans = [
        (_service(resource.resource.attributes), span)
        for export in exports
        for resource in ExportTraceServiceRequest.FromString(export).resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]
    [root] = [span for _, span in spans if span.name == "inkling.read"]
    found = [
        Bar(
            name=span.name,
            service=service,
            begin_ms=(span.start_time_unix_nano - root.start_time_unix_nano) / 1e6,
            duration_ms=(span.end_time_unix_nano - span.start_time_unix_nano) / 1e6,
            id=span.span_id,
            parent=span.parent_span_id,
            links=tuple(link.span_id for link in span.links),
        )
        for service, span in spans
        if span.trace_id == root.trace_id
    ]
    return list(_below(found, b""))


def _service(attributes: Any) -> str:
    return next((each.value.string_value for each in attributes if each.key == "service.name"), "")


def _below(found: Sequence[Bar], parent: bytes) -> Iterator[Bar]:
    for bar in sorted((bar for bar in found if bar.parent == parent), key=lambda bar: bar.begin_ms):
        yield bar
        yield from _below(found, bar.id)


def exported_read(model: Path) -> list[bytes]:
    """What `inkling read` of a page and the server of `model` export."""
    collector = Collector(keep=True)
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector.port}"}
    with tempfile.TemporaryDirectory() as scratch:
        page, folder = Path(scratch, "page.png"), Path(scratch)
        compose = [sys.executable, "-m", "tools.compose_page", "-o", str(page)]
        subprocess.run(compose, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        server = Contender("traced", ("--model_name=mnist", f"--model_base_path={model.resolve()}"), "", environment)
        with running(server, model, folder) as process:
            command = [sys.executable, "-m", "client", "read", str(page), "--server", f"127.0.0.1:{process.port}"]
            subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)  # what is slow once is done
            collector.exports.clear()
            subprocess.run(command, cwd=ROOT, check=True, env={**os.environ, **environment}, stdout=subprocess.DEVNULL)
    collector.stop()
    return collector.exports


def draw(found: Sequence[Bar], file: Path) -> None:
    """A row for each span, from the first at the top: all of the trace, and the call in it."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.patches import Patch

    figure, (whole, call) = plt.subplots(1, 2, figsize=(12, 0.36 * len(found) + 1.2), sharey=True)
    first = next(bar for bar in found if bar.name.endswith("/Predict"))
    _draw_rows(whole, found, 0.0, found[0].duration_ms)
    _draw_rows(call, found, first.begin_ms, first.begin_ms + first.duration_ms)
    _draw_links(call, found)
    whole.set_yticks(range(len(found)), [f"{'    ' * depth(bar, found)}{short(bar.name)}" for bar in found], ha="left")
    whole.tick_params(axis="y", pad=205, labelsize=9)
    whole.invert_yaxis()
    whole.set_xlabel("ms since `inkling read` began to work on the page")
    call.set_xlabel("the same ms: the Predict alone; arrows are links")
    legend = [Patch(color=colour, label=service) for service, colour in COLOURS.items()]
    whole.legend(handles=legend, loc="lower left", frameon=False)
    figure.tight_layout()
    figure.savefig(file, dpi=110)


def _draw_rows(axes: Any, found: Sequence[Bar], begin_ms: float, end_ms: float) -> None:
    width = end_ms - begin_ms
    for row, bar in enumerate(found):
        end = bar.begin_ms + bar.duration_ms
        if bar.begin_ms < begin_ms or end > end_ms:
            continue
        axes.barh(row, max(bar.duration_ms, width / 300), left=bar.begin_ms, height=0.6, color=COLOURS[bar.service])
        axes.text(end + width / 80, row, f"{bar.duration_ms:.1f} ms", va="center", fontsize=8)
    axes.set_xlim(begin_ms - width / 50, end_ms + width / 6)
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)


def _draw_links(axes: Any, found: Sequence[Bar]) -> None:
    rows = {bar.id: row for row, bar in enumerate(found)}
    style = {"arrowstyle": "->", "linestyle": ":", "color": "#374151"}
    for row, bar in enumerate(found):
        for link in bar.links:
            if link in rows:
                axes.annotate("", (bar.begin_ms, rows[link]), (bar.begin_ms, row), arrowprops=style)


def depth(bar: Bar, found: Sequence[Bar]) -> int:
    """How many spans are above it."""
    by_id: Mapping[bytes, Bar] = {each.id: each for each in found}
    return 1 + depth(by_id[bar.parent], found) if bar.parent in by_id else 0


def short(name: str) -> str:
    """The name of a span without its package."""
    return name.removeprefix("tensorflow.serving.")


def main() -> int:
    """Command line; prints the table, or draws. Returns 1 if traces of 1 % of requests cost more than they may."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=20, help="turns of each server (%(default)s)")
    parser.add_argument("--requests", type=int, default=500, help="requests in each turn (%(default)s)")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw one trace, and measure nothing")
    parser.add_argument("--model", type=Path, default=Path("models/mnist"), help="its model's folder (%(default)s)")
    parser.add_argument(
        "--own", action="store_true", help="the time of a request that is not sampled, without a server"
    )
    parser.add_argument("--collect", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    if arguments.collect:
        collect()
    if arguments.plot:
        draw(bars(exported_read(arguments.model)), arguments.plot)
        return 0
    if arguments.own:
        print("\n".join(f"{name}: {microseconds:.1f} us" for name, microseconds in own_time_us().items()))
        return 0
    with collector_process() as endpoint:
        figures = measure(lambda _: contenders(endpoint), arguments.turns, arguments.requests)
    print(table(figures, what="traces", base_name=OFF))
    costs = [1 - max(ratios(by_name["1 % of requests"], by_name[OFF])) for by_name in figures.values()]
    return 0 if max(costs) <= MOST else 1


if __name__ == "__main__":
    sys.exit(main())

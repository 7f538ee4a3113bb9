"""Latency against offered load: so many requests a second are sent to each server, whatever becomes of them.

A closed loop, whose callers wait for their answer before they ask again, slows down with the server and hides how long
an answer takes at the load that people really send. Here requests of one image go out at a fixed rate, by others' load
generators, which are compiled and cost the server less than one in Python: ghz for gRPC, vegeta for HTTP. A server is
asked at one rate after the other until it answers less than 0.9 of what is offered.

    go install github.com/bojand/ghz/cmd/ghz@latest           once; both into a folder on the PATH
    go install github.com/tsenart/vegeta/v12@latest
    apt install wrk nghttp2-client                            for the table of other testers
    python -m benchmarks.serving_open_loop --seconds 3 --only inkling inkling_rest naive ray_serve --docs docs

writes docs/serving_open_loop.md and .png, in six minutes; without `--docs` the page is printed only, without `--only`
there are all servers of `benchmarks.serving`. The rates are shares of what this server answers to 32 callers of ghz in
a closed loop, which is measured first, and beside it by other testers (load_testers.py).
"""

import argparse
import datetime
import importlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pool
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet

from benchmarks import load_testers
from benchmarks.serving import images, newest_version
from benchmarks.serving_contest import CONTESTANTS, Running, running
from benchmarks.serving_report import TITLES, grid, machine

SHARES = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
ENOUGH = 0.9  # of what is offered; a server that answers less is asked no more
CALLERS = 32
TIMEOUT = "10s"
MESSAGES = ("tensorflow_serving.apis.prediction_service_pb2", "inkling.serving.proto.open_inference_pb2")
TOOLS = {"ghz": "github.com/bojand/ghz/cmd/ghz", "vegeta": "github.com/tsenart/vegeta/v12"}


@dataclass(frozen=True, slots=True)
class Point:
    """What came of one rate."""

    offered_per_s: float
    answered_per_s: float  # well
    p50_ms: float
    p99_ms: float


def attack(server: Running, rate: float, seconds: float) -> Point:
    """Offer `rate` requests a second to `server` for so many seconds."""
    body = server.folder / "request"
    body.write_bytes(server.body(images(1)))
    tool = _ghz if server.contestant.url.startswith("grpc://") else _vegeta
    return tool(server, body, rate, seconds)


def peak(server: Running, seconds: float) -> float:
    """Requests/s that `server` answers to 32 callers of ghz, each of which waits for its answer."""
    body = server.folder / "request"
    body.write_bytes(server.body(images(1)))
    report = _ghz_report(server, body, "--concurrency", str(CALLERS), "--duration", f"{seconds}s")
    return _answered(report) / (report["total"] / 1e9)


def by_load_testers(server: Running, seconds: float, most: float) -> list[list[str]]:
    """The lines of the table of load testers, of which ghz has found `most`."""
    target = load_testers.Target(server.port, server.port + 1, seconds, server.folder, server.body(images(1)))
    return [["ghz", "gRPC", f"{most:,.0f}", "0"], *load_testers.rows(target)]


def _ghz(server: Running, body: Path, rate: float, seconds: float) -> Point:
    report = _ghz_report(
        server,
        body,
        *("--async", "--rps", f"{rate:.0f}", "--total", f"{rate * seconds:.0f}", "--max-duration", f"{2 * seconds}s"),
        *("--concurrency", str(CALLERS), "--connections", "4"),
    )
    at = {point["percentage"]: point["latency"] / 1e6 for point in report["latencyDistribution"] or ()}
    answered_per_s = _answered(report) / (report["total"] / 1e9)
    return Point(rate, answered_per_s, at.get(50, float("nan")), at.get(99, float("nan")))


def _answered(report: dict[str, Any]) -> int:
    return int(report["statusCodeDistribution"].get("OK", 0))


def _ghz_report(server: Running, body: Path, *options: str) -> dict[str, Any]:
    method = server.contestant.url.split("/", 3)[3]
    descriptors = server.folder / "descriptors"
    descriptors.write_bytes(descriptor_set(method.partition("/")[0]).SerializeToString())
    command = ["ghz", "--insecure", "--protoset", str(descriptors), "--call", method, "--binary-file", str(body)]
    command += ["--format", "json", "--timeout", TIMEOUT, *options, f"127.0.0.1:{server.port}"]
    report: dict[str, Any] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return report


def descriptor_set(service: str) -> FileDescriptorSet:
    """The .proto files that `service` needs, imported ones first, as `protoc --descriptor_set_out` gives them."""
    for module in MESSAGES:
        importlib.import_module(module)  # which puts its files into the pool
    found = FileDescriptorSet()
    for file in _with_imports(descriptor_pool.Default().FindFileContainingSymbol(service), set()):
        file.CopyToProto(found.file.add())
    return found


def _with_imports(file: FileDescriptor, seen: set[str]) -> Iterator[FileDescriptor]:
    if file.name not in seen:
        seen.add(file.name)
        for other in file.dependencies:
            yield from _with_imports(other, seen)
        yield file


def _vegeta(server: Running, body: Path, rate: float, seconds: float) -> Point:
    url = server.contestant.url.format(port=server.port, port_1=server.port + 1)
    command = ["vegeta", "attack", "-rate", f"{rate:.0f}", "-duration", f"{seconds}s", "-timeout", TIMEOUT]
    command += ["-body", str(body)]
    for name, value in server.contestant.headers.items():
        command += ["-header", f"{name}: {value}"]
    sent = subprocess.run(command, input=f"POST {url}\n".encode(), check=True, stdout=subprocess.PIPE).stdout
    done = subprocess.run(["vegeta", "report", "-type", "json"], input=sent, check=True, stdout=subprocess.PIPE)
    report = json.loads(done.stdout)
    latencies = report["latencies"]
    return Point(rate, report["throughput"], latencies["50th"] / 1e6, latencies["99th"] / 1e6)


def measure(server: Running, rates: list[float], seconds: float) -> list[Point]:
    """One rate after the other, up to the first of which `server` answers too little."""
    attack(server, rates[0], 1.0)  # a warm-up
    points: list[Point] = []
    for rate in rates:
        points.append(attack(server, rate, seconds))
        _say(f"  {points[-1]}")
        if points[-1].answered_per_s < ENOUGH * rate:
            break
    return points


def markdown(results: dict[str, Any]) -> str:
    """The page."""
    rates = sorted({point["offered_per_s"] for points in results["points"].values() for point in points})
    rows = [[TITLES[name], *_cells(points, rates)] for name, points in results["points"].items()]
    skipped = [f"- {name}: {reason}" for name, reason in results["skipped"].items()]
    return "\n".join(
        [
            "# Latency against offered load",
            "",
            f"`python -m benchmarks.serving_open_loop`, {results['date']}, {machine()}.",
            "",
            "Requests of one image go out at a fixed rate, from ghz (gRPC) or vegeta (HTTP), which share the machine",
            f"with the server. In a closed loop of {CALLERS} callers of ghz this server answers {results['peak']:,.0f}",
            f"requests/s. One that answers less than {ENOUGH} of a rate (marked \\*) is not asked at a higher one.",
            "",
            "![latency against offered load](serving_open_loop.png)",
            "",
            "p50 / p99 in ms, by requests/s offered:",
            "",
            grid(["Server", *(f"{rate:,.0f}" for rate in rates)], rows),
            *(["", "Not measured:", "", *skipped] if skipped else []),
            "",
            "## By other load testers",
            "",
            f"{CALLERS} requests of one image at a time to this server, each tester for itself, in its own words.",
            "They cost the machine differently, and REST's requests are JSON. h2load does not look at the gRPC status.",
            "",
            load_testers.table(results["testers"]),
            "",
        ]
    )


def _cells(points: list[dict[str, float]], rates: list[float]) -> Iterator[str]:
    by_rate = {point["offered_per_s"]: point for point in points}
    for rate in rates:
        point = by_rate.get(rate)
        mark = " \\*" if point and point["answered_per_s"] < ENOUGH * rate else ""
        yield f"{point['p50_ms']:.1f} / {point['p99_ms']:.1f}{mark}" if point else ""


def draw(results: dict[str, Any], path: Path) -> None:
    """p50 as a line and p99 as a dashed one, for each server."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(9, 5), layout="constrained")
    for name, points in results["points"].items():
        rates = [point["offered_per_s"] for point in points]
        [line] = axes.plot(rates, [point["p50_ms"] for point in points], marker=".", label=TITLES[name])
        axes.plot(rates, [point["p99_ms"] for point in points], linestyle="--", color=line.get_color(), alpha=0.6)
    axes.set_yscale("log")
    axes.set_xlabel("requests/s offered, one image each")
    axes.set_ylabel("latency in ms: p50, dashed p99")
    axes.legend(fontsize=8)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=130)
    pyplot.close(figure)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    """Command line."""
    names = [contestant.name for contestant in CONTESTANTS]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=Path("models/mnist"), help="folder of the version folders")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each rate")
    parser.add_argument("--only", nargs="+", choices=names, metavar="NAME", help=f"some of: {', '.join(names)}")
    parser.add_argument("--docs", type=Path, help="folder to write the page and its picture into")
    arguments = parser.parse_args()
    for tool, module in TOOLS.items():
        if shutil.which(tool) is None:
            sys.exit(f"{tool} is not on the PATH; install it with `go install {module}@latest`")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    model = newest_version(arguments.model)
    by_name = {contestant.name: contestant for contestant in CONTESTANTS}
    with running(by_name["inkling"], model) as server:
        attack(server, 50.0, 1.0)
        most = peak(server, arguments.seconds)
        testers = by_load_testers(server, arguments.seconds, most)
    _say(f"{most:.0f} requests/s in a closed loop of {CALLERS} callers of ghz")
    rates = [float(round(share * most, -1)) for share in SHARES]
    date = datetime.date.today().isoformat()
    results: dict[str, Any] = {"date": date, "peak": most, "testers": testers, "points": {}, "skipped": {}}
    for name in arguments.only or names:
        _say(name)
        try:
            with running(by_name[name], model) as server:
                points = measure(server, rates, arguments.seconds)
            results["points"][name] = [asdict(point) for point in points]
        except (RuntimeError, TimeoutError, subprocess.CalledProcessError) as error:
            _say(f"  skipped: {error}")
            results["skipped"][name] = str(error).splitlines()[0]
    print(markdown(results))
    if arguments.docs:
        (arguments.docs / "serving_open_loop.md").write_text(markdown(results))
        draw(results, arguments.docs / "serving_open_loop.png")


if __name__ == "__main__":
    main()

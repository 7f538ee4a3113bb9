"""Measures the server beside a naive one, the bounds of gRPC and TensorFlow, and what one would install instead.

Same model, same machine, closed loop, client processes of their own. Single images at 1, 8, 32 and 128 callers, batches
of 64 and 256 at 4 callers, REST against gRPC at batches of 32, and ten times the load that can be answered.

    python -m benchmarks.serving                                  all of it: about a quarter of an hour, writes docs/
    python -m benchmarks.serving --only inkling naive --rounds 1  some of it: printed, nothing is written

All are measured in turn, round after round, and the best of each point counts: what else the machine does can only slow
it down, and falls on all of them.

Peers are installed into build/serving_peers/ when they are first measured; one that does not install or start is
skipped with a line, as is one that fails while it is measured; with --results the others' figures are kept then too.
The model is the one that `make demo` publishes.
"""

import argparse
import contextlib
import dataclasses
import datetime
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import serving_report
from benchmarks.serving_contest import CONTESTANTS, ROOT, Contestant, Running, running

POINTS = ((1, 1), (1, 8), (1, 32), (1, 128), (64, 4), (256, 4))  # images a request, callers
REST_POINTS = ((32, 4),)
ALSO_GRPC = REST_POINTS  # measured for gRPC too, to compare
SIZES_IN_PROCESS = (1, 32, 64, 256)
OVERLOAD_SIZES, OVERLOAD_FACTOR, OVERLOAD_S = (64, 256), 10, 8.0
OVERLOAD_QUEUE = "--max_queued_requests=64"  # which the flood fills in the first second


def images(count: int) -> np.ndarray:
    """uint8 [count, 28, 28] like digits: mostly black."""
    random = np.random.default_rng(count)
    ink = random.integers(0, 256, (count, 28, 28))
    return np.where(random.random((count, 28, 28)) < 0.2, ink, 0).astype(np.uint8)


def measure(contestant: Contestant, model: Path, seconds: float) -> dict[str, Any]:
    """All points of one contestant, by `<images>x<callers>`, and its peak memory."""
    points: tuple[tuple[int, int], ...] = REST_POINTS if contestant.name == "inkling_rest" else POINTS
    if contestant.name == "inkling":
        points += ALSO_GRPC
    with running(contestant, model) as server:
        results = {f"{count}x{callers}": _point(server, count, callers, seconds) for count, callers in points}
        return {"points": results, "peak_memory_mb": server.peak_memory_mb()}


def _point(server: Running, count: int, callers: int, seconds: float) -> dict[str, Any]:
    load = _closed_loop(server, server.body(images(count)), callers, seconds)
    load["images_per_s"] = load["requests_per_s"] * count
    _say(
        f"  {count:>3} images, {callers:>3} callers: {load['requests_per_s']:7.0f} requests/s "
        f"{load['images_per_s']:7.0f} images/s, p50 {load['p50_ms']:.2f} ms, p99 {load['p99_ms']:.2f} ms, "
        f"{load['statuses']}"
    )
    return load


def _closed_loop(server: Running, body: bytes, callers: int, seconds: float) -> dict[str, Any]:
    return server.load(body, "--callers", str(callers), "--seconds", str(seconds))


def overload(contestant: Contestant, model: Path, seconds: float) -> dict[str, Any]:
    """Ten times the load that can be answered, in an open loop: what still is, and how fast a no comes, by images.

    A no costs about the same whatever it refuses, so it weighs less against larger requests; one client process cannot
    send single images at ten times the rate at which they are answered. The server has one half of the CPUs and the
    client the other, so that the flood's sender costs the server nothing.
    """
    cpus = sorted(os.sched_getaffinity(0))
    half = max(1, len(cpus) // 2)
    with contextlib.ExitStack() as stack:
        with _on_cpus(cpus[:half]):
            server = stack.enter_context(running(contestant, model))
        stack.enter_context(_on_cpus(cpus[half:] or cpus))
        results = {str(count): _flood(server, count, seconds) for count in OVERLOAD_SIZES}
        return {"sizes": results, "peak_memory_mb": server.peak_memory_mb()}


def _flood(server: Running, count: int, seconds: float) -> dict[str, Any]:
    body = server.body(images(count))
    peak = _closed_loop(server, body, 16, seconds)
    rate = OVERLOAD_FACTOR * peak["requests_per_s"]
    flood = server.load(body, "--rate", str(rate), "--seconds", str(OVERLOAD_S), "--timeout-s", "60")
    result = {
        "peak_requests_per_s": peak["requests_per_s"],
        "offered_requests_per_s": (sum(flood["statuses"].values())) / OVERLOAD_S,
        "goodput_requests_per_s": flood["requests_per_s"],
        "shed_p50_ms": flood["failed_p50_ms"],
        "shed_p99_ms": flood["failed_p99_ms"],
        "statuses": flood["statuses"],
    }
    _say(f"  {count:>3} images: {result}")
    return result


@contextlib.contextmanager
def _on_cpus(cpus: Sequence[int]) -> Iterator[None]:
    """This process, and those it starts meanwhile, run on `cpus` only. Linux only."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def in_process(model: Path) -> dict[str, Any]:
    """TensorFlow alone, by batch size."""
    sizes = map(str, SIZES_IN_PROCESS)
    command = [sys.executable, "-m", "benchmarks.serving_peers.in_process", "--model", str(model), *sizes]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True)
    results: dict[str, Any] = json.loads(done.stdout)
    for size, result in results.items():
        _say(f"  batch {size:>3}: {result['images_per_s']:7.0f} images/s, p50 {result['p50_ms']:.2f} ms")
    return results


def newest_version(base: Path) -> Path:
    """The version's folder with the highest number; ends the program if there is none."""
    versions = [folder for folder in base.glob("[0-9]*") if (folder / "saved_model.pb").exists()]
    if not versions:
        sys.exit(f"there is no model in {base}; publish one with `make demo`, or name another folder by --model")
    return max(versions, key=lambda folder: int(folder.name)).absolute()


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    """Command line."""
    names = [contestant.name for contestant in CONTESTANTS] + ["in_process", "overload"]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=Path("models/mnist"), help="folder of the version folders")
    parser.add_argument("--seconds", type=float, default=2.0, help="measured time of each point in a round")
    parser.add_argument("--rounds", type=int, default=3, help="times that all are measured, one after the other")
    parser.add_argument("--only", nargs="+", choices=names, metavar="NAME", help=f"some of: {', '.join(names)}")
    parser.add_argument("--results", type=Path, help="JSON file to add to; with all of them there, docs/ is written")
    parser.add_argument("--note", default="", help="a sentence for the page, about the machine or the run")
    arguments = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    model = newest_version(arguments.model)
    path = arguments.results
    results: dict[str, Any] = json.loads(path.read_text()) if path and path.exists() else {}
    results["date"] = datetime.date.today().isoformat()
    results["note"] = arguments.note
    results["versions"] = {name: metadata.version(name) for name in ("tensorflow", "grpcio")}
    for number in range(arguments.rounds):
        for name in arguments.only or names:
            _say(f"{name}, round {number + 1}")
            try:
                result = _result(name, model, arguments.seconds)
            except (RuntimeError, TimeoutError, subprocess.CalledProcessError) as error:
                _say(f"  skipped: {error}")
                result = {"skipped": str(error).splitlines()[0]}
            results[name] = result if number == 0 else serving_report.merged(results[name], result)
            if path:
                path.write_text(json.dumps(results, indent=1) + "\n")
    print(serving_report.markdown(results))
    if set(names) <= results.keys():
        serving_report.write(results, ROOT / "docs")


def _result(name: str, model: Path, seconds: float) -> dict[str, Any]:
    if name == "in_process":
        return in_process(model)
    by_name = {contestant.name: contestant for contestant in CONTESTANTS}
    if name == "overload":
        ours = by_name["inkling"]
        assert ours.command is not None
        command = ours.command
        flooded = dataclasses.replace(ours, command=lambda *places: [*command(*places), OVERLOAD_QUEUE])
        return overload(flooded, model, seconds)
    return measure(by_name[name], model, seconds)


if __name__ == "__main__":
    main()

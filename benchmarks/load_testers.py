"""The same server, asked by others' load testers, each in its own words: a second opinion on the first one's figures.

All of them ask for one image with 32 requests at a time, each of which waits for its answer. Part of
`benchmarks.serving_open_loop`; those that are not on the PATH are left out.
"""

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.serving import images
from benchmarks.serving_contest import PREDICT, rest_body
from benchmarks.serving_report import grid

CALLERS = 32
GRPC_HEAD = 5  # bytes: whether it is compressed, and its length
WRK_SCRIPT = """
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
local file = io.open({path!r}, "rb")
wrk.body = file:read("*a")
file:close()
"""


@dataclass(frozen=True, slots=True)
class Target:
    """Who is asked, and for how long."""

    port: int  # gRPC
    rest_port: int
    seconds: float
    folder: Path  # for files of the testers
    grpc_body: bytes

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.rest_port}/v1/models/mnist:predict"

    def file(self, name: str, content: bytes) -> str:
        path = self.folder / name
        path.write_bytes(content)
        return str(path)

    def rest_body_file(self) -> str:
        return self.file("body.json", rest_body(images(1), Path()))


@dataclass(frozen=True, slots=True)
class Result:
    """What a tester says."""

    answered_per_s: float  # well
    errors: int


def wrk(target: Target) -> Result:
    """HTTP/1, JSON."""
    script = target.file("post.lua", WRK_SCRIPT.format(path=target.rest_body_file()).encode())
    options = ["-t1", f"-c{CALLERS}", f"-d{target.seconds:.0f}s", "-s", script]
    return wrk_result(_run("wrk", *options, target.url))


def wrk_result(text: str) -> Result:
    """What `wrk` has printed."""
    rate = float(_found(r"Requests/sec:\s+([\d.]+)", text))
    sockets = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", text)
    others = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    errors = sum(map(int, sockets.groups())) if sockets else 0
    return Result(rate, errors + (int(others[1]) if others else 0))


def h2load(target: Target) -> Result:
    """HTTP/2: gRPC, of whose answers it sees that there is one, and not its gRPC status."""
    message = bytes(1) + len(target.grpc_body).to_bytes(GRPC_HEAD - 1) + target.grpc_body
    options = ["-c4", f"-m{CALLERS // 4}", f"-D{target.seconds:.0f}", "-d", target.file("message", message)]
    headers = ["-H", "content-type: application/grpc", "-H", "te: trailers"]
    return h2load_result(_run("h2load", *options, *headers, f"http://127.0.0.1:{target.port}{PREDICT}"))


def h2load_result(text: str) -> Result:
    """What `h2load` has printed."""
    rate = float(_found(r"finished in [\d.]+\w+, ([\d.]+) req/s", text))
    failed, errored, timed_out = re.search(r"(\d+) failed, (\d+) errored, (\d+) timeout", text).groups()  # type: ignore[union-attr]
    return Result(rate, max(int(failed), int(errored)) + int(timed_out))


def vegeta(target: Target) -> Result:
    """HTTP/1, JSON."""
    options = ["-rate", "0", "-max-workers", str(CALLERS), "-duration", f"{target.seconds}s"]
    command = [
        "vegeta",
        "attack",
        *options,
        "-body",
        target.rest_body_file(),
        "-header",
        "Content-Type: application/json",
    ]
    sent = subprocess.run(command, input=f"POST {target.url}\n".encode(), check=True, stdout=subprocess.PIPE).stdout
    done = subprocess.run(["vegeta", "report", "-type", "json"], input=sent, check=True, stdout=subprocess.PIPE)
    report = json.loads(done.stdout)
    return Result(report["throughput"], report["requests"] - report["status_codes"].get("200", 0))


TESTERS: dict[str, tuple[str, Callable[[Target], Result]]] = {
    "h2load": ("gRPC", h2load),
    "wrk": ("REST, JSON", wrk),
    "vegeta": ("REST, JSON", vegeta),
}


def rows(target: Target) -> Iterator[list[str]]:
    """A line of the table for each tester that is there."""
    for name, (wire, ask) in TESTERS.items():
        if shutil.which(name) is not None:
            result = ask(target)
            yield [name, wire, f"{result.answered_per_s:,.0f}", str(result.errors)]


def table(lines: list[list[str]]) -> str:
    """The table."""
    return grid(["Load tester", "Protocol", "requests/s", "errors"], lines)


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def _found(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    if match is None:
        raise RuntimeError(f"expected {pattern!r} in what the load tester says; got:\n{text}")
    return match[1]

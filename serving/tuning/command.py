"""`python -m serving tune`: try settings against the load of a request log, and print the best for a latency.

    python -m serving tune --request_log_file=/var/log/requests --model_name=mnist --model_base_path=models/mnist \\
        --latency_ms=20 --plot=tuning.png -- --saved_model_tags=serve

Each setting has a real server on a free port of this machine, one after the other, and gets more and more callers until
one request in a hundred takes longer. What stands behind `--` goes to every server.
"""

import argparse
import contextlib
import dataclasses
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from .load import Request, UnusableLog, read_log
from .plot import draw
from .settings import Round, Setting, rounds
from .trials import Conditions, Trial, try_setting

OK, FAILED, INTERRUPTED = 0, 1, 130


def main(arguments: Sequence[str]) -> int:
    """Run the command line after `tune`; returns the exit code."""
    flags = _parse(arguments)
    tf.get_logger().setLevel("ERROR")  # it says that what reads the log is old
    try:
        requests = read_log(flags.request_log_file, flags.model_name)
    except UnusableLog as error:
        print(f"error: {error}", file=sys.stderr)
        return FAILED
    print(f"{len(requests)} requests of {flags.request_log_file}", file=sys.stderr)
    trials: list[Trial] = []
    try:
        with tempfile.TemporaryDirectory() as scratch:
            for trial in _tried(_conditions(flags, requests, Path(scratch)), rounds(flags.cpus)):
                trials.append(trial)
                print(f"{len(trials)}  {_line(trial)}", file=sys.stderr, flush=True)
    except KeyboardInterrupt:
        print(f"interrupted: the best of {len(trials)} that were tried", file=sys.stderr)
        if trials:
            _report(trials, flags)
        return INTERRUPTED
    return _report(trials, flags)


def _conditions(flags: argparse.Namespace, requests: Sequence[Request], folder: Path) -> Conditions:
    return Conditions(
        flags=[f"--model_name={flags.model_name}", f"--model_base_path={flags.model_base_path}", *flags.server],
        requests=requests,
        latency_ms=flags.latency_ms,
        seconds=flags.seconds,
        start_s=flags.start_s,
        folder=folder,
    )


def _tried(conditions: Conditions, every_round: Sequence[Round]) -> Iterator[Trial]:
    """What came of each setting; each round begins with the best one so far."""
    best, best_setting, tried = 0.0, Setting(), set[Setting]()
    for make in every_round:
        for setting in make(best_setting):
            if setting in tried:
                continue
            tried.add(setting)
            trial = try_setting(setting, conditions)
            yield trial
            if trial.best is not None and trial.best.requests_per_s > best:
                best, best_setting = trial.best.requests_per_s, setting


def _report(trials: Sequence[Trial], flags: argparse.Namespace) -> int:
    """Print the result; returns 1 if there is none."""
    best = max(trials, key=_requests_per_s, default=None)
    if flags.plot is not None and trials:
        with _told_if_missing():
            draw(trials, flags.latency_ms, flags.plot)
    if flags.json:
        found = best.setting if best is not None and best.best is not None else None
        print(json.dumps({"latency_ms": flags.latency_ms, "best": found and _named(found), "trials": _as_json(trials)}))
    if best is None or best.best is None:
        print(f"error: no setting answers within {flags.latency_ms:g} ms, even one caller", file=sys.stderr)
        return FAILED
    if not flags.json:
        print(_text(best))
    return OK


def _requests_per_s(trial: Trial) -> float:
    return trial.best.requests_per_s if trial.best is not None else 0.0


def _line(trial: Trial) -> str:
    """What a trial has come to."""
    if trial.failure:
        return f"{trial.setting}: {trial.failure}"
    if (best := trial.best) is None:
        first = trial.steps[0]
        errors = f", {first.errors}" if first.errors else ""
        return f"{trial.setting}: too slow, p99 {first.p99_ms:.1f} ms with one caller{errors}"
    return (
        f"{trial.setting}: {best.requests_per_s:,.0f} requests/s of {best.callers} callers, "
        f"p50 {best.p50_ms:.1f} ms, p99 {best.p99_ms:.1f} ms"
    )


def _text(best: Trial) -> str:
    """The best setting as a person would write it."""
    lines = [f"best: {_line(best)}", "", f"flags: {' '.join(best.setting.flags()) or 'none: the defaults'}"]
    if parameters := best.setting.parameters():
        lines += ["", "# batching.config", parameters.rstrip()]
    return "\n".join(lines)


def _named(setting: Setting) -> dict[str, Any]:
    return {**dataclasses.asdict(setting), "flags": setting.flags(), "batching_parameters": setting.parameters()}


def _as_json(trials: Sequence[Trial]) -> list[dict[str, Any]]:
    return [
        {
            "setting": _named(trial.setting),
            "failure": trial.failure,
            "steps": [dataclasses.asdict(step) for step in trial.steps],
            "requests_per_s": _requests_per_s(trial),
        }
        for trial in trials
    ]


@contextlib.contextmanager
def _told_if_missing() -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        print(f"warning: no plot: {error}; pip install 'inkling-serving[tune]'", file=sys.stderr)


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    split = list(arguments).index("--") if "--" in arguments else len(arguments)
    parser = argparse.ArgumentParser(
        prog="python -m serving tune", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--request_log_file", required=True, metavar="FILE", help="as the server's flag wrote it")
    parser.add_argument("--model_name", default="default", help="of the requests, and of the server (%(default)s)")
    parser.add_argument("--model_base_path", required=True, help="the model's folder")
    parser.add_argument("--latency_ms", type=float, default=50.0, help="99 of 100 requests take less (%(default)s)")
    parser.add_argument("--seconds", type=float, default=4.0, help="of load for each number of callers (%(default)s)")
    parser.add_argument("--start_s", type=float, default=300.0, help="that a server may take to start (%(default)s)")
    parser.add_argument("--cpus", type=int, default=_num_cpus(), help="that settings are for (%(default)s here)")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw what was measured, as a PNG")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    flags = parser.parse_args(arguments[:split])
    flags.server = arguments[split + 1 :]
    return flags


def _num_cpus() -> int:
    with contextlib.suppress(AttributeError):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1

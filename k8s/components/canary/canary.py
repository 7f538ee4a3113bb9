"""Moves calls to the newest version step by step, and all of them back by itself where it is worse than the one before.

A Job runs it in the client's image, `python canary.py --route grpcroutes/serving`. At each step, which gives a share of
the calls to the servers `serving-canary`, it sends labelled images to them and to the servers `serving`, in turns, and
compares: calls that fail, how long they take, how often the answer is right, and how often it is another one. What is
worse than its limits, and whatever ends this program before its last step, sends every call to `serving` again.
"""

import argparse
import base64
import io
import json
import os
import signal
import ssl
import sys
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from inkling.client import TLS, Client, InklingError

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
API_TIMEOUT_S = 30
LOOK_S = 2.0  # between two looks for another version
BLANK = np.zeros((28, 28), np.uint8)  # asks for no more than the version that answers
DONE, WORSE = 0, 1


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What is bad enough to go back for: more than any of these. Each is a flag."""

    failed: float = 0.01  # share of the calls
    slower: float = 2.0  # times the others' median, or 95th percentile, if it is also `slower_ms` more
    slower_ms: float = 2.0
    lost: float = 0.01  # share of right answers that the others give and it does not
    changed: float = 0.05  # share of the images with another answer


@dataclass
class Measured:
    """What one version's servers did with the labelled images."""

    answers: list[NDArray[np.int64]] = field(default_factory=list)
    labels: list[NDArray[np.int64]] = field(default_factory=list)
    times_ms: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def ask(self, client: Client, images: NDArray[np.uint8], labels: NDArray[np.int64]) -> None:
        """One call; one that fails has no right answers."""
        start = time.perf_counter()
        try:
            classes = client.predict(images).classes
        except InklingError as error:
            self.failures.append(str(error))
            classes = np.full(len(images), -1)
        else:
            self.times_ms.append(1000 * (time.perf_counter() - start))
        self.answers.append(classes)
        self.labels.append(labels)

    def accuracy(self) -> float:
        """Share of the images with the right answer."""
        return float(np.mean(np.concatenate(self.answers) == np.concatenate(self.labels)))

    def summary(self) -> str:
        """One line for the log."""
        return f"{self.accuracy():.1%} right, {self.time_ms(50):.2f} ms, {len(self.failures)} calls failed"

    def time_ms(self, percentile: float) -> float:
        """Of the calls that were answered."""
        return float(np.percentile(self.times_ms, percentile)) if self.times_ms else float("inf")


def worse(canary: Measured, stable: Measured, limits: Limits) -> list[str]:
    """What is bad about the canary, in words; empty if nothing."""
    found = []
    failed = len(canary.failures) / len(canary.answers)
    if failed > limits.failed:
        found.append(f"{failed:.1%} of its calls fail: {canary.failures[0]}")
    for percentile in (50, 95):
        its, others = canary.time_ms(percentile), stable.time_ms(percentile)
        if its > limits.slower * others and its > others + limits.slower_ms:
            found.append(f"its calls take {its:.1f} ms, the others {others:.1f} ms (percentile {percentile})")
    lost = stable.accuracy() - canary.accuracy()
    if lost > limits.lost:
        found.append(f"{canary.accuracy():.1%} of its answers are right, of the others' {stable.accuracy():.1%}")
    changed = float(np.mean(np.concatenate(canary.answers) != np.concatenate(stable.answers)))
    if changed > limits.changed:
        found.append(f"{changed:.1%} of the images have another answer")
    return found


class Routes:
    """The Gateway API's routes whose weights are moved: `grpcroutes/NAME` or `httproutes/NAME`."""

    def __init__(self, names: Sequence[str], api: str, namespace: str) -> None:
        self._urls = [f"{api}/apis/gateway.networking.k8s.io/v1/namespaces/{namespace}/{name}" for name in names]

    def shift(self, percent: int) -> None:
        """Give the canary this share of the calls. Raises: OSError if the Kubernetes API refuses."""
        for url in self._urls:
            rules = self._call("GET", url)["spec"]["rules"]
            shifted = [weighted for index, rule in enumerate(rules) for weighted in _weights(index, rule, percent)]
            if not shifted:
                raise SystemExit(f"{url} has no rule with a backend ending in -canary; is the component there?")
            self._call("PATCH", url, shifted)

    def _call(self, method: str, url: str, patch: list[dict[str, Any]] | None = None) -> Any:
        data = None if patch is None else json.dumps(patch).encode()
        request = urllib.request.Request(url, data, {"Content-Type": "application/json-patch+json"}, method=method)
        if (ACCOUNT / "token").exists():  # read each time: the kubelet renews it
            request.add_header("Authorization", f"Bearer {(ACCOUNT / 'token').read_text()}")
        context = ssl.create_default_context(cafile=ACCOUNT / "ca.crt") if (ACCOUNT / "ca.crt").exists() else None
        with urllib.request.urlopen(request, timeout=API_TIMEOUT_S, context=context) as answer:
            return json.load(answer)


def _weights(index: int, rule: dict[str, Any], percent: int) -> list[dict[str, Any]]:
    """The patch of one rule that splits its calls between a backend and its canary; none if it has no canary."""
    names = [backend["name"] for backend in rule["backendRefs"]]
    if not any(name.endswith("-canary") for name in names):
        return []
    path = f"/spec/rules/{index}/backendRefs"
    found = []
    for place, name in enumerate(names):
        found.append({"op": "test", "path": f"{path}/{place}/name", "value": name})  # nobody has changed the order
        weight = percent if name.endswith("-canary") else 100 - percent
        found.append({"op": "replace", "path": f"{path}/{place}/weight", "value": weight})
    return found


def compare(stable: Client, canary: Client, probe: dict[str, Any], *, hold_s: float) -> tuple[Measured, Measured]:
    """Ask both servers in turns, all images once and then for as long as `hold_s`; (stable's, canary's)."""
    measured = Measured(), Measured()
    end = time.monotonic() + hold_s
    while not measured[0].answers or time.monotonic() < end:
        for images, labels in zip(probe["images"], probe["labels"], strict=True):
            measured[0].ask(stable, images, labels)
            measured[1].ask(canary, images, labels)
    return measured


def advance(routes: Routes, stable: Client, canary: Client, flags: argparse.Namespace) -> list[str]:
    """Take the steps. Returns what was worse at the one that it ended with; nothing if the canary has all calls."""
    limits = Limits(**{limit.name: getattr(flags, limit.name) for limit in fields(Limits)})
    probe = _read_probe(flags.probe, flags.images_per_call)
    reasons = []
    try:
        for percent in flags.steps:
            reasons = [f"ended at {percent} %"]  # unless the comparison says otherwise
            routes.shift(percent)
            before, after = compare(stable, canary, probe, hold_s=flags.hold_s)
            reasons = worse(after, before, limits)
            _say(f"{percent} % of the calls: {after.summary()}; the others: {before.summary()}")
            if reasons:
                break
    finally:
        if reasons:
            routes.shift(0)
            _say("all calls go back to the version before")
    return reasons


def _versions(stable: Client, canary: Client, *, wait_s: float) -> list[int]:
    """The versions that both serve; where it is one, a version just published may still be on its way."""
    end, is_told = time.monotonic() + wait_s, False
    while True:
        versions = [client.predict(BLANK, timeout_s=60).version for client in (stable, canary)]
        if versions[0] != versions[1] or time.monotonic() >= end:
            return versions
        if not is_told:
            _say(f"both serve version {versions[0]}; another one may come within {wait_s:g} s")
            is_told = True
        time.sleep(LOOK_S)


def main(arguments: Sequence[str]) -> int:
    """Run the command line; returns 0 once the canary has all calls, 1 where it was worse."""
    flags = _parse(arguments)
    signal.signal(signal.SIGTERM, _stop)
    routes = Routes(flags.route, flags.api, flags.namespace)
    tls = TLS(ca=flags.tls_ca) if flags.tls_ca and flags.tls_ca.exists() else None
    key = os.environ.get("INKLING_API_KEY") or None
    with Client(flags.stable, tls=tls, api_key=key) as stable, Client(flags.canary, tls=tls, api_key=key) as canary:
        old, new = _versions(stable, canary, wait_s=flags.wait_s)
        if old == new:
            _say(f"both serve version {new}: there is nothing to try")
            return DONE
        reasons = advance(routes, stable, canary, flags)
    if reasons:
        _say(f"version {new} is worse than {old}: {'; '.join(reasons)}")
        return WORSE
    _say(f"version {new} has all calls; promote it in models.config and apply, which takes the split away")
    return DONE


def _read_probe(path: Path, images_per_call: int) -> dict[str, Any]:
    """`images`, uint8 [n, 28, 28], and `labels`, int64 [n], each as a list with a call's worth in an entry."""
    with np.load(io.BytesIO(base64.b64decode(path.read_bytes()))) as file:
        calls = max(1, len(file["labels"]) // images_per_call)
        return {name: np.array_split(file[name], calls) for name in ("images", "labels")}


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Move calls to a new version step by step.")
    parser.add_argument("--route", action="append", required=True, help="grpcroutes/NAME or httproutes/NAME; repeat it")
    parser.add_argument("--stable", default="serving:8500", help="the servers of the version before")
    parser.add_argument("--canary", default="serving-canary:8500", help="the servers of the new one")
    parser.add_argument("--steps", type=int, nargs="+", default=[1, 10, 50, 100], help="shares of the calls, in %%")
    parser.add_argument("--hold_s", type=float, default=120, help="length of a step")
    parser.add_argument(
        "--wait_s", type=float, default=60, help="for another version than the others', if there is none"
    )
    probe = Path(__file__).parent / "probe.npz.base64"
    parser.add_argument("--probe", type=Path, default=probe, help="images and labels, as NumPy's .npz in base64")
    parser.add_argument("--images_per_call", type=int, default=4)
    parser.add_argument(
        "--tls_ca", type=Path, help="authority of the servers' certificates; plaintext if it is not there"
    )
    parser.add_argument("--namespace", default="inkling", help="of the routes")
    parser.add_argument("--api", default="https://kubernetes.default.svc", help="of Kubernetes")
    for limit in fields(Limits):
        parser.add_argument(f"--{limit.name}", type=float, default=limit.default, help="limit; see Limits in this file")
    return parser.parse_args(arguments)


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

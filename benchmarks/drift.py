"""How far live requests are from what a model was measured with, as the server's gauges tell: docs/drift.png.

    python -m benchmarks.drift --model models/mnist      about two minutes

A server gets MNIST's test images as they are, blurred, as they are, inverted, and as they are again. After each batch
the gauges are read. The model is the one that `make demo` publishes.
"""

import argparse
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from inkling.client import Client
from inkling.train import data

Images = NDArray[np.uint8]

ROOT = Path(__file__).parents[1]
BATCH = 64
BATCHES = 60  # in a phase
WINDOW = 1000
GAUGE = re.compile(r'^inkling_serving_drift_stability_index{.*feature="(.*)"} (\S+)$', re.MULTILINE)
SMALL, ACTED_UPON = 0.1, 0.25


def blurred(images: Images) -> Images:
    """`images`, uint8 [n, height, width], out of focus by two pixels."""
    return np.stack([np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(2))) for image in images])


PHASES: list[tuple[str, Callable[[Images], Images]]] = [
    ("as they are", lambda images: images),
    ("blurred", blurred),
    ("as they are", lambda images: images),
    ("inverted", lambda images: 255 - images),
    ("as they are", lambda images: images),
]


@contextmanager
def served(model: Path) -> Iterator[tuple[int, int]]:
    """A server of `model`; its gRPC and REST ports. Ended afterwards."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(2)]
        port, rest_port = [each.getsockname()[1] for each in sockets]
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder, "monitoring.config")
        config.write_text('prometheus_config { enable: true path: "/metrics" }')
        flags = [
            f"--port={port}", f"--rest_api_port={rest_port}", "--model_name=mnist",
            f"--model_base_path={model.absolute()}", f"--monitoring_config_file={config}", f"--drift_window={WINDOW}",
        ]  # fmt: skip
        process = subprocess.Popen([sys.executable, "-m", "serving", *flags], cwd=ROOT)
        try:
            while process.poll() is None and not _is_ready(rest_port):
                time.sleep(0.2)
            yield port, rest_port
        finally:
            process.terminate()
            process.wait()


def _is_ready(rest_port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{rest_port}/readyz", timeout=5):
            return True
    except (urllib.error.URLError, OSError):
        return False


def measure(address: str, metrics_url: str) -> dict[str, list[float]]:
    """Each feature's index after each batch."""
    rng, images = np.random.default_rng(0), data.load().test_images
    found: dict[str, list[float]] = defaultdict(list)
    with Client(address) as client:
        for name, change in PHASES:
            for _ in range(BATCHES):
                client.predict(change(rng.choice(images, BATCH)), as_is=True)
                with urllib.request.urlopen(metrics_url, timeout=60) as response:
                    gauges = dict(GAUGE.findall(response.read().decode()))
                for feature, value in gauges.items():
                    found[feature].append(float(value))
            print(
                f"{name:12}", ", ".join(f"{feature} {values[-1]:.2f}" for feature, values in found.items()), flush=True
            )
    return found


def draw(found: dict[str, list[float]], path: Path) -> None:
    """The indexes over the batches, with the phases beneath."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(9, 4.5), layout="constrained")
    total = BATCHES * len(PHASES)
    for feature, values in sorted(found.items()):
        axes.plot(range(total - len(values), total), np.maximum(values, 1e-3), label=feature, linewidth=1.4)
    for limit, text in ((SMALL, "0.1: a small change"), (ACTED_UPON, "0.25: act upon it")):
        axes.axhline(limit, color="0.5", linestyle=":", linewidth=1)
        axes.text(total * 1.005, limit, text, va="center", fontsize=8, color="0.35")
    for number, (name, _) in enumerate(PHASES):
        if number % 2:
            axes.axvspan(number * BATCHES, (number + 1) * BATCHES, color="0.94", zorder=0)
        axes.text((number + 0.5) * BATCHES, 22, name, ha="center", va="center", fontsize=9)
    axes.set(
        yscale="log", ylim=(3e-3, 30), xlim=(0, total), xlabel=f"batches of {BATCH} test images",
        ylabel="population stability index", title=f"Drift over the last {WINDOW:,} images, by feature",
    )  # fmt: skip
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncol=7, fontsize=8, frameon=False)
    figure.savefig(path, dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.drift", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, default=Path("models/mnist"), help="folder of the version folders")
    parser.add_argument("--picture", type=Path, default=ROOT / "docs/drift.png", help="where to draw it")
    arguments = parser.parse_args()
    if not list(arguments.model.glob("[0-9]*/model_card.json")):
        sys.exit(f"there is no model in {arguments.model}; publish one with `make demo`, or name another by --model")
    with served(arguments.model) as (port, rest_port):
        found = measure(f"127.0.0.1:{port}", f"http://127.0.0.1:{rest_port}/metrics")
    draw(found, arguments.picture)
    print(f"drawn as {arguments.picture}")


if __name__ == "__main__":
    main()

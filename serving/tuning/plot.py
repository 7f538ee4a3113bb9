"""What was measured, as a picture: throughput and latency of each setting, with more and more callers."""

from collections.abc import Sequence
from pathlib import Path

from .trials import Trial

LARGEST_SHOWN = 4  # times the latency that was asked for


def draw(trials: Sequence[Trial], latency_ms: float, file: Path) -> None:
    """Write a PNG.

    Raises: ImportError without matplotlib.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 5))
    for trial in trials:
        if trial.steps:
            rates, tails = zip(*[(step.requests_per_s, step.p99_ms) for step in trial.steps], strict=True)
            axes.plot(rates, tails, marker="o", markersize=3, linewidth=1, label=str(trial.setting))
    axes.axhline(latency_ms, color="#6b7280", linestyle="--", linewidth=1)
    axes.set_ylim(0, LARGEST_SHOWN * latency_ms)
    axes.set_xlim(left=0)
    axes.set_xlabel("requests/s")
    axes.set_ylabel("p99, ms")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
    figure.tight_layout()
    figure.savefig(file, dpi=120)

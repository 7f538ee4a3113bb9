"""The serving benchmark's results as a page with tables and a plot."""

import contextlib
import os
import platform
from pathlib import Path
from typing import Any

from benchmarks.serving_contest import CONTESTANTS

COLUMNS = ("1x1", "1x8", "1x32", "1x128", "64x4", "256x4")
TITLES = {contestant.name: f"{contestant.title} ({contestant.wire})" for contestant in CONTESTANTS}


def markdown(results: dict[str, Any]) -> str:
    """All tables for which there are results."""
    parts = [
        _table("Requests/s", results, lambda point: f"{point['requests_per_s']:,.0f}"),
        _table("Images/s", results, lambda point: f"{point['images_per_s']:,.0f}"),
        _table("Latency, p50 / p99 in ms", results, lambda point: f"{point['p50_ms']:.1f} / {point['p99_ms']:.1f}"),
        _memory(results),
        _bounds(results),
        _rest(results),
        _overload(results),
        _skipped(results),
    ]
    return "\n\n".join(part for part in parts if part)


def _measured(results: dict[str, Any]) -> list[str]:
    return [name for name in TITLES if "points" in results.get(name, {})]


def _table(title: str, results: dict[str, Any], cell: Any) -> str:
    names = [name for name in _measured(results) if COLUMNS[0] in results[name]["points"]]
    if not names:
        return ""
    heads = [", ".join(_words(column)) for column in COLUMNS]
    rows = [[TITLES[name], *(cell(results[name]["points"][column]) for column in COLUMNS)] for name in names]
    return grid([title, *heads], rows)


def _words(column: str) -> tuple[str, str]:
    count, _, callers = column.partition("x")
    return f"{count} image{'s' * (count != '1')}", f"{callers} caller{'s' * (callers != '1')}"


def _memory(results: dict[str, Any]) -> str:
    rows = [[TITLES[name], f"{results[name]['peak_memory_mb']:,.0f}"] for name in _measured(results)]
    return grid(["Peak memory, all processes", "MB"], rows) if rows else ""


def _bounds(results: dict[str, Any]) -> str:
    alone, ours = results.get("in_process"), results.get("inkling", {}).get("points")
    if not alone or "skipped" in alone or not ours:
        return ""
    rows = [["TensorFlow in process", *(f"{alone[size]['images_per_s']:,.0f}" for size in ("1", "32", "64", "256"))]]
    table = grid(["Images/s by batch size", "1", "32", "64", "256"], rows)
    lines = [
        f"- Batches of 64: {_ratio(ours['64x4']['images_per_s'], alone['64']['images_per_s'])} of TensorFlow alone."
    ]
    if echo := results.get("echo", {}).get("points"):
        bound = 1 / (1 / echo["1x32"]["requests_per_s"] + 1 / alone["32"]["images_per_s"])
        share = _ratio(ours["1x32"]["requests_per_s"], bound)
        lines.append(f"- 32 callers: {share} of the bound 1 / (1 / echo + 1 / in process) = {bound:,.0f} requests/s.")
    if naive := results.get("naive", {}).get("points"):
        times = _ratio(ours["1x32"]["requests_per_s"], naive["1x32"]["requests_per_s"])
        latency = _ratio(ours["1x1"]["p50_ms"], naive["1x1"]["p50_ms"])
        lines += [f"- 32 callers: {times} times the naive server.", f"- 1 caller: {latency} times its latency (p50)."]
    return table + "\n\n" + "\n".join(lines)


def _rest(results: dict[str, Any]) -> str:
    rest = results.get("inkling_rest", {}).get("points")
    ours = results.get("inkling", {}).get("points")
    if not rest or not ours:
        return ""
    over_grpc, over_rest = ours["32x4"], rest["32x4"]
    rows = [
        [wire, f"{point['requests_per_s']:,.0f}", f"{point['images_per_s']:,.0f}", f"{point['p50_ms']:.1f}"]
        for wire, point in (("gRPC", over_grpc), ("REST", over_rest))
    ]
    share = _ratio(over_rest["requests_per_s"], over_grpc["requests_per_s"])
    return (
        grid(["Batches of 32, 4 callers", "requests/s", "images/s", "p50 ms"], rows)
        + f"\n\n- REST: {share} of gRPC's rate."
    )


def merged(before: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """What two rounds of one contestant come to: the better of each point, and the larger memory."""
    if "skipped" in now or "skipped" in before:
        return now if "skipped" in before else before
    better: dict[str, Any] = {}
    for name, value in now.items():
        if not isinstance(value, dict):
            better[name] = max(value, before[name])
        elif (rate := _rate(value)) is None:
            better[name] = merged(before[name], value)
        else:
            better[name] = value if rate > (_rate(before[name]) or 0) else before[name]
    return better


def _rate(point: dict[str, Any]) -> float | None:
    for name in ("goodput_requests_per_s", "requests_per_s", "images_per_s"):
        if name in point:
            return float(point[name])
    return None


def _overload(results: dict[str, Any]) -> str:
    found = results.get("overload")
    if not found or "skipped" in found:
        return ""
    heads = ["Images a request", "Peak (closed loop)", "Sent and answered", "Answered well", "Share of peak"]
    heads.append("A no, p50 / p99 ms")
    rows = [[size, *_flood(flood)] for size, flood in found["sizes"].items()]
    how = (
        "Overload: requests a second in an open loop at ten times the peak; the server has half of the CPUs, the "
        f"client the other half. Peak memory {found['peak_memory_mb']:,.0f} MB."
    )
    return f"{how}\n\n{grid(heads, rows)}"


def _flood(flood: dict[str, Any]) -> list[str]:
    shed = f"{flood['shed_p50_ms']:.1f} / {flood['shed_p99_ms']:.1f}" if flood["shed_p50_ms"] else "none shed"
    rates = [flood[f"{name}_requests_per_s"] for name in ("peak", "offered", "goodput")]
    return [*(f"{rate:,.0f}" for rate in rates), _ratio(rates[2], rates[0]), shed]


def _skipped(results: dict[str, Any]) -> str:
    lines = [f"- {name}: {found['skipped']}" for name, found in results.items() if "skipped" in found]
    return "Not measured:\n\n" + "\n".join(lines) if lines else ""


def _ratio(value: float, base: float) -> str:
    return f"{value / base:.2f}"


def grid(heads: list[str], rows: list[list[str]]) -> str:
    """A table in Markdown, with numbers to the right."""
    lines = ["| " + " | ".join(heads) + " |", "|---|" + "---:|" * (len(heads) - 1)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def write(results: dict[str, Any], folder: Path) -> None:
    """Put serving_benchmark.md and .png into `folder`."""
    versions = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    page = (
        "# Serving benchmark\n\n"
        f"`python -m benchmarks.serving`, {results['date']}, {machine()}, {versions}.\n\n"
        "Every server has the same digit model, and shares the machine with the process that asks it. The best\n"
        f"of several rounds counts, each after one second of warm-up. {results['note']}\n\n"
        f"![images per second](serving_benchmark.png)\n\n{markdown(results)}\n"
    )
    (folder / "serving_benchmark.md").write_text(page)
    _plot(results, folder / "serving_benchmark.png")


def machine() -> str:
    """The machine, in words."""
    return f"{os.cpu_count()} CPUs ({_processor()}), Python {platform.python_version()}"


def _processor() -> str:
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return platform.processor() or platform.machine()


def _plot(results: dict[str, Any], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    servers = [name for name in _measured(results) if name != "echo"]
    names = [name for name in servers if COLUMNS[0] in results[name]["points"]]
    figure, axes = pyplot.subplots(figsize=(9, 4.5), layout="constrained")
    width = 0.8 / len(names)
    for index, name in enumerate(names):
        rates = [results[name]["points"][column]["images_per_s"] for column in COLUMNS]
        places = [place + index * width for place in range(len(COLUMNS))]
        axes.bar(places, rates, width, label=TITLES[name])
    axes.set_yscale("log")
    axes.set_ylabel("images/s")
    axes.set_xticks([place + 0.4 - width / 2 for place in range(len(COLUMNS))])
    axes.set_xticklabels(["\n".join(_words(column)) for column in COLUMNS])
    axes.legend(fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=130)
    pyplot.close(figure)
